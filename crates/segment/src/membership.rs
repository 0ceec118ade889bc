//! A worker's place in the session of the coordinator that started it. Steps W1–W3 of `README.md`.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, OnceLock};

use swath_platform::process;
use swath_sync::slots::{SLOTS_MAX, SlotId, SlotState};
use swath_sync::{NoParty, Party};

use crate::control::{self, Control};
use crate::error::{Error, Result};
use crate::guardian::inherited_control;
use crate::guest::watch_peers;
use crate::layout::{HeaderImage, LAYOUT_HASH, LAYOUT_VERSION};
use crate::{CONTROL_FD, WORKER_ARGV0};

static MEMBERSHIP: OnceLock<Membership> = OnceLock::new();

/// This process's place, once it has been checked. A copy that was forked from it has none.
pub(crate) fn membership() -> Option<&'static Membership> {
    MEMBERSHIP.get().filter(|member| member.pid == process::getpid())
}

/// Whether this process was started for another one's session.
pub fn is_member() -> bool {
    membership().is_some()
}

/// The calling thread as a party of the session that this process was started for. [`Party::current`] is one of the session
/// that it has itself, once it has one.
///
/// # Errors
///
/// It was not started for any, or is a copy that was forked from a process that was; it has too many threads.
///
/// # Safety
///
/// 1. What is used with this party is used with parties of that session only.
pub unsafe fn member() -> std::result::Result<Party, NoParty> {
    let Membership { control, slot, pid, .. } = MEMBERSHIP.get().ok_or(NoParty::NotInstalled)?;
    // SAFETY: 1. the slot was reserved for this process, which `join` has checked; 2. the caller's 1.
    unsafe { Party::of(control.slots(), *slot, *pid) }
}

/// What a worker knows about itself once it has been checked.
#[derive(Copy, Clone, Debug)]
pub struct Membership {
    /// The mapped control segment.
    pub control: &'static Control,
    /// The slot that was reserved for this process.
    pub slot: SlotId,
    /// The coordinator, which is our parent.
    pub coordinator_pid: u32,
    /// This process.
    pub pid: u32,
}

/// If this process was started as a worker (`["swath-worker", "3", SLOT, GENERATION, …]`, the rest being the engine's, and a
/// control segment under descriptor 3): checks and maps it. `None`: it was not; nothing was touched. `Some(Err(_))`: it was, but cannot be one;
/// it must end.
pub fn worker_membership(argv: &[OsString]) -> Option<Result<Membership>> {
    let id = parse(argv)?;
    let (fd, header) = inherited_control()?;
    Some(join(&fd, &header, id))
}

/// W1.
fn parse(argv: &[OsString]) -> Option<SlotId> {
    let [name, fd, slot, generation, ..] = argv else { return None };
    if name != WORKER_ARGV0 || fd != OsStr::new(&CONTROL_FD.to_string()) {
        return None;
    }
    let number = |text: &OsString| text.to_str()?.parse::<u16>().ok();
    let id = SlotId { index: number(slot)?, generation: number(generation)? };
    (usize::from(id.index) < SLOTS_MAX).then_some(id)
}

/// W2, W3.
fn join(fd: &std::os::fd::OwnedFd, header: &HeaderImage, slot: SlotId) -> Result<Membership> {
    if !header.same_layout() {
        let expected = format!("{LAYOUT_VERSION}/{LAYOUT_HASH:016x}");
        return Err(Error::OtherLayout { found: header.layout(), expected });
    }
    let coordinator_pid = header.coordinator_pid;
    let parent = process::getppid();
    if parent != coordinator_pid {
        return Err(Error::ParentGone { coordinator: coordinator_pid, parent });
    }
    // Not where a session of our own would have it: we may begin one.
    let control = control::map_elsewhere(fd)?;
    let (state, generation) = control.slots().state(slot.index);
    if (state, generation) != (SlotState::Starting, slot.generation) {
        let found = format!("{state:?}, generation {generation}");
        return Err(Error::SlotMismatch { slot: slot.index, generation: slot.generation, found });
    }
    if let Ok(look) = fd.try_clone() {
        watch_peers(control.slots(), header, Arc::new(look), None);
    }
    Ok(Membership { control, slot, coordinator_pid, pid: process::getpid() })
}

impl Membership {
    /// From now on it is this process's. A process has one; a second one has no effect.
    pub fn hold(&self) {
        let _ = MEMBERSHIP.set(*self);
    }

    /// Copies of this process will have the control segment too, which forked ones have not.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn let_copies_in(&self) -> Result<()> {
        control::inherit(self.control, true)
    }

    /// The place, in the same session, of a copy of this process that has been made for `slot`; by the copy, which has been let in.
    /// `None`: the slot is not waiting for it.
    pub fn of_copy(&self, slot: SlotId) -> Option<Membership> {
        let _ = control::inherit(self.control, false);
        let awaited = self.control.slots().state(slot.index) == (SlotState::Starting, slot.generation);
        awaited.then_some(Membership { slot, pid: process::getpid(), ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_workers() {
        let argv = |texts: &[&str]| texts.iter().map(OsString::from).collect::<Vec<_>>();
        let good = argv(&["swath-worker", "3", "17", "2"]);
        assert_eq!(parse(&good), Some(SlotId { index: 17, generation: 2 }));
        let bad: [&[&str]; 6] = [
            &["swath-worker", "4", "17", "2"],
            &["swath-worker", "3", "1024", "2"],
            &["swath-worker", "3", "-1", "2"],
            &["swath-worker", "3", "17"],
            &["worker", "3", "17", "2"],
            &[],
        ];
        assert!(bad.iter().all(|texts| parse(&argv(texts)).is_none()));
        assert!(worker_membership(&argv(&["swath-worker", "4", "0", "1"])).is_none());
    }
}
