//! No room: an error at creation, with figures and remedies; never a SIGBUS, never a half-made segment.

mod stage;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use stage::{Actor, on_private_shm, open_files, shm_names};
use swath_segment::{Attachments, Error, Kind, Membership, Mode, Segment, Session};

fn main() -> ExitCode {
    let tests: &[stage::Test] = &[
        ("c39_no_room_is_an_error_with_figures_and_remedies", c39_no_room),
        ("c39_every_size_up_to_the_last_page", c39_every_size),
        ("no_room_for_the_control_segment", no_room_for_the_session),
        ("no_room_for_more_entries_of_the_table", no_room_for_entries),
        ("retired_segments_are_waited_for", retired_are_waited_for),
        ("retired_segments_that_stay_pinned_are_named", pinned_are_named),
        ("a_read_only_mount_is_an_error", read_only_mount),
        ("a_memory_cgroup_is_asked_before_it_kills", cgroup),
        ("a_file_size_limit_is_an_error_and_not_a_signal", file_size_limit),
        ("out_of_descriptors_names_the_limit", out_of_descriptors),
        ("a_closed_standard_input_does_not_confuse_the_names", closed_stdin),
    ];
    let scenarios: &[stage::Scenario] = &[
        ("full", full),
        ("sizes", sizes),
        ("tiny", tiny),
        ("entries", entries),
        ("waited", waited),
        ("pinned", pinned),
        ("readonly", readonly),
        ("confined", confined),
        ("fsize", fsize),
        ("nofile", nofile),
        ("stdin", stdin),
    ];
    stage::main(tests, scenarios, worker)
}

fn worker(_: Membership) {}

const MIB: usize = 1 << 20;

/// Runs a scenario on a fresh tmpfs, or says by name why not.
fn on_tmpfs(size: &str, test: &str, scenario: &str) {
    if !stage::is_private() {
        println!("skipped: {test} (no tmpfs of its own: needs root and mount namespaces)");
        return;
    }
    let mut command = on_private_shm(size);
    command.args(["scenario", scenario]);
    let (status, text) = Actor::start(command).finish();
    assert!(status.success(), "{scenario}: {status}\n{text}");
}

fn c39_no_room() {
    on_tmpfs("64m", "c39_no_room_is_an_error_with_figures_and_remedies", "full");
}

/// 100 MB on a tmpfs of 64 MB: the error; what exists stays intact; what fits still works.
fn full(_: &[String]) {
    let intact = Segment::options().name("intact").create(20 * MIB).unwrap();
    fill(&intact, 7);
    let before = shm_names();
    let error = Segment::options().name("large").create(100 * MIB).unwrap_err();
    let Error::NoRoom { needed, free, mount, pinned } = &error else { panic!("{error:?}") };
    assert_eq!((*needed, *pinned, mount.to_str()), (100 << 20, 0, Some("/dev/shm")));
    assert!(*free < 64 << 20 && *free > 40 << 20, "{free}");
    let text = error.to_string();
    assert!(
        text.contains("unnamed") && text.contains("file-backed") && text.contains("--shm-size"),
        "{text}"
    );
    assert_eq!(shm_names(), before, "nothing half-made stays");
    check(&intact, 7);
    let other = Segment::options().create(40 * MIB).unwrap();
    fill(&other, 9);
    check(&intact, 7);
    // The remedies work.
    let unnamed = Segment::options().unnamed("large").create(100 * MIB).unwrap();
    fill(&unnamed, 1);
    let directory = tempfile::tempdir().unwrap();
    let file = Segment::options().file(directory.path().join("large")).create(100 * MIB).unwrap();
    fill(&file, 1);
}

fn fill(segment: &Segment, byte: u8) {
    // SAFETY: the whole mapping is ours and nobody reads it now.
    unsafe { segment.as_ptr().write_bytes(byte, segment.len()) };
}

fn check(segment: &Segment, byte: u8) {
    // SAFETY: nobody writes it now.
    let bytes = unsafe { std::slice::from_raw_parts(segment.as_ptr(), segment.len()) };
    assert!(bytes.iter().all(|&found| found == byte));
}

fn c39_every_size() {
    on_tmpfs("1m", "c39_every_size_up_to_the_last_page", "sizes");
}

/// Whatever number of pages is asked for: either all can be touched, or it is the error.
fn sizes(_: &[String]) {
    let _session = Session::current().unwrap();
    let mut fitted = 0;
    for pages in 1..=256 {
        match Segment::options().create(pages * 4096) {
            Ok(segment) => {
                fill(&segment, 1);
                fitted = pages;
            }
            Err(Error::NoRoom { .. }) => {}
            Err(error) => panic!("{pages} pages: {error}"),
        }
    }
    assert!((20..256).contains(&fitted), "{fitted}");
}

