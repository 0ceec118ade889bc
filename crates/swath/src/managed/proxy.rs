//! Proxies: an object of a manager, as everybody else has it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ManagerRef;
use super::fault::ManagedError;
use super::frame::{Frame, take_run, verb};
use super::site::{Address, Patience, Site};
use super::step::put_step;
use crate::error::{Error, Result};

/// A type of one's own in a manager: it is made there, stays there, and is asked by messages. Several processes ask it, one at a time.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use swath::{Managed, Manager};
///
/// struct Account(i64);
///
/// #[derive(Serialize, Deserialize)]
/// enum Ask {
///     Deposit(i64),
///     Withdraw(i64),
/// }
///
/// impl Managed for Account {
///     type Call = Ask;
///     type Answer = Result<i64, String>;
///
///     fn call(&mut self, call: Ask) -> Result<i64, String> {
///         match call {
///             Ask::Deposit(amount) => self.0 += amount,
///             Ask::Withdraw(amount) if amount <= self.0 => self.0 -= amount,
///             Ask::Withdraw(amount) => return Err(format!("{amount} of {}", self.0)),
///         }
///         Ok(self.0)
///     }
/// }
///
/// # fn main() -> swath::Result<()> {
/// let manager = Manager::new()?;
/// let account = manager.host(Account, 100)?;
/// assert_eq!(account.call(Ask::Withdraw(30))?, Ok(70));
/// # Ok(()) }
/// ```
pub trait Managed: Send + 'static {
    /// What it can be asked.
    type Call: Serialize + DeserializeOwned + 'static;
    /// What it answers.
    type Answer: Serialize + DeserializeOwned + 'static;

    /// Does what it is asked, in the manager's process. No two calls of one object run at the same time.
    fn call(&mut self, call: Self::Call) -> Self::Answer;
}

/// What is encoded as a `T` is: a `T`, a reference to one, and text and slices for their owned forms.
pub trait Like<T: ?Sized>: Serialize {}

impl<T: Serialize> Like<T> for T {}
impl<T: Serialize> Like<T> for &T {}
impl Like<String> for &str {}
impl<T: Serialize> Like<Vec<T>> for &[T] {}

/// An object of type `M` in a manager. See the [module](super).
///
/// It is `Clone` (the same object) and serde: put it into arguments, results, other managed objects. The object lives until it is
/// deleted or its manager ends, whoever has a proxy or has none.
pub struct Proxy<M: 'static> {
    site: Arc<Site>,
    object: u64,
    patience: Patience,
    marker: PhantomData<fn(&mut M)>,
}

impl<M: 'static> Proxy<M> {
    pub(crate) fn new(site: Arc<Site>, object: u64, patience: Patience) -> Proxy<M> {
        Proxy { site, object, patience, marker: PhantomData }
    }

    /// Calls `f` on the object, in the manager's process, in one turn: nobody sees what is in between. A `f` that panics
    /// poisons the object.
    ///
    /// ```no_run
    /// # fn main() -> swath::Result<()> {
    /// let manager = swath::Manager::new()?;
    /// let list = manager.list_of(vec![2.5, 1.5])?;
    /// list.apply(|list, ()| list.sort_by(f64::total_cmp), ())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`ManagedError`], as every method here.
    pub fn apply<A, R>(&self, f: fn(&mut M, A) -> R, args: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.step(f, &args)
    }

    /// As [`Proxy::apply`], with arguments that are encoded as an `A` is.
    pub(crate) fn step<A, R>(&self, f: fn(&mut M, A) -> R, args: &impl Serialize) -> Result<R>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let mut batch = self.batch();
        let answer = batch.step(f, args);
        batch.run()?.take(answer)
    }

    /// Several calls that are one message and one turn: all of them take effect, one directly after the other, or none does. If one of
    /// them panics, those before it stay, and the object is poisoned.
    pub fn batch(&self) -> Batch<'_, M> {
        static BATCHES: AtomicU64 = AtomicU64::new(0);
        let id = BATCHES.fetch_add(1, Ordering::Relaxed);
        Batch { proxy: self, frame: Frame::new(), steps: 0, wrong: None, id }
    }

    /// The same object, each call of which takes at most `limit`.
    pub fn within(&self, limit: Duration) -> Proxy<M> {
        Proxy::new(self.site.clone(), self.object, Patience::Each(limit))
    }

    /// The same object, whose calls end at `deadline`.
    pub fn until(&self, deadline: Instant) -> Proxy<M> {
        Proxy::new(self.site.clone(), self.object, Patience::Until(deadline))
    }

    /// Makes an object whole that a panic has left half changed, and lets others call it again.
    pub fn repair<A>(&self, f: fn(&mut M, A), args: A) -> Result<()>
    where
        A: Serialize + DeserializeOwned + 'static,
    {
        let mut frame = Frame::new();
        put_step(frame.body(), f, &args)?;
        Ok(self.site.ask(verb::REPAIR, self.object, frame, self.patience).map(drop)?)
    }

    /// Removes the object from its manager. Every later call of it, by whomever, is an error.
    pub fn delete(self) -> Result<()> {
        Ok(self.site.ask(verb::REMOVE, self.object, Frame::new(), self.patience).map(drop)?)
    }

    /// The manager that has it.
    pub fn manager(&self) -> ManagerRef {
        ManagerRef::new(self.site.clone(), self.patience)
    }

    /// Whether both are the same object.
    pub fn is_same_as(&self, other: &Proxy<M>) -> bool {
        self.object == other.object && self.site.address.socket == other.site.address.socket
    }
}

