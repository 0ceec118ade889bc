//! Maps over streams: items are pulled as values are taken, within a window; neither side is ever held whole.
//!
//! Each chunk is a task. Its size grows while chunks are shorter than they are worth, by the time that workers measure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Fault, What};
use crate::drive::IntoFailure;
use crate::error::{Error, ErrorKind, Result};
use crate::freight;
use crate::kernel;
use crate::limits::{STREAM_BYTES, STREAM_CHUNK_MAX};
use crate::panic_note;
use crate::pool::Pool;
use crate::task::{Task, kind_of, submit_bytes};

/// What a chunk should take: a task costs about a microsecond or two.
const CHUNK_WORTH: Duration = Duration::from_micros(500);

/// What a chunk's task gives: how long it took, and every item's end.
#[derive(Serialize, Deserialize)]
struct Answer<R> {
    nanos: u64,
    ends: Vec<Result<R, Box<Cause>>>,
}

/// The driver of streams, of functions that return a value.
fn stream<A: DeserializeOwned, R: Serialize>(
    function: u64,
    args: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    // SAFETY: the coordinator names this driver together with a function of exactly this type.
    let function = unsafe { kernel::function::<fn(A) -> R>(function) }.ok_or_else(What::not_here)?;
    run(args, out, |item| Ok(function(item)))
}

/// The driver of streams, of functions that may fail.
fn try_stream<A: DeserializeOwned, R: Serialize, E: IntoFailure>(
    function: u64,
    args: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    // SAFETY: as above.
    let function =
        unsafe { kernel::function::<fn(A) -> Result<R, E>>(function) }.ok_or_else(What::not_here)?;
    run(args, out, |item| function(item).map_err(|error| Box::new(error.into_failure())))
}

fn run<A: DeserializeOwned, R: Serialize>(
    args: &[u8],
    out: &mut Vec<u8>,
    call: impl Fn(A) -> Result<R, Fault>,
) -> Result<(), Fault> {
    let items: Vec<A> = freight::unpack(args).map_err(|why| What::undecodable("its items", why))?;
    let began = Instant::now();
    let (worker, pid) = (crate::current_task().map_or(0, |task| task.worker()), std::process::id());
    let cause = |what: Fault| Box::new(Cause::new(worker, pid, *what));
    let ends: Vec<Result<R, Box<Cause>>> =
        items.into_iter().map(|item| panic_note::catching(|| call(item)).map_err(cause)).collect();
    let answer = Answer { nanos: began.elapsed().as_nanos() as u64, ends };
    if put(&answer, out).is_ok() {
        return Ok(());
    }
    // The same, but with each value encoded by itself: one that cannot be is that item's failure.
    out.clear();
    put(&(answer.nanos, answer.ends.len()), out)?;
    for end in answer.ends {
        let length = out.len();
        if let Err(what) = put(&end, out) {
            out.truncate(length);
            put(&Err::<R, _>(cause(what)), out)?;
        }
    }
    Ok(())
}

fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), Fault> {
    panic_note::catching(|| freight::put_reply(value, out).map_err(What::unencodable::<T>))
}

/// A chunk on its way. One that could not be submitted waits for its turn like the others.
struct Chunk<R> {
    task: Result<Task<Answer<R>>>,
    items: usize,
    bytes: usize,
}

/// A map over a stream, to be started by one of its ends.
#[must_use = "a stream does nothing until ordered() or unordered() is called"]
pub struct Stream<'p, I: Iterator, R> {
    pool: &'p Pool,
    driver: crate::task::Driver,
    function: *const (),
    items: std::iter::Fuse<I>,
    chunk: Option<usize>,
    buffer: Option<usize>,
    retries: u32,
    timeout: Option<Duration>,
    value: std::marker::PhantomData<fn() -> R>,
}

