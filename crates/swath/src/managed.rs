//! Managed objects: lists, dictionaries, sets, counters, namespaces and types of one's own that live in a server process, and are used
//! by everybody who has a proxy of them.
//!
//! ```no_run
//! use swath::managed::{Counter, Dict, List};
//! use swath::prelude::*;
//!
//! fn count((words, lines): (Counter<String>, Dict<String, List<u32>>)) {
//!     words.add("hello", 1).expect("the manager lives");
//!     let line = lines.get("first").expect("the manager lives").expect("it is there");
//!     line.push(7).expect("the manager lives"); // changes the one list that there is
//! }
//!
//! fn main() -> Result<()> {
//!     swath::init();
//!     let manager = Manager::new()?;
//!     let (words, lines) = (manager.counter()?, manager.dict()?);
//!     lines.insert("first", manager.list()?)?;
//!     Process::spawn(count, (words.clone(), lines.clone()))?.join()?;
//!     assert_eq!(words.get("hello")?, 1);
//!     Ok(())
//! }
//! ```
//!
//! What is small, or fast, needs no manager: [`Shared`] locks, queues, events and values are words in memory, and
//! a call of theirs is no message. A manager is for what grows, and has keys, and for what cannot lie in shared memory at all.
//!
//! # What holds
//!
//! - **A call is one message and one turn.** So is a [batch](Proxy::batch), and a function that works on the whole object
//!   ([`Proxy::apply`]) or on one value in it (`update`): no update is lost, nobody sees what is in between, no lock is held from outside.
//! - **A proxy is a reference.** It goes into arguments, results, and other managed objects; what is changed through it is changed.
//! - **Half a message is none.** It is decoded to its last byte before anything begins. A client that is killed, or hangs, in the middle of one
//!   keeps nobody waiting. A call whose client has gone when its turn comes is not made.
//! - **A manager that ends is an error at once**, everywhere: [`ErrorKind::ManagerGone`], with the cause where
//!   it is known, which is where it was started. Its objects are lost.
//! - **Nothing is left.** The server is a [`Process`], a daemon: it ends when its [`Manager`] is dropped, when its starter ends,
//!   and when that is killed. Its socket has no name in the file system.
//! - **A late answer is not taken for another's**: after a time-out or any other fault the connection is given up.
//!
//! What does not hold: an object is not counted by its proxies. It lives until [`Proxy::delete`] or its manager's end, since what counts
//! proxies miscounts with every client that is killed. A task that is run again after a death makes its calls again. And a function that
//! panics half-way has changed what it has changed: the object is *poisoned*, every call of it an error, until
//! [`Proxy::repair`]. A [`Shared`] that lies in a managed object lives as long as whoever made it keeps it. A function that is
//! at work on an object and calls *others* may wait for somebody who waits for it: give such calls a time ([`Proxy::within`]).
//!
//! # The protocol
//!
//! Frames over a stream socket: a head of three words (length of the body, verb, object), then the body. Functions travel by their place
//! in the executable, as kernels do; values by postcard.
//!
//! | step | who | what | killed here → repaired there |
//! |---|---|---|---|
//! | M1 | creator | draws an address and a secret, starts the server as a process | its own steps P1 to E3 |
//! | M2 | server | listens at the address (abstract: no file), sets an event | the creator waits for both, event and end |
//! | M3 | client | connects; both sides see by the kernel whose the other end is: same user, and for the client the very pid | the socket's end is noticed by the other one |
//! | M4 | client | hello: the secret, which only proxies have, and the identity of its executable. Without it nothing is answered, but that the manager is full. Who was too slow for it, and was hung up on, tries again | thread of the server ends |
//! | M5 | client | a frame: steps, each a driver, a function, its arguments | no whole frame: nothing happens |
//! | M6 | server | decodes all steps, compares types | – |
//! | M7 | server | waits for the object, looking after every slice whether the client is still there; takes it, if the client is still there then; runs the steps | the client's death changes nothing any more: they take effect |
//! | M8 | server | gives the object back, encodes the answers, sends them. An object that was just made, and whose number cannot be told, is dropped | – |
//! | M9 | client | keeps the connection for the next call, if it has not enough of them; after an error it drops it | – |
//! | M10 | creator | at the end, over a connection that was kept for it since M2: no call begins any more, those at work may end and be answered, objects are dropped, the oldest first | it kills the server, or its death does |
//!
//! The server has a thread for each connection; a process has one for each of its calls under way and keeps a few, whichever threads made
//! them, so threads that end leave none behind. A forked copy makes its own.
//! An object's number is never used twice.

mod counter;
mod dict;
mod fault;
mod frame;
mod house;
mod list;
mod namespace;
mod proxy;
mod server;
mod set;
mod site;
mod step;

