//! Maps: one function over many items, in order: Python's `Pool.map`, as a phase whose rows are the items.
//!
//! The items are encoded into one segment, with the offset of every chunk; each chunk is claimed in the ledger like a chunk of a phase,
//! so a million items at one item per chunk are a million claims and no message. What a chunk gives is `Ok` or the reason per item, in its
//! entry of the table of partials or in the worker's arena.
//!
//! [`Pool::map`] has all items at once and gives all values; for streams see [`Pool::imap`].

mod auto;
mod batch;
mod drive;
mod imap;

use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::travel::{self, Lent};
use swath_segment::Inbox;

use crate::cause::{Cause, ChunkFailure, What};
use crate::drive::{Driver, IntoFailure};
use crate::error::{Error, ErrorKind, Result};
use crate::freight::{self, Complete};
use crate::gather::Gather;
use crate::geometry::{Chunk, Geometry};
use crate::kernel::name_of;
use crate::pool::Pool;
use crate::report::Report;
use crate::run::Plan;
use crate::settings::{Progress, Settings};
use crate::task::kind_of;

pub use batch::Batch;
pub use imap::{Imap, ImapUnordered, Stream};

/// A map that is being described; ended by `collect` or `each`.
#[must_use = "end it with collect() or each()"]
pub struct MapCall<'p, A, R> {
    pool: &'p Pool,
    driver: Driver,
    function: *const (),
    items: Box<dyn Iterator<Item = A> + 'p>,
    chunk: Option<usize>,
    settings: Settings<'p>,
    value: PhantomData<fn(A) -> R>,
}

impl Pool {
    /// Calls `function` on every item, in the workers; the values come in the items' order. Items are handed out in chunks whose size is
    /// measured; see [`Pool::map_with`] to choose it, and for retries, time-outs and progress.
    ///
    /// # Errors
    /// The first failure ends the map: a panic ([`ErrorKind::Failed`]), a worker's death in the middle of an item
    /// ([`ErrorKind::Died`]); [`Error::failures`] names the items (as rows). [`MapCall::each`] goes on instead.
    pub fn map<A, R>(&self, function: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.map_with(function, items).collect()
    }

    /// As [`Pool::map`], with so many items per chunk: what a worker claims, and what is lost and run again together.
    ///
    /// # Errors
    /// As [`Pool::map`]; [`ErrorKind::Shape`] for chunks of zero items.
    pub fn map_chunked<A, R>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
        chunk: usize,
    ) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.map_with(function, items).chunk(chunk).collect()
    }

    /// As [`Pool::map`], for functions that may fail: the first error ends the map.
    ///
    /// # Errors
    /// As [`Pool::map`].
    pub fn try_map<A, R, E>(
        &self,
        function: fn(A) -> Result<R, E>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        self.try_map_with(function, items).collect()
    }

    /// As [`Pool::map`], with options.
    pub fn map_with<'p, A, R>(
        &'p self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A, IntoIter: 'p>,
    ) -> MapCall<'p, A, R>
    where
        A: Serialize + DeserializeOwned + 'p,
        R: Serialize + DeserializeOwned,
    {
        MapCall::new(self, drive::items::<A, R>, function as *const (), items)
    }

    /// As [`Pool::try_map`], with options.
    pub fn try_map_with<'p, A, R, E>(
        &'p self,
        function: fn(A) -> Result<R, E>,
        items: impl IntoIterator<Item = A, IntoIter: 'p>,
    ) -> MapCall<'p, A, R>
    where
        A: Serialize + DeserializeOwned + 'p,
        R: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        MapCall::new(self, drive::try_items::<A, R, E>, function as *const (), items)
    }
}

/// Maps of functions of several arguments.
macro_rules! starmaps {
    ($($count:literal $method:ident $driver:ident($($type:ident),+);)+) => {
        impl Pool {$(
            #[doc = concat!("As [`Pool::map`], for functions of ", $count, " arguments, each item being a tuple of them.")]
            ///
            /// # Errors
            /// As [`Pool::map`].
            pub fn $method<$($type,)+ R>(
                &self,
                function: fn($($type),+) -> R,
                items: impl IntoIterator<Item = ($($type),+)>,
            ) -> Result<Vec<R>>
            where
                $($type: Serialize + DeserializeOwned,)+
                R: Serialize + DeserializeOwned,
            {
                MapCall::new(self, drive::$driver::<$($type,)+ R>, function as *const (), items).collect()
            }
        )+}
    };
}

