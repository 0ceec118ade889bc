//! What processes of one's own, and templates of workers, say by `tracing` arrives at the subscriber that was in force where they were
//! started: in order, with their names, however they end; over two levels too.

#[path = "care/ear.rs"]
mod ear;
#[path = "care/patience.rs"]
mod patience;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use swath::prelude::*;
use swath::process::{IsolatedBuilder, Output, ProcessBuilder};
use swath::{Level, LevelFilter, Manager, Process, StartMethod, isolated_with};
use swath_platform::{process, signal};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher, span};

use ear::{Ear, Heard};
use patience::eventually;

swath::worker_entry!();

fn process() -> ProcessBuilder {
    Process::builder().log_level(Level::TRACE)
}

fn call() -> IsolatedBuilder {
    isolated_with().log_level(Level::TRACE)
}

fn count_to(n: u64) {
    (0..n).for_each(|n| tracing::info!(n, "counting"));
}

/// The numbers that `count_to` said, those that were dropped counted; in order, or else.
fn counted(heard: &[Heard]) -> u64 {
    let mut next = 0;
    for event in heard {
        match event.dropped() {
            Some(count) => next += count,
            None => {
                assert_eq!(event.get("fields"), format!("n={next}"), "{event:?}");
                next += 1;
            }
        }
    }
    next
}

fn signal_self(number: i32) -> ! {
    let own = process::pidfd_open(process::getpid()).expect("own pidfd");
    process::pidfd_signal(&own, number).expect("signalled");
    loop {
        std::thread::park();
    }
}

// ---- the plain case --------------------------------------------------------------------------------------------------

#[test]
fn events_arrive_in_order_with_the_process_by_the_time_it_was_joined() {
    let ear = Ear::default();
    let speak = |who: String| {
        let span = tracing::info_span!("greeting", who);
        span.in_scope(|| tracing::warn!(target: "app::part", tone = "warm", "hello, {who}"));
        std::thread::spawn(|| tracing::debug!("aside")).join().expect("no panic");
    };
    let child = ear.listen(|| process().name("greeter").spawn(speak, "world".to_owned()).expect("started"));
    assert!(child.join().expect("ours").success());
    let [first, second] = &*ear.heard() else { panic!("{:?}", ear.heard()) };
    assert_eq!((first.get("process"), first.number("pid")), ("greeter", child.id().into()));
    assert!(
        [first, second]
            .iter()
            .all(|event| ["worker", "task", "chunk"].iter().all(|f| event.get(f).is_empty()))
    );
    assert_eq!((first.get("level"), first.get("target")), ("WARN", "app::part"));
    assert_eq!((first.get("message"), first.get("fields")), ("hello, world", "tone=\"warm\""));
    assert_eq!(first.get("spans"), "greeting{who=\"world\"}");
    assert!(first.get("file").ends_with("tests/process_logs.rs") && first.number("line") > 50);
    assert_eq!((second.get("level"), second.get("message"), second.get("spans")), ("DEBUG", "aside", ""));
    assert!(child.failure().is_none());
}

#[test]
fn events_of_isolated_calls_are_there_when_they_return() {
    let ear = Ear::default();
    for n in 0..20 {
        let twice = |n: u64| {
            tracing::info!("n is {n}");
            2 * n
        };
        assert_eq!(ear.listen(|| call().call(twice, n)).expect("a value"), 2 * n);
        let said: Vec<String> = (0..=n).map(|n| format!("n is {n}")).collect();
        assert_eq!(ear.messages(), said);
    }
    assert!(ear.heard()[0].get("process").starts_with("process-"), "{:?}", ear.heard()[0]);
}

#[test]
fn a_process_that_lives_is_heard() {
    let ear = Ear::default();
    let speak = |_: ()| {
        tracing::info!("first");
        std::thread::sleep(Duration::from_secs(1000));
    };
    let child = ear.listen(|| process().spawn(speak, ()).expect("started"));
    eventually("an event of a process that goes on", || ear.messages() == ["first"]);
    child.kill().expect("signalled");
    assert_eq!(child.join().expect("ours").signal(), Some(signal::KILL));
}

