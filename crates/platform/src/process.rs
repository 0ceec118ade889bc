//! Processes: who we are, watching others through pidfds, and their identity beyond a bare pid.
//!
//! A pid is a weak name (it is reused within seconds on a busy machine). Whoever means a certain process holds a pidfd,
//! or compares the pair (pid, [`start_ticks`]).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// How a process ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ExitStatus {
    raw: u32,
}

impl ExitStatus {
    /// From a packed wait status: exit code in bits 8–15, signal in bits 0–6, core flag in bit 7.
    pub fn from_raw(raw: u32) -> ExitStatus {
        ExitStatus { raw }
    }

    /// The exit code, when the process ended by itself.
    pub fn code(self) -> Option<i32> {
        (self.raw & 0x7f == 0).then_some(((self.raw >> 8) & 0xff) as i32)
    }

    /// The signal that ended the process.
    pub fn signal(self) -> Option<i32> {
        let signal = (self.raw & 0x7f) as i32;
        (signal != 0).then_some(signal)
    }

    /// The packed wait status, as `waitpid` would have given it.
    pub fn raw(self) -> u32 {
        self.raw
    }
}

/// The caller's thread id.
pub fn gettid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// The caller's process id.
pub fn getpid() -> u32 {
    std::process::id()
}

/// The parent's process id; 0 when the parent lives in a pid namespace that we cannot see.
pub fn getppid() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32)
}

/// The effective user id: the owner of the files that we create.
pub fn geteuid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

fn signal_of(signal: i32) -> io::Result<Signal> {
    Signal::from_named_raw(signal).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// A close-on-exec pidfd for `pid`.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid_of(pid)?, PidfdFlags::empty())?)
}

/// Sends a signal to exactly the process that the pidfd stands for.
pub fn pidfd_signal(pidfd: &impl AsFd, signal: i32) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, signal_of(signal)?)?)
}

/// Whether the process has exited (all its threads are gone), without waiting.
pub fn exited(pidfd: &impl AsFd) -> bool {
    wait_exit(pidfd, Duration::ZERO)
}

/// Waits until the process has exited, at most `timeout`; whether it has.
pub fn wait_exit(pidfd: &impl AsFd, timeout: Duration) -> bool {
    let deadline = std::time::Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Takes the exit status of a child. `None`: it still runs. `ECHILD`: not our child, or the host program took the status.
pub fn reap(pidfd: &impl AsFd) -> io::Result<Option<ExitStatus>> {
    wait_id(pidfd, WaitIdOptions::empty())
}

/// How a child has ended, without reaping it: its pid, and the number of its group, stay taken.
pub fn peek(pidfd: &impl AsFd) -> io::Result<Option<ExitStatus>> {
    wait_id(pidfd, WaitIdOptions::NOWAIT)
}

fn wait_id(pidfd: &impl AsFd, more: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | more;
    let Some(status) = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)? else {
        return Ok(None);
    };
    let core = if status.dumped() { 0x80 } else { 0 };
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ((code as u32) & 0xff) << 8,
        (None, Some(signal)) => signal as u32 | core,
        (None, None) => 0,
    };
    Ok(Some(ExitStatus { raw }))
}

/// What a process has used up when it ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Processor time, its own and the kernel's for it.
    pub cpu: Duration,
    /// The most memory that was resident at one time, in bytes. A process that was started by `vfork` and `exec` begins with
    /// its parent's figure.
    pub peak_bytes: u64,
}

/// As [`reap`], with what the process has used.
pub fn reap_with_usage(pidfd: &impl AsFd) -> io::Result<Option<(ExitStatus, Usage)>> {
    // SAFETY: both structures are plain data, for which zero is valid.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG;
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: waitid(2) has a fifth argument, which the C library does not pass on; both results are live locals, and the
    // descriptor is borrowed for the call.
    let result =
        unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, fd, &raw mut info, options, &raw mut usage) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled the fields of a child's end, or left all of it zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let raw = match info.si_code {
        libc::CLD_EXITED => (status as u32 & 0xff) << 8,
        libc::CLD_DUMPED => status as u32 | 0x80,
        _ => status as u32,
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let cpu = time(usage.ru_utime) + time(usage.ru_stime);
    Ok(Some((ExitStatus { raw }, Usage { cpu, peak_bytes: usage.ru_maxrss as u64 * 1024 })))
}

