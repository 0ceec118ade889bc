//! Processes of one's own: their life, their ends, what they hold, what they inherit, and what becomes of all of it when somebody is
//! killed.

mod stage;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stage::{Actor, PROMISE, eventually, open_files};
use swath::process::{ExitStatus, Input, Limits, Output, StillRunning};
use swath::shared::{self, Shared};
use swath::sync::{Event, Locked, Mutex, Queue};
use swath::{ErrorKind, Process};
use swath_platform::{process, signal};

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        c26_a_sleeping_process_is_waited_for_and_ended,
        c26_exit_values,
        c26_who_is_who,
        c28_a_hundred_processes_start_while_locks_are_held,
        c30_a_hundred_processes_leave_nothing,
        c30_a_hundred_processes_terminated_at_once,
        c30_only_declared_descriptors_are_inherited,
        what_it_gets_is_what_was_said,
        a_killed_process_gives_its_lock_back,
        objects_in_arguments_live_as_long_as_they_are_needed,
        waiting_for_processes_beside_other_things,
        all_are_reaped_and_waited_for_at_the_end,
        daemons_end_with_their_starter,
        the_starter_killed_takes_all_with_it,
    ];
    let roles: &[stage::Role] = stage::cast![crowded, daemons, exit_values, leavers, starter];
    stage::main(tests, roles)
}

/// Handles go wherever they are needed.
const _: fn() = || {
    fn goes_anywhere<T: Send + Sync + Clone + std::os::fd::AsFd>() {}
    goes_anywhere::<Process>();
};

fn sleep_for_ever(_: ()) {
    loop {
        std::thread::park();
    }
}