#[test]
fn the_level_is_what_was_asked_for() {
    let ear = Ear::default();
    let speak = |_: ()| {
        tracing::debug!("too much");
        tracing::info!("wanted");
        LevelFilter::current().to_string()
    };
    let say = |level: LevelFilter| ear.listen(|| isolated_with().log_level(level).call(speak, ()));
    assert_eq!(say(LevelFilter::INFO).expect("a value"), "info");
    assert_eq!(ear.messages(), ["wanted"]);
    assert_eq!(say(LevelFilter::OFF).expect("a value"), "off");
    assert_eq!(ear.messages(), ["wanted"], "nothing more");
    // What the subscriber does not want is not shown.
    *ear.0.target.lock().expect("no panic") = Some("another".to_owned());
    say(LevelFilter::TRACE).expect("a value");
    assert_eq!(ear.messages(), ["wanted"], "nothing more");
}

#[test]
fn a_file_has_every_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let child =
        process().log_to_files(folder.path().join("of/processes")).spawn(count_to, 5_000).expect("started");
    assert!(child.join().expect("ours").success());
    let path = folder.path().join(format!("of/processes/{}-{}.log", program(), child.id()));
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(text.lines().count(), 5_000);
    assert!(text.lines().last().expect("a line").ends_with("INFO process_logs: counting n=4999"), "{text}");
    // Asked for a file and nothing else: up to INFO, as of pools.
    let speak = |_: ()| tracing::info!("one line");
    isolated_with().log_to_files(folder.path()).call(speak, ()).expect("a value");
    let files = std::fs::read_dir(folder.path()).expect("a folder").flatten();
    let files = files.filter(|entry| entry.path().extension().is_some_and(|end| end == "log"));
    assert_eq!(files.count(), 1);
    let error = process().log_to_files(path).spawn(count_to, 1).expect_err("a file is no directory");
    assert_eq!(error.kind(), ErrorKind::Usage);
    let error = process().fork(|| ()).expect_err("a copy has the subscriber itself");
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("log_level"), "{error}");
}

/// The name of this program's file.
fn program() -> String {
    let path = std::env::current_exe().expect("/proc");
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

// ---- ends ------------------------------------------------------------------------------------------------------------

fn count_and_end((n, how): (u64, String)) {
    count_to(n);
    match how.as_str() {
        "return" => {}
        "exit" => std::process::exit(3),
        "panic" => panic!("as it should"),
        "abort" => std::process::abort(),
        "kill" => signal_self(signal::KILL),
        other => unreachable!("{other}"),
    }
}

#[test]
fn nothing_is_lost_however_it_ends() {
    for how in ["return", "exit", "panic", "abort", "kill"] {
        let ear = Ear::default();
        let start = || process().name(how).spawn(count_and_end, (50, how.to_owned())).expect("started");
        let child = ear.listen(start);
        let status = child.join().expect("ours");
        assert_eq!(counted(&ear.heard()), 50, "{how}");
        assert_eq!(ear.heard().len(), 50, "{how}: so many fit");
        let Some(failure) = child.failure() else {
            assert!(how == "return" && status.success(), "{how}: {status}");
            continue;
        };
        let last: Vec<String> = (45..50).map(|n| format!("INFO process_logs: counting n={n}")).collect();
        assert_eq!(failure.last_words, last, "{how}");
        assert!(
            failure.to_string().ends_with(&format!("; its last words: {}", last.join(" | "))),
            "{failure}"
        );
    }
}

#[test]
fn killed_in_mid_flood_everything_before_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..10 {
        let ear = Ear::default();
        let child =
            ear.listen(|| process().log_to_files(folder.path()).spawn(count_to, u64::MAX).expect("started"));
        eventually("a flood", || ear.heard().len() > 20);
        child.kill().expect("signalled");
        child.join().expect("ours");
        let said = counted(&ear.heard());
        let last_word = child.failure().expect("killed").last_words.pop().expect("five");
        assert_eq!(last_word, format!("INFO process_logs: counting n={}", said - 1));
        // The file is written after the ring, so it may lack the last one; and the kernel may cut its last line.
        let file = folder.path().join(format!("{}-{}.log", program(), child.id()));
        let lines = std::fs::read(file).expect("a file").iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!(lines == said || lines == said - 1, "{lines} lines of {said}");
    }
}

