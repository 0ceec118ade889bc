//! The server: a process that accepts clients and has a thread for each of them.

use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use swath_platform::process;
use swath_platform::stream::{Listener, Stream};
use swath_sync::Event;

use super::fault::ManagedError;
use super::frame::{Frame, Head, receive, verb};
use super::house::House;
use super::step::encode;
use crate::limits::{HANDSHAKE, MANAGED_MESSAGE_BYTES};
use crate::panic_note;
use crate::process::entry::executable;
use crate::shared::Shared;

/// How long the server waits before it accepts again, if the system has no room for a client.
const PAUSE: Duration = Duration::from_millis(10);

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
    /// Connections that clients have now. A process has as many as it has had calls at the same time.
    pub clients: usize,
    /// Messages that were answered since it began; a batch is one.
    pub calls: u64,
}

struct Server {
    house: House,
    hello: Vec<u8>,
    clients: AtomicUsize,
    clients_max: usize,
}

/// What a client says first: the secret, and which executable it is.
pub(crate) fn hello(secret: &[u8; 16]) -> Result<Vec<u8>, String> {
    let (dev, ino, size, mtime) = executable()?;
    let numbers = [dev, ino, size, mtime as u64].map(u64::to_le_bytes);
    Ok([secret.as_slice(), numbers.as_flattened()].concat())
}

/// The function of the server's process.
pub(crate) fn main(charge: Charge) -> Result<(), String> {
    process::set_comm("swath-manager");
    process::raise_open_files();
    panic_note::install();
    let Charge { address, secret, listens, clients_max } = charge;
    let server =
        Server { house: House::default(), hello: hello(&secret)?, clients: AtomicUsize::new(0), clients_max };
    let server = Arc::new(server);
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
                if let Ok(stream) = listener.accept_now() {
                    refuse(&stream, &ManagedError::Full { what: error.to_string() });
                }
                std::thread::sleep(PAUSE);
            }
        }
        kept = kept.or_else(spare);
    }
}

fn refuse(stream: &Stream, why: &ManagedError) {
    // Whether it reads it is its own affair; a head and a sentence always fit.
    let _ = answer(stream, &Err(why.clone()), Some(Instant::now()));
}

fn admit(server: &Arc<Server>, stream: Stream) {
    // Other users are told nothing.
    if stream.peer().map_or(true, |peer| peer.uid != process::geteuid()) {
        return;
    }
    if server.clients.fetch_add(1, Ordering::SeqCst) >= server.clients_max {
        refuse(&stream, &ManagedError::Full { what: format!("it has {}", server.clients_max) });
        server.clients.fetch_sub(1, Ordering::SeqCst);
        return;
    }
    let stream = Arc::new(stream);
    let (mine, its) = (server.clone(), stream.clone());
    let body = move || {
        // Its end, in whatever way, is the end of this connection and of nothing else.
        let _ = mine.serve(&its);
        drop(its);
        mine.clients.fetch_sub(1, Ordering::SeqCst);
    };
    if let Err(error) = std::thread::Builder::new().name("swath-client".into()).spawn(body) {
        server.clients.fetch_sub(1, Ordering::SeqCst);
        refuse(&stream, &ManagedError::Full { what: format!("a thread: {error}") });
    }
}

impl Server {
    fn serve(&self, stream: &Stream) -> io::Result<()> {
        self.shake_hands(stream)?;
        while let Some((head, body)) = receive(stream, MANAGED_MESSAGE_BYTES, None)? {
            // Decoders, encoders and destructors are the program's own code, too.
            let given = panic_note::catching(AssertUnwindSafe(|| Ok(self.obey(stream, head, &body))));
            let given = given.unwrap_or_else(|what| Some(Err(ManagedError::panicked(&what))));
            drop(body);
            let Some(given) = given else { return Ok(()) };
            self.house.calls.fetch_add(1, Ordering::Relaxed);
            answer(stream, &given, None)?;
            if head.verb == verb::END && given.is_ok() {
                std::process::exit(0);
            }
        }
        Ok(())
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

    /// Does what the message says; its answer. `None`: the client has gone away meanwhile.
    fn obey(&self, stream: &Stream, head: Head, body: &[u8]) -> Option<Result<Vec<u8>, ManagedError>> {
        let wanted = || !stream.is_disturbed();
        Some(match head.verb {
            verb::CALL => return self.house.call(head.object, body, false, wanted),
            verb::REPAIR => return self.house.call(head.object, body, true, wanted),
            verb::MAKE => self.house.make(body).map(|number| number.to_le_bytes().to_vec()),
            verb::REMOVE => self.house.remove(head.object).map(|()| Vec::new()),
            verb::STATS => encode(&ManagerStats {
                objects: self.house.len(),
                clients: self.clients.load(Ordering::Relaxed),
                calls: self.house.calls.load(Ordering::Relaxed),
            }),
            verb::END => {
                self.house.clear();
                Ok(Vec::new())
            }
            other => Err(ManagedError::Codec { what: format!("a message of unknown kind {other}") }),
        })
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