fn sleep_ms(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Says that it is there, then sleeps: whoever signals it before could hit it before its own code runs.
fn sleep_after_setting(there: Shared<Event>) {
    there.set().expect("an event");
    sleep_for_ever(());
}

/// A process that sleeps.
fn sleeper() -> Process {
    let there = Shared::new(Event::new()).expect("an event");
    let process = Process::spawn(sleep_after_setting, there.clone()).expect("a process");
    there.wait().expect("it comes up");
    process
}

// ---- C26: the life of one ----------------------------------------------------------------------------------------------

fn c26_a_sleeping_process_is_waited_for_and_ended() {
    type End = fn(&Process) -> swath::Result<()>;
    let ends: [(End, i32); 3] = [
        (Process::terminate, signal::TERM),
        (Process::kill, signal::KILL),
        (Process::interrupt, signal::INT),
    ];
    for (end, number) in ends {
        let process = sleeper();
        assert!(process.is_alive() && process.exit_status().is_none());
        assert_eq!(process.join_timeout(Duration::ZERO).expect("ours"), None);
        assert_eq!(process.join_timeout(Duration::from_millis(10)).expect("ours"), None);
        let StillRunning(process) = process.close().expect_err("it runs");
        end(&process).expect("signalled");
        let status = process.join().expect("ours");
        assert_eq!(status, ExitStatus::killed_by(number));
        assert_eq!((status.number(), status.to_string()), (Some(-number), signal::name(number)));
        assert!(!process.is_alive() && process.exit_status() == Some(status));
        end(&process).expect("ending what has ended is nothing");
        assert_eq!(process.join_timeout(Duration::ZERO).expect("ours"), Some(status));
        assert_eq!(process::state_char(process.id()), None, "reaped");
        process.close().expect("it has ended");
    }
}

/// Prints exit codes; what the processes say is on standard error.
fn exit_values(_: &[String]) {
    let numbers = |how: i32| -> Result<i32, std::io::Error> {
        match how {
            0 => Err(std::io::Error::other("the first reason")),
            9 => panic!("nine is too many"),
            7 => std::process::exit(77),
            code => Ok(code),
        }
    };
    let started = [
        Process::spawn(|truth: bool| truth, true),
        Process::spawn(|truth: bool| truth, false),
        Process::spawn(|code: i32| code, 8),
        Process::spawn(|_: ()| {}, ()),
        Process::spawn(|_: ()| "a text", ()),
        Process::spawn(|n: u32| format!("text {n}"), 5),
        Process::spawn(numbers, 0),
        Process::spawn(numbers, 9),
        Process::spawn(numbers, 7),
        Process::spawn(|_: ()| print!("printed, not flushed"), ()),
    ];
    let end = |process: swath::Result<Process>| process.expect("a process").join().expect("ours").code();
    let codes: Vec<_> = started.map(end).into_iter().flatten().collect();
    println!("\ncodes {codes:?}");
}

fn c26_exit_values() {
    let errors = tempfile::NamedTempFile::new().expect("a file");
    let mut actor = Actor::play_with("exit_values", &[], |command| {
        command.stderr(errors.reopen().expect("the file again"));
    });
    let (status, said) = actor.finish();
    assert!(status.success(), "{status}");
    assert!(said.contains("codes [1, 0, 8, 0, 1, 1, 1, 101, 77, 0]"), "{said}");
    assert!(said.contains("printed, not flushed"), "{said}");
    let errors = std::fs::read_to_string(errors.path()).expect("the file");
    let expected = ["a text", "text 5", "Error: the first reason", "processes.rs:", "nine is too many"];
    expected.iter().for_each(|text| assert!(errors.contains(text), "`{text}` is missing in {errors}"));
    actor.assert_gone();
}

fn c26_who_is_who() {
    let look = |(out, enough): (Shared<Queue<u32>>, Shared<Event>)| {
        let (me, parent) = (swath::current_process(), swath::parent_process().expect("started"));
        assert_eq!((me.name(), me.depth(), parent.name(), parent.depth()), ("looker", 1, "main", 0));
        [me.id(), parent.id()].into_iter().for_each(|id| out.put(id).expect("room"));
        enough.wait().expect("an event");
    };
    let (queue, enough) = (
        Shared::new(Queue::with_capacity(4)).expect("a queue"),
        Shared::new(Event::new()).expect("an event"),
    );
    let looker = Process::builder().name("looker").spawn(look, (queue.clone(), enough.clone()));
    let looker = looker.expect("a process");
    let told = [queue.get().expect("its id"), queue.get().expect("ours")];
    assert_eq!(told, [looker.id(), process::getpid()]);
    assert_eq!(looker.name(), "looker");
    let children: Vec<u32> = swath::active_children().iter().map(Process::id).collect();
    assert_eq!(children, [looker.id()]);
    enough.set().expect("an event");
    assert!(looker.join().expect("ours").success());
    assert!(swath::active_children().is_empty());
    assert_eq!((swath::current_process().depth(), swath::parent_process()), (0, None));
    assert!(swath::cpu_count() > 0);
}

// ---- C28: starting while locks are held ------------------------------------------------------------------------------------

/// A log, as libraries have them: one lock, which every line takes.
static LOG: std::sync::Mutex<u64> = std::sync::Mutex::new(0);

fn log(line: std::fmt::Arguments<'_>) {
    let mut lines = LOG.lock().expect("no panic");
    *lines += 1;
    eprintln!("{line}");
}

/// Allocates, logs, prints, computes: what would hang in a copy in which somebody who is not there holds the lock.
fn work(n: u64) -> i32 {
    let copies: Vec<Vec<u64>> = (0..20).map(|_| (0..n).collect()).collect();
    log(format_args!("work {n}"));
    println!("worked {}", copies.iter().flatten().sum::<u64>());
    0
}

/// Starts a hundred processes while other threads hold the allocator's and the log's lock most of the time.
fn crowded(_: &[String]) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    (1..64usize).for_each(|k| drop(std::hint::black_box(vec![0u8; k * 999])));
                }
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let held = LOG.lock().expect("no panic");
                    std::thread::sleep(Duration::from_micros(100));
                    drop(held);
                }
            });
        }
        let start = |_| Process::spawn(work, 1000).expect("a process");
        let started: Vec<Process> = (0..100).map(start).collect();
        let codes: BTreeSet<_> = started.iter().map(|p| p.join().expect("ours").number()).collect();
        over.store(true, Ordering::Relaxed);
        println!("codes {codes:?}");
    });
}

fn c28_a_hundred_processes_start_while_locks_are_held() {
    let mut actor = Actor::play("crowded", &[]);
    let (status, said) = actor.finish();
    assert!(status.success(), "{status}");
    assert_eq!(said.matches("worked 9990000\n").count(), 100);
    assert!(said.ends_with("codes {Some(0)}\n"), "{said}");
    actor.assert_gone();
}

// ---- C30: many ---------------------------------------------------------------------------------------------------------

/// When a process is joined, whatever was under way before is over too.
fn settle() {
    Process::spawn(sleep_ms, 0).expect("a process").join().expect("ours");
}

/// Descriptors, threads, children that are there.
fn surroundings() -> (usize, usize, Vec<u32>) {
    let own = process::getpid();
    let threads = std::fs::read_dir("/proc/self/task").expect("/proc").count();
    let is_child = |pid: &u32| process::stat(*pid).is_ok_and(|stat| stat.parent == own);
    let children = process::all_pids().expect("/proc").into_iter().filter(is_child).collect();
    (open_files(), threads, children)
}

/// Rounds of a hundred; what is there after each is what was there before.
fn storm(rounds: usize, round: impl Fn(Vec<Process>)) {
    settle();
    let shm = stage::Shm::now();
    for _ in 0..rounds {
        let before = surroundings();
        let start = |_| Process::spawn(sleep_ms, 10).expect("a process");
        round((0..100).map(start).collect());
        assert_eq!(surroundings(), before, "at once: joined is gone");
        assert!(!stage::is_private() || shm.is_as_before(), "{:?}", shm.new_names());
    }
}

