//! A stage for tests with processes: a `main` that diverts guardians, workers and scenarios, a private `/dev/shm` where
//! the kernel allows one, children with a watchdog, and a check that everything is left as it was found.

#![allow(dead_code, reason = "each test file uses a part of the stage")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No child of a test lives longer.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);
/// Within this time everything of a killed coordinator must be gone.
pub(crate) const PROMISE: Duration = Duration::from_secs(2);

pub(crate) type Test = (&'static str, fn());
pub(crate) type Scenario = (&'static str, fn(&[String]));

/// Runs the tests, or what this process was re-executed for.
pub(crate) fn main(
    tests: &[Test],
    scenarios: &[Scenario],
    worker: fn(swath_segment::Membership),
) -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = swath_segment::guardian_entry(&argv) {
        return ExitCode::from(code as u8);
    }
    match swath_segment::worker_membership(&argv) {
        Some(Ok(membership)) => {
            membership.hold();
            worker(membership);
            return ExitCode::SUCCESS;
        }
        Some(Err(error)) => {
            eprintln!("not a worker: {error}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("scenario") {
        let scenario = scenarios.iter().find(|scenario| scenario.0 == args[2]).expect("a known scenario");
        scenario.1(&args[3..]);
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        tests.iter().for_each(|test| println!("{}: test", test.0));
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("SWATH_TEST_STAGE").is_none() && can_have_private_shm() {
        return re_execute_privately();
    }
    run(tests, &args[1..])
}

fn run(tests: &[Test], args: &[String]) -> ExitCode {
    let wanted = |name: &str| {
        let mut filters = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|test| wanted(test.0)) {
        let before = Found::now();
        let begin = Instant::now();
        print!("test {name} ... ");
        let _ = std::io::stdout().flush();
        let outcome = std::panic::catch_unwind(test).map(|()| before.assert_same(name));
        println!("{} ({:.2?})", if outcome.is_ok() { "ok" } else { "FAILED" }, begin.elapsed());
        failed += usize::from(outcome.is_err());
    }
    println!("\ntest result: {}. {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    ExitCode::from(u8::from(failed > 0))
}

/// Whether a mount namespace with a `/dev/shm` of its own can be had (root, usually).
pub(crate) fn can_have_private_shm() -> bool {
    let probe = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/dev/shm"]).output();
    probe.is_ok_and(|output| output.status.success())
}

/// Whether this process runs on a `/dev/shm` of its own.
pub(crate) fn is_private() -> bool {
    std::env::var_os("SWATH_TEST_STAGE").is_some()
}

/// This executable on a fresh tmpfs of that size; everything else shared.
pub(crate) fn on_private_shm(size: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size={size} none /dev/shm && exec \"$@\"");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(std::env::current_exe().unwrap());
    command
}

fn re_execute_privately() -> ExitCode {
    let error =
        on_private_shm("64m").args(std::env::args_os().skip(1)).env("SWATH_TEST_STAGE", "private").exec();
    eprintln!("no private stage: {error}");
    ExitCode::FAILURE
}

/// What a test must leave as it found it.
struct Found {
    shm: BTreeSet<String>,
    fds: usize,
}

impl Found {
    fn now() -> Found {
        Found { shm: shm_names(), fds: open_files() }
    }

    fn assert_same(&self, name: &str) {
        // On a shared /dev/shm others come and go.
        if is_private() {
            assert_eq!(shm_names(), self.shm, "{name} left something in /dev/shm");
        }
        let settled = eventually(Duration::from_secs(2), || open_files() == self.fds);
        assert!(settled, "{name}: {} files were open before, {} after", self.fds, open_files());
        assert_eq!(our_processes(), Vec::<u32>::new(), "{name} left processes");
    }
}

pub(crate) fn shm_names() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/dev/shm").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn open_files() -> usize {
    // The listing itself has one open.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Children of this process that still exist, zombies included.
fn our_processes() -> Vec<u32> {
    let me = std::process::id();
    let pids = swath_platform::process::all_pids().unwrap();
    pids.into_iter().filter(|&pid| swath_platform::process::stat(pid).is_ok_and(|s| s.parent == me)).collect()
}

pub(crate) fn exists(pid: u32) -> bool {
    swath_platform::process::state_char(pid).is_some_and(|state| state != 'Z')
}

/// Looks until it is so, or the time is over.
pub(crate) fn eventually(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A re-executed child that plays a scenario; killed with the value, and by a watchdog before that.
pub(crate) struct Actor {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    _watchdog: Watchdog,
}

impl Actor {
    pub(crate) fn play(scenario: &str, args: &[&str]) -> Actor {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["scenario", scenario]).args(args);
        Actor::start(command)
    }

    pub(crate) fn start(mut command: Command) -> Actor {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let _watchdog = Watchdog::on(child.id());
        Actor { child, lines, _watchdog }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that the child prints; it must come.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the child ended early, or hung: {line:?}");
        line.trim_end().to_owned()
    }

    /// Lets the child go on from [`await_go`].
    pub(crate) fn go(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pidfd = swath_platform::process::pidfd_open(self.pid()).unwrap();
        swath_platform::process::pidfd_signal(&pidfd, signal).unwrap();
    }

    /// Kills it and proves that this is what ended it.
    pub(crate) fn kill(mut self) {
        self.signal(libc::SIGKILL);
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the crash must have happened");
    }

    pub(crate) fn finish(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.lines, &mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

/// In a scenario: waits until the test has looked at what there is.
pub(crate) fn await_go() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process that outlives [`WATCHDOG`], so that a hang is a failure and not a hang.
struct Watchdog(std::sync::mpsc::Sender<()>);

impl Watchdog {
    fn on(pid: u32) -> Watchdog {
        let pidfd = swath_platform::process::pidfd_open(pid).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if receiver.recv_timeout(WATCHDOG) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {pid} hung, killed");
                let _ = swath_platform::process::pidfd_signal(&pidfd, libc::SIGKILL);
            }
        });
        Watchdog(sender)
    }
}

/// A signal by pid, for guardians and grandchildren.
pub(crate) fn kill_pid(pid: u32) {
    let pidfd = swath_platform::process::pidfd_open(pid).unwrap();
    swath_platform::process::pidfd_signal(&pidfd, libc::SIGKILL).unwrap();
}
