//! The workers' side of maps: the loop over the items of a chunk.

use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::travel::{self, Outgoing, To};
use swath_platform::cpu;

use crate::cause::{Cause, Fault, What};
use crate::descriptor::flag;
use crate::drive::IntoFailure;
use crate::freight;
use crate::panic_note;
use crate::turn::{InHand, Turn};

/// The driver of `map`.
pub(super) fn items<A: DeserializeOwned, R: Serialize>(turn: &mut Turn<'_>) {
    // SAFETY: the coordinator names this driver together with a function of exactly this type.
    let function = unsafe { turn.function::<fn(A) -> R>(turn.descriptor.kernel) };
    chunks(turn, |item| Ok(function.clone()?(item)));
}

/// The driver of `try_map`.
pub(super) fn try_items<A: DeserializeOwned, R: Serialize, E: IntoFailure>(turn: &mut Turn<'_>) {
    // SAFETY: as above.
    let function = unsafe { turn.function::<fn(A) -> Result<R, E>>(turn.descriptor.kernel) };
    chunks(turn, |item| function.clone()?(item).map_err(|error| Box::new(error.into_failure())));
}

/// Drivers of functions of several arguments.
macro_rules! star {
    ($($driver:ident($($arg:ident: $type:ident),+);)+) => {$(
        pub(super) fn $driver<$($type: DeserializeOwned,)+ R: Serialize>(turn: &mut Turn<'_>) {
            // SAFETY: as above.
            let function = unsafe { turn.function::<fn($($type),+) -> R>(turn.descriptor.kernel) };
            chunks(turn, |($($arg),+)| Ok(function.clone()?($($arg),+)));
        }
    )+};
}

star! {
    star2(a: A, b: B);
    star3(a: A, b: B, c: C);
    star4(a: A, b: B, c: C, d: D);
    star5(a: A, b: B, c: C, d: D, e: E);
    star6(a: A, b: B, c: C, d: D, e: E, f: F);
}

fn chunks<A: DeserializeOwned, R: Serialize>(turn: &mut Turn<'_>, call: impl Fn(A) -> Result<R, Fault>) {
    let Some(first) = turn.next() else { return };
    panic_note::install();
    let items = turn.prepare_bytes();
    let mut out = Vec::new();
    let mut next = Some(first);
    while let Some(held) = next {
        out.clear();
        cpu::reset_float_state();
        let began = turn.descriptor.has(flag::MEASURE).then(Instant::now);
        out.extend_from_slice(if began.is_some() { &[0; 8] } else { &[] });
        let work = || items.clone().and_then(|items| chunk(turn, items, &held, &call, &mut out));
        let to = if turn.hand.inline { To::ThisProcess } else { To::AnotherProcess };
        let (done, outgoing) = travel::replying(to, work);
        let done = done.and_then(|()| dispatch(turn, &held, outgoing, &mut out));
        if let (Some(began), Some(room)) = (began, out.get_mut(..8)) {
            room.copy_from_slice(&(began.elapsed().as_nanos() as u64).to_le_bytes());
        }
        match done.and_then(|()| turn.put_bytes(&held, &out)) {
            Ok(()) => turn.commit(held),
            Err(what) => turn.fail(held, *what),
        }
        next = turn.next();
    }
    turn.idle();
}

/// Sends the arrays among the values of a chunk, and closes the chunk's bytes with their list.
fn dispatch(turn: &Turn<'_>, held: &InHand, outgoing: Outgoing, out: &mut Vec<u8>) -> Result<(), Fault> {
    freight::seal(&outgoing.items(), out);
    let sent = match turn.hand.inline {
        true => freight::keep_here(held.chunk(), outgoing),
        false => freight::send(outgoing, freight::for_map(turn.hand.owner, turn.descriptor.epoch)),
    };
    sent.map_err(What::not_sent)
}

/// The items of one chunk, each decoded, called and answered.
fn chunk<A: DeserializeOwned, R: Serialize>(
    turn: &Turn<'_>,
    items: &[u8],
    held: &InHand,
    call: impl Fn(A) -> Result<R, Fault>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut bytes = chunk_of(items, held.chunk()).ok_or_else(|| What::setup("its items are not there"))?;
    let goes_on = turn.descriptor.has(flag::KEEP_GOING);
    for _ in held.rows.clone() {
        let (length, mut decoded) = (out.len(), false);
        // Whatever of it is the user's code may panic: `Deserialize`, the function, `Serialize`.
        let end = panic_note::catching(|| {
            let (item, rest) =
                freight::unpack_first(bytes).map_err(|why| What::undecodable("an item", why))?;
            (bytes, decoded) = (rest, true);
            put::<R>(&Ok(call(item)?), out)
        });
        let Err(fault) = end else { continue };
        if !goes_on || !decoded {
            return Err(fault);
        }
        out.truncate(length);
        put::<R>(&Err(Cause::new(turn.hand.index, turn.hand.pid, *fault)), out)?;
    }
    Ok(())
}

/// Appends an item's end.
fn put<R: Serialize>(end: &Result<R, Cause>, out: &mut Vec<u8>) -> Result<(), Fault> {
    freight::put_reply(end, out).map_err(What::unencodable::<R>)
}

/// The bytes of chunk `chunk`, by the table of offsets at the beginning.
fn chunk_of(items: &[u8], chunk: usize) -> Option<&[u8]> {
    let offset = |n: usize| {
        let bytes = items.get(n * 8..n * 8 + 8)?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    items.get(offset(chunk)?..offset(chunk + 1)?)
}
