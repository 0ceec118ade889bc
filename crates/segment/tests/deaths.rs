//! Who dies where, and who tidies up: `README.md`, "dies here → repaired there".

mod stage;
mod tracer;

use std::ffi::CString;
use std::process::ExitCode;
use std::time::Duration;

use stage::{Actor, PROMISE, eventually, exists, kill_pid, shm_names};
use swath_platform::process;
use swath_segment::{
    Attachments, CONTROL_FD, Kind, Membership, Segment, Service, Session, SpawnSelf, WORKER_ARGV0, admin,
    set_initialised, shm_path,
};

const KILLS_AT_WORK: u64 = 60;

fn main() -> ExitCode {
    let tests: &[stage::Test] = &[
        ("session_ends_with_its_last_segment", session_ends_with_its_last_segment),
        ("coordinator_killed_leaves_nothing", coordinator_killed_leaves_nothing),
        ("coordinator_killed_at_work_under_load_leaves_nothing", killed_at_work_under_load),
        ("coordinator_killed_takes_workers_and_their_children_along", workers_and_their_children_go),
        ("a_lock_file_removed_by_hand_does_not_keep_the_names", without_lock_file),
        ("guardian_killed_is_replaced", guardian_killed_is_replaced),
        ("both_killed_names_are_reclaimed_by_clean", both_killed_then_clean),
        ("both_killed_names_are_reclaimed_by_the_next_session", both_killed_then_next_session),
        ("without_init_clean_finds_the_names", without_init_then_clean),
        ("exec_of_the_coordinator_ends_the_session", exec_ends_the_session),
        ("a_forked_child_neither_uses_nor_ends_the_session", forked_child),
        ("clean_spares_the_living_and_strangers", clean_spares),
        ("sessions_of_another_layout_are_told_apart", other_layouts),
        ("a_lying_table_removes_nothing_of_others", lying_table),
        ("sessions_begin_and_end_in_many_threads", churn_of_threads),
        ("killed_at_every_system_call_leaves_nothing", tracer::killed_at_every_system_call),
    ];
    let scenarios: &[stage::Scenario] = &[
        ("hold", hold),
        ("workers", with_workers),
        ("twice", twice),
        ("exec", exec),
        ("fork", fork),
        ("churn", churn),
        ("makers", makers),
        ("traced", tracer::traced),
    ];
    stage::main(tests, scenarios, worker)
}

// Scenarios: what the children do.

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

struct Props {
    session: std::sync::Arc<Session>,
    _segments: Vec<Segment>,
}

/// One segment of each kind; prints the session id, the guardian's pid and the names.
fn props(name: &str) -> Props {
    let session = Session::current().unwrap();
    let segments = vec![
        Segment::options().name(name).create(10_000).unwrap(),
        Segment::options().create(1 << 20).unwrap(),
        Segment::options().unnamed("scratch").kind(Kind::Engine).create(5000).unwrap(),
    ];
    println!("{}", session.id());
    println!("{}", session.control().header().guardian_pid);
    println!("{} {}", segments[0].name().unwrap(), segments[1].name().unwrap());
    Props { session, _segments: segments }
}

/// `hold NAME init|bare`
fn hold(args: &[String]) {
    if args[1] == "init" {
        set_initialised();
    }
    let _props = props(&args[0]);
    park();
}

fn with_workers(args: &[String]) {
    set_initialised();
    let props = props(&args[0]);
    let session = &props.session;
    for _ in 0..2 {
        let slot = session.slots().reserve().unwrap();
        let text = |text: &str| CString::new(text).unwrap();
        let spec = SpawnSelf {
            argv: vec![
                text(WORKER_ARGV0),
                text(&CONTROL_FD.to_string()),
                text(&slot.index.to_string()),
                text(&slot.generation.to_string()),
            ],
            env: None,
            fds: vec![(session.worker_control_fd(), CONTROL_FD)],
            new_group: true,
        };
        let child = Service::global().call(|reactor| reactor.spawn(&spec)).unwrap();
        let ticks = process::start_ticks(child.pid).unwrap();
        // SAFETY: it was started for this slot.
        unsafe { session.slots().started(slot, child.pid, ticks, swath_sync::Witness::Service) };
        println!("{}", child.pid);
    }
    park();
}

/// A worker without PDEATHSIG, with a child of its own that knows nothing of us.
fn worker(membership: Membership) {
    process::set_comm(WORKER_ARGV0);
    // SAFETY: this thread takes no locks.
    assert!(unsafe { membership.control.slots().enter_watched(membership.slot) });
    let _attachments = Attachments::new(membership.control, membership.slot);
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    println!("{}", child.id());
    child.wait().unwrap();
    park();
}

