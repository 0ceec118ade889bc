//! One call in a process of its own: its value, or exactly why there is none.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_segment::Inbox;

use super::allowance::Limits;
use super::builder::{Output, common_options};
use super::errand::{self, Driver, Functions, Reply, Verdict};
use super::failure::Failure;
use super::launch::{Luggage, Settings, failed, launch};
use super::parcel;
use super::record::{End, Record};
use crate::LevelFilter;
use crate::cause::What;
use crate::drive::IntoFailure;
use crate::error::{ErrorKind, Result};
use crate::freight;
use crate::limits::{TERM_GRACE, UNKILLABLE_AFTER};
use crate::memory_file;

/// Calls `f(args)` in a process of its own, waits for it, and returns its value: for code that may crash, leak, hang or run out of
/// memory without taking this program with it.
///
/// ```no_run
/// fn parse(text: String) -> usize {
///     text.len() // or a C library that crashes for some of them
/// }
///
/// # fn main() -> swath::Result<()> {
/// assert_eq!(swath::isolated(parse, "four".to_owned())?, 4);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`ErrorKind::Failed`] if it panicked; [`ErrorKind::Died`] if its process ended in any way before `f` had returned, with
/// exit code 0 too; [`ErrorKind::Codec`] for arguments or a value that cannot be encoded or decoded; otherwise as
/// [`Process::spawn`](crate::Process::spawn). The source of those about the call itself is a [`Failure`].
pub fn isolated<A, R>(f: fn(A) -> R, args: A) -> Result<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    isolated_with().call(f, args)
}

/// As [`isolated`], for functions that return a `Result`: their error is this call's, of kind [`ErrorKind::Failed`].
///
/// # Errors
///
/// As [`isolated`], and what `f` returns.
pub fn try_isolated<A, R, E>(f: fn(A) -> std::result::Result<R, E>, args: A) -> Result<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
    E: IntoFailure,
{
    isolated_with().try_call(f, args)
}

/// An isolated call to be, with options.
pub fn isolated_with() -> IsolatedBuilder {
    IsolatedBuilder::default()
}

/// How an isolated call is to be; made by [`isolated_with`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is called until call or try_call is"]
pub struct IsolatedBuilder {
    settings: Settings,
    timeout: Option<Duration>,
}

impl IsolatedBuilder {
    common_options!();

    /// How long it may take, its process's start and end included. Then its process is ended: SIGTERM, half a second later SIGKILL to
    /// its group; and the call returns, with an error of kind [`ErrorKind::Deadline`], when its exit is confirmed.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Calls `f(args)`. See [`isolated`].
    ///
    /// # Errors
    ///
    /// As [`isolated`].
    pub fn call<A, R>(self, f: fn(A) -> R, args: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.run(errand::answer::<A, R>, f as *const (), args)
    }

    /// Calls `f(args)`. See [`try_isolated`].
    ///
    /// # Errors
    ///
    /// As [`try_isolated`].
    pub fn try_call<A, R, E>(self, f: fn(A) -> std::result::Result<R, E>, args: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        self.run(errand::try_answer::<A, R, E>, f as *const (), args)
    }

    fn run<A: Serialize, R: DeserializeOwned>(
        self,
        driver: Driver,
        function: *const (),
        args: A,
    ) -> Result<R> {
        let functions = Functions::name(driver, function)?;
        let luggage = Luggage::pack(args)?;
        // Its answer may have the same handles.
        let _until_it_is_decoded = luggage.lent.clone();
        let (reply, place) = memory_file::new("swath-answer").map_err(failed("memory for its answer"))?;
        // A call is over when it is over: whatever it has started ends with it.
        let settings = Settings { takes_group_along: true, ..self.settings };
        let inbox = Inbox::open()?;
        let began = Instant::now();
        let to = Reply { parcel: place, inbox: inbox.address().to_owned() };
        let record = launch(settings, functions, luggage, Some(to))?;
        let deadline = self.timeout.and_then(|limit| began.checked_add(limit));
        let ended = record.wait(deadline);
        // Before it is told to hurry: a function that has returned in time has a value, though its process lingers.
        let answer = read(&reply);
        let in_time = ended.is_some();
        let end = ended.map_or_else(|| climb(&record), Ok)?;
        match (in_time, self.timeout, answer?) {
            (false, Some(limit), None) => Err(failure(&record, &end, What::TimedOut { limit }).into_error()),
            (_, _, answer) => value(&record, &end, answer, &inbox),
        }
    }
}

fn read(reply: &File) -> Result<Option<[Vec<u8>; 2]>> {
    parcel::read(reply).map_err(|e| ErrorKind::Codec.with(format!("the answer: {e}")).caused_by(e))
}

/// The kill ladder, up to the confirmed exit.
fn climb(record: &Record) -> Result<End> {
    let after = |patience| Some(Instant::now() + patience);
    record.signal(swath_platform::signal::TERM)?;
    if let Some(end) = record.wait(after(TERM_GRACE)) {
        return Ok(end);
    }
    record.kill()?;
    record.wait(after(UNKILLABLE_AFTER)).ok_or_else(|| {
        let (name, pid) = (&record.about.name, record.pid);
        ErrorKind::Deadline.with(format!(
            "{name} (pid {pid}) took too long, and does not die of SIGKILL within {UNKILLABLE_AFTER:?}"
        ))
    })
}

fn failure(record: &Record, end: &End, what: What) -> Failure {
    Failure::new(&record.about.name, record.pid, what, end, &record.about.limits)
}

/// What the process says, or else what its end says.
fn value<R: DeserializeOwned>(
    record: &Record,
    end: &End,
    answer: Option<[Vec<u8>; 2]>,
    inbox: &Inbox,
) -> Result<R> {
    let about = &record.about;
    let Some([verdict, value]) = answer else {
        let what = match Failure::of_end(&about.name, record.pid, end, &about.limits) {
            Some(failure) => failure.what,
            None => What::Exited { code: 0 },
        };
        return Err(failure(record, end, what).into_error());
    };
    let codec = |why: String| ErrorKind::Codec.with(format!("{} (pid {}): {why}", about.name, record.pid));
    match postcard::from_bytes(&verdict) {
        Ok(Verdict::Value(list)) => {
            let arrays = freight::collect(&list, Some(inbox));
            arrays.during(|| freight::unpack(&value)).map_err(|why| {
                codec(format!("its value of type {} cannot be decoded: {why}", std::any::type_name::<R>()))
            })
        }
        Ok(Verdict::Failed(what)) => Err(failure(record, end, what).into_error()),
        Err(e) => Err(codec(format!("its answer cannot be read: {e}"))),
    }
}