pub use counter::{Counter, Tally};
pub use dict::Dict;
pub use fault::ManagedError;
pub use list::List;
pub use namespace::{Names, Namespace};
pub use proxy::{Answers, Batch, Like, Managed, Proxy, Ticket};
pub use server::ManagerStats;
pub use set::Set;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use swath_platform::stream::Stream;
use swath_platform::{file, process};
use swath_sync::Event;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{INITIALIZER_TIMEOUT, MANAGED_CLIENTS, MANAGED_END, TERM_GRACE};
use crate::process::{Limits, Process};
use crate::shared::{self, Shared};
use frame::{Frame, verb};
use server::Charge;
use site::{Address, Clock, Patience, STATUS_WITHIN, Site};
use step::put_make;

/// What may travel to a manager and back, and stay there: every serde type without references.
pub trait Value: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Value for T {}

/// A server process that has objects for others: see the [module](self).
///
/// It ends when this value is dropped, and its objects with it.
pub struct Manager {
    reference: ManagerRef,
    process: Process,
    /// Kept for its end, which must not depend on whether there is room for a client.
    line: Stream,
}

/// How a manager is to be; made by [`Manager::builder`].
#[derive(Clone, Debug)]
#[must_use = "a manager is started by start"]
pub struct ManagerBuilder {
    name: String,
    timeout: Option<Duration>,
    clients_max: usize,
    limits: Limits,
}

impl ManagerBuilder {
    /// A name, for messages; `manager` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long a call may take where nothing else is said: proxies carry it wherever they go. For ever by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Connections at a time; [`MANAGED_CLIENTS`] by default. A process needs one for each call under way, and keeps up to four.
    pub fn clients_max(mut self, clients: usize) -> Self {
        self.clients_max = clients;
        self
    }

    /// What the server may use; what this program may by default.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts the server, and waits until it listens.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]; [`Spawn`](ErrorKind::Spawn) if it ends before it listens: it says why on its standard error.
    pub fn start(self) -> Result<Manager> {
        let ManagerBuilder { name, timeout, clients_max, limits } = self;
        let mut random = [0; 32];
        let no_random = |e| ErrorKind::Spawn.with(format!("random numbers: {e}")).caused_by(e);
        file::random(&mut random).map_err(no_random)?;
        let (id, secret) = random.split_at(16);
        let secret = secret.try_into().expect("sixteen bytes");
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let socket = format!("swath-manager-{hex}");
        let listens = Shared::new(Event::new())?;
        let charge = Charge { address: socket.clone(), secret, listens: listens.clone(), clients_max };
        let builder = Process::builder().name(&name).daemon(true).limits(limits);
        let process = builder.spawn(server::main, charge)?;
        let _ = shared::wait_any_timeout(&[&process, &listens], INITIALIZER_TIMEOUT);
        let pid = process.id();
        let start_ticks = process::start_ticks(pid).unwrap_or(0);
        let silent = || {
            let why = process.failure().map_or_else(|| "it does not listen".to_owned(), |f| f.to_string());
            ErrorKind::Spawn.with(format!("{name} did not begin: {why}"))
        };
        let site = Site::of(Address { name: name.clone(), socket, secret, pid, start_ticks, timeout });
        site.is_ours(process.clone());
        let line = match listens.is_set() {
            Ok(true) => {
                site.connect(&Clock::of(Patience::Each(INITIALIZER_TIMEOUT), None)).map_err(Error::from)
            }
            Ok(false) => Err(silent()),
            Err(error) => Err(error.into()),
        };
        let line = line.inspect_err(|_| {
            let _ = process.kill();
            let _ = process.join();
            site.forget();
        })?;
        Ok(Manager { reference: ManagerRef::new(site, Patience::Default), process, line })
    }
}

impl Manager {
    /// Starts a manager.
    ///
    /// # Errors
    ///
    /// As [`ManagerBuilder::start`].
    pub fn new() -> Result<Manager> {
        Manager::builder().start()
    }

    /// A manager to be.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder {
            name: "manager".to_owned(),
            timeout: None,
            clients_max: MANAGED_CLIENTS,
            limits: Limits::new(),
        }
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What workers are given to make objects with.
    pub fn reference(&self) -> ManagerRef {
        self.reference.clone()
    }

    /// Ends it. No call begins any more; those at work have [`TERM_GRACE`] to end, and are answered. Then its objects are dropped, the
    /// oldest first, in [`MANAGED_END`] at most. What takes longer is killed.
    pub fn shutdown(self) {}
}

impl Drop for Manager {
    fn drop(&mut self) {
        // A forked copy of the process that has started it.
        if !self.process.record().is_ours() {
            return;
        }
        let site = &self.reference.site;
        let told = site.ask_over(&self.line, verb::END, Patience::Each(TERM_GRACE + MANAGED_END));
        let ended = told.is_ok() && matches!(self.process.join_timeout(TERM_GRACE), Ok(Some(_)));
        if !ended {
            let _ = self.process.kill();
            let _ = self.process.join();
        }
        // Proxies that are left keep the cause, and nothing else.
        let _ = site.end(STATUS_WITHIN);
        site.forget();
    }
}