#[test]
fn the_error_of_an_isolated_call_has_its_last_words() {
    let ear = Ear::default();
    let end = |how: String| {
        tracing::error!(pressure = 9, "it will break");
        match how.as_str() {
            "abort" => std::process::abort(),
            "hang" => std::thread::sleep(Duration::from_secs(1000)),
            "panic" => panic!("it did"),
            _ => std::process::exit(0),
        }
    };
    let word = "ERROR process_logs: it will break pressure=9";
    for (how, kind) in [("abort", ErrorKind::Died), ("hang", ErrorKind::Deadline), ("exit", ErrorKind::Died)]
    {
        let patience = if how == "hang" { Duration::from_secs(2) } else { patience::PATIENCE };
        let called = ear.listen(|| call().name(how).timeout(patience).call(end, how.to_owned()));
        let error = called.expect_err("no value");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().ends_with(&format!("; its last words: {word}")), "{error}");
    }
    // Who panics has said itself what went wrong.
    let error = ear.listen(|| call().call(end, "panic".to_owned())).expect_err("no value");
    assert!(error.to_string().ends_with(": it did"), "{error}");
    assert_eq!(ear.messages(), ["it will break"; 4]);
    // Nobody need listen.
    let error = call().call(end, "abort".to_owned()).expect_err("no value");
    assert!(error.to_string().ends_with(word), "{error}");
}

#[test]
fn a_managers_server_is_heard_and_has_last_words() {
    let ear = Ear::default();
    // The server's level is what the subscriber asks for: TRACE.
    let manager = ear.listen(|| Manager::builder().name("store").start().expect("a manager"));
    let object = manager.host(|n: u32| n, 5).expect("an object");
    let add = |n: &mut u32, more: u32| {
        tracing::info!("adding {more}");
        *n += more;
        if *n > 10 {
            std::process::abort();
        }
        *n
    };
    assert_eq!(object.apply(add, 2).expect("a value"), 7);
    eventually("an event of the server", || ear.messages() == ["adding 2"]);
    let error = object.apply(add, 4).expect_err("it aborts");
    assert!(error.to_string().contains("SIGABRT; its last words: INFO process_logs: adding 2 | "), "{error}");
    assert!(ear.heard().iter().all(|event| event.get("process") == "store"), "{:?}", ear.heard());
}

// ---- a template ------------------------------------------------------------------------------------------------------

fn copies(workers: usize) -> swath::PoolBuilder {
    Pool::builder().workers(workers).start_method(StartMethod::Forkserver).log_level(Level::TRACE)
}

fn load(folder: PathBuf) {
    let span = tracing::info_span!("loading");
    span.in_scope(|| count_to(3));
    let told = format!("{} {}", process::getpid(), open_logs(&folder));
    std::fs::write(folder.join("told"), told).expect("written");
}

/// How many files of logs in this folder this process has open.
fn open_logs(folder: &Path) -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let files = files.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    files.filter(|path| path.starts_with(folder)).count()
}

