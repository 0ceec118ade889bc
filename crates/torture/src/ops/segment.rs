//! `session-begin`, `create`, `attach`, `unlink`, `session-end`, `clean` of `swath_segment`.
//!
//! The victim is a whole coordinator: its session, its service thread, its guardian (this executable started again).
//! Only the thread that calls is stepped; system calls are steps too. What must hold after the kill: with a guardian,
//! nothing is left within the deadline; without one, a clean leaves nothing.

use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swath_segment::{Attachments, Foreign, Mode, Segment, Session, admin, set_initialised};

use super::props::ENGINE_AT;
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::{ROLES, Stage};
use crate::{victim, watchdog};

const NAME: &str = "torture";
const BYTES: usize = 8192;
const LOCK_FREE_WITHIN: Duration = Duration::from_millis(500);
/// A victim here is a whole coordinator: some 15 ms each, and an operation has tens of thousands of instructions.
const SHORT_POINTS: usize = 40;
/// The promise is two seconds; the checker's own deadline is longer than this wait.
const GONE_WITHIN: Duration = Duration::from_millis(1900);

/// What is created.
#[derive(Copy, Clone, PartialEq, Eq)]
enum What {
    Named,
    Auto,
    Unnamed,
}

impl What {
    fn create(self) -> Segment {
        let options = match self {
            What::Named => Segment::options().name(NAME),
            What::Auto => Segment::options(),
            What::Unnamed => Segment::options().unnamed(NAME),
        };
        options.create(BYTES).expect("there is room")
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Begin,
    Create(What),
    AttachOwn(Mode),
    Unlink,
    Drop,
    End,
    EndWithLeak,
}

/// The victim is a coordinator.
struct Coordinator {
    deed: Deed,
    guarded: bool,
}

impl Scenario for Coordinator {
    fn short_points(&self) -> usize {
        SHORT_POINTS
    }

    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, _stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        if self.guarded {
            set_initialised();
        }
        if self.deed == Deed::Begin {
            return Box::new(|| mem::forget(Session::current().expect("a session")));
        }
        let session = Session::current().expect("a session");
        match self.deed {
            Deed::Begin => unreachable!(),
            Deed::Create(what) => Box::new(move || {
                mem::forget(what.create());
                mem::forget(session);
            }),
            Deed::AttachOwn(mode) => {
                let segment = What::Named.create();
                let mut attached = Attachments::new(session.control(), session.slot());
                Box::new(move || {
                    let mapped = attached.get(&segment.reference(), mode, std::process::id());
                    std::hint::black_box(mapped.expect("it is there"));
                    mem::forget((attached, segment, session));
                })
            }
            Deed::Unlink => {
                let mut segment = What::Named.create();
                Box::new(move || {
                    segment.unlink().expect("it has a name");
                    mem::forget((segment, session));
                })
            }
            Deed::Drop => {
                let segment = What::Named.create();
                Box::new(move || {
                    drop(segment);
                    mem::forget(session);
                })
            }
            Deed::End => Box::new(move || drop(session)),
            Deed::EndWithLeak => {
                mem::forget(What::Auto.create());
                // The forgotten segment holds the session too: unlink is the cleaner's then.
                Box::new(move || drop(session))
            }
        }
    }

    fn aftermath(&self, _stage: &Stage, moment: Moment) -> Finding {
        if !self.guarded {
            return clean_all();
        }
        expect(Stage::poll(GONE_WITHIN, only_the_checker_is_left), || {
            format!("still there: {}", others().join(", "))
        })?;
        let left = names();
        if left.is_empty() {
            return Ok(Verdict::Clean);
        }
        // Killed before there was a guardian, or at the very end when its work was nearly done by the victim itself.
        let begun = self.deed == Deed::Begin && moment != Moment::After;
        expect(begun, || format!("the guardian left {}", left.join(", ")))?;
        clean_all()
    }
}

/// The victim is another program that attaches by name; the coordinator lives and is not disturbed.
struct Stranger {
    mode: Mode,
}

impl Scenario for Stranger {
    fn short_points(&self) -> usize {
        SHORT_POINTS
    }

    fn set(&self, _stage: &Stage) {}

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let segment = What::Named.create();
        // The memory is the stage's as far as this test goes: a word that must survive.
        let word: &AtomicU64 = stage.part(ENGINE_AT);
        word.store(segment.reference().ino, Ordering::SeqCst);
        stage.arrive(n + 1);
        stage.await_cue(1);
        expect(names().iter().any(|name| name == NAME), || "the name has gone".to_owned())?;
        let again = Foreign::attach(NAME, Mode::ReadWrite).map_err(|error| error.to_string())?;
        expect(again.len() == BYTES, || format!("{} bytes instead of {BYTES}", again.len()))?;
        drop((again, segment));
        expect(names().is_empty(), || format!("left behind: {}", names().join(", ")))?;
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, _stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        Box::new(|| mem::forget(Foreign::attach(NAME, self.mode).expect("it is there")))
    }

    fn aftermath(&self, _stage: &Stage, _moment: Moment) -> Finding {
        Ok(Verdict::Clean)
    }
}

