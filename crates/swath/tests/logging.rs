//! What workers say by `tracing` arrives at the coordinator's subscriber: whole, in order, with its tags, whoever dies or is slow.

#[path = "care/ear.rs"]
mod ear;
#[path = "care/patience.rs"]
mod patience;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swath::prelude::*;
use swath::{Level, LevelFilter, What, current_task};
use swath_platform::{process, signal};

use ear::{Ear, Heard};
use patience::eventually;

swath::worker_entry!();

fn workers(workers: usize) -> swath::PoolBuilder {
    Pool::builder().workers(workers).log_level(Level::TRACE)
}

// ---- what workers do -------------------------------------------------------------------------------------------------

/// Counts up, in this process.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Says `count` things, each of which shows whether it is whole.
fn flood(count: u64) {
    for _ in 0..count {
        let n = next();
        tracing::info!(n, "{}", "x".repeat(n as usize % 200));
    }
}

/// The number of something that `flood` said, if it is whole.
fn whole(heard: &Heard) -> u64 {
    let n: u64 = heard.get("fields").strip_prefix("n=").expect("a number").parse().expect("a number");
    assert_eq!(heard.get("message").len() as u64, n % 200, "torn: {heard:?}");
    n
}

/// Follows each process: its numbers go up by one, but for those that were dropped. How many arrived, and how many did not.
fn in_order(heard: &[Heard]) -> (u64, u64) {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut arrived, mut dropped) = (0, 0);
    for event in heard {
        let next = next.entry(event.number("pid")).or_default();
        match event.dropped() {
            Some(count) => {
                *next += count;
                dropped += count;
            }
            None => {
                assert_eq!(whole(event), *next, "in order: {event:?}");
                *next += 1;
                arrived += 1;
            }
        }
    }
    (arrived, dropped)
}

fn signal_self(number: i32) {
    let own = process::pidfd_open(process::getpid()).expect("own pidfd");
    process::pidfd_signal(&own, number).expect("signalled");
    loop {
        std::thread::park();
    }
}

// ---- the plain case --------------------------------------------------------------------------------------------------

#[test]
fn events_of_chunks_arrive_in_order_with_their_tags() {
    let ear = Ear::default();
    let pool = ear.pool(workers(2));
    let pids = pool.pids();
    let mut a = SharedArray::<u32, _>::zeros(60).expect("room");
    pool.phase(&mut a)
        .chunk(Chunk::Rows(1))
        .for_each(|ctx, mut a| {
            a += 1;
            let (n, row, worker) = (next(), ctx.chunk(), ctx.worker());
            tracing::debug!(target: "app::part", n, row, worker, who = "it's me", "row {row}");
        })
        .expect("works");
    drop(pool);
    let heard = ear.heard();
    assert_eq!(heard.len(), 60, "all of them, when the pool is dropped");
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &heard {
        let (n, row) = (next.entry(event.get("pid")).or_default(), event.number("chunk"));
        let fields = format!("n={n} row={row} worker={} who=\"it's me\"", event.get("worker"));
        assert_eq!((event.get("fields"), event.get("message")), (&*fields, &*format!("row {row}")));
        assert_eq!((event.get("level"), event.get("target")), ("DEBUG", "app::part"));
        assert!(event.get("file").ends_with("tests/logging.rs") && event.number("line") > 50);
        assert!(pids.contains(&(event.number("pid") as u32)) && event.get("task").is_empty());
        assert!(event.get("spans").is_empty() && event.number("time_ns") > 1_700_000_000_000_000_000);
        *n += 1;
    }
}

#[test]
fn events_of_tasks_name_the_task_also_from_its_threads() {
    let ear = Ear::default();
    let pool = ear.pool(workers(1));
    let task = |_: ()| {
        tracing::warn!("first");
        std::thread::scope(|scope| scope.spawn(|| tracing::error!("second")).join().expect("no panic"));
        current_task().map(|task| task.id())
    };
    let ids: Vec<u64> =
        (0..3).map(|_| pool.apply(task, ()).expect("a value").expect("it is in a task")).collect();
    drop(pool);
    let heard = ear.heard();
    let tasks: Vec<u64> = heard.iter().map(|event| event.number("task")).collect();
    assert_eq!(tasks, ids.iter().flat_map(|id| [*id, *id]).collect::<Vec<_>>());
    let said: Vec<_> = heard.iter().map(|event| (event.get("level"), event.get("message"))).collect();
    assert_eq!(said, [("WARN", "first"), ("ERROR", "second")].repeat(3));
    assert!(heard.iter().all(|event| event.get("chunk").is_empty()));
}