starmaps! {
    "two" starmap star2(A, B);
    "three" starmap3 star3(A, B, C);
    "four" starmap4 star4(A, B, C, D);
    "five" starmap5 star5(A, B, C, D, E);
    "six" starmap6 star6(A, B, C, D, E, F);
}

impl<'p, A: Serialize + 'p, R: DeserializeOwned> MapCall<'p, A, R> {
    fn new(
        pool: &'p Pool,
        driver: Driver,
        function: *const (),
        items: impl IntoIterator<Item = A, IntoIter: 'p>,
    ) -> MapCall<'p, A, R> {
        let mut settings = Settings::new();
        settings.retries = 0;
        settings.name = "map".to_owned();
        let items = Box::new(items.into_iter());
        MapCall { pool, driver, function, items, chunk: None, settings, value: PhantomData }
    }

    /// So many items per chunk. Without it, as many as take long enough to be worth a claim, by measuring the first ones.
    pub fn chunk(mut self, items: usize) -> Self {
        self.chunk = Some(items);
        self
    }

    /// How often a chunk is run again after its worker died or its time was up; 0 by default.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// Runs a chunk again, within [`MapCall::retries`], also when the function itself failed and `wanted` says so.
    pub fn retry_if(mut self, wanted: fn(&What) -> bool) -> Self {
        self.settings.retry_if = Some(wanted);
        self
    }

    /// A chunk that takes longer is asked to stop; what has not come to its end half a second later costs its worker, and is tried again
    /// within [`MapCall::retries`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.chunk_timeout = Some(limit);
        self
    }

    /// The whole map may take this long.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.settings.deadline = Some(limit);
        self
    }

    /// A name for errors and reports.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Calls `show` in this thread about twenty times a second at most, and once at the end. Counts chunks.
    pub fn progress(mut self, show: impl FnMut(Progress) + 'p) -> Self {
        self.settings.progress = Some(Box::new(show));
        self
    }

    /// All values, in the items' order.
    ///
    /// # Errors
    /// As [`Pool::map`].
    pub fn collect(self) -> Result<Vec<R>> {
        self.collect_report().map(|(values, _)| values)
    }

    /// As [`MapCall::collect`], with an account: items are its rows, and the chosen chunk is [`Report::rows_per_chunk`].
    ///
    /// # Errors
    /// As [`Pool::map`].
    pub fn collect_report(self) -> Result<(Vec<R>, Report)> {
        let (items, report) = self.run()?;
        Ok((items.into_iter().collect::<Result<_>>()?, report))
    }

    /// Every item's own value or error, in order: a failure is that item's; a death is that of all items of its chunk.
    ///
    /// # Errors
    /// What ends the whole map: see [`Pool::map`].
    pub fn each(mut self) -> Result<Vec<Result<R>>> {
        self.settings.keep_going = true;
        self.run().map(|(items, _)| items)
    }

    fn run(mut self) -> Result<(Vec<Result<R>>, Report)> {
        self.pool.takes_tasks()?;
        let mut values = Vec::new();
        let Some(chunk) = self.chunk else { return auto::run(self) };
        let mut items = std::mem::replace(&mut self.items, Box::new(std::iter::empty()));
        let settings = std::mem::replace(&mut self.settings, Settings::new());
        let report = self.phase(settings, &mut items, chunk, &mut values, None)?;
        Ok((values, report))
    }

    /// One phase over `items`, whose values are put behind `values`, and the nanoseconds of its chunks into `times`, if somebody wants
    /// to know.
    fn phase(
        &self,
        settings: Settings<'p>,
        items: &mut dyn Iterator<Item = A>,
        chunk: usize,
        values: &mut Vec<Result<R>>,
        times: Option<&mut Vec<u64>>,
    ) -> Result<Report> {
        let first = values.len();
        let mut until_it_is_over = Lent::default();
        let (count, args) = encode(items, chunk, &mut until_it_is_over)?;
        let plan = Plan {
            geometry: Geometry::new(count, 0, false, Chunk::Rows(chunk))?,
            settings,
            operands: Vec::new(),
            driver: name_of(self.driver as *const ())?,
            kernel: name_of(self.function)?,
            init: 0,
            args,
            values: true,
            measure: times.is_some(),
            team: None,
        };
        let geometry = plan.geometry;
        let (found, report) = self
            .pool
            .run(|| Ok(plan), |gather| decode::<R>(gather, self.pool.inbox(), geometry, first, times))
            .map_err(kinder)?;
        values.extend(found);
        for failure in &report.failed {
            for item in failure.rows.clone() {
                values[first + item] = Err(of_chunk(failure));
            }
        }
        Ok(report)
    }
}