impl Pool {
    /// As [`Pool::map`], for streams: values come in order as they are asked for, and items are pulled as values are taken. A failure is that
    /// item's; the stream goes on. Who takes its worker with it (a crash, a time-out) costs the items of its chunk:
    /// [`Stream::chunk`] of 1, or retries, where that may happen.
    pub fn imap<A, R, I>(&self, function: fn(A) -> R, items: I) -> Imap<'_, I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        self.stream(function, items).ordered()
    }

    /// As [`Pool::imap`], with values in the order in which they are ready.
    pub fn imap_unordered<A, R, I>(&self, function: fn(A) -> R, items: I) -> ImapUnordered<'_, I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        self.stream(function, items).unordered()
    }

    /// As [`Pool::imap`], with options.
    pub fn stream<A, R, I>(&self, function: fn(A) -> R, items: I) -> Stream<'_, I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        Stream::new(self, stream::<A, R>, function as *const (), items)
    }

    /// As [`Pool::stream`], for functions that may fail.
    pub fn try_stream<A, R, E, I>(
        &self,
        function: fn(A) -> Result<R, E>,
        items: I,
    ) -> Stream<'_, I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        E: IntoFailure,
        I: IntoIterator<Item = A>,
    {
        Stream::new(self, try_stream::<A, R, E>, function as *const (), items)
    }
}

impl<'p, I: Iterator, R> Stream<'p, I, R> {
    fn new(
        pool: &'p Pool,
        driver: crate::task::Driver,
        function: *const (),
        items: impl IntoIterator<IntoIter = I>,
    ) -> Self {
        Stream {
            pool,
            driver,
            function,
            items: items.into_iter().fuse(),
            chunk: None,
            buffer: None,
            retries: 0,
            timeout: None,
            value: std::marker::PhantomData,
        }
    }

    /// So many items per task. Without it, their number grows while tasks are short.
    ///
    /// # Panics
    /// For zero.
    pub fn chunk(mut self, items: usize) -> Self {
        assert!(items > 0, "chunks of zero items: give at least 1");
        self.chunk = Some(items);
        self
    }

    /// So many items at most are pulled before their values are taken. Without it, two chunks per worker, and 64 MiB of encoded items.
    ///
    /// # Panics
    /// For zero.
    pub fn buffer(mut self, items: usize) -> Self {
        assert!(items > 0, "a buffer of zero items: give at least 1");
        self.buffer = Some(items);
        self
    }

    /// How often a chunk is run again after its worker died or its time was up; 0 by default.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// A chunk that takes longer costs its worker.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Values in the items' order.
    pub fn ordered(self) -> Imap<'p, I, R> {
        Imap { window: Window::new(self) }
    }

    /// Values in the order in which they are ready.
    pub fn unordered(self) -> ImapUnordered<'p, I, R> {
        ImapUnordered { window: Window::new(self) }
    }
}

/// The chunks under way, and the values that have come and were not taken yet.
struct Window<'p, I: Iterator, R> {
    stream: Stream<'p, I, R>,
    under_way: VecDeque<Chunk<R>>,
    ready: VecDeque<Result<R>>,
    /// Items of the next chunk.
    size: usize,
    items: usize,
    bytes: usize,
}

impl<'p, I, R> Window<'p, I, R>
where
    I: Iterator,
{
    fn new(stream: Stream<'p, I, R>) -> Self {
        let size = stream.chunk.unwrap_or(1);
        Window { stream, under_way: VecDeque::new(), ready: VecDeque::new(), size, items: 0, bytes: 0 }
    }
}

