//! Workers that are copies of a template: what its hook has loaded they have, and all that holds for spawned workers holds for them.

mod stage;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::Duration;

use stage::{Actor, eventually, signal_pid};
use swath::prelude::*;
use swath::process::Limits;
use swath::{PoolBuilder, StartMethod, What};
use swath_platform::{process, signal};

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let tests: &[stage::Test] = stage::cast![
        the_hook_runs_once_for_all_workers_and_their_successors,
        a_killed_template_is_replaced_and_the_pool_heals,
        templates_and_workers_die_all_the_time,
        a_template_that_is_stopped_is_replaced,
        a_worker_on_order_learns_of_the_first_task,
        endings_are_exact,
        the_c_library_knows_its_thread,
        a_copy_has_the_descriptors_of_a_spawned_worker,
        faults_of_the_hook_are_told,
        spawned_workers_and_inline_pools_run_the_hook_too,
        limits_and_shares_are_kept,
        the_environment_decides,
        what_pools_do_not_have_is_refused,
        a_killed_coordinator_leaves_nothing,
        a_killed_coordinator_without_guardian_leaves_nothing,
        killed_while_the_hook_runs,
    ];
    stage::main(tests, stage::cast![coordinator, by_environment])
}

// ---- a hook ----------------------------------------------------------------------------------------------------------

static MODEL: OnceLock<Vec<u64>> = OnceLock::new();

/// Says in a file that it ran, and loads what `weight` looks at.
fn load(log: PathBuf) {
    let mut log = OpenOptions::new().create(true).append(true).open(log).expect("a file");
    // By one write: two workers may do it at once.
    log.write_all(format!("{}\n", process::getpid()).as_bytes()).expect("written");
    MODEL.get_or_init(|| (0..100_000).map(|n| n * 3).collect());
}

fn weight(at: usize) -> (u64, u32) {
    (MODEL.get().expect("preloaded")[at], process::getpid())
}

/// The processes in which the hook ran.
fn runs(log: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(log).expect("the hook ran");
    text.lines().map(|line| line.parse().expect("a pid")).collect()
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir().expect("a directory"))
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }
}

fn copies(workers: usize) -> PoolBuilder {
    Pool::builder().workers(workers).start_method(StartMethod::Forkserver)
}

