//! Tasks: what is submitted is run once, whatever dies; and everybody who waits is told how it ended.

#[path = "care/killer.rs"]
mod killer;
#[path = "care/patience.rs"]
mod patience;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use swath::prelude::*;
use swath::{Task, What};
use swath_platform::{process, signal};

use killer::kill_those_who_work;
use patience::{PATIENCE, eventually};

swath::worker_entry!();

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().expect("a pool")
}

fn finish<R: serde::de::DeserializeOwned>(task: &Task<R>) -> Result<R> {
    task.result_timeout(PATIENCE).transpose().expect("a task that hangs")
}

fn kill(pid: u32, number: i32) {
    let pidfd = process::pidfd_open(pid).expect("a worker");
    process::pidfd_signal(&pidfd, number).expect("signalled");
}

// ---- functions of tasks ----------------------------------------------------------------------------------------------

fn square(n: u64) -> u64 {
    n * n
}

fn pid(_: ()) -> u32 {
    process::getpid()
}

/// Runs until it is killed; where, it says in a file.
fn for_ever(path: String) -> u64 {
    announce(&path);
    loop {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes the process id to `path`, which then appears whole.
fn announce(path: &str) {
    let half = format!("{path}.half");
    std::fs::write(&half, process::getpid().to_string()).expect("a place");
    std::fs::rename(&half, path).expect("the same directory");
}

/// Waits until a task has announced itself, and takes the announcement away.
fn announced(path: &str) -> u32 {
    let mut found = None;
    eventually("a task that announces itself", || {
        found = std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok());
        found.is_some()
    });
    std::fs::remove_file(path).expect("it was there");
    found.expect("seen above")
}

fn place(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().expect("UTF-8").to_owned()
}

/// Dies by `how`.
fn die(how: String) -> u64 {
    match how.as_str() {
        "exit 0" => std::process::exit(0),
        "exit 99" => std::process::exit(99),
        "abort" => std::process::abort(),
        "segv" => signal_self(libc::SIGSEGV),
        "kill" => signal_self(signal::KILL),
        "term" => signal_self(signal::TERM),
        _ => 7,
    }
}

fn signal_self(number: i32) -> u64 {
    kill(process::getpid(), number);
    loop {
        std::thread::park();
    }
}

// ---- the plain case --------------------------------------------------------------------------------------------------

#[test]
fn results_come_back_in_any_order_and_more_than_once() {
    for workers in [0, 1, 3] {
        let pool = pool(workers);
        let tasks: Vec<Task<u64>> = (0..200).map(|n| pool.submit(square, n).expect("taken")).collect();
        for (n, task) in tasks.iter().enumerate().rev() {
            assert_eq!(finish(task).expect("a value"), (n * n) as u64);
            assert_eq!(finish(task).expect("again"), (n * n) as u64);
            assert!(task.done() && task.successful() && !task.running() && !task.cancelled());
        }
        assert_eq!(pool.apply(|s: String| s.len(), "four".to_owned()).expect("a value"), 4);
    }
}

#[test]
fn more_tasks_than_the_table_holds() {
    let pool = pool(2);
    let count = swath::limits::TASKS_IN_TABLE as u64 * 3;
    let tasks: Vec<Task<u64>> = (0..count).map(|n| pool.submit(square, n).expect("taken")).collect();
    for (n, task) in (0..count).zip(&tasks) {
        assert_eq!(finish(task).expect("a value"), n * n);
    }
    // And when nobody waits for the first ones.
    let tasks: Vec<Task<u64>> = (0..count).map(|n| pool.submit(square, n).expect("taken")).collect();
    assert_eq!(finish(tasks.last().expect("many")).expect("a value"), (count - 1) * (count - 1));
    pool.join();
    assert!(tasks.iter().all(Task::successful));
}

#[test]
fn c25_large_arguments_and_results_and_their_release() {
    let pool = pool(2);
    let reverse = |mut bytes: Vec<u8>| {
        bytes.reverse();
        bytes
    };
    let text = "0123456789".repeat(11 << 20);
    let echo = |text: String| text + "!";
    let back = finish(&pool.submit(echo, text.clone()).expect("taken")).expect("a value");
    assert!(back.strip_suffix('!') == Some(text.as_str()), "110 MiB");
    drop((text, back));
    for len in [0usize, 80, 96, 97, 4096, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
        let mut back = finish(&pool.submit(reverse, bytes.clone()).expect("taken")).expect("a value");
        back.reverse();
        assert!(back == bytes, "{len} bytes");
    }
    let held = || {
        let files = std::fs::read_dir("/proc/self/fd").expect("our own").count();
        let blocks = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.ok()?.path();
            let name = std::fs::read_link(&path).ok()?;
            name.to_str()?
                .starts_with("/memfd:swath-re")
                .then(|| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).expect("open")))
        };
        let blocks: u64 = std::fs::read_dir("/proc/self/fd").expect("our own").filter_map(blocks).sum();
        (files, blocks)
    };
    // What a worker had to free, it frees with its next result.
    let settle = || (0..20).for_each(|n| drop(finish(&pool.submit(square, n).expect("taken"))));
    settle();
    let (files, blocks) = held();
    for _ in 0..100 {
        let task = pool.submit(echo, "5".repeat(1 << 20)).expect("taken");
        assert_eq!(finish(&task).expect("a value").len(), (1 << 20) + 1);
    }
    settle();
    let (files_after, blocks_after) = held();
    assert!(
        files_after <= files && blocks_after <= blocks + 4096,
        "{files} {blocks} {files_after} {blocks_after}"
    );
}