impl<I, R> Window<'_, I, R>
where
    I: Iterator<Item: Serialize>,
    R: Serialize + DeserializeOwned,
{
    /// Submits chunks until the window is full or the items are at their end.
    fn fill(&mut self) {
        let workers = self.stream.pool.workers().max(1);
        loop {
            let room = match self.stream.buffer {
                Some(buffer) => buffer.saturating_sub(self.items),
                None if self.under_way.len() >= 2 * workers || self.bytes >= STREAM_BYTES => 0,
                None => usize::MAX,
            };
            // A buffer is shared by all workers.
            let fair = self.stream.buffer.map_or(usize::MAX, |buffer| (buffer / workers).max(1));
            let wanted = self.size.min(room).min(fair);
            let items: Vec<I::Item> = self.stream.items.by_ref().take(wanted).collect();
            if items.is_empty() {
                return;
            }
            let chunk = self.submit(&items).unwrap_or_else(|error| Chunk {
                task: Err(error),
                items: items.len(),
                bytes: 0,
            });
            self.items += chunk.items;
            self.bytes += chunk.bytes;
            self.under_way.push_back(chunk);
        }
    }

    fn submit(&self, items: &[I::Item]) -> Result<Chunk<R>> {
        let Stream { pool, driver, function, retries, timeout, .. } = &self.stream;
        let (args, lent) = freight::pack(items);
        let args = args.map_err(|why| {
            let name = std::any::type_name::<I::Item>();
            ErrorKind::Codec.with(format!("an item of type {name} cannot be encoded: {why}"))
        })?;
        let bytes = args.len();
        let task = submit_bytes(pool, *driver, *function, (args, lent), *retries, *timeout)?;
        Ok(Chunk { task: Ok(task), items: items.len(), bytes })
    }

    /// Takes what a finished chunk gave.
    fn open(&mut self, chunk: Chunk<R>) {
        self.items -= chunk.items;
        self.bytes -= chunk.bytes;
        match chunk.task.and_then(|task| task.result()) {
            Ok(answer) => {
                self.adapt(answer.nanos, chunk.items);
                self.ready.extend(answer.ends.into_iter().map(|end| end.map_err(of_item)));
            }
            Err(error) => self.ready.extend((0..chunk.items).map(|_| Err(again(&error)))),
        }
    }

    /// Doubles the chunks while they are too short to be worth a task, halves them when they are much too long.
    fn adapt(&mut self, nanos: u64, items: usize) {
        let (took, full) = (Duration::from_nanos(nanos), items >= self.size);
        if self.stream.chunk.is_some() {
            return;
        }
        if took < CHUNK_WORTH / 2 && full {
            self.size = (self.size * 2).min(STREAM_CHUNK_MAX);
        } else if took > CHUNK_WORTH * 4 {
            self.size = (self.size / 2).max(1);
        }
    }
}

fn of_item(cause: Box<Cause>) -> Error {
    kind_of(&cause.what).with(format!("an item failed; {cause}")).with_causes(vec![*cause])
}

/// The same error, for each item of a chunk one of its own.
fn again(error: &Error) -> Error {
    error.kind().with(error.to_string()).with_causes(error.causes().to_vec())
}

impl<I, R> Window<'_, I, R>
where
    I: Iterator<Item: Serialize>,
    R: Serialize + DeserializeOwned,
{
    /// The next value; of the chunks under way, `choose` says which is to be opened for it.
    fn next_by(&mut self, choose: impl Fn(&VecDeque<Chunk<R>>) -> Option<usize>) -> Option<Result<R>> {
        loop {
            if let Some(value) = self.ready.pop_front() {
                return Some(value);
            }
            self.fill();
            let chunk = choose(&self.under_way).and_then(|index| self.under_way.remove(index))?;
            self.open(chunk);
        }
    }
}

/// Values of a stream, in the items' order.
pub struct Imap<'p, I: Iterator, R> {
    window: Window<'p, I, R>,
}

impl<I, R> Iterator for Imap<'_, I, R>
where
    I: Iterator<Item: Serialize>,
    R: Serialize + DeserializeOwned,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        self.window.next_by(|_| Some(0))
    }
}

/// Values of a stream, in the order in which they are ready.
pub struct ImapUnordered<'p, I: Iterator, R> {
    window: Window<'p, I, R>,
}

impl<I, R> Iterator for ImapUnordered<'_, I, R>
where
    I: Iterator<Item: Serialize>,
    R: Serialize + DeserializeOwned,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        self.window.next_by(|under_way| {
            let refused = under_way.iter().position(|chunk| chunk.task.is_err());
            refused.or_else(|| {
                crate::task::first_done(under_way.iter().filter_map(|chunk| chunk.task.as_ref().ok()))
            })
        })
    }
}
