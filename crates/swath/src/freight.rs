//! What goes beside encoded bytes: the memory of the arrays that they refer to.
//!
//! | way | what travels | who keeps it |
//! |---|---|---|
//! | arguments | handles | the task, map, phase, pool or process, until it is over ([`Lent`]) |
//! | results | arrays that were made there | the coordinator's inbox, before the result is one ([`swath_segment::Inbox`]) |
//! | results | handles | the result, from the moment at which it is collected ([`Incoming`]) |
//!
//! A reply lists its arrays, so that they are found, and let go, without decoding it.

mod complete;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::travel::{self, Incoming, Item, Lent, Outgoing};
use swath_segment::{Inbox, Session, Stamp};

use crate::ledger::Owner;
pub(crate) use complete::Complete;

/// Encodes what may hold handles; what has to be kept for whoever decodes it.
pub(crate) fn pack<T: Serialize + ?Sized>(value: &T) -> (Result<Vec<u8>, String>, Lent) {
    let (bytes, lent) = travel::lending(|| postcard::to_stdvec(&Complete(value)).map_err(reason));
    (bytes, lent)
}

/// Encodes what cannot hold arrays, since nobody would keep them.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    travel::refusing(|| postcard::to_stdvec(&Complete(value)).map_err(reason))
}

/// Why an encoder or a decoder failed.
pub(crate) fn reason(error: postcard::Error) -> String {
    let hint = match error {
        postcard::Error::WontImplement | postcard::Error::SerializeSeqLengthUnknown => {
            " (a type that needs names in its encoding, such as serde_json::Value, an untagged enum or a flattened field: send a \
             string or bytes of a format that has them)"
        }
        _ => "",
    };
    travel::take_refusal().unwrap_or_else(|| format!("{error}{hint}"))
}

/// Decodes what may hold handles, or arrays that [`Incoming::during`] has.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    unpack_first(bytes).map(|(value, _)| value)
}

/// As [`unpack`], with the bytes that are left over.
pub(crate) fn unpack_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), String> {
    travel::take_refusal();
    postcard::take_from_bytes(bytes).map_err(reason)
}

/// Encodes a reply, or part of one, behind what is in `out`; `out` is as before if that fails.
pub(crate) fn put_reply<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    let before = out.len();
    travel::take_refusal();
    let written = travel::reply(|| postcard::to_io(&Complete(value), &mut *out).map(drop));
    written.map_err(|error| {
        out.truncate(before);
        reason(error)
    })
}

// ---- the replying side -----------------------------------------------------------------------------------------------

/// Where this process sends arrays, and the session that it makes them in: kept from the first on, since a session of its own for each
/// array would be a guardian for each.
#[derive(Default)]
struct Dispatch {
    address: Option<String>,
    session: Option<Arc<Session>>,
}

static DISPATCH: Mutex<Dispatch> = Mutex::new(Dispatch { address: None, session: None });

fn dispatch() -> std::sync::MutexGuard<'static, Dispatch> {
    DISPATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on this process replies to that inbox.
pub(crate) fn reply_to(address: Option<String>) {
    dispatch().address = address;
}

/// Sends the arrays of a reply. Their list goes with it.
pub(crate) fn send(outgoing: Outgoing, stamp: Stamp) -> Result<(), String> {
    if outgoing.is_empty() {
        return Ok(());
    }
    let address = {
        let mut dispatch = dispatch();
        dispatch.session = Session::current_if_any();
        dispatch.address.clone().ok_or("nobody takes arrays from this process")?
    };
    outgoing.send(&address, stamp).map_err(|error| error.to_string())
}

/// This process ends in peace: so does the session that its arrays were made in.
pub(crate) fn close() {
    let session = dispatch().session.take();
    drop(session);
}

/// Of the lots of tasks, not of maps.
const OF_A_TASK: u64 = 1 << 32;