fn rounds() -> usize {
    if stage::is_full() { 20 } else { 3 }
}

fn c30_a_hundred_processes_leave_nothing() {
    storm(rounds(), |all| {
        all.iter().for_each(|process| assert_eq!(process.join().expect("ours").code(), Some(0)));
    });
}

fn c30_a_hundred_processes_terminated_at_once() {
    storm(rounds(), |all| {
        std::thread::sleep(Duration::from_millis(1));
        all.iter().for_each(|process| process.terminate().expect("signalled"));
        let statuses: BTreeSet<Option<i32>> =
            all.iter().map(|process| process.join().expect("ours").number()).collect();
        // Some had done by then; nothing else happens to any.
        assert!(statuses.is_subset(&[Some(0), Some(-signal::TERM)].into()), "{statuses:?}");
        assert!(statuses.contains(&Some(-signal::TERM)), "none was terminated in time: {statuses:?}");
    });
}

fn c30_only_declared_descriptors_are_inherited() {
    // Without close-on-exec, as careless libraries open theirs.
    let leaks: Vec<i32> = (0..20)
        // SAFETY: duplicates standard error, which is open.
        .map(|_| unsafe { libc::dup(2) })
        .collect();
    let look = |_: ()| {
        let entries = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
        let targets = entries.filter_map(|e| Some((e.file_name(), std::fs::read_link(e.path()).ok()?)));
        let undeclared: Vec<_> = targets
            .filter(|(number, target)| {
                let (number, target) = (number.to_string_lossy(), target.to_string_lossy());
                let declared = ["0", "1", "2"].contains(&&*number);
                // The control segment was made without a name.
                let ours = target.starts_with("/dev/shm/#") || target.starts_with("/proc/");
                let bell = number == "4" && target == "anon_inode:[eventfd]";
                !declared && !ours && !bell
            })
            .collect();
        if undeclared.is_empty() { Ok(()) } else { Err(format!("inherited: {undeclared:?}")) }
    };
    let process = Process::spawn(look, ()).expect("a process");
    assert_eq!(process.join().expect("ours").code(), Some(0));
    for fd in leaks {
        // SAFETY: our own duplicates, closed once.
        unsafe { libc::close(fd) };
    }
}

// ---- what it gets --------------------------------------------------------------------------------------------------------

fn what_it_gets_is_what_was_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().canonicalize().expect("a path");
    let look = |(path, big): (std::path::PathBuf, Vec<u64>)| -> Result<(), String> {
        let is = |what: &str, fine: bool| if fine { Ok(()) } else { Err(what.to_owned()) };
        is("directory", std::env::current_dir().is_ok_and(|cwd| cwd == path))?;
        is("a variable", std::env::var("SWATH_TEST_WORD").is_ok_and(|word| word == "one=two"))?;
        is("a variable that was removed", std::env::var_os("PATH").is_none())?;
        is("arguments", big.len() == 300_000 && big.iter().zip(0..).all(|(a, b)| *a == b))?;
        is("input", std::io::read_to_string(std::io::stdin()).is_ok_and(|text| text.is_empty()))?;
        let limit = std::fs::read_to_string("/proc/self/limits").map_err(|e| e.to_string())?;
        let files = limit.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
        is("limit", files.split_whitespace().nth(3) == Some("123"))?;
        is("its own group", process::stat(process::getpid()).is_ok_and(|s| s.group == process::getpid()))
    };
    let process = Process::builder()
        .cwd(&path)
        .env("SWATH_TEST_WORD", "one=two")
        .env_remove("PATH")
        .limits(Limits::new().open_files(123))
        .stdin(Input::Null)
        .stdout(Output::Null)
        .stderr(Output::Lines)
        .spawn(look, (path.clone(), (0..300_000).collect()))
        .expect("a process");
    assert_eq!(process.join().expect("ours").code(), Some(0), "what is wrong is on standard error");
    for wrong in [
        Process::builder().cwd(path.join("absent")).spawn(sleep_ms, 0),
        Process::builder().env("A=B", "").spawn(sleep_ms, 0),
        Process::builder().env("", "").spawn(sleep_ms, 0),
        Process::builder().env("A", "\0").spawn(sleep_ms, 0),
    ] {
        assert_eq!(wrong.expect_err("impossible").kind(), ErrorKind::Usage);
    }
}

// ---- what it holds -------------------------------------------------------------------------------------------------------

type Counter = Shared<Mutex<u64>>;