/// Children of this process that are called `name`.
fn children(name: &str) -> BTreeSet<u32> {
    let is_ours = |pid: &u32| {
        process::stat(*pid).is_ok_and(|stat| stat.parent == process::getpid() && stat.state != 'Z')
            && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    process::all_pids().expect("/proc").into_iter().filter(is_ours).collect()
}

/// Children of this process that nobody has reaped.
fn zombies() -> Vec<u32> {
    let is_one = |pid: &u32| {
        process::stat(*pid).is_ok_and(|stat| stat.parent == process::getpid() && stat.state == 'Z')
    };
    process::all_pids().expect("/proc").into_iter().filter(is_one).collect()
}

fn template() -> u32 {
    let mut found = 0;
    let one = || {
        let templates = children("swath-template");
        found = templates.first().copied().unwrap_or(0);
        templates.len() == 1
    };
    assert!(eventually(PATIENCE, one), "one template: {:?}", children("swath-template"));
    found
}

/// Until `workers` are there that were not among `before`.
fn heals(pool: &Pool, workers: usize, before: &[u32]) {
    let healed = || {
        let now = pool.pids();
        now.len() == workers && !now.iter().any(|pid| before.contains(pid))
    };
    assert!(eventually(PATIENCE, healed), "{:?} after {before:?}", pool.pids());
}

/// Every item is computed by a worker that has the model.
fn works(pool: &Pool) -> BTreeSet<u32> {
    let answers: Vec<_> = (0..300).map(|at| pool.submit(weight, at).expect("taken")).collect();
    let answers = answers.iter().enumerate().map(|(at, task)| {
        let (weight, pid) = task.result().expect("a value");
        assert_eq!(weight, at as u64 * 3);
        pid
    });
    answers.collect()
}

// ---- tests -----------------------------------------------------------------------------------------------------------

fn the_hook_runs_once_for_all_workers_and_their_successors() {
    let scratch = Scratch::new();
    let pool = copies(3).max_workers(4).preload(load, scratch.log()).build().expect("a pool");
    for _ in 0..3 {
        works(&pool);
        let before = pool.pids();
        for pid in &before {
            assert_eq!(
                process::stat(*pid).expect("a worker").parent,
                process::getpid(),
                "its parent is the coordinator"
            );
            assert_eq!(process::stat(*pid).expect("a worker").group, *pid, "it leads a group");
            signal_pid(*pid, signal::KILL);
        }
        heals(&pool, 3, &before);
    }
    pool.resize(4).expect("room");
    assert_eq!(works(&pool).difference(&pool.pids().into_iter().collect()).count(), 0);
    assert_eq!(runs(&scratch.log()), [template()]);
}

fn a_killed_template_is_replaced_and_the_pool_heals() {
    let scratch = Scratch::new();
    let pool = copies(2).preload(load, scratch.log()).build().expect("a pool");
    let (workers, first) = (pool.pids(), template());
    signal_pid(first, signal::KILL);
    assert!(eventually(PATIENCE, || runs(&scratch.log()).len() == 2), "the hook runs again");
    assert_ne!(template(), first);
    works(&pool);
    assert_eq!(pool.pids(), workers, "workers do not notice");
    workers.iter().for_each(|pid| signal_pid(*pid, signal::KILL));
    heals(&pool, 2, &workers);
    works(&pool);
    assert_eq!(runs(&scratch.log()), [first, template()]);
}

/// Neither loses a worker, nor makes one that nobody knows of.
fn templates_and_workers_die_all_the_time() {
    let scratch = Scratch::new();
    let pool = copies(2).preload(load, scratch.log()).build().expect("a pool");
    let rounds = if stage::is_full() { 1000 } else { 60 };
    let mut random = 1_u64;
    for _ in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pool.pids().iter().for_each(|pid| signal_pid(*pid, signal::KILL));
        std::thread::sleep(Duration::from_micros(random >> 33 & 0xfff));
        children("swath-template").iter().for_each(|pid| signal_pid(*pid, signal::KILL));
    }
    assert!(runs(&scratch.log()).len() > rounds / 10, "templates were killed");
    heals(&pool, 2, &[]);
    works(&pool);
    // One that nobody knows of would wait for ever, or stay a zombie: it would be seen at every look.
    let known = || pool.pids().into_iter().collect::<BTreeSet<u32>>();
    let all_known = || children("swath-worker") == known() && zombies().is_empty();
    assert!(
        eventually(PATIENCE, all_known),
        "{:?}, known {:?}, dead {:?}",
        children("swath-worker"),
        known(),
        zombies()
    );
}

fn a_template_that_is_stopped_is_replaced() {
    let pool = copies(1).build().expect("a pool");
    let (worker, stopped) = (pool.pids(), template());
    signal_pid(stopped, signal::STOP);
    assert!(eventually(PATIENCE, || process::state_char(stopped) == Some('T')));
    signal_pid(worker[0], signal::KILL);
    heals(&pool, 1, &worker);
    assert_ne!(template(), stopped);
    assert_eq!(pool.apply(|n: u64| n + 1, 1).expect("a value"), 2);
}

/// What looks after tasks is set up while the template has an order in hand.
fn a_worker_on_order_learns_of_the_first_task() {
    let pool = copies(1).build().expect("a pool");
    let (worker, template) = (pool.pids(), template());
    signal_pid(template, signal::STOP);
    assert!(eventually(PATIENCE, || process::state_char(template) == Some('T')));
    signal_pid(worker[0], signal::KILL);
    assert!(eventually(PATIENCE, || pool.pids().is_empty()));
    let task = pool.submit(|n: u64| n + 1, 1).expect("taken");
    signal_pid(template, signal::CONT);
    assert_eq!(task.result().expect("a value"), 2);
    assert_eq!(pool.stats().started, 2, "by the worker that was on order");
}

