//! Kills a coordinator before and after each of its system calls, from its first to its last, by ptrace.

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use swath_segment::{Segment, admin, set_initialised};

use crate::stage::{PROMISE, eventually, exists, is_private, shm_names};

/// The scenario: a session from its beginning to its end, with one segment of each kind.
pub(crate) fn traced(_: &[String]) {
    set_initialised();
    let name = format!("traced-{}", std::process::id());
    let named = Segment::options().name(name).create(5000).unwrap();
    let unnamed = Segment::options().unnamed("scratch").create(5000).unwrap();
    drop(named);
    drop(unnamed);
}

/// The outcome of one run.
enum Run {
    /// Killed at the stop that was asked for.
    Killed,
    /// It ended before.
    Finished,
}

pub(crate) fn killed_at_every_system_call() {
    if !is_private() {
        println!(
            "skipped: killed_at_every_system_call (no private /dev/shm: needs root and mount namespaces)"
        );
        return;
    }
    // The first stops belong to the loader and the runtime: nothing of ours exists yet.
    let mut stop = stops_before_the_session();
    let first = stop;
    let mut reclaimed: u32 = 0;
    while let Run::Killed = run(Some(stop)) {
        reclaimed += u32::from(tidied(stop));
        stop += 1;
    }
    assert_eq!(shm_names().len(), 0, "an untouched run leaves nothing");
    println!("{} kills, {reclaimed} times the cleaner had to come", stop - first);
    assert!(stop - first > 100 && reclaimed > 0 && reclaimed < stop - first);
}

/// Waits for the guardian, cleans where none is left; whether cleaning was needed.
fn tidied(stop: u32) -> bool {
    let mut cleaned = false;
    let empty = eventually(PROMISE, || {
        if shm_names().is_empty() {
            return true;
        }
        if admin::list().unwrap().iter().any(|session| !session.alive) {
            cleaned |= !admin::clean(false).unwrap().cleaned.is_empty();
        }
        false
    });
    assert!(empty, "killed at stop {stop}: {:?}, {:?}", shm_names(), admin::list());
    cleaned
}

fn stops_before_the_session() -> u32 {
    let mut before = 0;
    trace(|_, tracee, count| {
        before = count;
        // Opens of /dev/shm begin with the reclaim of dead sessions.
        !opens_shm(tracee)
    });
    assert!(eventually(PROMISE, || {
        let _ = admin::clean(false);
        shm_names().is_empty()
    }));
    before.saturating_sub(2)
}

fn opens_shm(tracee: libc::pid_t) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{tracee}/syscall")) else { return false };
    let mut fields = text.split(' ');
    let is_open = fields.next() == Some(&libc::SYS_openat.to_string());
    let path = fields.nth(1).and_then(|field| u64::from_str_radix(field.trim_start_matches("0x"), 16).ok());
    is_open && path.is_some_and(|address| read_text(tracee, address).starts_with("/dev/shm"))
}

fn read_text(tracee: libc::pid_t, address: u64) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 16];
    let memory = std::fs::File::open(format!("/proc/{tracee}/mem")).unwrap();
    let count = memory.read_at(&mut bytes, address).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn run(kill_at: Option<u32>) -> Run {
    trace(|_, _, count| kill_at != Some(count))
}

/// Runs the scenario under ptrace. `go_on(thread, stop)` is asked at each entry into and exit from a system call of any
/// of its threads; `false` kills it there.
#[expect(clippy::zombie_processes, reason = "reaped by `wait`, as its threads are")]
fn trace(mut go_on: impl FnMut(&HashSet<libc::pid_t>, libc::pid_t, u32) -> bool) -> Run {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["scenario", "traced"]).stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: between fork and exec only one bare system call is made.
    unsafe { command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0)) };
    let child = command.spawn().unwrap();
    let main = child.id() as libc::pid_t;
    assert_eq!(wait(main), Some((main, libc::SIGTRAP)), "stopped by its exec");
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, main, options).unwrap();
    ptrace(libc::PTRACE_SYSCALL, main, 0).unwrap();
    let mut threads = HashSet::from([main]);
    let (mut count, mut killed) = (0, false);
    while !threads.is_empty() {
        let Some((thread, signal)) = wait(-1) else { break };
        if signal == 0 {
            threads.remove(&thread);
            continue;
        }
        threads.insert(thread);
        let is_call = signal == libc::SIGTRAP | 0x80;
        if is_call && !killed {
            count += 1;
            if !go_on(&threads, thread, count) {
                killed = true;
                swath_platform::process::pidfd_signal(
                    &swath_platform::process::pidfd_open(main as u32).unwrap(),
                    libc::SIGKILL,
                )
                .unwrap();
                continue;
            }
        }
        // A new thread's first stop and ptrace's own events are not to be delivered; real signals are.
        let real = !is_call && signal != libc::SIGSTOP && signal & 0xff != libc::SIGTRAP;
        let _ = ptrace(libc::PTRACE_SYSCALL, thread, if real { signal } else { 0 });
    }
    assert!(!exists(main as u32));
    if killed { Run::Killed } else { Run::Finished }
}

fn ptrace(request: libc::c_uint, pid: libc::pid_t, data: libc::c_int) -> std::io::Result<()> {
    // SAFETY: none of the requests used here writes to an address of ours; the data is a number.
    let done =
        unsafe { libc::ptrace(request, pid, std::ptr::null_mut::<libc::c_void>(), data as libc::c_long) };
    if done == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// (thread, stop signal with events; 0 = it has ended); `None`: no child is left.
fn wait(pid: libc::pid_t) -> Option<(libc::pid_t, libc::c_int)> {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    let thread = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
    if thread == -1 {
        return None;
    }
    let stopped = libc::WIFSTOPPED(status);
    Some((thread, if stopped { status >> 8 } else { 0 }))
}