fn twice(_: &[String]) {
    set_initialised();
    for round in 0..3 {
        let props = props(&format!("twice-{}", std::process::id()));
        assert!(props.session.is_guarded());
        let slot = props.session.slot();
        let id = props.session.id().to_owned();
        drop(props);
        assert!(!shm_names().iter().any(|name| name.contains(&id)), "round {round}: {:?}", shm_names());
        assert_eq!((slot.index, slot.generation), (0, round + 1));
    }
    println!("done {}", stage::open_files());
}

fn exec(args: &[String]) {
    use std::os::unix::process::CommandExt;
    set_initialised();
    let _props = props(&args[0]);
    stage::await_go();
    let error = std::process::Command::new("sleep").arg("20").exec();
    panic!("{error}");
}

fn fork(args: &[String]) {
    let props = props(&args[0]);
    stage::await_go();
    // SAFETY: the child calls functions that take locks, which is sound here: no other thread of this process holds one
    // (the service thread sleeps in poll).
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = matches!(Session::current(), Err(swath_segment::Error::Forked { .. }));
        drop(props);
        std::process::exit(if refused { 7 } else { 8 });
    }
    let mut status = 0;
    // SAFETY: `status` is a live local.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    println!("{} {}", libc::WEXITSTATUS(status), shm_path(&args[0]).exists());
}

/// The first segment begins a session and the last ends it, again and again, in eight threads at a time.
fn churn(_: &[String]) {
    set_initialised();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for round in 0..30 {
                    let segment =
                        Segment::options().name(unique(&format!("churn-{thread}-{round}"))).create(100);
                    let segment = segment.unwrap();
                    assert!(shm_path(segment.name().unwrap()).exists());
                    assert!(segment.session().control().is_live(segment.id()));
                }
            });
        }
    });
    println!("done");
}

/// Four threads that make and drop segments for ever, and as many that only burn time.
fn makers(_: &[String]) {
    set_initialised();
    let session = Session::current().unwrap();
    assert!(session.is_guarded());
    let make = || loop {
        drop(Segment::options().create(100_000).unwrap());
    };
    for _ in 0..4 {
        std::thread::spawn(make);
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    println!("{}", session.id());
    println!("{}", session.control().header().guardian_pid);
    park();
}

// Tests.

struct Played {
    actor: Actor,
    id: String,
    guardian: u32,
    names: Vec<String>,
}

fn play(scenario: &str, args: &[&str]) -> Played {
    let mut actor = Actor::play(scenario, args);
    let id = actor.line();
    let guardian = actor.line().parse().unwrap();
    let names = actor.line().split(' ').map(str::to_owned).collect();
    let played = Played { actor, id, guardian, names };
    assert!(played.names.iter().all(|name| shm_path(name).exists()));
    played
}

fn unique(label: &str) -> String {
    format!("test-{label}-{}", std::process::id())
}

fn is_gone(id: &str, names: &[String]) -> bool {
    let present = shm_names();
    !names.iter().any(|name| present.contains(name)) && !present.iter().any(|name| name.contains(id))
}

fn session_ends_with_its_last_segment() {
    let (status, text) = Actor::play("twice", &[]).finish();
    assert!(status.success() && text.contains("done"), "{status} {text}");
}

fn coordinator_killed_leaves_nothing() {
    let Played { actor, id, guardian, names } = play("hold", &[&unique("hold"), "init"]);
    assert!(exists(guardian) && exists(actor.pid()));
    let info = admin::list().unwrap().into_iter().find(|session| session.id == id).unwrap();
    assert!(info.alive && info.owner_pid == actor.pid() && info.guardian_pid == guardian);
    actor.kill();
    assert!(eventually(PROMISE, || is_gone(&id, &names)), "{:?}", shm_names());
    assert!(eventually(PROMISE, || !exists(guardian)));
}

fn workers_and_their_children_go() {
    let Played { mut actor, id, guardian, names } = play("workers", &[&unique("workers")]);
    let mut pids: Vec<u32> = (0..4).map(|_| actor.line().parse().unwrap()).collect();
    pids.push(guardian);
    assert!(pids.iter().all(|&pid| exists(pid)), "{pids:?}");
    actor.kill();
    assert!(eventually(PROMISE, || is_gone(&id, &names)), "{:?}", shm_names());
    assert!(eventually(PROMISE, || !pids.iter().any(|&pid| exists(pid))), "{pids:?}");
}

/// All threads of a killed process do not stop at the same instant: one may still be in the system call that makes a
/// name when the guardian has learnt of the death.
fn killed_at_work_under_load() {
    for round in 0..KILLS_AT_WORK {
        let mut actor = Actor::play("makers", &[]);
        let id = actor.line();
        let guardian = actor.line().parse().unwrap();
        std::thread::sleep(Duration::from_micros(1000 + round * 137));
        actor.kill();
        let left = || shm_names().into_iter().filter(|name| name.contains(&id)).collect::<Vec<_>>();
        assert!(eventually(PROMISE, || left().is_empty()), "round {round}: {:?}", left());
        assert!(eventually(PROMISE, || !exists(guardian)), "round {round}: the guardian stays");
        assert!(left().is_empty(), "round {round}, after the guardian: {:?}", left());
    }
}

fn without_lock_file() {
    let Played { actor, id, guardian, names } = play("hold", &[&unique("handless"), "init"]);
    let lock = shm_names().into_iter().find(|name| name.contains(&id) && name.ends_with(".lock")).unwrap();
    std::fs::remove_file(shm_path(&lock)).unwrap();
    admin::clean(false).unwrap();
    assert!(names.iter().all(|name| shm_path(name).exists()), "a living session looks just like that");
    actor.kill();
    assert!(eventually(PROMISE, || is_gone(&id, &names) && !exists(guardian)), "{:?}", shm_names());
}

fn guardian_of(id: &str) -> u32 {
    let sessions = admin::list().unwrap();
    sessions.iter().find(|session| session.id == id).map_or(0, |session| session.guardian_pid)
}

fn guardian_killed_is_replaced() {
    let Played { actor, id, mut guardian, names } = play("hold", &[&unique("replace"), "init"]);
    for _ in 0..3 {
        kill_pid(guardian);
        let old = guardian;
        assert!(eventually(PROMISE, || {
            guardian = guardian_of(&id);
            guardian != 0 && guardian != old
        }));
        assert!(exists(guardian) && !exists(old) && !is_gone(&id, &names));
    }
    actor.kill();
    assert!(eventually(PROMISE, || is_gone(&id, &names) && !exists(guardian)));
}

/// Stops the coordinator first, so that it cannot replace the guardian.
fn kill_both(played: Played) -> (String, Vec<String>) {
    let Played { actor, id, guardian, names } = played;
    actor.signal(libc::SIGSTOP);
    kill_pid(guardian);
    actor.kill();
    assert!(eventually(PROMISE, || !exists(guardian)));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!is_gone(&id, &names), "nobody was left to remove the names");
    let info = admin::list().unwrap().into_iter().find(|session| session.id == id).unwrap();
    assert!(!info.alive && info.segments.len() == 3, "{info:?}");
    (id, names)
}

