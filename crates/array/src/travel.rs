//! Arrays that travel between processes: handles in arguments, arrays in results.
//!
//! What travels is a reference. What it refers to must live until it has arrived, so an array can be encoded only where somebody
//! looks after that:
//!
//! - [`lending`]: whatever is encoded meanwhile may hold handles, and the caller keeps the memory behind them for as long as anybody
//!   may decode them ([`Lent`]).
//! - [`replying`] with [`reply`]: what is encoded may hold arrays, which change hands with it ([`Outgoing`], [`Incoming`]).
//!
//! Elsewhere the encoder fails, and [`take_refusal`] has the reason, which most encoders throw away.
//!
//! # Why a handle is sound in another process
//!
//! 1. It is mapped there for reading only.
//! 2. While anybody keeps it for a decoder ([`Lent`]), the owner does not write: the count of handles says so.
//! 3. While another process has it mapped, the owner does not write: the mapping is marked by a shared lock on the file, which the kernel
//!    takes away with the mapping ([`swath_segment::Reader`]). While the owner may write, it has that lock exclusively: a reference that
//!    somebody has kept, or made up, is refused.
//! 4. In the owner's own process a reference leads to the array itself while it is lent, and nowhere while it may be changed.
//! 5. Between the end of 2 and the beginning of 3 there is no gap: who decodes is kept for, until it has mapped or will not any more.

mod reference;
mod reply;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use reply::{Incoming, Item, Outgoing, To, reply, replying};

use crate::storage::Storage;

use reference::Travelling;
use reply::{can_go, take_array, take_handle};

/// What keeps the memory behind handles that were encoded. Dropping it lets go.
#[derive(Clone, Default)]
pub struct Lent(Vec<Arc<Storage>>);

impl Lent {
    /// Whether no handle was encoded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets go of what others keep as well. The rest nobody can ask for any more; to let go of it is to unmap it, which takes long.
    pub fn sole(mut self) -> Lent {
        self.0.retain(|storage| Arc::strong_count(storage) == 1);
        self
    }

    /// Keeps what `other` keeps, too.
    pub fn extend(&mut self, other: Lent) {
        self.0.extend(other.0);
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lent({} arrays)", self.0.len())
    }
}

/// What an encoder of this thread may do with arrays.
enum Scope {
    Lending(Vec<Arc<Storage>>),
    Replying(Vec<Sent>),
}

/// One array in a reply.
#[derive(Clone)]
struct Sent {
    storage: Arc<Storage>,
    /// It changes hands; else it is one that was lent to this process.
    given: bool,
    /// Only handles to it were met.
    by_handle: bool,
}

thread_local! {
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
    static REFUSAL: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Puts the outer scope back, whatever happens.
struct Outer(Option<Option<Scope>>);

impl Outer {
    fn enter(scope: Option<Scope>) -> Outer {
        REFUSAL.take();
        Outer(Some(SCOPE.replace(scope)))
    }

    fn leave(mut self) -> Option<Scope> {
        SCOPE.replace(self.0.take().flatten())
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        // `leave` has done it already.
        if let Some(outer) = self.0.take() {
            SCOPE.set(outer);
        }
    }
}

/// Runs an encoder that may meet handles; what it returns, and what has to be kept until the last decoder is done.
pub fn lending<R>(encode: impl FnOnce() -> R) -> (R, Lent) {
    let outer = Outer::enter(Some(Scope::Lending(Vec::new())));
    let result = encode();
    match outer.leave() {
        Some(Scope::Lending(all)) => (result, Lent(all)),
        _ => (result, Lent::default()),
    }
}

/// Runs an encoder that must meet no arrays, whoever has called it.
pub fn refusing<R>(encode: impl FnOnce() -> R) -> R {
    let _outer = Outer::enter(None);
    encode()
}

/// Why the last encoder or decoder of this thread failed, if it was for an array's sake.
pub fn take_refusal() -> Option<String> {
    REFUSAL.take()
}

/// The error of an encoder or decoder, its text kept for [`take_refusal`].
pub fn refuse(why: impl std::fmt::Display) -> String {
    let why = why.to_string();
    REFUSAL.set(Some(why.clone()));
    why
}

/// A handle is being encoded.
pub(crate) fn lend(storage: &Arc<Storage>) -> Result<(), String> {
    SCOPE.with_borrow_mut(|scope| match scope {
        None => Err(refuse(
            "a handle to an array travels only in arguments and results of tasks, processes and phases: elsewhere \
             nobody would keep its memory",
        )),
        Some(Scope::Lending(all)) => {
            storage.let_readers_in().map_err(refuse)?;
            remember(storage);
            all.push(storage.clone());
            Ok(())
        }
        Some(Scope::Replying(all)) => {
            let given = !storage.is_lent();
            // With others, it is somebody's who stays.
            if given && Arc::strong_count(storage) == 1 {
                can_go(storage).map_err(refuse)?;
            }
            if !all.iter().any(|sent| Arc::ptr_eq(&sent.storage, storage)) {
                all.push(Sent { storage: storage.clone(), given, by_handle: true });
            }
            Ok(())
        }
    })
}

/// An array is being encoded.
pub(crate) fn give(storage: &Arc<Storage>) -> Result<(), String> {
    SCOPE.with_borrow_mut(|scope| match scope {
        Some(Scope::Replying(all)) if Arc::strong_count(storage) == 1 => {
            can_go(storage).map_err(refuse)?;
            all.push(Sent { storage: storage.clone(), given: true, by_handle: false });
            Ok(())
        }
        Some(Scope::Replying(_)) => Err(refuse(format!(
            "{} cannot be given away: a handle to it is alive, or it is in the value twice",
            storage.object()
        ))),
        _ => Err(refuse(format!(
            "{} travels only in the result of a task or of an isolated call; as an argument give its handle: \
             array.handle()",
            storage.object()
        ))),
    })
}

// ---- what is known here ----------------------------------------------------------------------------------------------

/// Device and inode.
type Identity = (u64, u64);

/// Storages that may be met again as references: what was lent from here, what was lent to here. A file that is open more than once
/// has more than one.
type Known = HashMap<Identity, Vec<Weak<Storage>>>;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

fn known() -> MutexGuard<'static, Option<Known>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// References lead to it from now on, in this process.
pub(crate) fn remember(storage: &Arc<Storage>) {
    let mut known = known();
    let all = known.get_or_insert_default().entry(storage.identity()).or_default();
    if !all.iter().any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(storage))) {
        all.push(Arc::downgrade(storage));
    }
}

/// The storage of that identity, if this process has it.
fn find(identity: Identity) -> Option<Arc<Storage>> {
    // The lock is gone before the storage can be: its drop takes it again.
    known().as_ref().and_then(|all| all.get(&identity)).and_then(|all| all.iter().find_map(Weak::upgrade))
}

/// A storage that may be known is dropped.
pub(crate) fn forget_dead(identity: Identity) {
    if let Some(known) = known().as_mut()
        && let Some(all) = known.get_mut(&identity)
    {
        all.retain(|storage| storage.strong_count() > 0);
        if all.is_empty() {
            known.remove(&identity);
        }
    }
}

/// A storage of ours is about to be changed: no reference leads to it until it is lent again.
pub(crate) fn forget(identity: Identity) {
    if let Some(all) = known().as_mut() {
        all.remove(&identity);
    }
}