/// The victim is a cleaner of what a killed coordinator left; a second cleaner comes after it.
struct Clean;

impl Scenario for Clean {
    fn short_points(&self) -> usize {
        SHORT_POINTS
    }

    fn set(&self, stage: &Stage) {
        let forked = victim::fork_role(stage, ROLES - 2, || {
            mem::forget((What::Named.create(), What::Auto.create(), What::Unnamed.create()));
            Ok(Verdict::Clean)
        });
        if let Ok(pid) = forked {
            watchdog::reap(pid, true);
        }
    }

    fn victim<'s>(&'s self, _stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        Box::new(|| mem::forget(admin::clean(false)))
    }

    fn aftermath(&self, _stage: &Stage, moment: Moment) -> Finding {
        let left = names().len();
        expect(moment != Moment::After || left == 0, || "cleaned, but there are names".to_owned())?;
        expect(moment != Moment::Before || left == 3, || format!("{left} names before the clean"))?;
        clean_all()
    }
}

/// What `swath clean` does, and that it leaves nothing.
///
/// The dead one's lock may be held a moment longer than it lives: whoever reads its /proc entry keeps its mappings, and
/// they keep the lock file open.
fn clean_all() -> Finding {
    let mut report = admin::clean(false).map_err(|error| error.to_string())?;
    Stage::poll(LOCK_FREE_WITHIN, || {
        if report.live > 0
            && let Ok(again) = admin::clean(false)
        {
            report = again;
        }
        report.live == 0
    });
    expect(report.failed.is_empty(), || format!("not removed: {}", report.failed.join(", ")))?;
    expect(report.live == 0, || "a dead session is taken for a live one".to_owned())?;
    let left = names();
    expect(left.is_empty(), || format!("after the clean there are {}", left.join(", ")))?;
    Ok(if report.cleaned.is_empty() { Verdict::Clean } else { Verdict::Recovered })
}

fn names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(swath_segment::SHM_DIR) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn only_the_checker_is_left() -> bool {
    others().is_empty()
}

/// Living children of the harness besides the checker that asks: orphans of the victim.
fn others() -> Vec<String> {
    let harness = std::os::unix::process::parent_id();
    let children = std::fs::read_to_string(format!("/proc/{harness}/task/{harness}/children"));
    let me = std::process::id();
    let alive = |pid: &i32| *pid != me as i32 && !matches!(watchdog::state_of(*pid), None | Some('Z' | 'X'));
    let pids: Vec<i32> =
        children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let name = |pid: i32| std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
    pids.into_iter()
        .filter(alive)
        .map(|pid| format!("process {pid} ({})", name(pid).unwrap_or_default().trim()))
        .collect()
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    let free = |deed| Coordinator { deed, guarded: false };
    let guarded = |deed| Coordinator { deed, guarded: true };
    vec![
        case("session-begin", "unguarded", free(Deed::Begin)),
        case("session-begin", "guarded", guarded(Deed::Begin)),
        case("create", "named", free(Deed::Create(What::Named))),
        case("create", "named-guarded", guarded(Deed::Create(What::Named))),
        case("create", "automatic-name", free(Deed::Create(What::Auto))),
        case("create", "unnamed-guarded", guarded(Deed::Create(What::Unnamed))),
        case("attach", "stranger-reads", Stranger { mode: Mode::ReadOnly }),
        case("attach", "stranger-writes", Stranger { mode: Mode::ReadWrite }),
        case("attach", "own-reads", free(Deed::AttachOwn(Mode::ReadOnly))),
        case("attach", "own-writes-guarded", guarded(Deed::AttachOwn(Mode::ReadWrite))),
        case("unlink", "unguarded", free(Deed::Unlink)),
        case("unlink", "guarded", guarded(Deed::Unlink)),
        case("unlink", "drop", free(Deed::Drop)),
        case("unlink", "drop-guarded", guarded(Deed::Drop)),
        case("session-end", "unguarded", free(Deed::End)),
        case("session-end", "guarded", guarded(Deed::End)),
        case("session-end", "leaked-segment", free(Deed::EndWithLeak)),
        case("clean", "after-a-kill", Clean),
    ]
}
