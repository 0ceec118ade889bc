//! The server: a process that accepts clients and has a thread for each of them.

use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use swath_platform::process;
use swath_platform::stream::{Listener, Stream};
use swath_sync::Event;

use super::fault::ManagedError;
use super::frame::{Frame, Head, receive, verb};
use super::house::House;
use super::step::encode;
use crate::limits::{HANDSHAKE, MANAGED_MESSAGE_BYTES, TERM_GRACE};
use crate::panic_note;
use crate::process::entry::executable;
use crate::shared::Shared;

/// How long the server waits before it accepts again, if the system has no room for a client.
const PAUSE: Duration = Duration::from_millis(10);
/// Of a client's thread: as much as a main thread has, for values that are nested deeply.
const STACK_BYTES: usize = 8 << 20;
/// The creator's own connection, which no client's keeps from being there.
const CREATORS: usize = 1;

/// What the server is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) address: String,
    pub(crate) secret: [u8; 16],
    /// Set when it listens.
    pub(crate) listens: Shared<Event>,
    pub(crate) clients_max: usize,
}

/// What a manager has to tell of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ManagerStats {
    /// Objects that it has.
    pub objects: usize,
    /// Connections that clients have now: one for each call under way, and a few that were kept for the next.
    pub clients: usize,
    /// Messages that were answered since it began; a batch is one.
    pub calls: u64,
}

struct Server {
    house: House,
    hello: Vec<u8>,
    clients: AtomicUsize,
    clients_max: usize,
    /// No call begins any more.
    ending: AtomicBool,
    /// Messages that have come, and are not answered.
    open: Mutex<usize>,
    answered: Condvar,
}

/// A client's place, given back on every way out.
struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A message that is not answered yet.
struct Open<'s>(&'s Server);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.0.open() -= 1;
        self.0.answered.notify_all();
    }
}

/// What a client says first: the secret, and which executable it is.
pub(crate) fn hello(secret: &[u8; 16]) -> Result<Vec<u8>, String> {
    let (dev, ino) = executable()?;
    let numbers = [dev, ino].map(u64::to_le_bytes);
    Ok([secret.as_slice(), numbers.as_flattened()].concat())
}

/// The function of the server's process.
pub(crate) fn main(charge: Charge) -> Result<(), String> {
    process::set_comm("swath-manager");
    process::raise_open_files();
    panic_note::install();
    let Charge { address, secret, listens, clients_max } = charge;
    let server = Arc::new(Server {
        house: House::default(),
        hello: hello(&secret)?,
        clients: AtomicUsize::new(0),
        clients_max: clients_max.saturating_add(CREATORS),
        ending: AtomicBool::new(false),
        open: Mutex::default(),
        answered: Condvar::new(),
    });
    let listener = Listener::bind(address.as_bytes()).map_err(|e| format!("a socket to listen at: {e}"))?;
    listens.set().map_err(|e| e.to_string())?;
    drop(listens);
    accept_for_ever(&server, &listener)
}

fn accept_for_ever(server: &Arc<Server>, listener: &Listener) -> ! {
    let spare = || File::open("/dev/null").ok();
    let mut kept = spare();
    loop {
        match listener.accept() {
            Ok(stream) => admit(server, stream),
            Err(error) => {
                // With the descriptor that was kept for this, the client can be told.
                drop(kept.take());
                if let Ok(stream) = listener.accept_now()
                    && is_of_our_user(&stream)
                {
                    refuse(&stream, &ManagedError::Full { what: error.to_string() });
                }
                std::thread::sleep(PAUSE);
            }
        }
        kept = kept.or_else(spare);
    }
}

/// Other users are told nothing.
fn is_of_our_user(stream: &Stream) -> bool {
    stream.peer().is_ok_and(|peer| peer.uid == process::geteuid())
}

fn refuse(stream: &Stream, why: &ManagedError) {
    // Whether it reads it is its own affair; a head and a sentence always fit.
    let _ = answer(stream, &Err(why.clone()), Some(Instant::now()));
}

fn admit(server: &Arc<Server>, stream: Stream) {
    if !is_of_our_user(&stream) {
        return;
    }
    let has = server.clients.fetch_add(1, Ordering::SeqCst);
    let place = Place(server.clone());
    if has >= server.clients_max {
        refuse(&stream, &ManagedError::Full { what: format!("it has {}", has - CREATORS) });
        return;
    }
    let stream = Arc::new(stream);
    let its = stream.clone();
    let body = move || {
        // Its end, in whatever way, is the end of this connection and of nothing else.
        let _ = place.0.serve(&its);
        drop(its);
    };
    let thread = std::thread::Builder::new().name("swath-client".into()).stack_size(STACK_BYTES);
    if let Err(error) = thread.spawn(body) {
        refuse(&stream, &ManagedError::Full { what: format!("a thread: {error}") });
    }
}