#[test]
fn a_hook_is_heard_and_its_copies_speak_for_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().canonicalize().expect("a path");
    let ear = Ear::default();
    let pool = ear.pool(copies(2).preload(load, path.clone()).log_to_files(path.clone()));
    let speak = |folder: PathBuf| {
        tracing::info!("a worker speaks");
        std::thread::spawn(|| tracing::info!("its thread speaks")).join().expect("no panic");
        open_logs(&folder)
    };
    for _ in 0..20 {
        assert_eq!(
            pool.apply(speak, path.clone()).expect("a value"),
            1,
            "its own file, and not the template's"
        );
    }
    let pids = pool.pids();
    drop(pool);
    let told = std::fs::read_to_string(path.join("told")).expect("the hook ran");
    let (template, open) = told.split_once(' ').expect("two numbers");
    assert_eq!(open, "1");
    let (of_hook, of_workers): (Vec<_>, Vec<_>) =
        ear.heard().into_iter().partition(|event| !event.get("process").is_empty());
    assert_eq!(counted(&of_hook), 3, "once: {of_hook:?}");
    for event in &of_hook {
        let said = (event.get("process"), event.get("pid"), event.get("spans"), event.get("worker"));
        assert_eq!(said, ("swath-template", template, "loading", ""));
    }
    assert_eq!(of_workers.len(), 40);
    for event in &of_workers {
        assert!(pids.contains(&(event.number("pid") as u32)) && event.number("worker") < 2, "{event:?}");
        assert!(event.number("task") > 0 && event.get("spans").is_empty(), "{event:?}");
    }
    let lines = |pid: &str| {
        let file = path.join(format!("{}-{pid}.log", program()));
        std::fs::read_to_string(file).expect("a file").lines().count()
    };
    assert_eq!(lines(template), 3);
    assert_eq!(pids.iter().map(|pid| lines(&pid.to_string())).sum::<usize>(), 40);
}

#[test]
fn a_template_that_dies_in_its_hook_has_last_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let die = |_: PathBuf| {
        count_to(2);
        std::process::abort();
    };
    let ear = Ear::default();
    let build = || copies(2).preload::<_, ()>(die, folder.path().to_owned()).build();
    let error = ear.listen(build).err().expect("it aborts");
    assert_eq!(error.kind(), ErrorKind::Initializer);
    let words = "SIGABRT; its last words: INFO process_logs: counting n=0 | INFO process_logs: counting n=1";
    assert!(error.to_string().ends_with(words), "{error}");
    assert_eq!(counted(&ear.heard()), 2);
    // Who says itself what went wrong is not asked for more.
    let fail = |_: ()| -> Result<(), String> {
        tracing::info!("trying");
        Err("no model".to_owned())
    };
    let error = copies(1).try_preload(fail, ()).build().err().expect("it fails");
    assert!(error.to_string().ends_with("no model"), "{error}");
}

// ---- who listens -----------------------------------------------------------------------------------------------------

/// A subscriber that does not come back until it may.
struct Stuck(std::sync::Arc<std::sync::Mutex<u32>>);