#[test]
#[ignore = "needs 13 GiB and minutes: cargo test --release -p swath --test tasks -- --ignored"]
fn c25_one_message_of_more_than_four_gibibytes_each_way() {
    const TIMES: usize = 275_000_000;
    const PART: &str = "0123456789abcdef";
    let pool = pool(1);
    let long = |times: usize| PART.repeat(times);
    let count = |text: String| {
        let whole = text.as_bytes().chunks(PART.len()).filter(|part| *part == PART.as_bytes()).count();
        (text.len(), whole)
    };
    let there = pool.submit(count, long(TIMES)).expect("taken");
    assert_eq!(there.result().expect("a value"), (TIMES * PART.len(), TIMES));
    drop(there);
    let back = pool.submit(long, TIMES).expect("taken").result().expect("a value");
    assert_eq!(count(back), (TIMES * PART.len(), TIMES));
}

// ---- deaths ----------------------------------------------------------------------------------------------------------

#[test]
fn c01_a_kill_is_one_tasks_problem() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(2);
    let (a, b) = (place(&dir, "a"), place(&dir, "b"));
    let doomed = pool.submit_with(for_ever, a.clone()).name("doomed").submit().expect("taken");
    let second = pool
        .submit(
            |path: String| {
                announce(&path);
                while std::path::Path::new(&path).exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                11u64
            },
            b.clone(),
        )
        .expect("taken");
    let queued: Vec<Task<u64>> = (0..10).map(|n| pool.submit(square, n).expect("taken")).collect();
    let victim = announced(&a);
    kill(victim, signal::KILL);
    let error = finish(&doomed).expect_err("killed");
    assert_eq!(error.kind(), ErrorKind::Died);
    let [cause] = error.causes() else { panic!("one attempt: {error}") };
    assert_eq!((cause.pid, &cause.what), (victim, &What::Killed { signal: 9, likely_out_of_memory: false }));
    let text = error.to_string();
    assert!(
        text.contains("task 1 (`doomed`)") && text.contains("SIGKILL") && text.contains(&victim.to_string()),
        "{text}"
    );
    announced(&b);
    assert_eq!(finish(&second).expect("unharmed"), 11);
    for (n, task) in queued.iter().enumerate() {
        assert_eq!(finish(task).expect("unharmed"), (n * n) as u64);
    }
    eventually("two workers again", || pool.pids().len() == 2 && !pool.pids().contains(&victim));
}

#[test]
fn c02_retries_and_poison() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(2);
    let once = place(&dir, "once");
    let die_once = |path: String| {
        if !std::path::Path::new(&path).exists() {
            std::fs::write(&path, "").expect("a place");
            std::process::abort();
        }
        swath::current_task().expect("a task").attempt()
    };
    let healthy: Vec<Task<u64>> = (0..100).map(|n| pool.submit(square, n).expect("taken")).collect();
    let again = pool.submit_with(die_once, once).retries(3).submit().expect("taken");
    let poison = pool.submit_with(die, "abort".to_owned()).retries(3).submit().expect("taken");
    assert_eq!(finish(&again).expect("a value"), 1, "the second attempt");
    let error = finish(&poison).expect_err("poison");
    assert_eq!((error.kind(), error.causes().len()), (ErrorKind::Died, 4));
    let aborted = What::Killed { signal: libc::SIGABRT, likely_out_of_memory: false };
    assert!(error.causes().iter().all(|cause| cause.what == aborted), "{error}");
    for (n, task) in healthy.iter().enumerate() {
        assert_eq!(finish(task).expect("unharmed"), (n * n) as u64);
    }
}

#[test]
fn c03_strict_break_mode() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(2);
    let at = place(&dir, "a");
    let doomed = pool.submit_with(for_ever, at.clone()).break_pool_on_death().submit().expect("taken");
    let pending: Vec<Task<u64>> =
        (0..10).map(|n| pool.submit(for_ever, place(&dir, &n.to_string())).expect("taken")).collect();
    kill(announced(&at), signal::KILL);
    assert_eq!(finish(&doomed).expect_err("killed").kind(), ErrorKind::Broken);
    for task in &pending {
        let error = finish(task).expect_err("broken");
        assert!(error.kind() == ErrorKind::Broken && error.to_string().contains("SIGKILL"), "{error}");
    }
    assert_eq!(pool.submit(square, 1).expect_err("broken").kind(), ErrorKind::Broken);
    pool.reset();
    assert_eq!(finish(&pool.submit(square, 3).expect("taken again")).expect("a value"), 9);
}