#[test]
fn open_spans_come_along() {
    let ear = Ear::default();
    let pool = ear.pool(workers(1));
    let task = |_: ()| {
        let outer = tracing::info_span!("outer", n = 1, later = tracing::field::Empty);
        let entered = outer.enter();
        tracing::info!("in outer");
        outer.record("later", "known");
        tracing::info_span!("inner").in_scope(|| {
            tracing::info!("in both");
            tracing::info!(parent: None, "in none");
            assert_eq!(tracing::Span::current().metadata().expect("a span").name(), "inner");
        });
        let aside = tracing::info_span!(parent: None, "aside");
        tracing::info!(parent: &aside, "in aside");
        let kept = outer.clone();
        drop(entered);
        drop(outer);
        kept.in_scope(|| tracing::info!("in outer again"));
        drop(kept);
        tracing::info!("outside");
    };
    pool.apply(task, ()).expect("a value");
    drop(pool);
    let heard = ear.heard();
    let said: Vec<_> = heard.iter().map(|event| (event.get("message"), event.get("spans"))).collect();
    let expected = [
        ("in outer", "outer{n=1}"),
        ("in both", "outer{n=1 later=\"known\"}>inner"),
        ("in none", ""),
        ("in aside", "aside"),
        ("in outer again", "outer{n=1 later=\"known\"}"),
        ("outside", ""),
    ];
    assert_eq!(said, expected);
}

#[test]
fn what_is_not_wanted_is_not_written() {
    let ear = Ear::default();
    let pool = ear.pool(Pool::builder().workers(1).log_level(Level::INFO));
    let task = |_: ()| {
        tracing::debug!("too much");
        tracing::info!(target: "app", "wanted");
        tracing::info!(target: "library", "not from there");
        (tracing::enabled!(Level::INFO), tracing::enabled!(Level::DEBUG), LevelFilter::current().to_string())
    };
    *ear.0.target.lock().expect("no panic") = Some("app".to_owned());
    assert_eq!(pool.apply(task, ()).expect("a value"), (true, false, "info".to_owned()));
    drop(pool);
    let heard = ear.heard();
    let said: Vec<_> = heard.iter().map(|event| event.get("message")).collect();
    assert_eq!(said, ["wanted"], "the subscriber is asked with the event's own target");
}

#[test]
fn long_texts_are_cut_and_nested_ones_do_no_harm() {
    struct Chatty;
    impl Debug for Chatty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            tracing::info!("from within");
            f.write_str("chatty")
        }
    }
    let ear = Ear::default();
    let pool = ear.pool(workers(1));
    let task = |_: ()| {
        tracing::info!(much = ?vec![7; 1_000_000], "{}", "long ".repeat(100_000));
        tracing::info!(it = ?Chatty, "around");
    };
    pool.apply(task, ()).expect("a value");
    drop(pool);
    let heard = ear.heard();
    assert!(heard[0].get("message").ends_with(" … (cut)") && heard[0].get("fields").ends_with(" … (cut)"));
    assert!(heard[0].get("message").len() + heard[0].get("fields").len() < swath::limits::LOG_RECORD_BYTES);
    assert_eq!(heard[1].get("message"), "from within");
    assert_eq!((heard[2].get("message"), heard[2].get("fields")), ("around", "it=chatty"));
}

#[test]
fn a_kernel_may_have_a_subscriber_of_its_own_for_a_while() {
    let ear = Ear::default();
    let pool = ear.pool(workers(1));
    let task = |_: ()| {
        let own = Ear::default();
        tracing::subscriber::with_default(own.clone(), || tracing::info!("mine"));
        tracing::info!("everybody's");
        own.0.heard.lock().expect("no panic").len()
    };
    assert_eq!(pool.apply(task, ()).expect("a value"), 1);
    drop(pool);
    assert_eq!(ear.heard().iter().map(|e| e.get("message")).collect::<Vec<_>>(), ["everybody's"]);
}

// ---- too much, too slow ----------------------------------------------------------------------------------------------

#[test]
fn of_a_flood_all_that_arrives_is_whole_and_the_rest_is_counted() {
    let ear = Ear::default();
    let pool = ear.pool(workers(4));
    let tasks: Vec<_> = (0..400).map(|_| pool.submit(flood, 250).expect("taken")).collect();
    tasks.iter().for_each(|task| task.result().expect("a value"));
    drop(pool);
    let (arrived, dropped) = in_order(&ear.heard());
    assert_eq!(arrived + dropped, 100_000, "{arrived} arrived, {dropped} dropped");
    assert!(arrived >= 40, "at least what the rings hold");
    println!("{arrived} arrived, {dropped} dropped");
}

