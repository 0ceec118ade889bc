//! Starting a process by exec, on the service thread: steps P1 to P3 of the protocol, and its end, E1 to E3.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swath_array::travel::Lent;
use swath_platform::spawn::{Child, SpawnSelf};
use swath_platform::{file, process};
use swath_segment::{Keep, Object, Reactor, Service, Session, environment};
use swath_sync::{DeathCause, SlotId, Witness};

use super::allowance::Limits;
use super::builder::{Input, Output};
use super::errand::{Errand, Functions, Reply};
use super::parcel;
use super::record::{About, Before, Reaper, Record, Said};
use super::{entry, lineage, roll};
use crate::error::{Error, ErrorKind, Result};
use crate::head_count;
use crate::init;
use crate::log::place::{BELL_FD, RING_FD};
use crate::log::{self, Journal};
use crate::memory_file::{self, Place};
use crate::output::{Lines, Stream};
use crate::relay::{Outlet, Tap};

/// How a process is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) name: Option<String>,
    /// `None` removes a variable.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) daemon: bool,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) takes_group_along: bool,
    pub(crate) log: log::Options,
}

/// Arguments, encoded, and the shared objects in them: they live at least as long as the process that is to find them.
pub(crate) struct Luggage {
    pub(crate) args: Vec<u8>,
    pub(crate) objects: Vec<Arc<Object>>,
    /// Of the handles in them.
    pub(crate) lent: Lent,
}

/// What is kept while the process lives.
struct Kept {
    objects: Vec<Arc<Object>>,
    lent: Lent,
    parcel: File,
    tap: Option<Tap>,
    session: Arc<Session>,
}

impl Kept {
    /// The session last: it ends here, if nobody else has it.
    fn let_go(self) {
        let Kept { objects, lent, parcel, tap, session } = self;
        drop((objects, lent, parcel));
        tap.into_iter().for_each(Tap::close);
        drop(session);
    }
}

pub(crate) fn failed(what: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |error| ErrorKind::Spawn.with(format!("{what}: {error}")).caused_by(error)
}

impl Settings {
    /// Its name, or a number in the order of starts.
    pub(crate) fn name(&self) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed) + 1;
        self.name.clone().unwrap_or_else(|| format!("process-{number}"))
    }

    /// What can be said to be wrong before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(cwd) = &self.cwd {
            let wrong =
                |why: String| ErrorKind::Usage.with(format!("{} as a directory: {why}", cwd.display()));
            let meta = std::fs::metadata(cwd).map_err(|e| wrong(e.to_string()))?;
            if !meta.is_dir() {
                return Err(wrong("it is none".to_owned()));
            }
        }
        let possible = |text: &OsStr, signs: &[u8]| !text.as_bytes().iter().any(|byte| signs.contains(byte));
        for (name, value) in &self.env {
            let value = value.as_deref().unwrap_or_default();
            if name.is_empty() || !possible(name, b"=\0") || !possible(value, b"\0") {
                let text = format!("{name:?}={value:?} cannot be in an environment");
                return Err(ErrorKind::Usage.with(text));
            }
        }
        Ok(())
    }

    /// The environment of now, with the session's mark, as these settings change it.
    fn environment(&self, session: &Session) -> Vec<CString> {
        let mut all = environment(Some(session.id()));
        for (name, value) in &self.env {
            let head = [name.as_bytes(), b"="].concat();
            all.retain(|entry| !entry.as_bytes().starts_with(&head));
            let entry = value.as_ref().map(|value| [&head, value.as_bytes()].concat());
            // Checked before: no NUL.
            all.extend(entry.and_then(|bytes| CString::new(bytes).ok()));
        }
        all
    }
}

/// Standard input, output and error of a process to be, and its log: what is given to it, and what reads it.
struct Streams {
    given: [Option<OwnedFd>; 3],
    ring: File,
    bell: RawFd,
}

/// Their readers.
struct Readers {
    outlet: Outlet,
    /// Of its lines, if they are passed on.
    tap: Option<Tap>,
    journal: Arc<Journal>,
}

impl Streams {
    fn open(name: &str, settings: &Settings) -> Result<(Streams, Readers)> {
        let null = || File::options().read(true).write(true).open("/dev/null").map_err(failed("/dev/null"));
        // Inherited, but we have none ourselves.
        let inherited = |fd: RawFd| if file::is_open(fd) { Ok(None) } else { null().map(|f| Some(f.into())) };
        let mut lines = Vec::new();
        let mut output = |output: Output, fd: RawFd, stream: Stream| match output {
            Output::Inherit => inherited(fd),
            Output::Null => null().map(|f| Some(OwnedFd::from(f))),
            Output::Lines => {
                let (reader, writer) = io::pipe().map_err(failed("a pipe for its output"))?;
                lines.push(Lines::new(File::from(OwnedFd::from(reader)), stream));
                Ok(Some(OwnedFd::from(writer)))
            }
        };
        let stdin = match settings.stdin {
            Input::Inherit => inherited(0)?,
            Input::Null => Some(null()?.into()),
        };
        let given =
            [stdin, output(settings.stdout, 1, Stream::Out)?, output(settings.stderr, 2, Stream::Err)?];
        let (journal, ring) = Journal::of_process(name, &settings.log)?;
        let outlet = Outlet::default();
        let failed = |why| ErrorKind::Spawn.with(why);
        let bell = Outlet::bell().map_err(failed)?;
        let tap = (!lines.is_empty()).then(|| outlet.open(lines).map_err(failed)).transpose()?;
        let tap = tap.map(|(tap, _)| tap);
        Ok((Streams { given, ring, bell }, Readers { outlet, tap, journal }))
    }

