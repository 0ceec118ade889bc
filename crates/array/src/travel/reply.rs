//! Arrays in results: they change hands.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use swath_segment::Stamp;

use super::{Identity, Outer, Scope, Sent, Travelling, find};
use crate::Error;
use crate::backing::Backing;
use crate::storage::Storage;

/// Where the one is who gets a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// In this process: what is given away stays where it is.
    ThisProcess,
    /// In another one.
    AnotherProcess,
}

thread_local! {
    /// To whom the replies of this thread go, and what they hold, between [`replying`] and its end.
    static OUTGOING: RefCell<Option<(To, Vec<Sent>)>> = const { RefCell::new(None) };
    /// What came with the reply that this thread decodes.
    static INCOMING: RefCell<Option<Arc<Mutex<Vec<Arrived>>>>> = const { RefCell::new(None) };
}

/// Runs `work`, whose encoders may meet arrays ([`reply`]); what it returns, and what then has to be sent.
pub fn replying<R>(to: To, work: impl FnOnce() -> R) -> (R, Outgoing) {
    /// Puts back what was collected outside, whatever happens.
    struct Outside(Option<(To, Vec<Sent>)>);
    impl Drop for Outside {
        fn drop(&mut self) {
            OUTGOING.set(self.0.take());
        }
    }
    let outside = Outside(OUTGOING.replace(Some((to, Vec::new()))));
    let result = work();
    let all = OUTGOING.take().map(|(_, all)| all);
    drop(outside);
    (result, Outgoing(all.unwrap_or_default()))
}

/// Runs an encoder of a reply. What it met is part of the reply if it succeeds.
pub fn reply<R, E>(encode: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
    if OUTGOING.with_borrow(Option::is_none) {
        return encode();
    }
    let outer = Outer::enter(Some(Scope::Replying(Vec::new())));
    let result = encode();
    let met = outer.leave();
    if let (Ok(_), Some(Scope::Replying(met))) = (&result, met) {
        OUTGOING.with_borrow_mut(|all| all.iter_mut().for_each(|(_, all)| add(all, &met)));
    }
    result
}

/// Whether an array could go where the reply goes: said of the value that has it, not of all that is sent with it.
pub(super) fn can_go(storage: &Storage) -> Result<(), Error> {
    match OUTGOING.with_borrow(|all| all.as_ref().map(|(to, _)| *to)) {
        Some(To::AnotherProcess) => storage.is_anonymous(),
        _ => Ok(()),
    }
}

fn add(all: &mut Vec<Sent>, met: &[Sent]) {
    for sent in met {
        match all.iter_mut().find(|other| Arc::ptr_eq(&other.storage, &sent.storage)) {
            Some(other) => other.by_handle &= sent.by_handle,
            None => all.push(sent.clone()),
        }
    }
}

/// One array of a reply, as it is listed beside the encoded value.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// Device and inode.
    pub file: (u64, u64),
    /// It was made by whoever replies, and changes hands; else it was lent to them.
    pub given: bool,
}

/// What was met while a reply was encoded.
#[derive(Default)]
pub struct Outgoing(Vec<Sent>);

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outgoing({} arrays)", self.0.len())
    }
}

impl Outgoing {
    /// Whether no array is in the reply.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list that goes with the reply.
    pub fn items(&self) -> Vec<Item> {
        self.0.iter().map(|sent| Item { file: sent.storage.identity(), given: sent.given }).collect()
    }

    /// Sends what changes hands to the inbox of that address. The values themselves have been dropped by now. What is wrong with one is
    /// found before any is sent; if the sending fails, those before it are there, under that stamp.
    ///
    /// # Errors
    ///
    /// Somebody here still has an array of them, or reads it; it has a name, or is a file; nobody receives.
    pub fn send(self, address: &str, stamp: Stamp) -> Result<(), Error> {
        let given = self.0.into_iter().filter(|sent| sent.given);
        let given = given.map(|sent| {
            sent.storage.is_anonymous()?;
            let storage = sole(sent.storage)?;
            storage.keep_readers_out()?;
            Ok(storage)
        });
        given.collect::<Result<Vec<_>, Error>>()?.into_iter().try_for_each(|s| s.hand_over(address, stamp))
    }

    /// The other end, where both are in one process.
    ///
    /// # Errors
    ///
    /// Somebody here still has an array of them.
    pub fn arrive(self) -> Result<Incoming, Error> {
        let mut all = Vec::new();
        for Sent { storage, given, by_handle } in self.0 {
            let file = storage.identity();
            let goods = match given {
                // Whose array it is, nobody need be told in the process that has it.
                true if by_handle && Arc::strong_count(&storage) > 1 => Goods::Lent(storage),
                true => Goods::Storage(Arc::new(sole(storage)?)),
                false => Goods::Lent(storage),
            };
            all.push(Arrived { file, goods });
        }
        Ok(Incoming(Arc::new(Mutex::new(all))))
    }
}