#[test]
fn a_slow_subscriber_keeps_no_worker_waiting() {
    let ear = Ear::default();
    let pool = ear.pool(workers(1));
    ear.0.pause_ms.store(20, Ordering::Relaxed);
    pool.apply(flood, 20_000).expect("a value");
    let heard = ear.heard().len();
    ear.0.pause_ms.store(0, Ordering::Relaxed);
    drop(pool);
    let (arrived, dropped) = in_order(&ear.heard());
    assert_eq!(arrived + dropped, 20_000);
    assert!(heard < 20_000 && dropped > 0, "the worker was done before its reader: {heard} {arrived}");
}

#[test]
fn a_subscriber_that_panics_is_called_again() {
    let ear = Ear::default();
    let pool = ear.pool(workers(1));
    ear.0.panics.store(true, Ordering::Relaxed);
    pool.apply(flood, 3).expect("a value");
    drop(pool);
    assert_eq!(ear.heard().len(), 3);
}

#[test]
fn one_event_arrives_without_a_push_from_another() {
    let ear = Ear::default();
    let pool = ear.pool(workers(2));
    for n in 0..20 {
        pool.apply(flood, 1).expect("a value");
        eventually("an event while nothing else happens", || ear.heard().len() > n);
        // From within a nap of the reader's to well after it.
        std::thread::sleep(Duration::from_millis(n as u64));
    }
}

// ---- deaths ----------------------------------------------------------------------------------------------------------

#[test]
fn killed_in_mid_flood_everything_before_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let ear = Ear::default();
    let pool = ear.pool(workers(2).log_to_files(folder.path()));
    let mut killed = Vec::new();
    for round in 0..20 {
        let task = pool.submit(flood, u64::MAX).expect("taken");
        let own = |heard: &[Heard]| {
            let own: Vec<u64> = heard
                .iter()
                .filter(|event| event.get("task") == task.id().to_string())
                .map(|event| event.number("pid"))
                .collect();
            (own.len() > round * 10).then(|| own[0] as u32)
        };
        eventually("a flood", || own(&ear.heard()).is_some());
        let victim = own(&ear.heard()).expect("seen above");
        let pidfd = process::pidfd_open(victim).expect("a worker");
        process::pidfd_signal(&pidfd, signal::KILL).expect("signalled");
        let error = task.result().expect_err("killed");
        assert_eq!(error.kind(), ErrorKind::Died);
        let words = &error.causes()[0].last_words;
        assert_eq!(words.len(), swath::limits::LAST_WORDS, "{error}");
        assert!(words.iter().all(|line| line.starts_with("INFO logging (task ")), "{words:?}");
        assert!(error.to_string().contains("; its last words: INFO logging"), "{error}");
        killed.push((victim, words.last().expect("five").clone()));
    }
    drop(pool);
    let heard = ear.heard();
    let (arrived, dropped) = in_order(&heard);
    assert!(arrived > 0, "{dropped}");
    for (pid, last_word) in killed {
        let last = heard.iter().rfind(|event| event.number("pid") == u64::from(pid)).expect("it spoke");
        let n = whole(last);
        assert!(last_word.ends_with(&format!(" n={n}")), "the same last word: {last_word} {n}");
        // The file is written after the ring, so it may lack the last one.
        let lines = lines_of(folder.path(), pid);
        let count = lines.len() as u64;
        assert!(count == n || count == n + 1, "{count} lines, the last event {n}");
    }
}

#[test]
fn a_task_that_aborts_tells_why_in_its_error() {
    let ear = Ear::default();
    let pool = ear.pool(workers(2));
    let abort = |how: String| {
        tracing::info!("opening the valve");
        tracing::error!(pressure = 7, "it will\nbreak");
        match how.as_str() {
            "abort" => std::process::abort(),
            _ => signal_self(libc::SIGSEGV),
        }
    };
    for (how, number) in [("abort", libc::SIGABRT), ("segv", libc::SIGSEGV)] {
        let error = pool.apply(abort, how.to_owned()).expect_err("it dies");
        let cause = &error.causes()[0];
        assert!(matches!(cause.what, What::Killed { signal, .. } if signal == number), "{cause}");
        let [first, second] = cause.last_words.as_slice() else { panic!("{:?}", cause.last_words) };
        assert!(
            first.starts_with("INFO logging (task ") && first.ends_with("): opening the valve"),
            "{first}"
        );
        assert!(second.ends_with("): it will\\nbreak pressure=7"), "{second}");
    }
    drop(pool);
    let said: Vec<_> = ear.heard().iter().map(|e| e.get("message").to_owned()).collect();
    assert_eq!(said, ["opening the valve", "it will\nbreak"].repeat(2), "and they arrived");
}