fn no_room_for_the_session() {
    on_tmpfs("256k", "no_room_for_the_control_segment", "tiny");
}

fn tiny(_: &[String]) {
    let error = Segment::options().create(1).unwrap_err();
    assert!(matches!(&error, Error::NoRoom { free, .. } if *free == 256 << 10), "{error:?}");
    assert!(shm_names().is_empty(), "{:?}", shm_names());
    let _ = Session::current().unwrap_err();
}

fn no_room_for_entries() {
    on_tmpfs("1m", "no_room_for_more_entries_of_the_table", "entries");
}

/// A table that grows where there is no room is an error of the creation that it grows for, and of no other.
fn entries(_: &[String]) {
    let page = || Segment::options().unnamed("page").create(4096);
    let mut named = Vec::new();
    while let Ok(segment) = Segment::options().create(4096) {
        named.push(segment);
    }
    let mut unnamed = Vec::new();
    let error = loop {
        match page() {
            Ok(segment) => unnamed.push(segment),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::NoRoom { needed, free, .. } if free < needed), "{error:?}");
    for segment in named.iter().chain(&unnamed) {
        fill(segment, 1);
    }
    named.truncate(named.len() / 2);
    let more: Vec<_> = (0..64).map(|_| page().unwrap()).collect();
    for segment in &more {
        fill(segment, 2);
    }
    assert!(unnamed.len() + named.len() + more.len() > 64);
}

fn retired_are_waited_for() {
    on_tmpfs("64m", "retired_segments_are_waited_for", "waited");
}

/// A party in another thread plays a worker: it unmaps when it is rung. 40 × 40 MiB pass through 64 MiB.
fn waited(_: &[String]) {
    let session = Session::current().unwrap();
    let slot = session.slots().reserve().unwrap();
    assert!(session.slots().enter(slot));
    let (ring, rung) = std::sync::mpsc::channel();
    let (answer, answers) = std::sync::mpsc::channel();
    let sender = ring.clone();
    let hook = session.on_retire(move |_| sender.send(None).unwrap_or(()));
    let control = session.control();
    let party = std::thread::spawn(move || {
        let mut attachments = Attachments::new(control, slot);
        let pid = std::process::id();
        while let Ok(message) = rung.recv() {
            match message {
                Some(reference) => {
                    answer.send(attachments.get(&reference, Mode::ReadOnly, pid).is_ok()).unwrap()
                }
                None => attachments.drop_retired(),
            }
        }
    });
    for round in 0..40 {
        let segment =
            Segment::options().kind(Kind::Engine).create(40 * MIB).unwrap_or_else(|e| panic!("{round}: {e}"));
        ring.send(Some(segment.reference())).unwrap();
        assert!(answers.recv().unwrap());
    }
    session.forget_hook(hook);
    drop(ring);
    party.join().unwrap();
}

fn pinned_are_named() {
    on_tmpfs("64m", "retired_segments_that_stay_pinned_are_named", "pinned");
}

/// The party never acknowledges, as a stopped worker would not: after 200 ms the error says what it pins.
fn pinned(_: &[String]) {
    let session = Session::current().unwrap();
    let slot = session.slots().reserve().unwrap();
    assert!(session.slots().enter(slot));
    let mut attachments = Attachments::new(session.control(), slot);
    let segment = Segment::options().create(40 * MIB).unwrap();
    attachments.get(&segment.reference(), Mode::ReadOnly, std::process::id()).unwrap();
    drop(segment);
    let begin = Instant::now();
    let error = Segment::options().create(40 * MIB).unwrap_err();
    assert!(begin.elapsed() >= Duration::from_millis(200), "it waits for an answer first");
    assert!(matches!(error, Error::NoRoom { pinned, .. } if pinned == 40 << 20), "{error:?}");
    assert!(error.to_string().contains("still have mapped"), "{error}");
    let sessions = swath_segment::admin::list().unwrap();
    let retired: Vec<_> = sessions[0].segments.iter().filter(|s| s.retired_pinned_by.is_some()).collect();
    assert_eq!(retired.len(), 1);
    assert_eq!(retired[0].retired_pinned_by.as_deref(), Some(&[slot.index][..]));
    attachments.drop_retired();
    assert_eq!(session.pinned(), 0);
    Segment::options().create(40 * MIB).unwrap();
}

