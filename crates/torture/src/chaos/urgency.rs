//! Who runs first: the referee and the dying. Without it most of a run is waiting until a killed process is given a
//! processor to die on. Only root may ask for it; for others the game is slower, nothing else.
#![allow(unsafe_code)]

const URGENT: i32 = -20;
const ORDINARY: i32 = 0;

/// This process comes first.
pub(super) fn come_first() {
    hurry(0);
}

/// That process (0: the calling one) comes first.
pub(super) fn hurry(pid: i32) {
    set(pid, URGENT);
}

/// This process is one like any other.
pub(super) fn queue_up() {
    set(0, ORDINARY);
}

fn set(pid: i32, nice: i32) {
    // SAFETY: numbers only; `pid` is 0 or an unreaped child of the harness.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, nice) };
}
