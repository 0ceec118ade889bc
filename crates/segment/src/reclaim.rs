//! Reclaim of dead sessions: steps D1–D6 of `README.md`.
//!
//! The only names that are removed are those in the name table of a session whose lock we hold, and its lock file.

use std::path::Path;
use std::time::{Duration, Instant};

use swath_platform::file::{self, Access};

use crate::descendants;
use crate::error::Result;
use crate::layout::EntryImage;
use crate::limits::DESCENDANTS_MS;
use crate::name::{SessionId, shm_path, validate};
use crate::snapshot::{LockFile, Snapshot, session_ids};

/// What a cleaning did, or (dry run) would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanReport {
    /// The dead sessions found.
    pub cleaned: Vec<Cleaned>,
    /// Sessions whose owner lives.
    pub live: usize,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
}

/// One dead session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Its id.
    pub id: String,
    /// The pid that its coordinator had; 0 when it died before writing it.
    pub owner_pid: u32,
    /// The names removed, the lock file last.
    pub names: Vec<String>,
    /// Programs that its workers had started and that outlived it, killed.
    pub programs: Vec<u32>,
    /// Bytes that those names kept.
    pub bytes: u64,
    /// Set when another build wrote the session's table in a form that we do not know: its segments stay.
    pub other_layout: Option<String>,
}

/// Removes, or with `dry_run` lists, what dead sessions of this user left.
pub(crate) fn reclaim(dry_run: bool) -> Result<CleanReport> {
    let mut report = CleanReport::default();
    for (_, name) in session_ids()? {
        match judge(&name, dry_run) {
            Verdict::NotOurs => {}
            Verdict::Live => report.live += 1,
            Verdict::Dead(lock) => clean_one(&lock, dry_run, &mut report),
        }
    }
    Ok(report)
}

enum Verdict {
    NotOurs,
    Live,
    Dead(LockFile),
}

/// D1–D3: ours, lock free and (unless dry) now held by us, and the name still stands for what we locked.
fn judge(name: &str, dry_run: bool) -> Verdict {
    let Some(lock) = LockFile::open(name, Access::ReadWrite) else { return Verdict::NotOurs };
    let free = if dry_run {
        file::ofd_is_locked(&lock.fd).map(|locked| !locked)
    } else {
        file::ofd_try_lock(&lock.fd)
    };
    match free {
        Ok(true) if lock.is_in_place() => Verdict::Dead(lock),
        // Another cleaner was faster.
        Ok(true) => Verdict::NotOurs,
        Ok(false) => Verdict::Live,
        Err(_) => Verdict::NotOurs,
    }
}

/// D4–D6.
fn clean_one(lock: &LockFile, dry_run: bool, report: &mut CleanReport) {
    let snapshot = lock.snapshot();
    let marked = descendants::marked_by(&lock.id);
    let deadline = Instant::now() + Duration::from_millis(DESCENDANTS_MS);
    let mut cleaned = Cleaned {
        id: lock.id.as_str().to_owned(),
        owner_pid: snapshot.as_ref().map_or(0, |snapshot| snapshot.header.coordinator_pid),
        names: Vec::new(),
        programs: if dry_run { descendants::all(marked) } else { descendants::kill_all(deadline, marked) },
        bytes: lock.stat.size,
        other_layout: None,
    };
    if let Some(snapshot) = &snapshot {
        if snapshot.entries.is_none() {
            // Its segments would be orphaned by removing the lock file: leave all of it to the build that knows.
            cleaned.other_layout = Some(snapshot.header.layout());
            report.cleaned.push(cleaned);
            return;
        }
        let names = Removal { id: &lock.id, uid: snapshot.header.uid, dry_run };
        for entry in snapshot.in_use() {
            names.remove(entry, &mut cleaned.names, &mut cleaned.bytes, &mut report.failed);
        }
    }
    let removed = if dry_run { Ok(true) } else { file::unlink_if(&lock.path, lock.stat.identity()) };
    match removed {
        Ok(_) => cleaned.names.push(file_name(&lock.path)),
        Err(error) => report.failed.push(format!("{}: {error}", lock.path.display())),
    }
    report.cleaned.push(cleaned);
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// How the names of one session's entries are removed: by a cleaner, the guardian, or the owner at its end.
#[derive(Debug)]
pub(crate) struct Removal<'a> {
    pub(crate) id: &'a SessionId,
    pub(crate) uid: u32,
    pub(crate) dry_run: bool,
}

impl Removal<'_> {
    /// D5: the unfinished name belongs to nobody else, for it holds the session's random id; the public name goes only
    /// if it still stands for the very file that we made.
    pub(crate) fn remove(
        &self,
        entry: &EntryImage,
        names: &mut Vec<String>,
        bytes: &mut u64,
        failed: &mut Vec<String>,
    ) {
        if !entry.is_named() {
            return;
        }
        let unfinished = self.id.unfinished_name(self.uid, entry.sequence());
        self.remove_name(&unfinished, None, names, bytes, failed);
        let Some(public) = entry.name().filter(|name| validate(name).is_ok()) else { return };
        if let Some(identity) = entry.identity() {
            self.remove_name(public, Some(identity), names, bytes, failed);
        }
    }

    fn remove_name(
        &self,
        name: &str,
        identity: Option<(u64, u64)>,
        names: &mut Vec<String>,
        bytes: &mut u64,
        failed: &mut Vec<String>,
    ) {
        let path = shm_path(name);
        let Ok(found) = file::stat_path(&path) else { return };
        if identity.is_some_and(|identity| identity != found.identity()) {
            return;
        }
        let removed = if self.dry_run { Ok(true) } else { file::unlink_if(&path, found.identity()) };
        match removed {
            Ok(true) => {
                names.push(name.to_owned());
                *bytes += found.size;
            }
            Ok(false) => {}
            Err(error) => failed.push(format!("{}: {error}", path.display())),
        }
    }

    /// All entries of a snapshot; what could not be removed.
    pub(crate) fn remove_all(&self, snapshot: &Snapshot) -> Vec<String> {
        let (mut names, mut bytes, mut failed) = (Vec::new(), 0, Vec::new());
        for entry in snapshot.in_use() {
            self.remove(entry, &mut names, &mut bytes, &mut failed);
        }
        failed
    }
}