/// The storage, which nobody else has.
fn sole(storage: Arc<Storage>) -> Result<Storage, Error> {
    Arc::try_unwrap(storage).map_err(|storage| Error::NotWritable {
        object: storage.object(),
        why: "it was to be given away with a result, and a handle to it is still alive".to_owned(),
    })
}

struct Arrived {
    file: Identity,
    goods: Goods,
}

enum Goods {
    /// As it came out of the inbox.
    File(OwnedFd),
    /// Mapped, nobody's yet.
    Storage(Arc<Storage>),
    /// A handle was decoded, or one is to be: for the next one.
    Lent(Arc<Storage>),
    /// An array was decoded.
    Taken,
    /// It did not arrive.
    Lost,
}

/// Arrays that came with a reply, until they are decoded; dropped with it if they never are.
#[derive(Clone, Default)]
pub struct Incoming(Arc<Mutex<Vec<Arrived>>>);

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        write!(f, "Incoming({count} arrays)")
    }
}

impl Incoming {
    /// What is listed in `items`; `file` finds what changed hands.
    pub fn new(items: &[Item], mut file: impl FnMut((u64, u64)) -> Option<OwnedFd>) -> Incoming {
        let mut goods = |item: &Item| match item.given {
            true => file(item.file).map_or(Goods::Lost, Goods::File),
            // Kept from here on: whoever lent it may let go now.
            false => find(item.file).map_or(Goods::Lost, Goods::Lent),
        };
        let all = items.iter().map(|item| Arrived { file: item.file, goods: goods(item) }).collect();
        Incoming(Arc::new(Mutex::new(all)))
    }

    /// Runs the reply's decoder. An array is found once, a handle as often as wanted.
    pub fn during<R>(&self, decode: impl FnOnce() -> R) -> R {
        /// Puts the outer one back, whatever happens.
        struct Outside(Option<Arc<Mutex<Vec<Arrived>>>>);
        impl Drop for Outside {
            fn drop(&mut self) {
                INCOMING.set(self.0.take());
            }
        }
        super::take_refusal();
        let _outside = Outside(INCOMING.replace(Some(self.0.clone())));
        decode()
    }
}

/// What the thread's incoming reply holds under that reference, changed by `act`; `None` when it holds nothing of the kind.
fn with_arrived<R>(
    sent: &Travelling,
    act: impl FnOnce(&mut Goods) -> Result<R, Error>,
) -> Option<Result<R, Error>> {
    let incoming = INCOMING.with_borrow(Option::clone)?;
    let mut all = incoming.lock().unwrap_or_else(PoisonError::into_inner);
    let arrived = all.iter_mut().find(|arrived| arrived.file == sent.identity())?;
    if let Goods::File(_) = arrived.goods {
        let Goods::File(file) = std::mem::replace(&mut arrived.goods, Goods::Lost) else { unreachable!() };
        match adopt(file, sent) {
            Ok(storage) => arrived.goods = Goods::Storage(Arc::new(storage)),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(act(&mut arrived.goods))
}

fn adopt(file: OwnedFd, sent: &Travelling) -> Result<Storage, Error> {
    let backing = Backing::adopt(file)?;
    Storage::new(backing, sent.offset()?, sent.extent()?)
}

const LOST: Error = Error::BadReference { what: "the array has not arrived" };

/// The array that changes hands here.
pub(crate) fn take_array(sent: &Travelling) -> Result<Arc<Storage>, Error> {
    let taken = with_arrived(sent, |goods| match std::mem::replace(goods, Goods::Taken) {
        Goods::Storage(storage) => sent.describes(&storage).map(|()| storage),
        Goods::Taken => Err(Error::BadReference { what: "the array was taken with this result before" }),
        Goods::Lost | Goods::File(_) => Err(LOST),
        Goods::Lent(storage) => {
            *goods = Goods::Lent(storage);
            Err(Error::BadReference { what: "there are handles to the array already" })
        }
    });
    let not_here = Err(Error::BadReference { what: "an array comes with a result, and from nowhere else" });
    taken.unwrap_or(not_here)
}

/// The array behind a handle in a result; `None` when it did not come with it.
pub(crate) fn take_handle(sent: &Travelling) -> Result<Option<Arc<Storage>>, Error> {
    let found = with_arrived(sent, |goods| match std::mem::replace(goods, Goods::Taken) {
        Goods::Storage(storage) | Goods::Lent(storage) => {
            *goods = Goods::Lent(storage.clone());
            sent.describes(&storage).map(|()| storage)
        }
        Goods::Taken => Err(Error::BadReference { what: "the array was taken with this result before" }),
        Goods::Lost | Goods::File(_) => Err(LOST),
    });
    found.transpose()
}