#[test]
fn who_waits_for_a_running_task_hears_that_the_pool_is_broken() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(2);
    let (a, b) = (place(&dir, "a"), place(&dir, "b"));
    let other = pool.submit(for_ever, b.clone()).expect("taken");
    let second = announced(&b);
    let doomed = pool.submit_with(for_ever, a.clone()).break_pool_on_death().submit().expect("taken");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| finish(&other));
        let victim = announced(&a);
        // Asleep, as far as one can say.
        std::thread::sleep(Duration::from_millis(50));
        kill(victim, signal::KILL);
        let error = waits.join().expect("no panic").expect_err("broken");
        assert_eq!(error.kind(), ErrorKind::Broken);
    });
    assert_eq!(finish(&doomed).expect_err("killed").kind(), ErrorKind::Broken);
    // What it ran for nobody is ended: a repaired pool has all its workers.
    eventually("a new worker", || pool.pids().len() == 2 && !pool.pids().contains(&second));
    pool.reset();
    let meet = |(own, others): (String, String)| {
        std::fs::write(own, "").expect("a place");
        while !std::path::Path::new(&others).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        4u64
    };
    let (c, d) = (place(&dir, "c"), place(&dir, "d"));
    let both = [(c.clone(), d.clone()), (d, c)].map(|paths| pool.submit(meet, paths).expect("taken"));
    assert!(both.iter().all(|task| finish(task).expect("both at once") == 4));
}

#[test]
fn a_closed_pool_tries_again_what_was_submitted() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let (at, go) = (place(&dir, "a"), place(&dir, "go"));
    let finishes = |(at, go): (String, String)| {
        announce(&at);
        while !std::path::Path::new(&go).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        swath::current_task().expect("a task").attempt()
    };
    let task = pool.submit_with(finishes, (at.clone(), go.clone())).retries(1).submit().expect("taken");
    let victim = announced(&at);
    pool.close();
    kill(victim, signal::KILL);
    std::fs::write(&go, "").expect("a place");
    assert_eq!(finish(&task).expect("it had an attempt left"), 1);
}

#[test]
fn a_task_for_a_certain_worker_stays_its_own() {
    let pool = pool(2);
    let over = AtomicBool::new(false);
    let me = |()| {
        std::thread::sleep(Duration::from_micros(200));
        swath::current_task().expect("a task").worker()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| kill_those_who_work(&pool, &over));
        // Its lane is full all the time.
        let tasks: Vec<Task<usize>> = (0..1500)
            .map(|_| pool.submit_with(me, ()).on_worker(0).retries(1000).submit().expect("taken"))
            .collect();
        let found: Vec<_> = tasks.iter().map(finish).collect();
        over.store(true, Ordering::Relaxed);
        for worker in found {
            assert_eq!(worker.expect("a value"), 0);
        }
    });
}

#[test]
fn c04_the_cause_of_a_death_is_exact() {
    let pool = pool(1);
    let killed = |signal| What::Killed { signal, likely_out_of_memory: false };
    let cases = [
        ("exit 0", What::Exited { code: 0 }),
        ("exit 99", What::Exited { code: 99 }),
        ("abort", killed(libc::SIGABRT)),
        ("segv", killed(libc::SIGSEGV)),
        ("kill", killed(signal::KILL)),
        ("term", killed(signal::TERM)),
    ];
    for (how, what) in cases {
        let error = finish(&pool.submit(die, how.to_owned()).expect("taken")).expect_err(how);
        assert_eq!((error.kind(), &error.causes()[0].what), (ErrorKind::Died, &what), "{how}");
    }
    assert_eq!(finish(&pool.submit(die, "not at all".into()).expect("taken")).expect("a value"), 7);
}

#[test]
fn a_crash_says_where() {
    #[inline(never)]
    fn write_where_nothing_is(address: usize) -> u64 {
        // SAFETY: not at all: nothing is mapped there, and that is what is wanted.
        unsafe { std::ptr::with_exposed_provenance_mut::<u64>(address).write_volatile(1) };
        1
    }
    fn abort_here(n: u64) -> u64 {
        if std::hint::black_box(n) > 0 { std::process::abort() } else { n }
    }
    fn overflow(n: u64) -> u64 {
        let page = std::hint::black_box([n; 500]);
        if page[3] == u64::MAX {
            return 0;
        }
        overflow(page[(n % 500) as usize] + 1) + page[0]
    }
    let pool = pool(1);
    let error = finish(&pool.submit(write_where_nothing_is, 64).expect("taken")).expect_err("crashed");
    let crash = error.causes()[0].crash.as_ref().expect("written by its handler");
    assert_eq!((crash.signal, crash.address), (libc::SIGSEGV, 64));
    let text = error.to_string();
    assert!(text.contains("at address 0x40") && text.contains("write_where_nothing_is"), "{text}");
    assert!(text.contains("tasks.rs:"), "{text}");
    let text = finish(&pool.submit(abort_here, 1).expect("taken")).expect_err("crashed").to_string();
    assert!(text.contains("SIGABRT") && text.contains("abort_here"), "{text}");
    let text = finish(&pool.submit(overflow, 1).expect("taken")).expect_err("crashed").to_string();
    assert!(text.contains("overflow"), "{text}");
    let error = finish(&pool.submit(die, "exit 99".to_owned()).expect("taken")).expect_err("left");
    assert_eq!(error.causes()[0].crash, None);
}