fn a_killed_process_gives_its_lock_back() {
    let (counter, there) =
        (Counter::new(Mutex::new(7)).expect("a mutex"), Shared::new(Event::new()).expect("an event"));
    let hold = |(counter, there): (Counter, Shared<Event>)| {
        let mut guard = counter.lock().expect("the lock").acquired().expect("whole");
        *guard += 1;
        there.set().expect("an event");
        sleep_for_ever(());
    };
    let process = Process::spawn(hold, (counter.clone(), there.clone())).expect("a process");
    there.wait().expect("it comes up");
    assert!(counter.try_lock().is_err(), "held");
    process.kill().expect("signalled");
    match counter.lock().expect("the lock") {
        Locked::Acquired(_) => panic!("nobody let go of it"),
        Locked::Recovered(guard) => {
            assert_eq!((guard.dead().pid, *guard), (process.id(), 8));
            drop(guard.repaired());
        }
    }
    assert_eq!(process.join().expect("ours").signal(), Some(signal::KILL));
    assert!(counter.lock().expect("the lock").acquired().is_some());
}

fn objects_in_arguments_live_as_long_as_they_are_needed() {
    let count = |counter: Counter| *counter.lock().expect("the lock").acquired().expect("whole") == 5;
    settle();
    let before = open_files();
    // The only handle goes into the arguments.
    let started: Vec<Process> = (0..10)
        .map(|_| Process::spawn(count, Counter::new(Mutex::new(5)).expect("a mutex")).expect("a process"))
        .collect();
    started.iter().for_each(|process| assert_eq!(process.join().expect("ours").code(), Some(1)));
    drop(started);
    assert_eq!(open_files(), before, "let go when the processes had ended");
}

fn waiting_for_processes_beside_other_things() {
    let (slow, event) = (sleeper(), Shared::new(Event::new()).expect("an event"));
    let quick = Process::spawn(sleep_ms, 20).expect("a process");
    assert_eq!(shared::wait_any(&[&slow, &event, &quick]).expect("one ends"), [2]);
    assert!(quick.join_timeout(Duration::ZERO).expect("ours").is_some());
    event.set().expect("an event");
    assert_eq!(shared::try_wait_any(&[&slow, &event]).expect("set"), [1]);
    assert!(!process::wait_exit(&slow, Duration::ZERO), "its sentinel is silent");
    slow.kill().expect("signalled");
    assert_eq!(shared::wait_any(&[&slow]).expect("it ends"), [0]);
    assert!(process::wait_exit(&slow.sentinel(), Duration::ZERO));
}

// ---- the end of its starter ----------------------------------------------------------------------------------------------

/// Starts processes and drops their handles: one ends at once, one later than this does.
fn leavers(_: &[String]) {
    let first = Process::spawn(sleep_ms, 0).expect("a process").id();
    let gone = || process::state_char(first).is_none();
    assert!(eventually(PROMISE, gone), "reaped, though nobody asked");
    drop(Process::spawn(
        |_: ()| {
            sleep_ms(200);
            println!("finished");
        },
        (),
    ));
    println!("left");
}

fn all_are_reaped_and_waited_for_at_the_end() {
    let (status, said) = Actor::play("leavers", &[]).finish();
    assert_eq!((status.code(), said.as_str()), (Some(0), "left\nfinished\n"));
}

/// `daemons polite|deaf`: ends with a daemon running.
fn daemons(args: &[String]) {
    let there = Shared::new(Event::new()).expect("an event");
    let stay = |(there, deaf): (Shared<Event>, bool)| {
        if deaf {
            process::ignore_signal(signal::TERM);
        }
        sleep_after_setting(there);
    };
    let started = Process::builder().daemon(true).spawn(stay, (there.clone(), args[0] == "deaf"));
    let daemon = started.expect("a process");
    there.wait().expect("it comes up");
    println!("daemon {}", daemon.id());
}

fn daemons_end_with_their_starter() {
    for how in ["polite", "deaf"] {
        let mut actor = Actor::play("daemons", &[how]);
        let daemon: u32 = actor.told("daemon").parse().expect("a number");
        assert!(actor.finish().0.success());
        assert_eq!(process::state_char(daemon), None, "{how}: gone before its starter");
        actor.assert_gone();
    }
}

/// A process of each kind, and the start of more.
fn starter(_: &[String]) {
    let helper = |_: ()| {
        let program = std::process::Command::new("sleep").arg("1000").spawn();
        println!("up {}", program.expect("a program").id());
        sleep_for_ever(());
    };
    let _all = [false, true].map(|daemon| Process::builder().daemon(daemon).spawn(helper, ()));
    loop {
        drop(Process::spawn(sleep_ms, 5).expect("a process"));
    }
}

fn the_starter_killed_takes_all_with_it() {
    for _ in 0..3 {
        let mut actor = Actor::play("starter", &[]);
        (0..2).for_each(|_| drop(actor.told("up")));
        assert_eq!(actor.processes_called("sleep").len(), 2);
        actor.kill();
        actor.assert_gone();
    }
}
