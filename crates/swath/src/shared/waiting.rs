//! Waiting for any of several shared objects.

use std::time::{Duration, Instant};

use swath_sync::{Announced, InPlace, NoParty, Party, WaitAnyError, Waitable};

use super::{Refused, Shared, SharedPipeEnd};
use crate::process::Process;

/// What can be waited for beside others: shared events, queues of all kinds, ends of pipes, processes that this one has started.
pub trait Awaited: sealed::Ask {}

mod sealed {
    use super::{NoParty, Party, Waitable};

    /// What only this crate's objects can do.
    pub trait Ask: Waitable {
        fn party(&self) -> Result<Party, NoParty>;
        fn as_waitable(&self) -> &dyn Waitable;
    }
}

/// Each object is asked as its own session's party.
impl<T: InPlace + Waitable + ?Sized> Waitable for Shared<T> {
    fn is_ready(&self, _party: &Party) -> bool {
        self.me().is_ok_and(|me| self.object().is_ready(&me))
    }

    fn announce(&self, party: &Party) -> Announced<'_> {
        self.object().announce(&self.me().unwrap_or(*party))
    }
}

impl<T: InPlace + Waitable + ?Sized> sealed::Ask for Shared<T> {
    fn party(&self) -> Result<Party, NoParty> {
        self.me()
    }

    fn as_waitable(&self) -> &dyn Waitable {
        self
    }
}

impl<T: InPlace + Waitable + ?Sized> Awaited for Shared<T> {}

impl sealed::Ask for SharedPipeEnd<'_> {
    fn party(&self) -> Result<Party, NoParty> {
        Ok(self.me)
    }

    fn as_waitable(&self) -> &dyn Waitable {
        self
    }
}

impl Awaited for SharedPipeEnd<'_> {}

/// Ready when the process has ended.
impl Waitable for Process {
    fn is_ready(&self, _party: &Party) -> bool {
        !self.is_alive()
    }

    fn announce(&self, _party: &Party) -> Announced<'_> {
        Announced::new(&self.record().fate().word, 0)
    }
}

impl sealed::Ask for Process {
    fn party(&self) -> Result<Party, NoParty> {
        self.record().party()
    }

    fn as_waitable(&self) -> &dyn Waitable {
        self
    }
}

impl Awaited for Process {}

/// Waits until at least one of `things` is ready (an event set; something to get or receive, or never any more; a process ended),
/// and says which are, by their indices.
///
/// # Errors
///
/// More things than can be waited for; none at all; the calling thread cannot take part.
pub fn wait_any(things: &[&dyn Awaited]) -> Result<Vec<usize>, Refused<WaitAnyError>> {
    ask(things, swath_sync::wait_any)
}

/// Which of `things` are ready now.
///
/// # Errors
///
/// None is; otherwise as [`wait_any`].
pub fn try_wait_any(things: &[&dyn Awaited]) -> Result<Vec<usize>, Refused<WaitAnyError>> {
    ask(things, swath_sync::try_wait_any)
}

/// As [`wait_any`], at most for `timeout`.
///
/// # Errors
///
/// None in time; otherwise as [`wait_any`].
pub fn wait_any_timeout(
    things: &[&dyn Awaited],
    timeout: Duration,
) -> Result<Vec<usize>, Refused<WaitAnyError>> {
    ask(things, |me, things| swath_sync::wait_any_timeout(me, things, timeout))
}

/// As [`wait_any`], at most until `deadline`.
///
/// # Errors
///
/// None in time; otherwise as [`wait_any`].
pub fn wait_any_deadline(
    things: &[&dyn Awaited],
    deadline: Instant,
) -> Result<Vec<usize>, Refused<WaitAnyError>> {
    ask(things, |me, things| swath_sync::wait_any_deadline(me, things, deadline))
}

fn ask(
    things: &[&dyn Awaited],
    wait: impl FnOnce(&Party, &[&dyn Waitable]) -> Result<Vec<usize>, WaitAnyError>,
) -> Result<Vec<usize>, Refused<WaitAnyError>> {
    let object = || "waiting for any of several".to_owned();
    // The first one's session wakes us at a death; the others' are looked at each slice.
    let me = things.first().map_or(Err(NoParty::NotInstalled), |thing| thing.party());
    let me = me.map_err(|nobody| Refused { object: object(), why: Err(nobody) })?;
    let things: Vec<&dyn Waitable> = things.iter().map(|thing| thing.as_waitable()).collect();
    wait(&me, &things).map_err(|why| Refused { object: object(), why: Ok(why) })
}
