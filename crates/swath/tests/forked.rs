//! Forked processes: a copy that captures, where that is sound, and a refusal where it is not.
//!
//! A test process has a session, and so a thread: all this happens in actors, which have none.

mod stage;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use stage::{Actor, PROMISE, eventually};
use swath::process::{ExitStatus, Limits, Output};
use swath::shared::{self, Shared};
use swath::sync::Event;
use swath::{ErrorKind, Pool, Process, StartMethod};
use swath_platform::{process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        a_fork_takes_along_what_it_captures,
        c26_a_fork_is_waited_for_and_ended,
        c28_a_fork_is_refused_beside_threads,
        a_fork_ends_without_what_was_registered_for_the_end,
        a_fork_has_what_was_said,
        a_fork_may_have_a_session_of_its_own,
        forks_die_with_their_starter,
    ];
    let roles: &[stage::Role] =
        stage::cast![capturing, ending, ends_of_its_own, killed, refused, session_of_its_own, said];
    stage::main(tests, roles)
}

/// Plays a role to its end; what it printed.
fn said_by(role: &str) -> String {
    let mut actor = Actor::play(role, &[]);
    let (status, said) = actor.finish();
    assert!(status.success(), "{status}: {said}");
    actor.assert_gone();
    said
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

fn capturing(_: &[String]) {
    assert_eq!(swath::start_methods(), [StartMethod::Spawn, StartMethod::Forkserver, StartMethod::Fork]);
    let mut big: Vec<u64> = (0..1_000_000).collect();
    let word = String::from("captured");
    let fork = Process::fork(|| {
        big[7] = 8;
        println!("{word}: {}", big.iter().sum::<u64>());
        assert_eq!(swath::current_process().depth(), 1);
        assert_eq!(swath::parent_process().map(|p| p.name().to_owned()), Some("main".to_owned()));
        3
    });
    let fork = fork.expect("a process");
    assert_eq!((fork.join().expect("ours").code(), big[7]), (Some(3), 7), "a copy");
    let panics = Process::fork(|| panic!("no"));
    assert_eq!(panics.expect("a process").join().expect("ours").code(), Some(101));
    let method = Process::builder().name("copy").start_method(StartMethod::Fork);
    let named = method.spawn(|n: i32| n, 9).expect("a process");
    assert_eq!((named.name(), named.join().expect("ours").code()), ("copy", Some(9)));
    assert!(swath::active_children().is_empty());
}

fn a_fork_takes_along_what_it_captures() {
    assert_eq!(said_by("capturing"), format!("captured: {}\n", 499_999_500_000_u64 + 1));
}

fn ending(_: &[String]) {
    type End = fn(&Process) -> swath::Result<()>;
    let ends: [(End, i32); 3] = [
        (Process::terminate, signal::TERM),
        (Process::kill, signal::KILL),
        (Process::interrupt, signal::INT),
    ];
    for (end, number) in ends {
        let process = Process::fork(|| sleep_for_ever()).expect("a process");
        assert!(process.is_alive());
        assert_eq!(process.join_timeout(Duration::from_millis(5)).expect("ours"), None);
        assert_eq!(swath::active_children().len(), 1);
        let process = process.close().expect_err("it runs").0;
        end(&process).expect("signalled");
        assert_eq!(process.join().expect("ours"), ExitStatus::killed_by(number));
        assert_eq!(process::state_char(process.id()), None, "reaped");
        process.close().expect("it has ended");
    }
    // A hundred, with handles that nobody keeps: reaped at the next look.
    let ids: Vec<u32> = (0..100).map(|_| Process::fork(|| ()).expect("a process").id()).collect();
    let is_gone = |id: &u32| process::state_char(*id).is_none();
    assert!(eventually(PROMISE, || swath::active_children().is_empty() && ids.iter().all(is_gone)));
}

fn c26_a_fork_is_waited_for_and_ended() {
    said_by("ending");
}

fn refused(_: &[String]) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let named = std::thread::Builder::new().name("knitting".to_owned());
        let knits = || {
            while !over.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        };
        named.spawn_scoped(scope, knits).expect("a thread");
        let names = || {
            std::fs::read_dir("/proc/self/task")
                .expect("/proc")
                .flatten()
                .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        };
        assert!(eventually(PROMISE, || names().any(|name| name == "knitting\n")));
        let error = Process::fork(|| ()).expect_err("two threads");
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("knitting"), "{error}");
        over.store(true, Ordering::Relaxed);
    });
    let alone = || std::fs::read_dir("/proc/self/task").expect("/proc").count() == 1;
    assert!(eventually(PROMISE, alone));
    assert!(Process::fork(|| ()).expect("alone again").join().expect("ours").success());
    drop(Shared::new(Event::new()).expect("a session"));
    let error = Process::fork(|| ()).expect_err("the service thread is there");
    assert!(error.to_string().contains("swath-service is there because"), "{error}");
    let lines = Process::builder().stdout(Output::Lines).fork(|| ()).expect_err("needs a thread");
    assert_eq!(lines.kind(), ErrorKind::Usage);
}

