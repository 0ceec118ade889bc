//! What a process is started for: a function and its arguments, on their way into it and carried out there.
//!
//! As with phases, the starter names a *driver*, which knows the types, and the function, both by their place in the executable.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use swath_array::travel::{self, Item, To};
use swath_segment::Stamp;

use super::allowance::Limits;
use super::value::{ExitValue, PANICKED};
use crate::cause::{Fault, What};
use crate::drive::IntoFailure;
use crate::error::Result;
use crate::freight;
use crate::kernel;
use crate::memory_file::Place;
use crate::panic_note;

/// Carries a function out.
pub(crate) type Driver = fn(*const (), Vec<u8>) -> Ending;

/// What then is to be done.
pub(crate) enum Ending {
    /// End with this code.
    Exit(i32),
    /// Hand this over, and end with 0.
    Reply(Verdict, Vec<u8>),
    /// The function was never called.
    CannotBegin(String),
}

/// How an isolated call went, in the words of the process that did it.
#[derive(Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It has a value, with these arrays.
    Value(Vec<Item>),
    /// It failed.
    Failed(What),
}

/// The functions of an errand, as they travel.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Functions {
    driver: u64,
    function: u64,
}

impl Functions {
    pub(crate) fn name(driver: Driver, function: *const ()) -> Result<Functions> {
        Ok(Functions { driver: kernel::name_of(driver as *const ())?, function: kernel::name_of(function)? })
    }

    /// In the process that runs the same executable as who named them.
    pub(crate) fn carry_out(self, args: Vec<u8>) -> Ending {
        let (Some(driver), Some(function)) =
            (kernel::address_of(self.driver), kernel::address_of(self.function))
        else {
            return Ending::CannotBegin("its function is not in the executable".to_owned());
        };
        // SAFETY: the starter, which runs the same executable, named a function of type `Driver`.
        let driver = unsafe { std::mem::transmute::<*const (), Driver>(driver) };
        driver(function, args)
    }
}

/// What a process finds in its parcel before the arguments.
#[derive(Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) functions: Functions,
    /// Of the executable: device, inode.
    pub(crate) executable: (u64, u64),
    pub(crate) name: String,
    pub(crate) starter_name: String,
    pub(crate) cwd: Option<Vec<u8>>,
    pub(crate) limits: Limits,
    /// What its pools may count on.
    pub(crate) processors: usize,
    pub(crate) reply: Option<Reply>,
}

/// Where the answer of an isolated call goes.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) parcel: Place,
    /// The inbox for arrays in it.
    pub(crate) inbox: String,
}

fn decode<A: DeserializeOwned>(args: Vec<u8>) -> std::result::Result<A, Fault> {
    let what = format!("arguments of type {}", std::any::type_name::<A>());
    freight::unpack(&args).map_err(|why| What::undecodable(&what, why))
}

/// Runs `f`; the exit code. A panic has been reported by the hook.
pub(crate) fn exit_code<R: ExitValue>(f: impl FnOnce() -> R) -> i32 {
    catch_unwind(AssertUnwindSafe(|| f().report())).unwrap_or(PANICKED)
}

/// Of [`Process::spawn`](crate::Process::spawn).
pub(crate) fn run<A: DeserializeOwned, R: ExitValue>(function: *const (), args: Vec<u8>) -> Ending {
    // SAFETY: the starter names this driver together with a function of exactly this type.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    match decode(args) {
        Ok(args) => Ending::Exit(exit_code(|| function(args))),
        Err(why) => Ending::CannotBegin(why.to_string()),
    }
}

/// Of [`isolated`](crate::isolated).
pub(crate) fn answer<A: DeserializeOwned, R: Serialize>(function: *const (), args: Vec<u8>) -> Ending {
    // SAFETY: as above.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    reply(args, |args| Ok(function(args)))
}

/// Of [`try_isolated`](crate::try_isolated).
pub(crate) fn try_answer<A, R, E>(function: *const (), args: Vec<u8>) -> Ending
where
    A: DeserializeOwned,
    R: Serialize,
    E: IntoFailure,
{
    // SAFETY: as above.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> std::result::Result<R, E>>(function) };
    reply(args, |args| function(args).map_err(|error| Box::new(error.into_failure())))
}

fn reply<A: DeserializeOwned, R: Serialize>(
    args: Vec<u8>,
    call: impl FnOnce(A) -> std::result::Result<R, Fault>,
) -> Ending {
    panic_note::install();
    let work = || {
        panic_note::catching(|| {
            let args = decode(args)?;
            let mut bytes = Vec::new();
            // Inside, for an encoder is the user's code too.
            freight::put_reply(&call(args)?, &mut bytes).map_err(What::unencodable::<R>)?;
            Ok(bytes)
        })
    };
    let (answer, outgoing) = travel::replying(To::AnotherProcess, work);
    let sent = answer.and_then(|bytes| {
        let list = outgoing.items();
        let stamp = Stamp { slot: 0, generation: 0, lot: 0 };
        freight::send(outgoing, stamp).map_err(What::not_sent)?;
        Ok((bytes, list))
    });
    // Before its exit, so that the session which its arrays were made in ends in order.
    freight::close();
    match sent {
        Ok((bytes, list)) => Ending::Reply(Verdict::Value(list), bytes),
        Err(what) => Ending::Reply(Verdict::Failed(*what), Vec::new()),
    }
}