#[test]
fn c06_a_crash_on_receipt_of_large_arguments() {
    let pool = pool(2);
    let tasks: Vec<Task<u64>> = (0..10)
        .map(|_| {
            let crash = |_: Vec<u8>| signal_self(libc::SIGSEGV);
            pool.submit(crash, vec![1u8; 2 << 20]).expect("taken")
        })
        .collect();
    for task in &tasks {
        assert_eq!(finish(task).expect_err("crashed").kind(), ErrorKind::Died);
    }
}

#[test]
fn every_task_is_told_whatever_is_killed() {
    let pool = pool(3);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killed = scope.spawn(|| kill_those_who_work(&pool, &over));
        let slow_square = |n: u64| {
            let end = Instant::now() + Duration::from_micros(200);
            while Instant::now() < end {}
            (n * n, vec![n as u8; (n % 300) as usize])
        };
        let tasks: Vec<_> = (0..3000)
            .map(|n| pool.submit_with(slow_square, n).retries(1000).submit().expect("taken"))
            .collect();
        for (n, task) in (0..3000u64).zip(&tasks) {
            let (square, bytes) = finish(task).expect("a value");
            assert_eq!((square, bytes), (n * n, vec![n as u8; (n % 300) as usize]));
        }
        over.store(true, Ordering::Relaxed);
        assert!(killed.join().expect("no panic") > 20, "it must have killed");
    });
}

// ---- time-outs and cancelling ----------------------------------------------------------------------------------------

#[test]
fn c11_a_time_out_kills_and_a_waiter_that_gives_up_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let limit = Duration::from_millis(100);
    let before = finish(&pool.submit(pid, ()).expect("taken")).expect("a pid");
    let at = place(&dir, "a");
    let late = pool.submit_with(for_ever, at.clone()).timeout(limit).submit().expect("taken");
    let after = pool.submit(pid, ()).expect("taken");
    let error = finish(&late).expect_err("too long");
    assert_eq!((error.kind(), &error.causes()[0].what), (ErrorKind::TimedOut, &What::TimedOut { limit }));
    assert_eq!(announced(&at), before);
    assert_ne!(finish(&after).expect("a pid"), before);
    // A waiter's patience is another thing.
    let slow = pool
        .submit(
            |path: String| {
                while !std::path::Path::new(&path).exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                5u64
            },
            place(&dir, "go"),
        )
        .expect("taken");
    assert_eq!(slow.result_timeout(Duration::from_millis(20)).expect("no error"), None);
    std::fs::write(place(&dir, "go"), "").expect("a place");
    assert_eq!(finish(&slow).expect("a value"), 5);
}

#[test]
fn c12_a_stubborn_task_and_what_it_started() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let stubborn = |path: String| -> u64 {
        signal::handle_by_nothing(signal::TERM);
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("a program");
        std::fs::write(format!("{path}.child"), child.id().to_string()).expect("a place");
        announce(&path);
        let _ = child.wait();
        signal_self(signal::STOP)
    };
    let at = place(&dir, "a");
    let task =
        pool.submit_with(stubborn, at.clone()).timeout(Duration::from_millis(200)).submit().expect("taken");
    announced(&at);
    let child: u32 =
        std::fs::read_to_string(format!("{at}.child")).expect("written").parse().expect("a number");
    assert!(process::exists(child));
    assert_eq!(finish(&task).expect_err("too long").kind(), ErrorKind::TimedOut);
    eventually("its child is gone", || !process::exists(child) || process::state_char(child) == Some('Z'));
}

#[test]
fn a_task_that_listens_keeps_its_worker() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let listen = |path: String| -> u64 {
        let me = swath::current_task().expect("a task");
        assert!(!me.cancelled());
        announce(&path);
        while !me.cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        1
    };
    for round in 0..10 {
        let at = place(&dir, &round.to_string());
        let task = pool.submit(listen, at.clone()).expect("taken");
        let first = announced(&at);
        assert!(task.cancel());
        assert_eq!(finish(&task).expect_err("cancelled").kind(), ErrorKind::Cancelled);
        assert_eq!(finish(&pool.submit(pid, ()).expect("taken")).expect("a pid"), first);
    }
}

/// Looks whether it is wanted, and returns when it is not, or does not (`stays`).
fn look((path, stays): (String, bool)) -> u64 {
    let me = swath::current_task().expect("a task");
    assert!(!me.cancelled());
    announce(&path);
    while stays || !me.cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    1
}