impl Subscriber for Stuck {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("process_logs") || metadata.target().starts_with("swath::log")
    }

    fn event(&self, _: &Event<'_>) {
        *self.0.lock().expect("no panic") += 1;
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// One thread shows what all processes say: these subscribers are in processes of their own, so that other tests' are heard.
#[test]
fn a_subscriber_that_does_not_come_back_keeps_nobody_waiting_for_ever() {
    swath::isolated(be_stuck, ()).expect("it comes to its end");
}

fn be_stuck(_: ()) {
    let gate = std::sync::Arc::new(std::sync::Mutex::new(0));
    let dispatch = Dispatch::new(Stuck(gate.clone()));
    let held = gate.lock().expect("no panic");
    for n in 0..3 {
        let called = dispatcher::with_default(&dispatch, || call().call(|n: u64| (count_to(20), n).1, n));
        assert_eq!(called.expect("a value, though nobody hears it"), n);
        assert_eq!(*held, 0, "nothing was heard so far");
    }
    drop(held);
    eventually("what was said meanwhile", || *gate.lock().expect("no panic") == 60);
}

#[test]
fn a_slow_subscriber_loses_the_oldest_and_is_told() {
    swath::isolated(be_slow, ()).expect("it comes to its end");
}

fn be_slow(_: ()) {
    let ear = Ear::default();
    ear.0.pause_ms.store(5, Ordering::Relaxed);
    ear.listen(|| call().call(count_to, 20_000)).expect("a value");
    ear.0.pause_ms.store(0, Ordering::Relaxed);
    eventually("the rest", || counted(&ear.heard()) == 20_000);
    assert!(ear.heard().iter().any(|event| event.dropped().is_some()));
}

// ---- two levels ------------------------------------------------------------------------------------------------------

/// A process that starts a process, and a pool; what it starts it does not join.
fn parent(grandchild_ends_first: bool) {
    tracing::info!("the child speaks");
    let pool = Pool::builder().workers(1).build().expect("a pool");
    let speak = |_: ()| {
        let span = tracing::info_span!("outer", n = 2);
        span.in_scope(|| tracing::warn!(target: "deep", n = 1, "a worker speaks"));
    };
    pool.apply(speak, ()).expect("a value");
    drop(pool);
    swath::isolated(|_: ()| tracing::info!("a call speaks"), ()).expect("a value");
    let grandchild = Process::builder().name("grandchild").spawn(count_to, 30).expect("started");
    while grandchild_ends_first && grandchild.is_alive() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_said_two_levels_down_comes_up() {
    for grandchild_ends_first in [false, true] {
        let ear = Ear::default();
        let child =
            ear.listen(|| process().name("child").spawn(parent, grandchild_ends_first).expect("started"));
        assert!(child.join().expect("ours").success());
        let heard = ear.heard();
        assert!(heard.iter().all(|event| event.get("process") == "child"), "{heard:?}");
        assert!(heard.iter().all(|event| event.number("pid") == u64::from(child.id())), "{heard:?}");
        let find =
            |said: &str| heard.iter().find(|event| event.get("message") == said).expect("it came").clone();
        let (worker, grandchild) = (find("a worker speaks"), find("counting"));
        // As it was said down there, with who said it behind it.
        assert_eq!(
            (worker.get("target"), worker.get("level"), worker.get("spans")),
            ("deep", "WARN", "outer{n=2}")
        );
        assert!(worker.get("file").ends_with("tests/process_logs.rs") && worker.number("line") > 50);
        assert!(
            worker.get("fields").starts_with("n=1 worker=0 pid=") && worker.get("fields").contains(" task="),
            "{worker:?}"
        );
        assert!(grandchild.get("fields").starts_with("n=0 process=\"grandchild\" pid="), "{grandchild:?}");
        // The engine speaks too.
        let mut said = ear.messages();
        said.retain(|said| said.ends_with(" speaks") || said == "counting");
        let counted = said.split_off(3);
        assert_eq!(said, ["the child speaks", "a worker speaks", "a call speaks"]);
        assert_eq!(counted, vec!["counting"; 30], "all of it, though nobody joined who said it");
    }
}

// ---- what is left ----------------------------------------------------------------------------------------------------

/// Mappings and descriptors of logs.
fn held() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let maps = maps.lines().filter(|line| line.contains("memfd:swath-log")).count();
    let files = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let files = files.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    maps + files.filter(|name| name.to_string_lossy().contains("memfd:swath-log")).count()
}

#[test]
fn nothing_is_left_behind() {
    // In a process of its own: other tests' processes come and go here.
    let count = |_: ()| {
        let own = held();
        for _ in 0..20 {
            swath::isolated(count_to, 10).expect("a value");
            Process::builder()
                .stdout(Output::Lines)
                .spawn(count_to, 10)
                .expect("started")
                .join()
                .expect("ours");
        }
        (own, held())
    };
    let (before, after) = swath::isolated(count, ()).expect("a value");
    assert_eq!((before, after), (1, 1), "its own ring, and no descriptor for it");
    // Programs that processes start do not get the bell, nor the ring.
    let list = |_: ()| {
        let output = std::process::Command::new("ls").arg("/proc/self/fd").output().expect("ls");
        String::from_utf8(output.stdout).expect("numbers").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // The last is the directory that is being read.
    assert_eq!(swath::isolated(list, ()).expect("a value"), "0 1 2 3");
}
