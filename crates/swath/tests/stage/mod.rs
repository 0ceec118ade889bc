//! A stage for tests with whole programs: every test is a process of its own, which starts other processes that play a role
//! and are killed, and nothing may be left of any of them.
//!
//! The runner gives each test process a mark in its environment, which everything that it starts inherits, grandchildren
//! with another parent too. After the test no process with the mark may be alive and no new name may lie in `/dev/shm`. Where
//! the kernel allows it, the whole runs on a `/dev/shm` of its own.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of the stage")]

mod actor;
mod surroundings;

use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use swath_platform::{process, signal};

pub(crate) use actor::Actor;
pub(crate) use surroundings::{Shm, eventually, marked, open_files, signal_pid};

/// Within this time everything of a killed coordinator must be gone.
pub(crate) const PROMISE: Duration = Duration::from_secs(2);
/// No test, and no process of one, lives longer; the full forms have more time.
const WATCHDOG: Duration = Duration::from_secs(60);
const WATCHDOG_FULL: Duration = Duration::from_secs(1200);
/// What the environment of every process of one test has.
const TEST_MARK: &str = "SWATH_STAGE_TEST";
/// Set for everybody who runs on a private `/dev/shm`.
const PRIVATE: &str = "SWATH_STAGE_PRIVATE";

pub(crate) type Test = (&'static str, fn());
pub(crate) type Role = (&'static str, fn(&[String]));

/// Functions with their names.
macro_rules! cast {
    ($($function:ident),+ $(,)?) => { &[$((stringify!($function), $function)),+] };
}
pub(crate) use cast;

/// Whether the long forms were asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("SWATH_FULL").is_some_and(|v| v == "1")
}

fn watchdog() -> Duration {
    if is_full() { WATCHDOG_FULL } else { WATCHDOG }
}

/// `main` of a test file: the runner, one test, one role, a worker or a guardian.
pub(crate) fn main(tests: &[Test], roles: &[Role]) -> ExitCode {
    swath::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("role") => {
            roles.iter().find(|role| role.0 == args[1]).expect("a known role").1(&args[2..]);
            ExitCode::SUCCESS
        }
        Some("alone") => alone(tests.iter().find(|test| test.0 == args[1]).expect("a known test").1),
        _ if args.iter().any(|arg| arg == "--list") => {
            tests.iter().for_each(|test| println!("{}: test", test.0));
            ExitCode::SUCCESS
        }
        _ if !is_private() && can_be_private() => go_private(),
        _ => run(tests, &args),
    }
}

/// The body of a test process.
fn alone(test: fn()) -> ExitCode {
    // The service thread and what it keeps open live as long as the process: they are there before the count.
    drop(swath::Pool::builder().workers(1).build().expect("a first pool"));
    let before = open_files();
    test();
    let settled = eventually(PROMISE, || open_files() <= before);
    assert!(settled, "{before} files were open before, {} after: {:?}", open_files(), surroundings::files());
    ExitCode::SUCCESS
}

fn run(tests: &[Test], args: &[String]) -> ExitCode {
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let exact = args.iter().any(|arg| arg == "--exact");
    let fits = |name: &str, f: &str| if exact { name == f } else { name.contains(f) };
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| fits(name, f));
    let mut failed = 0;
    for (name, _) in tests.iter().filter(|test| wanted(test.0)) {
        print!("test {name} ... ");
        let _ = std::io::stdout().flush();
        let began = Instant::now();
        let outcome = run_one(name);
        println!("{} ({:.2?})", if outcome.is_ok() { "ok" } else { "FAILED" }, began.elapsed());
        if let Err(why) = outcome {
            println!("---- {name} ----\n{why}\n");
            failed += 1;
        }
    }
    println!("\ntest result: {}. {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    ExitCode::from(u8::from(failed > 0))
}

/// Runs a test in a process of its own and looks at what it leaves; what was wrong.
fn run_one(name: &str) -> Result<(), String> {
    let mark = format!("{name}-{}", process::getpid());
    let shm = Shm::now();
    let mut output = tempfile::tempfile().expect("a file for the output");
    let mut child = Command::new(std::env::current_exe().expect("our own path"))
        .args(["alone", name])
        .env(TEST_MARK, &mark)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a descriptor"))
        .stderr(output.try_clone().expect("a descriptor"))
        .spawn()
        .expect("a test process");
    let pidfd = process::pidfd_open(child.id()).expect("a pidfd of our child");
    let mut wrong = Vec::new();
    if !process::wait_exit(&pidfd, watchdog()) {
        wrong.push(format!("hung: killed after {:?}; {}", watchdog(), surroundings::describe(&mark)));
        marked(TEST_MARK, &mark).into_iter().for_each(|pid| signal_pid(pid, signal::KILL));
    }
    let status = child.wait().expect("our child");
    if !status.success() {
        wrong.push(status.to_string());
    }
    if !eventually(PROMISE, || marked(TEST_MARK, &mark).is_empty()) {
        wrong.push(format!("processes are left: {}", surroundings::describe(&mark)));
        marked(TEST_MARK, &mark).into_iter().for_each(|pid| signal_pid(pid, signal::KILL));
    }
    if is_private() && !eventually(PROMISE, || shm.is_as_before()) {
        wrong.push(format!("left in /dev/shm: {:?}", shm.new_names()));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let mut said = String::new();
    let _ = output.rewind().and_then(|()| output.read_to_string(&mut said));
    Err(format!("{said}{}", wrong.join("\n")))
}

/// Whether this process runs on a `/dev/shm` of its own.
pub(crate) fn is_private() -> bool {
    std::env::var_os(PRIVATE).is_some()
}

/// Whether a mount namespace with a `/dev/shm` of its own can be had (root, usually).
fn can_be_private() -> bool {
    let probe = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/dev/shm"]).output();
    probe.is_ok_and(|output| output.status.success())
}

fn go_private() -> ExitCode {
    let script = "mount -t tmpfs -o size=64m none /dev/shm && exec \"$@\"";
    let error = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().expect("our own path"))
        .args(std::env::args_os().skip(1))
        .env(PRIVATE, "1")
        .exec();
    eprintln!("no private stage: {error}");
    ExitCode::FAILURE
}