fn c28_a_fork_is_refused_beside_threads() {
    said_by("refused");
}

static ENDS: AtomicU32 = AtomicU32::new(0);

extern "C" fn says_that_it_ends() {
    let _ = writeln!(std::io::stdout(), "end {}", ENDS.fetch_add(1, Ordering::Relaxed));
}

/// What is registered runs once, what is in store is written once, by whom it belongs to.
fn ends_of_its_own(_: &[String]) {
    process::at_exit(says_that_it_ends);
    print!("stored ");
    let process = Process::fork(|| print!("by the copy ")).expect("a process");
    assert!(process.join().expect("ours").success());
    // Not joined by us: waited for at the end.
    drop(Process::fork(|| {
        std::thread::sleep(Duration::from_millis(100));
        // It waits for its own in turn.
        drop(Process::fork(|| {
            std::thread::sleep(Duration::from_millis(100));
            println!("the last");
        }));
        print!("later ");
    }));
    println!("by us");
}

fn a_fork_ends_without_what_was_registered_for_the_end() {
    let said = said_by("ends_of_its_own");
    // Functions are called in the reverse order: ours was registered before the library's, which waits.
    assert_eq!(said, "stored by the copy by us\nthe last\nlater end 0\n");
}

fn said(_: &[String]) {
    let folder = std::env::temp_dir().canonicalize().expect("a path");
    let mut builder = Process::builder().cwd(&folder).env("SWATH_TEST_WORD", "w").env_remove("PATH");
    builder = builder.stdout(Output::Null).limits(Limits::new().open_files(77));
    let process = builder.fork(|| {
        println!("to nowhere");
        let limits = std::fs::read_to_string("/proc/self/limits").expect("/proc");
        let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        assert_eq!(files.split_whitespace().nth(3), Some("77"));
        assert_eq!(std::env::current_dir().expect("a path"), folder);
        assert_eq!((std::env::var("SWATH_TEST_WORD").as_deref(), std::env::var_os("PATH")), (Ok("w"), None));
        assert_eq!(process::stat(process::getpid()).expect("/proc").group, process::getpid());
        assert_eq!(std::io::read_to_string(std::io::stdin()).expect("empty"), "");
    });
    assert!(process.expect("a process").join().expect("ours").success());
    assert!(std::env::var_os("SWATH_TEST_WORD").is_none(), "the copy's alone");
}

fn a_fork_has_what_was_said() {
    assert_eq!(said_by("said"), "");
}

/// Pools and processes in a fork; its starter has none.
fn session_of_its_own(_: &[String]) {
    let fork = Process::fork(|| {
        let pool = Pool::builder().workers(2).build().expect("a pool");
        let a = swath::SharedArray::from_shape_fn(10, |i| i as u32).expect("an array");
        let sum = pool.phase(&a).map(|_, a| a.sum()).reduce(0, |a, b| a + b).expect("a phase");
        let quick = Process::spawn(|n: u32| n, sum).expect("a process");
        assert_eq!(shared::wait_any(&[&quick]).expect("it ends"), [0]);
        quick.join().expect("ours").code().unwrap_or(-1)
    });
    assert_eq!(fork.expect("a process").join().expect("ours").code(), Some(45));
    let alone = std::fs::read_dir("/proc/self/task").expect("/proc").count();
    assert_eq!(alone, 1, "nothing has come back");
}

fn a_fork_may_have_a_session_of_its_own() {
    said_by("session_of_its_own");
}

fn killed(_: &[String]) {
    let _all: Vec<Process> = (0..3)
        .map(|_| {
            let fork = Process::fork(|| {
                let _inner = Process::fork(|| {
                    println!("up");
                    sleep_for_ever()
                });
                sleep_for_ever()
            });
            fork.expect("a process")
        })
        .collect();
    sleep_for_ever();
}

fn forks_die_with_their_starter() {
    let mut actor = Actor::play("killed", &[]);
    (0..3).for_each(|_| drop(actor.told("up")));
    assert_eq!(actor.processes().len(), 7);
    actor.kill();
    actor.assert_gone();
}