#[test]
fn what_was_meant_for_a_dead_worker_does_not_reach_its_successor() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let (a, b, c) = (place(&dir, "a"), place(&dir, "b"), place(&dir, "c"));
    let first = pool.submit(look, (a.clone(), true)).expect("taken");
    let victim = announced(&a);
    // It is asked, and will be told in half a second; it dies of something else before.
    assert!(first.cancel());
    kill(victim, signal::KILL);
    assert_eq!(finish(&first).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    let second = pool.submit(look, (b.clone(), false)).expect("taken");
    let successor = announced(&b);
    std::thread::sleep(Duration::from_millis(250));
    assert!(second.cancel());
    assert_eq!(finish(&second).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    let third = pool.submit(for_ever, c.clone()).expect("taken");
    assert_eq!(announced(&c), successor, "it listened, so it stays");
    kill(successor, signal::KILL);
    let error = finish(&third).expect_err("killed");
    assert_eq!(error.kind(), ErrorKind::Died, "nobody cancelled it: {error}");
}

#[test]
fn a_task_that_listens_is_out_of_time_all_the_same() {
    let pool = pool(1);
    let first = finish(&pool.submit(pid, ()).expect("taken")).expect("a pid");
    let limit = Duration::from_millis(50);
    let listen = |()| {
        let me = swath::current_task().expect("a task");
        while !me.cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        me.attempt()
    };
    let task = pool.submit_with(listen, ()).timeout(limit).retries(1).submit().expect("taken");
    let error = finish(&task).expect_err("too long, twice");
    let late = What::TimedOut { limit };
    assert_eq!((error.kind(), error.causes().len()), (ErrorKind::TimedOut, 2), "{error}");
    assert!(error.causes().iter().all(|cause| cause.what == late), "{error}");
    assert_eq!(finish(&pool.submit(pid, ()).expect("taken")).expect("a pid"), first, "its worker stays");
}

#[test]
fn a_callback_may_wait_for_tasks_that_have_no_place_yet() {
    let pool = pool(2);
    let count = swath::limits::TASKS_IN_TABLE as u64 * 2;
    let tasks: Arc<Vec<Task<u64>>> =
        Arc::new((0..count).map(|n| pool.submit(square, n).expect("taken")).collect());
    let (tell, told) = mpsc::channel();
    let all = tasks.clone();
    tasks[0].add_done_callback(move |_| tell.send(all[count as usize - 1].result().is_ok()).expect("heard"));
    assert!(told.recv_timeout(PATIENCE).expect("called"));
}

#[test]
fn many_that_are_cancelled_do_not_stand_in_the_way_of_another_attempt() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let (at, go) = (place(&dir, "a"), place(&dir, "go"));
    let dies_once = |(at, go): (String, String)| {
        if swath::current_task().expect("a task").attempt() > 0 {
            return 5u64;
        }
        announce(&at);
        while !std::path::Path::new(&go).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::process::abort()
    };
    let task = pool.submit_with(dies_once, (at.clone(), go.clone())).retries(1).submit().expect("taken");
    announced(&at);
    for n in 0..2 * swath::limits::TASKS_IN_TABLE as u64 {
        assert!(pool.submit(square, n).expect("taken").cancel());
    }
    std::fs::write(&go, "").expect("a place");
    assert_eq!(finish(&task).expect("a value"), 5);
}

#[test]
fn c13_cancelling_by_state() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let at = place(&dir, "a");
    let running = pool.submit(for_ever, at.clone()).expect("taken");
    let pending = pool.submit(for_ever, place(&dir, "never")).expect("taken");
    let first = announced(&at);
    eventually("running", || running.running());
    assert!(!pending.running() && !pending.done());
    let (tell, told) = mpsc::channel();
    for (name, task) in [("pending", &pending), ("running", &running)] {
        for n in 0..2 {
            let tell = tell.clone();
            task.add_done_callback(move |task| tell.send((name, n, task.cancelled())).expect("heard"));
        }
    }
    assert!(pending.cancel() && pending.cancelled() && pending.done());
    assert!(!pending.cancel(), "twice");
    assert!(running.cancel());
    assert_eq!(finish(&running).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert!(!running.cancel(), "twice");
    let finished = pool.submit(pid, ()).expect("taken");
    assert_ne!(finish(&finished).expect("a pid"), first, "the worker was replaced");
    assert!(!finished.cancel() && !finished.cancelled());
    let heard: Vec<_> = (0..4).map(|_| told.recv_timeout(PATIENCE).expect("called")).collect();
    assert_eq!(
        heard,
        [("pending", 0, true), ("pending", 1, true), ("running", 0, true), ("running", 1, true)]
    );
    assert!(told.try_recv().is_err(), "once each");
    assert!(!std::path::Path::new(&place(&dir, "never")).exists(), "it never ran");
    // A callback that panics hurts nobody.
    finished.add_done_callback(|_| panic!("told to"));
    let tell = tell.clone();
    finished.add_done_callback(move |_| tell.send(("late", 9, false)).expect("heard"));
    assert_eq!(told.recv_timeout(PATIENCE).expect("called"), ("late", 9, false));
}

#[test]
fn cancelling_and_finishing_at_once_is_one_of_both() {
    let pool = pool(2);
    for n in 0..300u64 {
        let spin = |micros: u64| {
            let end = Instant::now() + Duration::from_micros(micros);
            while Instant::now() < end {}
            micros
        };
        let task = pool.submit(spin, n).expect("taken");
        let neighbour = pool.submit(square, n).expect("taken");
        // Over, just begun, and anywhere.
        match n % 3 {
            0 => task.wait(),
            1 => {}
            _ => {
                task.wait_timeout(Duration::from_micros(n * 3));
            }
        }
        let in_time = task.cancel();
        match finish(&task) {
            Ok(value) => {
                assert!(!in_time && value == n);
            }
            Err(error) => {
                assert!(in_time && error.kind() == ErrorKind::Cancelled && n % 3 > 0, "{error}");
            }
        }
        assert_eq!(finish(&neighbour).expect("another task's signal does not hit it"), n * n);
    }
}