/// The most memory that this process has had resident at one time, in bytes; 0 when `/proc` does not tell.
pub fn own_peak_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What `/proc/PID/stat` says of a process, as far as we need it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// `R` running, `S` sleeping, `D` uninterruptible, `T` stopped, `Z` zombie …
    pub state: char,
    /// The parent's pid.
    pub parent: u32,
    /// The process group.
    pub group: u32,
    /// The session (in the sense of `setsid`).
    pub session: u32,
    /// When it started, in clock ticks since boot: with the pid, an identity.
    pub start_ticks: u64,
}

/// Reads `/proc/PID/stat`.
pub fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat"))
}

/// Field 2, the command, may hold anything, also `)` and spaces: the fields are counted from the last `)`.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// When the process started, in clock ticks since boot.
pub fn start_ticks(pid: u32) -> io::Result<u64> {
    Ok(stat(pid)?.start_ticks)
}

/// The state letter of a process (`T` = stopped, `D` = cannot be killed now, `Z` = zombie); `None` when it is gone.
pub fn state_char(pid: u32) -> Option<char> {
    Some(stat(pid).ok()?.state)
}

/// Whether no thread of the process executes its program any more: all have begun to exit, or it is gone. A process
/// that was killed gets there thread by thread; then it may still be giving back memory for a long time.
pub fn is_exiting(pid: u32) -> bool {
    const PF_EXITING: u64 = 4;
    // What vanishes while we look has exited; any other error proves nothing.
    let is_gone = |error: io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH));
    let mut threads = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(threads) => threads,
        Err(error) => return is_gone(error),
    };
    threads.all(|thread| match thread.and_then(|thread| fs::read(thread.path().join("stat"))) {
        Ok(text) => parse_flags(&text).is_some_and(|flags| flags & PF_EXITING != 0),
        Err(error) => is_gone(error),
    })
}

/// The kernel's flags of a task: field 9.
fn parse_flags(text: &[u8]) -> Option<u64> {
    let end = text.iter().rposition(|&byte| byte == b')')?;
    std::str::from_utf8(&text[end + 1..]).ok()?.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// Whether a process or thread has this id, as far as a signal could reach it.
pub fn exists(id: u32) -> bool {
    let Ok(id) = pid_of(id) else { return false };
    rustix::process::test_kill_process(id) != Err(rustix::io::Errno::SRCH)
}

/// Whether the process that had this pid and began at `start_ticks` (0: not known) has exited, all its threads with it.
/// `None`: this system does not tell (no pidfd, no `/proc`).
pub fn has_exited(pid: u32, start_ticks: u64) -> Option<bool> {
    let pidfd = match pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Some(true),
        Err(_) => return None,
    };
    if start_ticks != 0 {
        match stat(pid) {
            Ok(stat) if stat.start_ticks != start_ticks => return Some(true), // the pid is somebody else's by now
            Ok(_) => {}
            Err(_) if exited(&pidfd) => return Some(true),
            Err(_) => return None,
        }
    }
    Some(exited(&pidfd))
}

/// Has `body` called when the process ends by `exit` or by the return of `main` (not by a signal). False when the C library has
/// no room for another one. It must not panic.
pub fn at_exit(body: extern "C" fn()) -> bool {
    // SAFETY: a function of the right type that stays where it is; this code is never unloaded.
    unsafe { libc::atexit(body) == 0 }
}

/// The pids of all processes that `/proc` shows.
pub fn all_pids() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The pid namespace's identity: pids mean nothing outside it. 0 when `/proc` does not tell.
pub fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}

/// Asks the kernel to send us `signal` when the *thread* that spawned us ends. Check [`getppid`] afterwards: the parent
/// may have died before.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(signal_of(signal)?))?)
}