fn both_killed_then_clean() {
    let (id, names) = kill_both(play("hold", &[&unique("both"), "init"]));
    let mine = |report: admin::CleanReport| report.cleaned.into_iter().find(|cleaned| cleaned.id == id);
    let would = mine(admin::clean(true).unwrap()).unwrap();
    assert_eq!(would.names.len(), 3, "{would:?}");
    assert!(!is_gone(&id, &names), "a dry run removes nothing");
    assert_eq!(mine(admin::clean(false).unwrap()), Some(would));
    assert!(is_gone(&id, &names));
    assert_eq!(mine(admin::clean(false).unwrap()), None);
}

fn both_killed_then_next_session() {
    let (id, names) = kill_both(play("hold", &[&unique("next"), "init"]));
    let next = play("hold", &[&unique("next"), "init"]);
    assert!(is_gone(&id, &names[1..]), "and the name in between is the next one's");
    next.actor.kill();
    assert!(eventually(PROMISE, || is_gone(&next.id, &next.names) && !exists(next.guardian)));
}

fn without_init_then_clean() {
    let Played { actor, id, guardian, names } = play("hold", &[&unique("bare"), "bare"]);
    assert_eq!(guardian, 0);
    actor.kill();
    assert!(!is_gone(&id, &names));
    admin::clean(false).unwrap();
    assert!(is_gone(&id, &names));
}

fn exec_ends_the_session() {
    let Played { mut actor, id, guardian, names } = play("exec", &[&unique("exec")]);
    actor.go();
    assert!(eventually(PROMISE, || is_gone(&id, &names) && !exists(guardian)), "{:?}", shm_names());
    assert!(exists(actor.pid()), "the program that took the coordinator's place is not ours to kill");
}

fn forked_child() {
    let Played { mut actor, id, names, .. } = play("fork", &[&unique("fork")]);
    actor.go();
    assert_eq!(actor.line(), "7 true");
    let (status, _) = actor.finish();
    assert!(status.success() && is_gone(&id, &names));
}