#[test]
fn every_attempt_has_its_own_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    // The next attempt runs under the same serial, and soon: to the watch it may look like the last one.
    let limit = Duration::from_millis(60);
    let call = pool.submit_with(for_ever, place(&dir, "a")).timeout(limit).retries(2);
    let error = finish(&call.submit().expect("taken")).expect_err("too long, three times");
    assert_eq!((error.kind(), error.causes().len()), (ErrorKind::TimedOut, 3), "{error}");
    // Tasks one after the other, in different cells under equal serials, are not one long task.
    let nap = |n: u64| {
        std::thread::sleep(Duration::from_millis(2));
        n
    };
    let limit = Duration::from_millis(250);
    let tasks: Vec<Task<u64>> =
        (0..400).map(|n| pool.submit_with(nap, n).timeout(limit).submit().expect("taken")).collect();
    for (n, task) in (0..400).zip(&tasks) {
        assert_eq!(finish(task).expect("each is short"), n);
    }
}

#[test]
fn a_worker_whose_task_ended_before_the_cancel_goes_on() {
    let pool = pool(1);
    let mut in_time = 0;
    for n in 0..1500u64 {
        let spin = |micros: u64| {
            let end = Instant::now() + Duration::from_micros(micros);
            while Instant::now() < end {}
            micros
        };
        let task = pool.submit(spin, n % 7).expect("taken");
        let next = pool.submit(square, n).expect("taken");
        let patience = Instant::now() + PATIENCE;
        while !task.running() && !task.done() {
            assert!(Instant::now() < patience, "round {n}: nobody takes it");
        }
        let end = Instant::now() + Duration::from_nanos(n % 97 * 100);
        while Instant::now() < end {}
        in_time += u32::from(task.cancel());
        assert_eq!(
            finish(&next).expect("its worker, or the next one"),
            n * n,
            "round {n}, {in_time} in time"
        );
    }
}

// ---- errors ----------------------------------------------------------------------------------------------------------

#[derive(Debug)]
struct Deep(u32);

impl std::fmt::Display for Deep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "level {}", self.0)
    }
}

impl std::error::Error for Deep {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static SOURCES: [Deep; 3] = [Deep(0), Deep(1), Deep(2)];
        self.0.checked_sub(1).map(|n| &SOURCES[n as usize] as _)
    }
}

#[test]
fn c24_errors_arrive_whole() {
    for workers in [0, 1] {
        let pool = pool(workers);
        let error =
            finish(&pool.try_submit(|n| Err::<u64, _>(Deep(n)), 2).expect("taken")).expect_err("failed");
        assert_eq!(error.kind(), ErrorKind::Failed);
        let chain = vec!["level 1".to_owned(), "level 0".to_owned()];
        assert_eq!(error.causes()[0].what, What::Failed { message: "level 2".into(), chain });
        let text = error.to_string();
        assert_eq!(text.matches("level 2").count(), 1, "{text}");
        let panicked = |n: u64| -> u64 { panic!("seven is {n}") };
        let error = finish(&pool.submit(panicked, 7).expect("taken")).expect_err("panicked");
        let What::Panicked { message, location, .. } = &error.causes()[0].what else { panic!("{error}") };
        assert!(message == "seven is 7" && location.contains("tasks.rs:"), "{error}");
        assert_ne!(error.causes()[0].pid, 0);
        let wanted = |what: &What| matches!(what, What::Panicked { .. });
        let error =
            finish(&pool.submit_with(panicked, 8).retries(2).retry_if(wanted).submit().expect("taken"));
        assert_eq!(error.expect_err("three times").causes().len(), 3);
    }
}

#[derive(serde::Deserialize, Debug)]
struct Refuses;

impl serde::Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it will not travel"))
    }
}

#[test]
fn c23_results_that_cannot_travel_are_their_tasks_errors() {
    let pool = pool(2);
    let pids = pool.pids();
    let tasks: Vec<Task<Refuses>> = (0..20).map(|_| pool.submit(|()| Refuses, ()).expect("taken")).collect();
    for task in &tasks {
        let error = finish(task).expect_err("unencodable");
        assert!(error.kind() == ErrorKind::Codec && error.to_string().contains("Refuses"), "{error}");
    }
    assert_eq!(pool.pids(), pids, "no worker was lost");
    let error = pool.submit(|_: Refuses| (), Refuses).expect_err("unencodable");
    assert!(error.kind() == ErrorKind::Codec && error.to_string().contains("Refuses"), "{error}");
}

/// The encoding has no names of fields.
#[derive(Serialize, Deserialize)]
struct Gaps {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first: Option<u64>,
    second: u64,
}

#[test]
fn a_field_that_is_left_out_is_an_error_and_no_other_value() {
    let pool = pool(1);
    let whole = Gaps { first: Some(1), second: 2 };
    assert_eq!(pool.apply(|gaps: Gaps| gaps.second, whole).expect("nothing is left out"), 2);
    let lacks = || vec![Gaps { first: None, second: 2 }];
    let refusals = [
        pool.apply(|gaps: Vec<Gaps>| gaps[0].second, lacks()).expect_err("an argument"),
        pool.apply(|()| vec![Gaps { first: None, second: 2 }], ()).err().expect("a result"),
        pool.map(|gaps: Gaps| gaps.second, lacks()).expect_err("an item"),
        pool.map(|_: u64| Gaps { first: None, second: 2 }, 0..3).err().expect("a value"),
    ];
    for error in refusals {
        let text = error.to_string();
        assert!(error.kind() == ErrorKind::Codec && text.contains("`first` was left out"), "{text}");
    }
}