#[inline(never)]
fn strike_here(n: u64) -> u64 {
    // SAFETY: not at all: nothing is mapped there, and that is what is wanted.
    unsafe { std::ptr::with_exposed_provenance_mut::<u64>(std::hint::black_box(8)).write_volatile(n) };
    n
}

fn endings_are_exact() {
    let pool = copies(1).build().expect("a pool");
    let end = |how: fn(u64) -> u64| {
        let error = pool.apply(how, 1).expect_err("it ends its worker");
        let cause = error.causes().first().expect("a cause");
        (cause.what.clone(), cause.to_string())
    };
    let killed = |signal| What::Killed { signal, likely_out_of_memory: false };
    assert_eq!(end(|_| std::process::abort()).0, killed(signal::ABRT));
    assert_eq!(end(|_| std::process::exit(7)).0, What::Exited { code: 7 });
    assert_eq!(end(|_| std::process::exit(0)).0, What::Exited { code: 0 });
    let (what, text) = end(strike_here);
    assert_eq!(what, killed(signal::SEGV));
    assert!(text.contains("strike_here") && text.contains("address 0x8"), "{text}");
    let kill_self = |_| {
        signal_pid(process::getpid(), signal::KILL);
        std::thread::sleep(PATIENCE);
        0
    };
    assert_eq!(end(kill_self).0, killed(signal::KILL));
}

/// What a process's thread is to the C library and to Rust; an empty text, or what is wrong.
fn look_at_the_thread(_: u64) -> String {
    let id = std::thread::current().id();
    if process::gettid() != process::getpid() || std::thread::current().id() != id {
        return "not the process's first thread".to_owned();
    }
    // SAFETY: a mutex of our own, set up before it is used, and destroyed after; the robust list is only asked for.
    unsafe {
        if libc::raise(0) != 0 || libc::pthread_kill(libc::pthread_self(), 0) != 0 {
            return "no signal reaches it".to_owned();
        }
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        let mut mutex: libc::pthread_mutex_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_settype(&mut attributes, libc::PTHREAD_MUTEX_ERRORCHECK);
        libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutex_init(&mut mutex, &attributes);
        let locked = [libc::pthread_mutex_lock(&mut mutex), libc::pthread_mutex_lock(&mut mutex)];
        // The kind's bits and the owner follow the lock word in glibc; the lock word is the owner's thread id.
        let owner = (&raw const mutex).cast::<u32>().read_volatile();
        let unlocked = [libc::pthread_mutex_unlock(&mut mutex), libc::pthread_mutex_unlock(&mut mutex)];
        libc::pthread_mutex_destroy(&mut mutex);
        if (locked, unlocked) != ([0, libc::EDEADLK], [0, libc::EPERM]) {
            return format!("a mutex says {locked:?} and {unlocked:?}");
        }
        if owner & 0x3fff_ffff != process::gettid() {
            return format!("the C library takes {} for {owner}", process::gettid());
        }
        let (mut head, mut length) = (std::ptr::null::<u8>(), 0_usize);
        let asked = libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length);
        if asked != 0 || head.is_null() || length != 24 {
            return format!("its robust list: {asked}, {head:?}, {length}");
        }
    }
    let sum = std::thread::spawn(|| (1..=10).sum::<u64>()).join().expect("a thread");
    let said = Command::new("sh").args(["-c", "echo $PPID"]).output().expect("a program");
    let parent = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    if sum != 55 || !said.status.success() || parent != process::getpid().to_string() {
        return format!("a thread says {sum}, a program says that its parent is {parent}");
    }
    String::new()
}

fn the_c_library_knows_its_thread() {
    // The life word takes the place of the C library's robust list in workers with one thread.
    for threads in [1, 2] {
        let pool = copies(2).threads_per_worker(threads).build().expect("a pool");
        for n in 0..20 {
            assert_eq!(pool.apply(look_at_the_thread, n).expect("a value"), "");
        }
    }
}

