//! A process that plays a role, is watched, and usually killed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use swath_platform::{process, signal};

use super::{PROMISE, Shm, eventually, marked, signal_pid, watchdog};

const ACTOR_MARK: &str = "SWATH_STAGE_ACTOR";

/// A re-executed child; everything of it is killed with the value.
pub(crate) struct Actor {
    child: Child,
    lines: BufReader<ChildStdout>,
    mark: String,
    shm: Shm,
    _watchdog: Watchdog,
}

impl Actor {
    /// Starts this executable in `role`, as the leader of a process group.
    pub(crate) fn play(role: &str, args: &[&str]) -> Actor {
        Actor::play_with(role, args, |_| ())
    }

    /// As [`Actor::play`], with changes to the command.
    pub(crate) fn play_with(role: &str, args: &[&str], change: impl FnOnce(&mut Command)) -> Actor {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{role}-{}-{}", process::getpid(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.args(["role", role]).args(args).env(ACTOR_MARK, &mark).process_group(0);
        change(&mut command);
        let shm = Shm::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("an actor");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let _watchdog = Watchdog::over(child.id());
        Actor { child, lines, mark, shm, _watchdog }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints, without its end; `None` at the end.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("UTF-8");
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    /// What follows `label` in the next line that begins with it; it must come.
    pub(crate) fn told(&mut self, label: &str) -> String {
        loop {
            let line =
                self.next_line().unwrap_or_else(|| panic!("no line `{label}`: it ended early, or hung"));
            if let Some(rest) = line.strip_prefix(label) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Living processes that it is, or has started, directly or not.
    pub(crate) fn processes(&self) -> Vec<u32> {
        marked(ACTOR_MARK, &self.mark)
    }

    /// Those of them that are called `comm`.
    pub(crate) fn processes_called(&self, comm: &str) -> Vec<u32> {
        let is = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == comm)
        };
        self.processes().into_iter().filter(is).collect()
    }

    pub(crate) fn signal(&self, number: i32) {
        let pidfd = process::pidfd_open(self.pid()).expect("not reaped yet");
        process::pidfd_signal(&pidfd, number).expect("signalled");
    }

    /// Kills it, and proves that this is what ended it.
    pub(crate) fn kill(&mut self) {
        self.signal(signal::KILL);
        let status = self.child.wait().expect("our child");
        assert_eq!(status.signal(), Some(signal::KILL), "the crash must have happened");
    }

    /// Waits for its end; the status, and what it still prints.
    pub(crate) fn finish(&mut self) -> (ExitStatus, String) {
        let mut rest = Vec::new();
        self.lines.read_to_end(&mut rest).expect("a pipe");
        (self.child.wait().expect("our child"), String::from_utf8(rest).expect("UTF-8"))
    }

    /// Waits for its end without reading what it prints.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("our child")
    }

    /// No process of it is left within the promised time.
    pub(crate) fn assert_no_processes(&self) {
        // Twice: a process that is in the middle of `exec` has no environment for a moment.
        let none = || self.processes().is_empty() && self.processes().is_empty();
        assert!(eventually(PROMISE, none), "left after {PROMISE:?}: {}", self.describe());
    }

    /// Neither processes nor names are left within the promised time.
    pub(crate) fn assert_gone(&self) {
        let gone =
            || self.processes().is_empty() && self.new_names().is_empty() && self.processes().is_empty();
        let is_gone = eventually(PROMISE, gone);
        assert!(is_gone, "left after {PROMISE:?}: {:?} {}", self.new_names(), self.describe());
    }

    /// Names that came to `/dev/shm` since it was started, as far as they can be told from those of others.
    pub(crate) fn new_names(&self) -> Vec<String> {
        let mut names = self.shm.new_names();
        if !super::is_private() {
            let others: Vec<String> = swath::admin::list()
                .expect("a list")
                .into_iter()
                .filter(|s| s.alive && s.owner_pid != self.pid())
                .map(|s| s.id)
                .collect();
            names.retain(|name| name.starts_with("swath-") && !others.iter().any(|id| name.contains(id)));
        }
        names
    }

    fn describe(&self) -> String {
        let comm = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        self.processes().into_iter().map(|pid| format!("{pid} `{}` ", comm(pid).trim())).collect()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.processes().into_iter().for_each(|pid| signal_pid(pid, signal::KILL));
        }
    }
}

/// Kills a process that lives too long, so that a hang is a failure and not a hang.
struct Watchdog(#[expect(dead_code, reason = "its drop is the message")] Sender<()>);

impl Watchdog {
    fn over(pid: u32) -> Watchdog {
        let pidfd = process::pidfd_open(pid).expect("our child");
        let (sender, receiver) = channel();
        let limit = watchdog() / 2;
        std::thread::spawn(move || {
            if receiver.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {pid} hung, killed after {limit:?}");
                let _ = process::pidfd_signal(&pidfd, signal::KILL);
            }
        });
        Watchdog(sender)
    }
}