#[test]
fn a_chunk_that_kills_its_worker_has_its_last_words_too() {
    // Without a subscriber: asked for is enough.
    let pool = Pool::builder().workers(2).log_level(Level::WARN).build().expect("a pool");
    let x = SharedArray::<u32, _>::zeros(10).expect("room");
    let error = pool
        .phase(&x)
        .chunk(Chunk::Rows(1))
        .retries(1)
        .for_each(|ctx, _| {
            if ctx.chunk() == 3 {
                tracing::warn!(attempt = ctx.attempt(), "about to die");
                std::process::abort();
            }
        })
        .expect_err("chunk 3 is given up");
    let causes = &error.failures()[0].causes;
    let words: Vec<_> = causes.iter().map(|cause| cause.last_words.join("|")).collect();
    assert_eq!(
        words,
        ["WARN logging (chunk 3): about to die attempt=0", "WARN logging (chunk 3): about to die attempt=1"]
    );
    assert!(error.to_string().contains("its last words: WARN logging (chunk 3)"), "{error}");
    let quiet = Pool::builder().workers(1).log_level(LevelFilter::OFF).build().expect("a pool");
    let error = quiet.apply(|_: ()| -> () { std::process::abort() }, ()).expect_err("it dies");
    assert!(error.causes()[0].last_words.is_empty() && !error.to_string().contains("last words"), "{error}");
}

// ---- files, and what is left -----------------------------------------------------------------------------------------

/// The lines of process `pid`'s file.
fn lines_of(folder: &std::path::Path, pid: u32) -> Vec<String> {
    let end = format!("-{pid}.log");
    let mut files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path());
    let path = files.find(|path| path.to_string_lossy().ends_with(&end)).expect("a file");
    assert!(path.file_name().expect("a name").to_string_lossy().starts_with("logging-"), "{path:?}");
    let text = std::fs::read_to_string(path).expect("UTF-8");
    // The kernel may cut the last line of a process that is killed.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

#[test]
fn files_have_every_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = workers(2).log_to_files(folder.path().join("deep/er")).build().expect("a pool");
    let task = |count: u64| {
        flood(count);
        (process::getpid(), next())
    };
    let mut totals = BTreeMap::new();
    for (pid, next) in (0..40).map(|_| pool.apply(task, 250).expect("a value")) {
        totals.insert(pid, next);
    }
    drop(pool);
    let mut sum = 0;
    for pid in totals.into_keys() {
        let lines = lines_of(&folder.path().join("deep/er"), pid);
        for line in &lines {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 30, "{line}");
            assert!(rest.starts_with("INFO logging (task "), "{line}");
        }
        sum += lines.len();
    }
    assert_eq!(sum, 40 * 250);
    let file = folder.path().join("a file");
    std::fs::write(&file, "").expect("writable");
    let error = Pool::builder().workers(1).log_to_files(&file).build().err().expect("not a directory");
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("a file"), "{error}");
}

#[test]
fn nothing_is_left_behind() {
    let held = || {
        let names = std::fs::read_dir("/proc/self/fd").expect("/proc").filter_map(|entry| {
            let name = std::fs::read_link(entry.ok()?.path()).ok()?;
            Some(name.to_string_lossy().into_owned())
        });
        names.filter(|name| name.starts_with("/memfd:log")).count()
    };
    let ear = Ear::default();
    // Other tests' pools come and go: those of so many cannot hide among them.
    for _ in 0..20 {
        let pool = ear.pool(workers(10));
        pool.apply(flood, 10).expect("a value");
        let pids = pool.pids();
        drop(pool);
        assert!(pids.iter().all(|pid| process::state_char(*pid).is_none()), "gone and reaped");
    }
    assert!(held() < 100, "{} rings are still open", held());
    // Programs that kernels start do not get the bell.
    let pool = ear.pool(workers(1));
    let list = |_: ()| {
        let output = std::process::Command::new("ls").arg("/proc/self/fd").output().expect("ls");
        String::from_utf8(output.stdout).expect("numbers").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // The last is the directory that is being read.
    assert_eq!(pool.apply(list, ()).expect("a value"), "0 1 2 3");
}