impl Deref for Manager {
    type Target = ManagerRef;

    fn deref(&self) -> &ManagerRef {
        &self.reference
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.process.fmt(f)
    }
}

/// A manager, as whoever does not own it has it: objects can be made with it, anywhere. It is `Clone` and serde.
#[derive(Clone)]
pub struct ManagerRef {
    site: Arc<Site>,
    patience: Patience,
}

impl ManagerRef {
    pub(crate) fn new(site: Arc<Site>, patience: Patience) -> ManagerRef {
        ManagerRef { site, patience }
    }

    /// An empty list.
    pub fn list<T: Value>(&self) -> Result<List<T>> {
        self.host(|()| Vec::new(), ())
    }

    /// A list of these values.
    pub fn list_of<T: Value>(&self, values: impl Like<Vec<T>>) -> Result<List<T>> {
        self.make(|values: Vec<T>| values, &values)
    }

    /// An empty dictionary.
    pub fn dict<K: Value + Ord, V: Value>(&self) -> Result<Dict<K, V>> {
        self.host(|()| BTreeMap::new(), ())
    }

    /// A dictionary of these items.
    pub fn dict_of<K: Value + Ord, V: Value>(&self, items: impl Like<Vec<(K, V)>>) -> Result<Dict<K, V>> {
        self.make(|items: Vec<(K, V)>| items.into_iter().collect(), &items)
    }

    /// An empty set.
    pub fn set<T: Value + Ord>(&self) -> Result<Set<T>> {
        self.host(|()| BTreeSet::new(), ())
    }

    /// A set of these values.
    pub fn set_of<T: Value + Ord>(&self, values: impl Like<Vec<T>>) -> Result<Set<T>> {
        self.make(|values: Vec<T>| values.into_iter().collect(), &values)
    }

    /// A namespace without names.
    pub fn namespace(&self) -> Result<Namespace> {
        self.host(|()| Names::default(), ())
    }

    /// A counter that has counted nothing.
    pub fn counter<K: Value + Ord>(&self) -> Result<Counter<K>> {
        self.host(|()| Tally::default(), ())
    }

    /// An object of any type, made by `make(args)` in the manager's process: it never travels, so it may have files, connections,
    /// whatever. With [`Managed`] it has calls of its own; without, [`Proxy::apply`] works on it.
    ///
    /// # Errors
    ///
    /// Those of [`ManagedError`].
    pub fn host<A: Serialize + DeserializeOwned, M: Send + 'static>(
        &self,
        make: fn(A) -> M,
        args: A,
    ) -> Result<Proxy<M>> {
        self.make(make, &args)
    }

    fn make<A: DeserializeOwned, M: Send + 'static>(
        &self,
        make: fn(A) -> M,
        args: &impl Serialize,
    ) -> Result<Proxy<M>> {
        let mut frame = Frame::new();
        put_make(frame.body(), make, args)?;
        let answer = self.site.ask(verb::MAKE, 0, frame, self.patience)?;
        let number = answer.try_into().map(u64::from_le_bytes);
        let number =
            number.map_err(|_| ManagedError::Codec { what: "the number of an object".to_owned() })?;
        Ok(Proxy::new(self.site.clone(), number, self.patience))
    }

    /// What the manager has to tell of itself.
    pub fn stats(&self) -> Result<ManagerStats> {
        let answer = self.site.ask(verb::STATS, 0, Frame::new(), self.patience)?;
        let failed = |e| ManagedError::Codec { what: format!("its statistics: {e}") };
        Ok(postcard::from_bytes(&answer).map_err(failed)?)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.site.address.name
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.site.address.pid
    }

    /// The same manager, each call of which, and of what is made by it, takes at most `limit`.
    pub fn within(&self, limit: Duration) -> ManagerRef {
        ManagerRef::new(self.site.clone(), Patience::Each(limit))
    }

    /// The same, whose calls end at `deadline`.
    pub fn until(&self, deadline: Instant) -> ManagerRef {
        ManagerRef::new(self.site.clone(), Patience::Until(deadline))
    }
}

impl fmt::Debug for ManagerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.site.fmt(f)
    }
}

#[derive(Serialize, Deserialize)]
struct Travelling {
    address: Address,
    limit: Option<Duration>,
}

impl Serialize for ManagerRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Travelling { address: self.site.address.clone(), limit: self.patience.travelling() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ManagerRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ManagerRef, D::Error> {
        let Travelling { address, limit } = Travelling::deserialize(deserializer)?;
        Ok(ManagerRef::new(Site::of(address), limit.map_or(Patience::Default, Patience::Each)))
    }
}