#[test]
fn what_needs_names_in_its_encoding_is_told_what_to_do() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    let error = pool(1).apply(|_: Either| (), Either::Text("a".into())).expect_err("it needs them");
    assert!(error.to_string().contains("untagged"), "{error}");
}

// ---- the end of a pool -----------------------------------------------------------------------------------------------

#[test]
fn c15_the_ways_to_shut_down() {
    let nap = |n: u64| {
        std::thread::sleep(Duration::from_millis(2));
        n
    };
    let fifty =
        |pool: &Pool| -> Vec<Task<u64>> { (0..50).map(|n| pool.submit(nap, n).expect("taken")).collect() };
    // Wait.
    let waited = pool(2);
    let tasks = fifty(&waited);
    waited.shutdown(true, false);
    assert!(tasks.iter().all(Task::successful));
    // Do not wait.
    let left = pool(2);
    let tasks = fifty(&left);
    left.shutdown(false, false);
    assert!(tasks.iter().all(|task| finish(task).is_ok()));
    // Cancel what is pending.
    let dir = tempfile::tempdir().expect("a directory");
    let cancelling = pool(1);
    let (at, go) = (place(&dir, "a"), place(&dir, "go"));
    let finishes = |(at, go): (String, String)| {
        announce(&at);
        while !std::path::Path::new(&go).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        3u64
    };
    let running = cancelling.submit(finishes, (at.clone(), go.clone())).expect("taken");
    let tasks = fifty(&cancelling);
    announced(&at);
    let told = Arc::new(AtomicU32::new(0));
    let counted = told.clone();
    tasks[0].add_done_callback(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    cancelling.shutdown(false, true);
    assert!(tasks.iter().all(|task| finish(task).is_err_and(|e| e.kind() == ErrorKind::Cancelled)));
    std::fs::write(&go, "").expect("a place");
    assert_eq!(finish(&running).expect("it ran on"), 3);
    eventually("told", || told.load(Ordering::SeqCst) == 1);
    // Close and join, with patience that is too short; then the end.
    let closing = pool(1);
    let at = place(&dir, "b");
    let hopeless = closing.submit(for_ever, at.clone()).expect("taken");
    announced(&at);
    closing.close();
    assert_eq!(closing.submit(square, 1).expect_err("closed").kind(), ErrorKind::Closed);
    assert_eq!(closing.map(square, 0..3).expect_err("closed").kind(), ErrorKind::Closed);
    assert!(!closing.join_timeout(Duration::from_millis(50)));
    closing.terminate();
    assert_eq!(finish(&hopeless).expect_err("ended").kind(), ErrorKind::Cancelled);
}

#[test]
fn phases_and_tasks_share_the_workers() {
    let pool = pool(2);
    let mut a = SharedArray::<u64, _>::zeros(1000).expect("an array");
    let tasks: Vec<Task<u64>> = (0..500).map(|n| pool.submit(square, n).expect("taken")).collect();
    for _ in 0..20 {
        pool.phase(&mut a).chunk(swath::Chunk::Rows(10)).for_each(|_, mut a| a += 1).expect("a phase");
    }
    assert!(a.view().iter().all(|n| *n == 20));
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(finish(task).expect("a value"), (n * n) as u64);
    }
}

#[test]
fn priorities_and_certain_workers() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(1);
    let (at, go) = (place(&dir, "a"), place(&dir, "go"));
    let gate = |(at, go): (String, String)| {
        announce(&at);
        while !std::path::Path::new(&go).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let first = pool.submit(gate, (at.clone(), go.clone())).expect("taken");
    announced(&at);
    let order = Arc::new(Mutex::new(Vec::new()));
    let priorities = [swath::Priority::Low, swath::Priority::Normal, swath::Priority::High];
    let tasks: Vec<Task<u64>> = priorities
        .into_iter()
        .map(|priority| {
            let task = pool.submit_with(square, 2).priority(priority).submit().expect("taken");
            let order = order.clone();
            task.add_done_callback(move |_| order.lock().expect("no panic").push(priority));
            task
        })
        .collect();
    std::fs::write(&go, "").expect("a place");
    finish(&first).expect("no value");
    assert!(tasks.iter().all(|task| finish(task).is_ok()));
    eventually("all told", || order.lock().expect("no panic").len() == 3);
    // Which one ended first is what the worker did; callbacks of what is found ended at one look come in the order of cells.
    let me = |()| swath::current_task().expect("a task").worker();
    let many = Pool::builder().workers(3).build().expect("a pool");
    for n in 0..300 {
        let task = many.submit_with(me, ()).on_worker(n % 3).submit().expect("taken");
        assert_eq!(finish(&task).expect("a value"), n % 3);
    }
    assert_eq!(many.submit_with(me, ()).on_worker(3).submit().expect_err("no such").kind(), ErrorKind::Usage);
}