fn clean_spares() {
    let living = play("hold", &[&unique("spared"), "init"]);
    // Names in our form that no table of a dead session lists.
    let stranger = format!("swath-0-{}-1", "a".repeat(26));
    let link = format!("swath-0-{}.lock", "b".repeat(26));
    let target = format!("{}-target", unique("link"));
    std::fs::write(shm_path(&stranger), b"not yours").unwrap();
    std::fs::write(shm_path(&target), b"not yours").unwrap();
    std::os::unix::fs::symlink(shm_path(&target), shm_path(&link)).unwrap();
    let report = admin::clean(false).unwrap();
    assert!(report.live >= 1 && !report.cleaned.iter().any(|cleaned| cleaned.id == living.id));
    assert!(!is_gone(&living.id, &living.names));
    for name in [stranger, link, target] {
        std::fs::symlink_metadata(shm_path(&name)).expect("untouched");
        std::fs::remove_file(shm_path(&name)).unwrap();
    }
    living.actor.kill();
    assert!(eventually(PROMISE, || is_gone(&living.id, &living.names) && !exists(living.guardian)));
}

/// Overwrites 32-bit words of a dead session's control segment.
fn patch(id: &str, words: &[(u64, u32)]) {
    use std::os::unix::fs::FileExt;
    let name = shm_names().into_iter().find(|name| name.contains(id) && name.ends_with(".lock")).unwrap();
    let file = std::fs::File::options().write(true).open(shm_path(&name)).unwrap();
    words.iter().for_each(|&(at, word)| file.write_all_at(&word.to_ne_bytes(), at).unwrap());
}

fn dead_session(label: &str) -> (String, Vec<String>) {
    let Played { actor, id, names, .. } = play("hold", &[&unique(label), "bare"]);
    actor.kill();
    (id, names)
}

fn other_layouts() {
    const LAYOUT_VERSION: u64 = 8;
    const NAMES_VERSION: u64 = 12;
    let find = |id: &str| admin::list().unwrap().into_iter().find(|session| session.id == id).unwrap();
    // Another layout, but names that we can read: shown with its layout, cleaned.
    let (id, names) = dead_session("layout");
    patch(&id, &[(LAYOUT_VERSION, 99)]);
    let info = find(&id);
    assert!(info.other_layout.is_some_and(|layout| layout.starts_with("99/")) && info.segments.len() == 3);
    admin::clean(false).unwrap();
    assert!(is_gone(&id, &names));
    // Names of another form: left to the build that knows them, and said so.
    let (id, names) = dead_session("names");
    patch(&id, &[(LAYOUT_VERSION, 99), (NAMES_VERSION, 99)]);
    assert!(find(&id).segments.is_empty());
    let report = admin::clean(false).unwrap();
    let cleaned = report.cleaned.iter().find(|cleaned| cleaned.id == id).unwrap();
    assert!(cleaned.other_layout.is_some() && cleaned.names.is_empty());
    assert!(names.iter().all(|name| shm_path(name).exists()));
    patch(&id, &[(NAMES_VERSION, 1)]);
    admin::clean(false).unwrap();
    assert!(is_gone(&id, &names));
}

/// The table names a stranger's file, and a path; counts and offsets are absurd.
fn lying_table() {
    use std::os::unix::fs::FileExt;
    let (id, names) = dead_session("lying");
    let (victim, outside) = (unique("victim"), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(shm_path(&victim), b"not yours").unwrap();
    let name = shm_names().into_iter().find(|name| name.contains(&id) && name.ends_with(".lock")).unwrap();
    let file = std::fs::File::options().write(true).read(true).open(shm_path(&name)).unwrap();
    let entries = 266_240;
    for (entry, text) in [(0, victim.clone()), (1, format!("../..{}", outside.path().display()))] {
        let mut padded = [0; 64];
        padded[..text.len()].copy_from_slice(text.as_bytes());
        file.write_all_at(&padded, entries + entry * 128 + 64).unwrap();
    }
    for (at, lie) in [(88, u32::MAX), (96, u32::MAX), (100, 1), (100, 128)] {
        let mut truth = [0; 4];
        file.read_exact_at(&mut truth, at).unwrap();
        patch(&id, &[(at, lie)]);
        admin::list().unwrap();
        admin::clean(true).unwrap();
        file.write_all_at(&truth, at).unwrap();
    }
    admin::clean(false).unwrap();
    assert_eq!(std::fs::read(shm_path(&victim)).unwrap(), b"not yours");
    assert!(outside.path().exists());
    for left in names.iter().chain([&victim]) {
        // Their entries were overwritten: nobody knows any more that they were the session's.
        let _ = std::fs::remove_file(shm_path(left));
    }
    assert!(is_gone(&id, &names));
}

fn churn_of_threads() {
    let (status, text) = Actor::play("churn", &[]).finish();
    assert!(status.success() && text.contains("done"), "{status} {text}");
}