impl<M: Managed> Proxy<M> {
    /// Asks the object.
    pub fn call(&self, call: M::Call) -> Result<M::Answer> {
        self.apply(M::call, call)
    }

    /// Asks several things in one turn; the answers, in order.
    pub fn call_all(&self, calls: impl IntoIterator<Item = M::Call>) -> Result<Vec<M::Answer>> {
        let mut batch = self.batch();
        let tickets: Vec<_> = calls.into_iter().map(|call| batch.apply(M::call, call)).collect();
        let mut answers = batch.run()?;
        tickets.into_iter().map(|ticket| answers.take(ticket)).collect()
    }
}

impl<M: 'static> Clone for Proxy<M> {
    fn clone(&self) -> Proxy<M> {
        Proxy::new(self.site.clone(), self.object, self.patience)
    }
}

impl<M: 'static> fmt::Debug for Proxy<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {} ({}) of {:?}", self.object, std::any::type_name::<M>(), self.site)
    }
}

/// A proxy on its way. A deadline travels as what is left of it for each call.
#[derive(Serialize, Deserialize)]
struct Travelling {
    address: Address,
    object: u64,
    limit: Option<Duration>,
}

impl<M: 'static> Serialize for Proxy<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let limit = self.patience.travelling();
        Travelling { address: self.site.address.clone(), object: self.object, limit }.serialize(serializer)
    }
}

impl<'de, M: 'static> Deserialize<'de> for Proxy<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Proxy<M>, D::Error> {
        let Travelling { address, object, limit } = Travelling::deserialize(deserializer)?;
        Ok(Proxy::new(Site::of(address), object, limit.map_or(Patience::Default, Patience::Each)))
    }
}

/// Calls that are collected, to be one message: made by [`Proxy::batch`].
///
/// It has the methods that its proxy has; each gives a [`Ticket`] for its answer. Nothing is sent before [`Batch::run`].
///
/// ```no_run
/// # fn main() -> swath::Result<()> {
/// let manager = swath::Manager::new()?;
/// let stock = manager.dict::<String, u32>()?;
/// let mut batch = stock.batch();
/// batch.insert("nails", 100);
/// let screws = batch.remove("screws");
/// let mut answers = batch.run()?;
/// assert_eq!(answers.take(screws)?, None);
/// # Ok(()) }
/// ```
#[must_use = "a batch does nothing until it is run"]
pub struct Batch<'p, M: 'static> {
    proxy: &'p Proxy<M>,
    frame: Frame,
    steps: usize,
    /// What could not be encoded.
    wrong: Option<Error>,
    id: u64,
}

/// Stands for an answer that a batch will have.
#[derive(Debug)]
pub struct Ticket<R> {
    batch: u64,
    at: usize,
    marker: PhantomData<fn() -> R>,
}