// ---- async -----------------------------------------------------------------------------------------------------------

/// The smallest executor: parks the thread until it is woken.
fn block_on<F: std::future::Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn tasks_are_futures() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = pool(2);
    let sum = block_on(async {
        let mut sum = 0;
        for n in 0..50 {
            sum += pool.submit(square, n).expect("taken").await.expect("a value");
        }
        sum
    });
    assert_eq!(sum, (0..50).map(|n| n * n).sum());
    // Dropping one cancels, if asked to.
    let at = place(&dir, "a");
    let worker = {
        let task = pool.submit(for_ever, at.clone()).expect("taken").cancel_on_drop();
        let worker = announced(&at);
        drop(task);
        worker
    };
    eventually("its worker is replaced", || pool.pids().len() == 2 && !pool.pids().contains(&worker));
}

// ---- memory ----------------------------------------------------------------------------------------------------------

/// Announces itself and waits until `go` is there: how many it has seen beside itself.
fn beside((place, go): (String, String)) {
    announce(&place);
    while !std::fs::exists(&go).expect("a place") {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn tasks_that_need_memory_are_begun_only_while_they_fit_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = Pool::builder().workers(4).memory_budget(1000).build().expect("a pool");
    let path = |name: &str| place(&dir, name);
    let submit = |name: &str, memory: u64| {
        let go = path(&format!("go {name}"));
        pool.submit_with(beside, (path(name), go)).memory(memory).submit().expect("submitted")
    };
    let go = |name: &str| std::fs::write(path(&format!("go {name}")), b"").expect("a place");
    let begun = |name: &str| std::fs::exists(path(name)).expect("a place");
    let tasks = [submit("a", 600), submit("b", 400), submit("c", 1000), submit("d", 1)];
    announced(&path("a"));
    announced(&path("b"));
    // Two workers have nothing to do; a task that says nothing gets one, and is over.
    assert_eq!(finish(&pool.submit(square, 7).expect("submitted")).expect("a value"), 49);
    assert!(!begun("c") && !begun("d"), "the large one waits, and the small one behind it");
    go("a");
    finish(&tasks[0]).expect("done");
    assert_eq!(finish(&pool.submit(square, 7).expect("submitted")).expect("a value"), 49);
    assert!(!begun("c") && !begun("d"), "600 of 1000 are free");
    go("b");
    announced(&path("c"));
    assert!(!begun("d"), "the large one has all");
    // What a dead worker's task had is free, and a cancelled one stands in nobody's way.
    let (all, last) = (submit("e", 1000), submit("f", 2));
    assert!(tasks[2].cancel());
    go("d");
    finish(&tasks[3]).expect("done");
    let pid = announced(&path("e"));
    kill(pid, signal::KILL);
    assert_eq!(finish(&all).expect_err("dead").kind(), ErrorKind::Died);
    go("f");
    finish(&last).expect("done");
    // Without anybody who waits for them.
    go("g");
    go("h");
    let rest: Vec<_> = ["g", "h", "g", "h"].map(|name| submit(name, 700)).into();
    eventually("tasks that nobody waits for", || rest.iter().all(Task::done));
}

#[test]
fn a_task_that_can_never_have_its_memory_is_refused() {
    for workers in [0, 1] {
        let pool = Pool::builder().workers(workers).memory_budget(1000).build().expect("a pool");
        let error = pool.submit_with(square, 2).memory(1001).submit().expect_err("too much");
        assert_eq!(error.kind(), ErrorKind::Memory);
        let text = "a task that needs 1001 bytes of memory can never run: there are 1000 at most (the pool's memory_budget)";
        assert_eq!(error.to_string(), text);
        let task = pool.submit_with(square, 2).memory(1000).submit().expect("submitted");
        assert_eq!(finish(&task).expect("a value"), 4);
    }
    // Nobody has so much.
    let pool = pool(1);
    let error = pool.submit_with(square, 2).memory(u64::MAX).submit().expect_err("too much");
    assert!(error.to_string().contains("in reserve"), "{error}");
    let task = pool.submit_with(square, 2).memory(1 << 20).retries(1).submit().expect("submitted");
    assert_eq!(finish(&task).expect("a value"), 4);
}

#[test]
fn the_memory_of_tasks_that_are_given_up_is_free_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let pool = Pool::builder().workers(1).memory_budget(10).build().expect("a pool");
    let heavy =
        |memory| pool.submit_with(for_ever, place(&dir, "on")).memory(memory).submit().expect("submitted");
    let (first, second, third) = (heavy(10), heavy(10), heavy(5));
    announced(&place(&dir, "on"));
    // One that waits for memory is cancelled at once, and its place is nobody's.
    assert!(second.cancel() && second.cancelled() && !third.done());
    assert!(first.cancel());
    announced(&place(&dir, "on"));
    // A pool that is closed cancels those that wait for memory, too.
    let fourth = heavy(10);
    pool.shutdown(false, true);
    assert_eq!(finish(&fourth).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert!(third.cancel());
    assert_eq!(finish(&third).expect_err("cancelled").kind(), ErrorKind::Cancelled);
}