/// What this process's descriptors are, without the numbers of files, and without the session's name.
fn descriptors(_: u64) -> Vec<String> {
    let entries: Vec<PathBuf> =
        std::fs::read_dir("/proc/self/fd").expect("/proc").flatten().map(|e| e.path()).collect();
    let targets = entries.iter().filter_map(|path| std::fs::read_link(path).ok());
    let kind = |target: PathBuf| {
        let text = target.display().to_string().replace(|c: char| c.is_ascii_digit(), "");
        if text.starts_with("/dev/shm/swath-") { "the control segment".to_owned() } else { text }
    };
    let mut kinds: Vec<String> = targets.map(kind).collect();
    kinds.sort();
    kinds
}

fn a_copy_has_the_descriptors_of_a_spawned_worker() {
    let of = |method| {
        let pool = Pool::builder().workers(3).start_method(method).build().expect("a pool");
        let before = pool.pids();
        before.iter().for_each(|pid| signal_pid(*pid, signal::KILL));
        heals(&pool, 3, &before);
        let found: BTreeSet<Vec<String>> =
            (0..50).map(|n| pool.apply(descriptors, n).expect("a value")).collect();
        assert_eq!(found.len(), 1, "all workers have the same: {found:#?}");
        found
    };
    let (spawned, copied) = (of(StartMethod::Spawn), of(StartMethod::Forkserver));
    assert_eq!(spawned, copied);
}

fn faults_of_the_hook_are_told() {
    let told = |builder: PoolBuilder| {
        let error = builder.build().map(drop).expect_err("the hook fails");
        assert_eq!(error.kind(), ErrorKind::Initializer, "{error}");
        error.to_string()
    };
    let has = |text: &str, parts: &[&str]| assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    has(
        &told(copies(2).preload(|()| -> () { panic!("no model here") }, ())),
        &["preload hook", "no model here", "forkserver.rs:"],
    );
    let reads = |path: String| std::fs::read(path).map(drop);
    has(&told(copies(2).try_preload(reads, "/no/such/model".to_owned())), &["No such file"]);
    has(&told(copies(2).preload(|()| -> () { std::process::exit(9) }, ())), &["9"]);
    has(&told(copies(2).preload(|()| -> () { std::process::abort() }, ())), &["SIGABRT"]);
    let hangs =
        copies(2).preload(|()| std::thread::sleep(PATIENCE), ()).preload_timeout(Duration::from_millis(200));
    has(&told(hangs), &["200ms"]);
    let leaves = |threads: usize| {
        for n in 0..threads {
            let name = std::thread::Builder::new().name(format!("left-{n}"));
            name.spawn(|| std::thread::sleep(PATIENCE)).expect("a thread");
        }
    };
    has(&told(copies(2).preload(leaves, 3)), &["3 threads", "left-0, left-1, left-2", "StartMethod::Spawn"]);
    let joins = |()| (0..20).for_each(|_| std::thread::spawn(|| ()).join().expect("a thread"));
    let pool = copies(2).preload(joins, ()).build().expect("threads that have ended do not matter");
    assert_eq!(pool.apply(look_at_the_thread, 0).expect("a value"), "");
}

fn spawned_workers_and_inline_pools_run_the_hook_too() {
    let scratch = Scratch::new();
    let pool = Pool::builder().workers(2).preload(load, scratch.log()).build().expect("a pool");
    works(&pool);
    let (ran, there) = (runs(&scratch.log()), pool.pids());
    assert_eq!(ran.into_iter().collect::<BTreeSet<_>>(), there.into_iter().collect());
    drop(pool);
    let scratch = Scratch::new();
    let pool =
        Pool::builder().inline().start_method(StartMethod::Forkserver).preload(load, scratch.log()).build();
    works(&pool.expect("a pool"));
    assert_eq!(runs(&scratch.log()), [process::getpid()]);
}

