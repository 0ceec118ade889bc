//! What every kind of segment must do alike, whatever it is made of.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use swath_segment::{
    Attachments, Error, Foreign, Kind, Mode, Segment, SegmentOptions, Session, admin, shm_path,
};

fn unique(label: &str) -> String {
    format!("conf-{label}-{}", std::process::id())
}

/// One builder of each kind, with a directory that lasts as long as they do.
fn kinds(label: &str) -> (tempfile::TempDir, Vec<(&'static str, SegmentOptions)>) {
    let directory = tempfile::tempdir().unwrap();
    let kinds = vec![
        ("auto", Segment::options()),
        ("named", Segment::options().name(unique(label))),
        ("unnamed", Segment::options().unnamed(label)),
        ("file", Segment::options().file(directory.path().join("file"))),
    ];
    (directory, kinds)
}

/// A party of this process that stands for a worker.
struct Party {
    session: Arc<Session>,
    slot: swath_sync::SlotId,
    attachments: Attachments,
}

impl Party {
    fn new() -> Party {
        let session = Session::current().unwrap();
        let slot = session.slots().reserve().unwrap();
        assert!(session.slots().enter(slot));
        let attachments = Attachments::new(session.control(), slot);
        Party { session, slot, attachments }
    }

    fn get(&mut self, segment: &Segment, mode: Mode) -> Result<*mut u8, Error> {
        self.attachments.get(&segment.reference(), mode, std::process::id())
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // SAFETY: it is no party of anything else.
        unsafe { self.session.slots().mark_dead(self.slot, swath_sync::DeathCause(0)) };
        self.session.slots().release(self.slot);
    }
}

fn bytes(pointer: *const u8, len: usize) -> Vec<u8> {
    // SAFETY: the callers pass a mapping of at least `len` bytes that nobody writes meanwhile.
    unsafe { std::slice::from_raw_parts(pointer, len) }.to_vec()
}

fn write(pointer: *mut u8, text: &[u8]) {
    // SAFETY: the callers pass a writable mapping that is long enough, and nobody reads it meanwhile.
    unsafe { pointer.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
}

#[test]
fn every_kind_is_zero_shared_and_page_aligned() {
    let (_directory, kinds) = kinds("alike");
    for (kind, options) in kinds {
        for len in [1, 512, 4096, 5000] {
            let segment = options.clone().create(len).unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert_eq!((segment.len(), segment.reference().len), (len, len as u64), "{kind}");
            assert_eq!(segment.as_ptr() as usize % 4096, 0);
            assert_eq!(bytes(segment.as_ptr(), len), vec![0; len]);
            let mut party = Party::new();
            let (input, output) =
                (party.get(&segment, Mode::ReadOnly).unwrap(), party.get(&segment, Mode::ReadWrite).unwrap());
            assert!(input != output && output != segment.as_ptr());
            write(output, b"w");
            write(segment.as_ptr().wrapping_add(len - 1), b"c");
            assert_eq!(
                (bytes(input, len)[0], bytes(input, len)[len - 1]),
                if len == 1 { (b'c', b'c') } else { (b'w', b'c') }
            );
            assert_eq!(party.get(&segment, Mode::ReadOnly).unwrap(), input, "cached");
            assert_eq!(kind == "auto" || kind == "named", segment.name().is_some());
        }
    }
}

#[test]
fn every_kind_outlives_its_owner_where_it_is_mapped() {
    let (_directory, kinds) = kinds("outlive");
    for (kind, options) in kinds {
        let mut party = Party::new();
        let segment = options.create(20_000).unwrap();
        write(segment.as_ptr(), b"still here");
        let pointer = party.get(&segment, Mode::ReadOnly).unwrap();
        let reference = segment.reference();
        assert!(party.session.control().is_live(reference.id));
        drop(segment);
        assert!(!party.session.control().is_live(reference.id), "{kind}");
        assert_eq!(bytes(pointer, 10), b"still here", "{kind}");
        let mut other = Party::new();
        let error = other.attachments.get(&reference, Mode::ReadOnly, std::process::id()).unwrap_err();
        assert!(matches!(error, Error::System { .. } | Error::NotOurs { .. }), "{kind}: {error:?}");
        let number = party.session.control().retired();
        party.attachments.drop_retired();
        assert!(party.session.control().acknowledged(party.slot.index) >= number);
    }
}

#[test]
fn c37_names_and_sizes() {
    let name = unique("c37");
    let options = || Segment::options().name(&name);
    let mut segment = options().create(512).unwrap();
    // The logical size is exact, for the owner and for whoever attaches.
    let attached: Vec<Foreign> =
        [Mode::ReadOnly, Mode::ReadWrite].map(|mode| Foreign::attach(&name, mode).unwrap()).into();
    assert!(segment.len() == 512 && attached.iter().all(|foreign| foreign.len() == 512));
    assert_eq!(std::fs::metadata(shm_path(&name)).unwrap().len(), 512);
    assert!(matches!(options().create(512), Err(Error::Exists { name: found }) if found == name));
    assert!(matches!(Foreign::attach(&unique("absent"), Mode::ReadOnly), Err(Error::NotFound { .. })));
    assert!(matches!(Foreign::attach(&unique("absent"), Mode::ReadWrite), Err(Error::NotFound { .. })));
    for impossible in [0, usize::MAX, isize::MAX as usize + 1] {
        let outcome = Segment::options().name(unique("size")).create(impossible);
        assert!(matches!(outcome, Err(Error::InvalidSize { len, .. }) if len == impossible));
    }
    for impossible in ["nul\0inside", "", ".", "..", "a/b", &"x".repeat(300), &"x".repeat(65)] {
        assert!(matches!(Segment::options().name(impossible).create(512), Err(Error::InvalidName { .. })));
        assert!(matches!(Foreign::attach(impossible, Mode::ReadOnly), Err(Error::InvalidName { .. })));
    }
    let longest = format!("{:x<64}", unique("longest"));
    let five = Segment::options().name(&longest).create(5000).unwrap();
    assert_eq!((five.len(), five.name()), (5000, Some(longest.as_str())));
    // Unlinked while two have it attached: their mappings stay, nobody new comes, a second time there is nothing.
    write(segment.as_ptr(), b"kept");
    segment.unlink().unwrap();
    assert!(matches!(segment.unlink(), Err(Error::NotFound { .. })));
    assert!(attached.iter().all(|foreign| bytes(foreign.as_ptr(), 4) == b"kept"));
    assert!(matches!(Foreign::attach(&name, Mode::ReadOnly), Err(Error::NotFound { .. })));
    assert_eq!(segment.name(), None);
    // The name is free again, and the first owner's end does not touch its next bearer.
    let next = options().create(512).unwrap();
    drop(segment);
    assert!(shm_path(&name).exists());
    drop(next);
    assert!(!shm_path(&name).exists());
}

#[test]
fn the_public_name_appears_when_all_is_done() {
    let name = unique("late");
    let path = shm_path(&name);
    let init = |pointer: *mut u8| {
        assert!(!path.exists());
        write(pointer, b"header");
    };
    let segment = Segment::options().name(&name).create_with(4096, init).unwrap();
    assert_eq!(&std::fs::read(&path).unwrap()[..6], b"header");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(segment.reference().ino, std::fs::metadata(&path).unwrap().ino());
}

#[test]
fn a_name_taken_meanwhile_is_not_replaced() {
    let name = unique("race");
    let path = shm_path(&name);
    let outcome =
        Segment::options().name(&name).create_with(4096, |_| std::fs::write(&path, b"mine").unwrap());
    assert!(matches!(outcome, Err(Error::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_link_or_directory_under_the_name_is_refused() {
    let (link, directory) = (unique("link"), unique("directory"));
    std::os::unix::fs::symlink("/etc/passwd", shm_path(&link)).unwrap();
    std::fs::create_dir(shm_path(&directory)).unwrap();
    for name in [&link, &directory] {
        assert!(matches!(Segment::options().name(name).create(4096), Err(Error::Exists { .. })));
        for mode in [Mode::ReadOnly, Mode::ReadWrite] {
            let error = Foreign::attach(name, mode).unwrap_err();
            assert!(matches!(error, Error::NotOurs { .. } | Error::System { .. }), "{error:?}");
        }
    }
    std::fs::remove_file(shm_path(&link)).unwrap();
    std::fs::remove_dir(shm_path(&directory)).unwrap();
}

#[test]
fn a_name_that_vanished_or_was_replaced_does_not_matter_to_workers() {
    let name = unique("vanish");
    let segment = Segment::options().name(&name).create(8192).unwrap();
    write(segment.as_ptr(), b"right one");
    std::fs::remove_file(shm_path(&name)).unwrap();
    for round in 0..2 {
        for mode in [Mode::ReadOnly, Mode::ReadWrite] {
            let mut party = Party::new();
            assert_eq!(bytes(party.get(&segment, mode).unwrap(), 9), b"right one", "{round} {mode:?}");
        }
        std::fs::write(shm_path(&name), b"another").unwrap();
    }
    drop(segment);
    assert_eq!(std::fs::read(shm_path(&name)).unwrap(), b"another", "not ours to remove");
    std::fs::remove_file(shm_path(&name)).unwrap();
}

#[test]
fn a_truncated_segment_is_an_error_and_not_a_sigbus() {
    let name = unique("truncated");
    let segment = Segment::options().name(&name).create(8192).unwrap();
    let file = std::fs::File::options().write(true).open(shm_path(&name)).unwrap();
    file.set_len(4096).unwrap();
    for mode in [Mode::ReadOnly, Mode::ReadWrite] {
        let error = Party::new().get(&segment, mode).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }
}

#[test]
fn an_unnamed_segment_grows_and_keeps_its_content() {
    let mut segment = Segment::options().unnamed("grow").kind(Kind::Engine).create(4096).unwrap();
    let mut party = Party::new();
    write(segment.as_ptr(), b"begin");
    let id = segment.id();
    party.get(&segment, Mode::ReadWrite).unwrap();
    segment.grow(1 << 20).unwrap();
    assert_eq!((segment.len(), segment.id()), (1 << 20, id));
    let pointer = party.get(&segment, Mode::ReadWrite).unwrap();
    write(pointer.wrapping_add((1 << 20) - 3), b"end");
    assert_eq!(bytes(segment.as_ptr(), 5), b"begin");
    assert_eq!(&bytes(segment.as_ptr(), 1 << 20)[(1 << 20) - 3..], b"end");
    segment.grow(10).unwrap();
    assert_eq!(segment.len(), 1 << 20, "never shorter");
    let mut named = Segment::options().create(10).unwrap();
    assert!(matches!(named.grow(20), Err(Error::Unsupported { .. })));
}

#[test]
fn a_file_gets_its_name_when_it_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result.npy");
    let partial = PathBuf::from(format!("{}.partial", path.display()));
    let names = || std::fs::read_dir(directory.path()).unwrap().count();
    // Dropped before: nothing stays.
    drop(Segment::options().file(&path).create(4096).unwrap());
    assert_eq!(names(), 0);
    // What a killed process left is taken over, what a living one has is not.
    std::fs::write(&partial, vec![9; 9000]).unwrap();
    let mut segment = Segment::options().file(&path).create(5000).unwrap();
    assert!(matches!(Segment::options().file(&path).create(5000), Err(Error::Exists { .. })));
    assert_eq!(bytes(segment.as_ptr(), 5000), vec![0; 5000]);
    write(segment.as_ptr(), b"result");
    assert!(partial.exists() && !path.exists());
    segment.finish().unwrap();
    assert!(path.exists() && !partial.exists());
    // Still usable, also by workers; a second time changes nothing.
    let pointer = Party::new().get(&segment, Mode::ReadOnly).map(|pointer| bytes(pointer, 6));
    assert!(pointer.is_ok());
    segment.finish().unwrap();
    drop(segment);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 5000);
    let again = Segment::options().open_file(&path, false).unwrap();
    assert_eq!((bytes(again.as_ptr(), 6).as_slice(), again.len()), (&b"result"[..], 5000));
    drop(again);
    assert!(path.exists());
    let empty = directory.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    let segment = Segment::options().open_file(&empty, false).unwrap();
    assert!(segment.is_empty() && !segment.as_ptr().is_null());
    Party::new().get(&segment, Mode::ReadOnly).unwrap();
    assert!(matches!(
        Segment::options().open_file(directory.path().join("no"), false),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(Segment::options().open_file(directory.path(), false), Err(Error::NotOurs { .. })));
}

#[test]
fn a_large_segment_has_a_place_for_huge_pages_everywhere() {
    const LEN: usize = (4 << 20) + 12_345;
    let (_directory, kinds) = kinds("large");
    for (label, options) in kinds {
        let segment = options.create(LEN).unwrap();
        write(segment.as_ptr().wrapping_add(LEN - 3), b"end");
        assert!(segment.as_ptr().addr().is_multiple_of(2 << 20), "{label}");
        for mode in [Mode::ReadOnly, Mode::ReadWrite] {
            let mut party = Party::new();
            let pointer = party.get(&segment, mode).unwrap();
            assert!(pointer.addr().is_multiple_of(2 << 20), "{label} {mode:?}");
            assert_eq!(bytes(pointer.wrapping_add(LEN - 3), 3), b"end", "{label} {mode:?}");
        }
    }
}

/// Kilobytes of the mapping at this address that are mapped as huge pages.
fn huge_kilobytes(pointer: *const u8) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = smaps.split_once(&format!("\n{:x}-", pointer.addr())).unwrap().1;
    let line = mapping.lines().find_map(|line| line.strip_prefix("ShmemPmdMapped:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn huge_pages_are_had_where_the_kernel_has_them() {
    const LEN: usize = (8 << 20) + 4096;
    for options in [Segment::options(), Segment::options().unnamed("huge")] {
        let segment = options.create(LEN).unwrap();
        if let Err(error) = swath_platform::memory::collapse(segment.as_ptr(), LEN) {
            println!("not here: {error}");
            continue;
        }
        assert_eq!(huge_kilobytes(segment.as_ptr()), 8 << 10);
        for mode in [Mode::ReadOnly, Mode::ReadWrite] {
            let mut party = Party::new();
            let pointer = party.get(&segment, mode).unwrap();
            swath_platform::memory::populate_read(pointer, LEN).unwrap();
            assert_eq!(huge_kilobytes(pointer), 8 << 10, "{mode:?}");
        }
    }
}

#[test]
fn a_leaked_segment_loses_its_name_and_keeps_its_memory() {
    let name = unique("leak");
    let segment = Segment::options().name(&name).create(4096).unwrap();
    let session = segment.session().clone();
    let (pointer, id) = (segment.as_ptr(), segment.id());
    write(pointer, b"tainted");
    segment.leak();
    assert!(!shm_path(&name).exists() && !session.control().is_live(id));
    assert_eq!(bytes(pointer, 7), b"tainted");
    let session = admin::list().unwrap().into_iter().find(|info| info.id == session.id()).unwrap();
    assert!(session.segments.iter().any(|info| info.name == name && info.tainted));
}

#[test]
fn the_list_tells_shape_and_type_without_trusting_them() {
    let header = |pointer: *mut u8, dict: &str| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dict.len() as u16).to_le_bytes());
        bytes.extend(dict.as_bytes());
        write(pointer, &bytes);
    };
    let (good, lies) = (unique("list"), unique("lies"));
    let dict = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }\n";
    let named = Segment::options().name(&good).create_with(8192, |p| header(p, dict)).unwrap();
    let unnamed = Segment::options().unnamed("list-memory").create_with(8192, |p| header(p, dict)).unwrap();
    let liar = Segment::options()
        .name(&lies)
        .create_with(8192, |p| header(p, "{'descr': '<f8', 'shape': ("))
        .unwrap();
    let sessions = admin::list().unwrap();
    let session = sessions.iter().find(|info| info.id == named.session().id()).unwrap();
    assert!(session.alive && session.owner_pid == std::process::id() && session.other_layout.is_none());
    let find = |name: &str| session.segments.iter().find(|info| info.name == name).unwrap();
    for info in [find(&good), find("list-memory")] {
        assert_eq!(
            (info.shape.as_deref(), info.dtype.as_deref()),
            (Some(&[3, 4][..]), Some("f64")),
            "{info:?}"
        );
        assert_eq!((info.size, info.name_gone, info.unfinished), (8192, false, false));
    }
    assert_eq!((find(&lies).shape.as_deref(), find(&lies).size), (None, 8192));
    std::fs::remove_file(shm_path(&lies)).unwrap();
    let sessions = admin::list().unwrap();
    let session = sessions.iter().find(|info| info.id == liar.session().id()).unwrap();
    assert!(session.segments.iter().find(|info| info.name == lies).unwrap().name_gone);
    drop(unnamed);
}