impl Server {
    fn serve(&self, stream: &Stream) -> io::Result<()> {
        self.shake_hands(stream)?;
        loop {
            // A call is often followed by the next one. Where others have calls, they need the processor more.
            swath_sync::spin(|| stream.is_disturbed() || *self.open() > 0);
            let received = receive(stream, MANAGED_MESSAGE_BYTES, None);
            if let Err(error) = &received
                && error.kind() == io::ErrorKind::OutOfMemory
            {
                refuse(stream, &ManagedError::Full { what: error.to_string() });
            }
            let Some((head, body)) = received? else { return Ok(()) };
            *self.open() += 1;
            let _open = Open(self);
            // Decoders, encoders and destructors are the program's own code, too.
            let given = panic_note::catching(AssertUnwindSafe(|| Ok(self.obey(stream, head, &body))));
            let given = given.unwrap_or_else(|what| Some(Err(ManagedError::panicked(&what))));
            drop(body);
            let Some(given) = given else { return Ok(()) };
            self.house.calls.fetch_add(1, Ordering::Relaxed);
            let told = answer(stream, &given, None);
            match (head.verb, given) {
                (verb::END, Ok(_)) => std::process::exit(0),
                (verb::MAKE, Ok(number)) if told.is_err() => self.unmake(&number),
                _ => {}
            }
            told?;
        }
    }

    fn open(&self) -> MutexGuard<'_, usize> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody will ever learn the number of this object.
    fn unmake(&self, number: &[u8]) {
        if let Ok(number) = number.try_into() {
            let _ = self.house.remove(u64::from_le_bytes(number));
        }
    }

    /// Garbage has no answer.
    fn shake_hands(&self, stream: &Stream) -> io::Result<()> {
        let deadline = Some(Instant::now() + HANDSHAKE);
        let Some((head, body)) = receive(stream, self.hello.len() as u64, deadline)? else { return Ok(()) };
        if head.verb != verb::HELLO || body.get(..16) != self.hello.get(..16) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if body != self.hello {
            let why = "the client runs another executable than the manager".to_owned();
            answer(stream, &Err(ManagedError::Refused { why }), deadline)?;
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        answer(stream, &Ok(Vec::new()), deadline)
    }

    /// Does what the message says; its answer. `None`: the client has gone away meanwhile, or everything ends.
    fn obey(&self, stream: &Stream, head: Head, body: &[u8]) -> Option<Result<Vec<u8>, ManagedError>> {
        let wanted = || !self.ending.load(Ordering::SeqCst) && !stream.is_disturbed();
        if head.verb != verb::END && self.ending.load(Ordering::SeqCst) {
            return None;
        }
        Some(match head.verb {
            verb::CALL => return self.house.call(head.object, body, false, wanted),
            verb::REPAIR => return self.house.call(head.object, body, true, wanted),
            verb::MAKE => {
                let made = self.house.make(body).map(|number| number.to_le_bytes().to_vec());
                if let Ok(number) = &made
                    && !wanted()
                {
                    self.unmake(number);
                    return None;
                }
                made
            }
            verb::REMOVE => self.house.remove(head.object).map(|()| Vec::new()),
            verb::STATS => encode(&ManagerStats {
                objects: self.house.len(),
                clients: self.clients.load(Ordering::Relaxed).saturating_sub(CREATORS),
                calls: self.house.calls.load(Ordering::Relaxed),
            }),
            verb::END => self.end(),
            other => Err(ManagedError::Codec { what: format!("a message of unknown kind {other}") }),
        })
    }
}

impl Server {
    /// No call begins any more; those at work have [`TERM_GRACE`] to end and to be answered; then all objects are dropped.
    fn end(&self) -> Result<Vec<u8>, ManagedError> {
        self.ending.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + TERM_GRACE;
        let others = |open: &mut usize| *open > 1;
        let _ = self.answered.wait_timeout_while(self.open(), TERM_GRACE, others);
        if self.house.clear(deadline) {
            return Ok(Vec::new());
        }
        Err(ManagedError::Refused { why: "a function is still at work".to_owned() })
    }
}

fn answer(
    stream: &Stream,
    given: &Result<Vec<u8>, ManagedError>,
    deadline: Option<Instant>,
) -> io::Result<()> {
    let bytes = given.as_ref().map_or(0, |body| body.len() as u64);
    let too_long = (bytes > MANAGED_MESSAGE_BYTES).then_some(ManagedError::TooLong { bytes });
    let whole = match given.as_ref().map_err(|error| error.clone()).and_then(|body| match too_long {
        Some(error) => Err(error),
        None => Ok(body),
    }) {
        Ok(body) => Frame::with(body).seal(verb::DONE, 0),
        Err(error) => Frame::with(&encode(&error).unwrap_or_default()).seal(verb::REFUSED, 0),
    };
    stream.send_all(&whole, deadline)
}
