//! A worker's place in the session of the coordinator that started it. Steps W1–W3 of `README.md`.

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use swath_platform::process;
use swath_sync::slots::{SLOTS_MAX, SlotId, SlotState};

use crate::control::{self, Control};
use crate::error::{Error, Result};
use crate::guardian::inherited_control;
use crate::guest::watch_peers;
use crate::layout::{HeaderImage, LAYOUT_HASH, LAYOUT_VERSION};
use crate::{CONTROL_FD, WORKER_ARGV0};

static MEMBERSHIP: OnceLock<Membership> = OnceLock::new();
static IS_WORKER: AtomicBool = AtomicBool::new(false);

/// Whether this process entered a session as a worker.
pub fn is_worker() -> bool {
    IS_WORKER.load(Ordering::Acquire)
}

/// The worker's place, once it has been checked.
pub(crate) fn membership() -> Option<&'static Membership> {
    MEMBERSHIP.get()
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
}

/// If this process was started as a worker (`["swath-worker", "3", SLOT, GENERATION, …]`, the rest being the engine's, and a
/// control segment under descriptor 3): checks and maps it. `None`: it was not; nothing was touched. `Some(Err(_))`: it was, but cannot be one;
/// it must end.
pub fn worker_membership(argv: &[OsString]) -> Option<Result<Membership>> {
    let id = parse(argv)?;
    let (fd, header) = inherited_control()?;
    IS_WORKER.store(true, Ordering::Release);
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
    let control = control::map(fd)?;
    let (state, generation) = control.slots().state(slot.index);
    if (state, generation) != (SlotState::Starting, slot.generation) {
        let found = format!("{state:?}, generation {generation}");
        return Err(Error::SlotMismatch { slot: slot.index, generation: slot.generation, found });
    }
    if let Ok(look) = fd.try_clone() {
        watch_peers(control.slots(), header, Arc::new(look), None);
    }
    let membership = Membership { control, slot, coordinator_pid };
    let _ = MEMBERSHIP.set(membership);
    Ok(membership)
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