/// So many items are pulled at a time.
const ENCODED_AT_ONCE: usize = 256;

/// The items, one after the other, behind the offset of every chunk and of the end.
/// What they refer to is in `lent` then. The iterator is the program's own code, and none of its business is lent.
fn encode<A: Serialize>(
    items: &mut dyn Iterator<Item = A>,
    chunk: usize,
    lent: &mut Lent,
) -> Result<(usize, Vec<u8>)> {
    if chunk == 0 {
        return Err(ErrorKind::Shape.with("chunks of zero items: give at least 1"));
    }
    let (mut offsets, mut bytes, mut count) = (Vec::new(), Vec::new(), 0);
    loop {
        let some: Vec<A> = items.take(ENCODED_AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        let (encoded, met) = travel::lending(|| {
            for item in some {
                if count % chunk == 0 {
                    offsets.push(bytes.len() as u64);
                }
                bytes = postcard::to_extend(&Complete(&item), std::mem::take(&mut bytes)).map_err(|e| {
                    let (name, why) = (std::any::type_name::<A>(), freight::reason(e));
                    ErrorKind::Codec.with(format!("item {count}, of type {name}, cannot be encoded: {why}"))
                })?;
                count += 1;
            }
            Ok::<(), crate::Error>(())
        });
        lent.extend(met);
        encoded?;
    }
    offsets.push(bytes.len() as u64);
    let head = offsets.len() * 8;
    let mut all = Vec::with_capacity(head + bytes.len());
    all.extend(offsets.into_iter().flat_map(|offset| (offset + head as u64).to_le_bytes()));
    all.extend(bytes);
    Ok((count, all))
}

/// What the chunks gave. Those that failed as a whole have placeholders.
fn decode<R: DeserializeOwned>(
    gather: &Gather<'_>,
    inbox: Option<&Inbox>,
    geometry: Geometry,
    first: usize,
    mut times: Option<&mut Vec<u64>>,
) -> Result<Vec<Result<R>>> {
    let mut values = Vec::with_capacity(geometry.rows());
    for chunk in 0..geometry.chunks() {
        let rows = geometry.rows_of(chunk);
        if !gather.is_done(chunk) {
            values.extend(rows.map(|_| Err(ErrorKind::Failed.with("it was given up"))));
            continue;
        }
        gather.with_bytes(chunk, |bytes| {
            let (mut bytes, list) = freight::split_list(bytes).ok_or("it has no list of arrays")?;
            let arrays = match inbox {
                Some(_) => freight::collect(&list, inbox),
                None => freight::kept_here(chunk),
            };
            if let Some(times) = &mut times {
                let (nanos, rest) = bytes.split_first_chunk().ok_or("it does not say how long it took")?;
                times.push(u64::from_le_bytes(*nanos));
                bytes = rest;
            }
            for item in rows {
                let (entry, rest) =
                    arrays.during(|| freight::unpack_first::<std::result::Result<R, Cause>>(bytes))?;
                bytes = rest;
                values.push(entry.map_err(|cause| of_item(first + item, cause)));
            }
            Ok(())
        })?;
    }
    Ok(values)
}

/// The error of one item.
fn of_item(item: usize, cause: Cause) -> Error {
    kind_of(&cause.what).with(format!("item {item} failed; {cause}")).with_causes(vec![cause])
}

/// The error of each item of a chunk that was given up.
fn of_chunk(failure: &ChunkFailure) -> Error {
    let kind = failure.causes.last().map_or(ErrorKind::Failed, |cause| kind_of(&cause.what));
    kind.with("the chunk of this item was given up")
        .with_failures(vec![failure.clone()])
        .with_causes(failure.causes.clone())
}

/// A phase says that chunks failed; of a map one wants to know how.
fn kinder(error: Error) -> Error {
    let last =
        error.failures().first().and_then(|failure| failure.causes.last()).map(|cause| kind_of(&cause.what));
    match last {
        Some(kind) if error.kind() == ErrorKind::Failed => error.of_kind(kind),
        _ => error,
    }
}