    fn fds(&self) -> Vec<(RawFd, RawFd)> {
        let fd = |(own, at): (&Option<OwnedFd>, RawFd)| (own.as_ref().map_or(at, |own| own.as_raw_fd()), at);
        let log = [(self.bell, BELL_FD), (self.ring.as_raw_fd(), RING_FD)];
        self.given.iter().zip(0..).map(fd).chain(log).collect()
    }
}

/// Starts a process for this errand.
pub(crate) fn launch(
    mut settings: Settings,
    functions: Functions,
    luggage: Luggage,
    reply: Option<Reply>,
) -> Result<Arc<Record>> {
    if !init::is_initialised() {
        return Err(ErrorKind::NotInitialised.with(
            "a process is this executable started again: call swath::init() first in main \
             (in tests and benches: swath::worker_entry!();)",
        ));
    }
    let depth = lineage::next_depth()?;
    settings.check()?;
    settings.log.prepare()?;
    let session = Session::current_unguarded()?;
    let name = settings.name();
    let errand = Errand {
        functions,
        executable: entry::executable().map_err(|why| ErrorKind::Spawn.with(why))?,
        name: name.clone(),
        starter_name: lineage::current_process().name().to_owned(),
        cwd: settings.cwd.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        limits: settings.limits,
        processors: head_count::budget(),
        reply,
    };
    let errand = postcard::to_stdvec(&errand).map_err(|e| ErrorKind::Codec.with(e.to_string()))?;
    let (parcel, place) = memory_file::new("swath-errand").map_err(failed("memory for its arguments"))?;
    parcel::write(&parcel, [&errand, &luggage.args]).map_err(failed("memory for its arguments"))?; // P1
    let (streams, Readers { outlet, tap, journal }) = Streams::open(&name, &settings)?;
    let about = About {
        name,
        daemon: settings.daemon,
        limits: settings.limits,
        takes_group_along: settings.takes_group_along,
        said: Some(Said { outlet, journal }),
    };
    let env = settings.environment(&session);
    let Luggage { objects, lent, .. } = luggage;
    let kept = Kept { objects, lent, parcel, tap, session };
    let before = Before::now();
    Service::global().call(|reactor| {
        let (slot, child) = spawn(reactor, &kept.session, env, &streams, depth, place)?; // P2
        kept.session.guard_now(reactor);
        let (table, starter) = (kept.session.slots(), kept.session.slot());
        let reaper = Reaper::Service { table, starter };
        let record = Arc::new(Record::new(about, child.pid, child.pidfd, reaper, before));
        roll::enter(&record);
        record.about.said.iter().for_each(Said::follow);
        watch(reactor, &record, kept, slot);
        // Only now may it begin: whoever holds a lock must be somebody whose end is noticed.
        let ticks = process::start_ticks(record.pid).unwrap_or(0);
        // SAFETY: it was spawned for this slot.
        unsafe { table.started(slot, record.pid, ticks, Witness::Service) }; // P3
        Ok(record)
    })
}

fn spawn(
    reactor: &mut Reactor,
    session: &Session,
    env: Vec<CString>,
    streams: &Streams,
    depth: u32,
    place: Place,
) -> Result<(SlotId, Child)> {
    let slots = session.slots();
    let full =
        || ErrorKind::Spawn.with("all places in the session are taken (limits of swath::sync: SLOTS_MAX)");
    let slot = slots.reserve().ok_or_else(full)?;
    let numbers = [u64::from(depth), place.fd as u64, place.dev, place.ino];
    let mut argv = vec!["swath-worker".to_owned(), "3".to_owned()];
    argv.extend([slot.index, slot.generation].map(|number| number.to_string()));
    argv.push(init::PROCESS.to_owned());
    argv.extend(numbers.map(|number| number.to_string()));
    let mut fds = streams.fds();
    fds.push((session.worker_control_fd(), 3));
    let text = |text: String| CString::new(text).expect("words and numbers have no NUL");
    let argv = argv.into_iter().map(text).collect();
    let child = reactor.spawn(&SpawnSelf { argv, env: Some(env), fds, new_group: true });
    let child = child.map_err(failed("spawn of /proc/self/exe")).inspect_err(|_| {
        // SAFETY: there is no process for it.
        unsafe { slots.mark_dead(slot, DeathCause::UNKNOWN) };
        slots.release(slot);
    })?;
    Ok((slot, child))
}

/// E1 to E3, when its exit is confirmed.
fn watch(reactor: &mut Reactor, record: &Arc<Record>, kept: Kept, slot: SlotId) {
    let fd = record.pidfd().as_raw_fd();
    let mut mine = Some((record.clone(), kept));
    let ended = move |reactor: &mut Reactor| {
        if let Some((record, kept)) = mine.take() {
            let status = record.reap().status; // E1
            let slots = kept.session.slots();
            // SAFETY: its pidfd says that it has exited.
            unsafe { slots.mark_dead(slot, status.cause()) }; // E2
            slots.release(slot);
            kept.let_go(); // E3
            record.about.said.iter().for_each(Said::entrust);
            // If the session has ended with it, the reactor still watches the guardian's end: in the next turn no more.
            let tell = move |_: &mut Reactor| {
                roll::leave(&record);
                let fate = record.fate().clone();
                drop(record);
                fate.publish();
            };
            let next_turn = |reactor: &mut Reactor| {
                reactor.after(Duration::ZERO, Box::new(tell));
            };
            reactor.after(Duration::ZERO, Box::new(next_turn));
        }
        Keep::No
    };
    reactor.watch(fd, Box::new(ended));
}