/// The name that `ps` shows for the calling thread; at most 15 bytes are kept.
pub fn set_comm(name: &str) {
    let kept: Vec<u8> = name.bytes().filter(|&byte| byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(kept) {
        // Cosmetic: a kernel that refuses changes nothing for us.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Sends a signal to every process of the group that `pid` leads.
pub fn kill_group(pid: u32, signal: i32) -> io::Result<()> {
    if pid <= 1 {
        // Group 0 is our own and -1 means everybody: never by accident.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(rustix::process::kill_process_group(pid_of(pid)?, signal_of(signal)?)?)
}

/// Makes `pid`, this process or a child of it that has not executed another program, the leader of a group of its own. Parent and
/// child both do it: whichever is later finds it done.
pub fn lead_group(pid: u32) {
    if let Ok(pid) = pid_of(pid) {
        let _ = rustix::process::setpgid(Some(pid), Some(pid));
    }
}

/// Lets every signal through in the calling thread.
pub fn unblock_signals() {
    // SAFETY: sigset_t is a plain bit set, for which zero is valid; it is a live local.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Blocks every signal in the calling thread until the value is dropped.
#[derive(Debug)]
pub struct SignalsBlocked {
    before: libc::sigset_t,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl SignalsBlocked {
    /// Blocks them now.
    pub fn new() -> SignalsBlocked {
        // SAFETY: sigset_t is a plain bit set, for which zero is valid; both pointers are to live locals; pthread_sigmask
        // changes only the calling thread's mask.
        let before = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            before
        };
        SignalsBlocked { before, _not_send: std::marker::PhantomData }
    }

    /// Leaves them blocked for the rest of the thread's life.
    pub fn for_ever(self) {
        std::mem::forget(self);
    }
}

impl Default for SignalsBlocked {
    fn default() -> SignalsBlocked {
        SignalsBlocked::new()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by pthread_sigmask on this same thread (the type is not Send).
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Ignores a signal in the whole process; for processes of our own that must survive a Ctrl-C.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN runs no code; no handler of ours depends on the old disposition.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Raises the soft limit of open files to the hard one; the limit that holds now.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The largest file that this process may make (`RLIMIT_FSIZE`): beyond it the kernel sends SIGXFSZ.
pub fn file_size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// What a process may be forbidden to have more of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Limited {
    /// Bytes of private writable memory (`RLIMIT_DATA`): heap, stacks of threads; not what is shared.
    Data,
    /// Seconds of processor time (`RLIMIT_CPU`). At the limit comes SIGXCPU, a second later SIGKILL.
    CpuSeconds,
    /// Open descriptors (`RLIMIT_NOFILE`).
    Files,
}

/// Limits this process, for good. Never above what it was allowed before.
pub fn limit(what: Limited, to: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (resource, grace) = match what {
        Limited::Data => (Resource::Data, 0),
        // With both at one value the kernel sends SIGKILL alone, which says nothing.
        Limited::CpuSeconds => (Resource::Cpu, 1),
        Limited::Files => (Resource::Nofile, 0),
    };
    let maximum = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let hard = to.saturating_add(grace).min(maximum);
    Ok(setrlimit(resource, Rlimit { current: Some(to.min(hard)), maximum: Some(hard) })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_counted_from_the_last_parenthesis() {
        let text = b"42 (a) b) (c)) S 7 42 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = parse_stat(text).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 7, group: 42, session: 40, start_ticks: 987_654 });
        assert_eq!(parse_stat(b"42 (a) S 7"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn we_know_ourselves() {
        let me = stat(getpid()).unwrap();
        assert_eq!(me.parent, getppid());
        assert!(me.start_ticks > 0);
        assert!(!exited(&pidfd_open(getpid()).unwrap()));
        assert_eq!(state_char(u32::MAX), None);
        assert!(!is_exiting(getpid()) && is_exiting(u32::MAX));
    }

    #[test]
    fn a_wait_status_unpacks() {
        assert_eq!(ExitStatus::from_raw(3 << 8).code(), Some(3));
        assert_eq!(ExitStatus::from_raw(3 << 8).signal(), None);
        assert_eq!(ExitStatus::from_raw(9).signal(), Some(9));
        assert_eq!(ExitStatus::from_raw(9).code(), None);
    }

    #[test]
    fn group_zero_and_one_are_refused() {
        assert!(kill_group(0, libc::SIGKILL).is_err());
        assert!(kill_group(1, libc::SIGKILL).is_err());
    }
}