/// What somebody sends for the task of that serial number.
pub(crate) fn for_task(owner: Owner, serial: u32) -> Stamp {
    Stamp { lot: OF_A_TASK | u64::from(serial), ..for_map(owner, 0) }
}

/// What somebody sends for the map of that epoch.
pub(crate) fn for_map(owner: Owner, epoch: u32) -> Stamp {
    Stamp { slot: owner.slot.into(), generation: owner.generation.into(), lot: epoch.into() }
}

/// Whether it was sent for a map.
pub(crate) fn is_for_map(stamp: &Stamp) -> bool {
    stamp.lot & OF_A_TASK == 0
}

/// Whether it was sent by this worker for any task.
pub(crate) fn is_for_a_task_of(owner: Owner, stamp: &Stamp) -> bool {
    !is_for_map(stamp) && Stamp { lot: 0, ..*stamp } == for_map(owner, 0)
}

thread_local! {
    /// Of inline pools: the arrays of each chunk of the map that runs in this thread.
    static HERE: RefCell<HashMap<usize, Incoming>> = RefCell::default();
}

/// Keeps the arrays of a chunk's values for [`kept_here`].
pub(crate) fn keep_here(chunk: usize, outgoing: Outgoing) -> Result<(), String> {
    if !outgoing.is_empty() {
        let incoming = outgoing.arrive().map_err(|error| error.to_string())?;
        HERE.with_borrow_mut(|all| all.insert(chunk, incoming));
    }
    Ok(())
}

/// A map of an inline pool is over, or begins: what came of it to nothing is dropped.
pub(crate) fn forget_here() {
    let all = HERE.take();
    drop(all);
}

/// The arrays of a chunk's values, in an inline pool.
pub(crate) fn kept_here(chunk: usize) -> Incoming {
    HERE.with_borrow_mut(|all| all.remove(&chunk)).unwrap_or_default()
}

// ---- lists -----------------------------------------------------------------------------------------------------------

/// Writes the list of a reply's arrays behind it; its length.
pub(crate) fn put_list(items: &[Item], out: &mut Vec<u8>) -> usize {
    if items.is_empty() {
        return 0;
    }
    let list = postcard::to_stdvec(items).unwrap_or_default();
    out.extend_from_slice(&list);
    list.len()
}

/// As [`put_list`], so that [`split_list`] finds out whether there is one.
pub(crate) fn seal(items: &[Item], out: &mut Vec<u8>) {
    let len = put_list(items, out);
    if len > 0 {
        out.extend_from_slice(&(len as u32).to_le_bytes());
    }
    out.push(u8::from(len > 0));
}

/// Takes the list off what [`seal`] has closed.
pub(crate) fn split_list(sealed: &[u8]) -> Option<(&[u8], Vec<Item>)> {
    let (&mark, rest) = sealed.split_last()?;
    if mark == 0 {
        return Some((rest, Vec::new()));
    }
    let (rest, len) = rest.split_last_chunk::<4>()?;
    let (value, list) = rest.split_at_checked(rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?)?;
    Some((value, read_list(list)?))
}

/// A list that [`put_list`] has written.
pub(crate) fn read_list(list: &[u8]) -> Option<Vec<Item>> {
    postcard::from_bytes(list).ok()
}

/// The arrays of a list, out of the inbox.
pub(crate) fn collect(items: &[Item], inbox: Option<&Inbox>) -> Incoming {
    Incoming::new(items, |file| inbox.and_then(|inbox| inbox.take(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_off_again() {
        for count in [0_u64, 1, 500] {
            let items: Vec<Item> =
                (0..count).map(|n| Item { file: (n, u64::MAX), given: n % 2 == 0 }).collect();
            let mut bytes = b"value".to_vec();
            seal(&items, &mut bytes);
            assert_eq!(split_list(&bytes), Some((b"value".as_slice(), items)));
        }
        assert_eq!(split_list(b""), None);
        assert_eq!(split_list(&[9, 0, 0, 0, 1]), None, "longer than all");
    }
}
