//! A program followed from system call to system call by ptrace, and killed at one of them.

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// How a followed program ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// By us.
    Killed,
    /// By itself.
    Finished,
}

/// Starts `command` and follows all its threads (processes that it starts are not followed). `go_on(thread)` is asked at
/// each entry into and exit from a system call; `false` kills the program there.
pub(crate) fn follow(command: &mut Command, mut go_on: impl FnMut(libc::pid_t) -> bool) -> End {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: between fork and exec only one bare system call is made.
    unsafe { command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0)) };
    let main = command.spawn().unwrap().id() as libc::pid_t;
    assert_eq!(wait(main), Some((main, libc::SIGTRAP)), "stopped by its exec");
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, main, options).unwrap();
    ptrace(libc::PTRACE_SYSCALL, main, 0).unwrap();
    let mut threads = HashSet::from([main]);
    let mut end = End::Finished;
    while !threads.is_empty() {
        let Some((thread, signal)) = wait(-1) else { break };
        if signal == 0 {
            threads.remove(&thread);
            continue;
        }
        threads.insert(thread);
        let is_call = signal == libc::SIGTRAP | 0x80;
        if is_call && end == End::Finished && !go_on(thread) {
            end = End::Killed;
            // SAFETY: `main` is not reaped (a thread of it stands still), so the number is its own.
            unsafe { libc::kill(main, libc::SIGKILL) };
            continue;
        }
        // A new thread's first stop and ptrace's own events are not to be delivered; real signals are.
        let real = !is_call && signal != libc::SIGSTOP && signal & 0xff != libc::SIGTRAP;
        let _ = ptrace(libc::PTRACE_SYSCALL, thread, if real { signal } else { 0 });
    }
    end
}

/// The path that a thread, standing at a system call, opens there.
pub(crate) fn opened(thread: libc::pid_t) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let mut fields = text.split(' ');
    let is_open = fields.next() == Some(&libc::SYS_openat.to_string());
    let path = fields.nth(1).and_then(|field| u64::from_str_radix(field.trim_start_matches("0x"), 16).ok());
    path.filter(|_| is_open).map(|address| read_text(thread, address))
}

/// The first characters of a text in the tracee.
fn read_text(tracee: libc::pid_t, address: u64) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 32];
    let memory = std::fs::File::open(format!("/proc/{tracee}/mem")).unwrap();
    let count = memory.read_at(&mut bytes, address).unwrap_or(0);
    let text = bytes[..count].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

pub(crate) fn ptrace(request: libc::c_uint, pid: libc::pid_t, data: libc::c_int) -> std::io::Result<()> {
    // SAFETY: none of the requests used here writes to an address of ours; the data is a number.
    let done =
        unsafe { libc::ptrace(request, pid, std::ptr::null_mut::<libc::c_void>(), data as libc::c_long) };
    if done == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// (thread, stop signal with events; 0 = it has ended); `None`: no child is left.
pub(crate) fn wait(pid: libc::pid_t) -> Option<(libc::pid_t, libc::c_int)> {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    let thread = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
    if thread == -1 {
        return None;
    }
    let stopped = libc::WIFSTOPPED(status);
    Some((thread, if stopped { status >> 8 } else { 0 }))
}