fn read_only_mount() {
    on_tmpfs("1m,ro", "a_read_only_mount_is_an_error", "readonly");
}

fn readonly(_: &[String]) {
    for _ in 0..2 {
        let error = Segment::options().create(4096).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EROFS), "{error}");
        assert!(error.to_string().contains("/dev/shm/swath-"), "{error}");
    }
}

/// A memory cgroup of its own, removed at the end; `None` where none can be made.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn with_limit(bytes: usize) -> Option<Cgroup> {
        let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        let make = |(root, limit): (&str, &str)| {
            let path = std::path::Path::new(root).join(format!("swath-test-{}", std::process::id()));
            std::fs::create_dir(&path).ok()?;
            let group = Cgroup(path);
            std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        };
        roots.into_iter().find_map(make)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        stage::eventually(Duration::from_secs(2), || std::fs::remove_dir(&self.0).is_ok());
    }
}

fn cgroup() {
    let Some(group) = Cgroup::with_limit(64 * MIB) else {
        println!("skipped: a_memory_cgroup_is_asked_before_it_kills (no memory cgroup can be made)");
        return;
    };
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    in_shell(&enter, "confined");
}

/// 100 MiB in a cgroup of 64 MiB: the error, not the killer. On a file it works: its pages can be given up.
fn confined(_: &[String]) {
    for options in [Segment::options(), Segment::options().unnamed("x")] {
        match options.create(100 * MIB).unwrap_err() {
            Error::NoMemory { limit, whose, available, .. } => {
                assert_eq!(limit, 64 << 20);
                assert!(whose.contains("swath-test") && available < 64 << 20, "{whose} {available}");
            }
            // The private stage's mount may be the tighter one.
            error => assert!(matches!(error, Error::NoRoom { .. }), "{error:?}"),
        }
    }
    Segment::options().unnamed("fits").create(8 * MIB).unwrap();
}

fn in_shell(limit: &str, scenario: &str) {
    let mut command = Command::new("sh");
    let script = format!("{limit} && exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(std::env::current_exe().unwrap()).args(["scenario", scenario]);
    let (status, text) = Actor::start(command).finish();
    assert!(status.success(), "{scenario}: {status}\n{text}");
}

fn file_size_limit() {
    // In units of 512 or 1024 bytes, as the shell pleases.
    in_shell("ulimit -f 4096", "fsize");
}

fn fsize(_: &[String]) {
    for options in [Segment::options(), Segment::options().unnamed("x")] {
        let error = options.create(16 * MIB).unwrap_err();
        assert!(matches!(error, Error::FileTooLarge { .. }), "{error:?}");
    }
    Segment::options().create(MIB).unwrap();
}

fn out_of_descriptors() {
    in_shell("ulimit -Sn 32 && ulimit -Hn 64", "nofile");
}

fn nofile(_: &[String]) {
    let session = Session::current().unwrap();
    // The first name brings the lock file's along.
    drop(Segment::options().create(4096).unwrap());
    let before = (open_files(), shm_names());
    let mut segments = Vec::new();
    let error = loop {
        match Segment::options().unnamed("many").create(4096) {
            Ok(segment) => segments.push(segment),
            Err(error) => break error,
        }
    };
    assert!(segments.len() > 32, "the soft limit is raised to the hard one: {}", segments.len());
    assert!(matches!(error, Error::TooManyFiles { limit: 64, .. }), "{error:?}");
    assert!(error.to_string().contains("RLIMIT_NOFILE"));
    // With any small number of descriptors left, a named creation succeeds or leaves nothing.
    while let Some(segment) = segments.pop() {
        drop(segment);
        match Segment::options().create(4096) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.errno(), Some(libc::EMFILE), "{error:?}"),
        }
        assert_eq!(shm_names(), before.1);
    }
    segments.clear();
    assert_eq!((open_files(), shm_names()), before);
    drop(session);
}

fn closed_stdin() {
    in_shell("exec <&-", "stdin");
}

fn stdin(_: &[String]) {
    assert!(!swath_platform::file::is_open(0) || std::fs::read_link("/proc/self/fd/0").is_ok());
    let session = Session::current().unwrap();
    let before = open_files();
    // Rust's runtime has put /dev/null in the place of closed standard descriptors; take it away again.
    // SAFETY: nothing in this process uses standard input.
    unsafe { libc::close(0) };
    let segment = Segment::options().name(format!("stdin-{}", std::process::id())).create(4096).unwrap();
    let name = segment.name().unwrap().to_owned();
    drop(segment);
    assert!(!shm_names().contains(&name));
    assert_eq!(open_files() + 1, before);
    drop(session);
}