/// What a batch gave.
#[derive(Debug)]
pub struct Answers {
    batch: u64,
    bytes: Vec<u8>,
    runs: Vec<Range<usize>>,
}

impl<M: 'static> Batch<'_, M> {
    /// As [`Proxy::apply`].
    pub fn apply<A, R>(&mut self, f: fn(&mut M, A) -> R, args: A) -> Ticket<R>
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.step(f, &args)
    }

    pub(crate) fn step<A, R>(&mut self, f: fn(&mut M, A) -> R, args: &impl Serialize) -> Ticket<R>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let at = self.steps;
        self.steps += 1;
        if self.wrong.is_none() {
            self.wrong = put_step(self.frame.body(), f, args).err();
        }
        Ticket { batch: self.id, at, marker: PhantomData }
    }

    pub(crate) fn fail<R>(&mut self, error: Error) -> Ticket<R> {
        self.wrong.get_or_insert(error);
        Ticket { batch: self.id, at: usize::MAX, marker: PhantomData }
    }

    /// How many calls it has.
    pub fn calls(&self) -> usize {
        self.steps
    }

    /// Sends them, and waits for their answers.
    ///
    /// # Errors
    ///
    /// Those of [`ManagedError`]: of the batch as a whole.
    pub fn run(self) -> Result<Answers> {
        let Batch { proxy, frame, steps, wrong, id } = self;
        wrong.map_or(Ok(()), Err)?;
        let bytes = proxy.site.ask(verb::CALL, proxy.object, frame, proxy.patience)?;
        let mut runs = Vec::with_capacity(steps);
        let mut rest = bytes.as_slice();
        while let Some(run) = take_run(&mut rest) {
            let end = bytes.len() - rest.len();
            runs.push(end - run.len()..end);
        }
        if runs.len() == steps && rest.is_empty() {
            return Ok(Answers { batch: id, bytes, runs });
        }
        let what = format!("{} answers to {steps} calls", runs.len());
        Err(ManagedError::Codec { what }.into())
    }
}

impl<M: 'static> fmt::Debug for Batch<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls of {:?}", self.steps, self.proxy)
    }
}

impl Answers {
    /// The answer that the ticket stands for.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::ErrorKind::Usage) if the ticket is another batch's; [`Codec`](crate::ErrorKind::Codec) if it cannot be decoded.
    pub fn take<R: DeserializeOwned>(&mut self, ticket: Ticket<R>) -> Result<R> {
        let run = self.runs.get(ticket.at).filter(|_| ticket.batch == self.batch);
        let other = || crate::ErrorKind::Usage.with("a ticket of another batch");
        let run = run.ok_or_else(other)?.clone();
        let failed = |error| ManagedError::Codec {
            what: format!("the answer, a {}, cannot be decoded: {error}", std::any::type_name::<R>()),
        };
        Ok(postcard::from_bytes(&self.bytes[run]).map_err(failed)?)
    }
}

/// Methods of a proxy, each with its twin in a batch: `fn name(arguments) -> answer = function on the object`.
macro_rules! operations {
    (impl[$($generics:tt)*] $object:ty {
        $(
            $(#[$doc:meta])*
            fn $name:ident($($arg:ident: $owned:ty),*) -> $answer:ty $(where [$($bounds:tt)*])? = $f:expr;
        )*
    }) => {
        impl<$($generics)*> $crate::managed::Proxy<$object> {
            $(
                $(#[$doc])*
                pub fn $name(&self, $($arg: impl $crate::managed::Like<$owned>),*) -> $crate::Result<$answer>
                $(where $($bounds)*)?
                {
                    let f: fn(&mut $object, ($($owned,)*)) -> $answer = $f;
                    self.step(f, &($($arg,)*))
                }
            )*
        }

        impl<$($generics)*> $crate::managed::Batch<'_, $object> {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, $($arg: impl $crate::managed::Like<$owned>),*) -> $crate::managed::Ticket<$answer>
                $(where $($bounds)*)?
                {
                    let f: fn(&mut $object, ($($owned,)*)) -> $answer = $f;
                    self.step(f, &($($arg,)*))
                }
            )*
        }
    };
}

pub(crate) use operations;