fn limits_and_shares_are_kept() {
    let limits = Limits::new().open_files(50);
    let pool = copies(1).limits(limits).max_tasks_per_worker(3).shared(&7_u64).build().expect("a pool");
    let look = |_: u64| (process::raise_open_files(), *swath::worker_shared::<u64>(), process::getpid());
    let found: Vec<_> = (0..9).map(|n| pool.apply(look, n).expect("a value")).collect();
    assert!(found.iter().all(|(files, shared, _)| (*files, *shared) == (50, 7)), "{found:?}");
    assert_eq!(found.iter().map(|(_, _, pid)| pid).collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(pool.stats().died, 0);
}

fn by_environment(_: &[String]) {
    let asked = std::env::var("ASKED").is_ok_and(|asked| asked == "forkserver");
    let method = if asked { StartMethod::Forkserver } else { StartMethod::Spawn };
    match Pool::builder().workers(1).start_method(method).build() {
        Ok(_pool) => println!("templates {}", children("swath-template").len()),
        Err(error) => println!("error {error}"),
    }
}

fn the_environment_decides() {
    let role = |asked: &str, said: &str| {
        let mut actor = Actor::play_with("by_environment", &[], |command| {
            command.env("ASKED", asked).env("SWATH_START_METHOD", said);
        });
        let line = actor.next_line().expect("a line");
        actor.finish();
        actor.assert_gone();
        line
    };
    assert_eq!(role("spawn", ""), "templates 0");
    assert_eq!(role("spawn", "forkserver"), "templates 1");
    assert_eq!(role("forkserver", ""), "templates 1");
    assert_eq!(role("forkserver", "spawn"), "templates 0");
    let error = role("spawn", "fork");
    assert!(
        error.contains("SWATH_START_METHOD is `fork`") && error.contains("`spawn` or `forkserver`"),
        "{error}"
    );
}

fn what_pools_do_not_have_is_refused() {
    assert!(swath::start_methods().contains(&StartMethod::Forkserver), "{:?}", swath::start_methods());
    let refused = |error: swath::Error, part: &str| {
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(part), "{error}");
    };
    let pool = Pool::builder().workers(1).start_method(StartMethod::Fork).build().map(drop);
    refused(pool.expect_err("refused"), "StartMethod::Fork is for processes");
    let process = Process::builder().start_method(StartMethod::Forkserver).spawn(|()| (), ()).map(drop);
    refused(process.expect_err("refused"), "StartMethod::Forkserver is for pools");
}

// ---- deaths of the coordinator ---------------------------------------------------------------------------------------

/// Has a pool until it is killed; or a hook that does not end.
fn coordinator(args: &[String]) {
    let sleeps = args.first().is_some_and(|arg| arg == "hook");
    let hook = |sleeps: bool| {
        println!("loading");
        if sleeps {
            std::thread::sleep(PATIENCE);
        }
    };
    let pool = copies(2).preload(hook, sleeps).build().expect("a pool");
    println!("ready");
    pool.apply(|_: u64| std::thread::sleep(PATIENCE), 0).expect("killed before");
}

fn with_template(args: &[&str]) -> Actor {
    let mut actor = Actor::play("coordinator", args);
    actor.told("loading");
    // A copy bears the template's name until it has given itself its own.
    let one = || actor.processes_called("swath-template").len() == 1;
    assert!(eventually(PATIENCE, one), "{:?}", actor.processes());
    actor
}

fn a_killed_coordinator_leaves_nothing() {
    let mut actor = with_template(&[]);
    actor.told("ready");
    assert_eq!(actor.processes_called("swath-worker").len(), 2);
    actor.kill();
    actor.assert_gone();
}

fn a_killed_coordinator_without_guardian_leaves_nothing() {
    let mut actor = with_template(&[]);
    actor.told("ready");
    actor.signal(signal::STOP);
    let guardians = actor.processes_called("swath-guardian");
    guardians.iter().for_each(|pid| signal_pid(*pid, signal::KILL));
    actor.kill();
    actor.assert_no_processes();
    swath::admin::clean(false).expect("a clean");
    actor.assert_gone();
}

fn killed_while_the_hook_runs() {
    let mut actor = with_template(&["hook"]);
    actor.kill();
    actor.assert_gone();
}
