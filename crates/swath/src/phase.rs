//! Phases: one kernel over all chunks of some arrays.
//!
//! ```no_run
//! # fn main() -> swath::Result<()> {
//! use swath::prelude::*;
//!
//! let pool = Pool::builder().workers(4).build()?;
//! let x = SharedArray::from_shape_fn(1_000_000, |i| i as f64)?;
//! let mut y = SharedArray::<f64, _>::zeros(1_000_000)?;
//! pool.phase((&x, out(&mut y))).args(2.0).for_each(|ctx, (x, mut y)| {
//!     azip!((y in &mut y, &x in &x) *y = ctx.args() * x.sqrt())
//! })?;
//! let norm = pool.phase(&y).map(|_, y| y.dot(&y)).reduce(0.0, |a, b| a + b)?;
//! # let _ = norm; Ok(()) }
//! ```
//!
//! A kernel is a function: a closure that captures nothing coerces to one, and one that captures does not compile. What it
//! needs from outside travels through [`Phase::args`].

use std::marker::PhantomData;
use std::time::Duration;

use ndarray::{ArrayViewMut1, Ix1};
use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_array::Element;
use swath_array::travel::Lent;

use crate::cause::What;
use crate::drive::{self, Driver, IntoFailure, Kernel, Outcome, Step};
use crate::error::{ErrorKind, Result};
use crate::freight;
use crate::gather::Gather;
use crate::geometry::{Chunk, Geometry};
use crate::kernel::name_of;
use crate::operand::{Described, Operand, Out};
use crate::pool::Pool;
use crate::reduce;
use crate::report::Report;
use crate::run::{self, Plan};
use crate::settings::{Progress, Settings};

/// A phase that is being described; ended by one of `for_each`, `map` or `fold`.
#[must_use = "a phase does nothing until one of its ends is called"]
pub struct Phase<'p, O, A = ()> {
    pool: &'p Pool,
    operands: O,
    args: A,
    settings: Settings<'p>,
}

/// Arguments by value or by reference: `.args(2.0)`, `.args(&params)`.
pub trait IntoArgs<By> {
    /// What the kernel sees.
    type Owned: Serialize + DeserializeOwned;

    /// What is encoded.
    type Held: Serialize;

    /// As it is held until the phase runs.
    fn hold(self) -> Self::Held;
}

impl<T: Serialize + DeserializeOwned> IntoArgs<T> for T {
    type Owned = T;
    type Held = T;

    fn hold(self) -> T {
        self
    }
}

/// Marks arguments given by reference.
#[derive(Debug)]
pub struct ByReference<T>(PhantomData<T>);

impl<'a, T: Serialize + DeserializeOwned> IntoArgs<ByReference<T>> for &'a T {
    type Owned = T;
    type Held = &'a T;

    fn hold(self) -> &'a T {
        self
    }
}

/// Arguments of type `A`, already encoded.
pub struct Encoded<A> {
    pub(crate) bytes: Result<Vec<u8>>,
    /// Of the handles in them, until nobody decodes them any more.
    pub(crate) lent: Lent,
    kernel_sees: PhantomData<fn() -> A>,
}

pub(crate) fn encode<A, T: Serialize>(args: &T) -> Encoded<A> {
    let (bytes, lent) = freight::pack(args);
    let bytes = bytes.map_err(|why| {
        ErrorKind::Codec
            .with(format!("arguments of type {} cannot be encoded: {why}", std::any::type_name::<A>()))
    });
    Encoded { bytes, lent, kernel_sees: PhantomData }
}

impl<'p, O: Operand> Phase<'p, O, Encoded<()>> {
    pub(crate) fn new(pool: &'p Pool, operands: O) -> Self {
        Phase { pool, operands, args: encode::<(), ()>(&()), settings: Settings::new() }
    }
}

impl<'p, O: Operand, A: DeserializeOwned> Phase<'p, O, Encoded<A>> {
    /// What the kernel needs from outside: any serde value, `ctx.args()` in the kernel. Encoded once, decoded once per worker.
    pub fn args<By, T: IntoArgs<By>>(self, args: T) -> Phase<'p, O, Encoded<T::Owned>> {
        Phase {
            pool: self.pool,
            operands: self.operands,
            args: encode(&args.hold()),
            settings: self.settings,
        }
    }

    /// How rows are cut into chunks; [`Chunk::Auto`] by default.
    pub fn chunk(mut self, chunk: Chunk) -> Self {
        self.settings.chunk = chunk;
        self
    }

    /// A chunk that takes longer is cancelled, its worker killed and replaced, and it is tried again. Noticed within an
    /// eighth of `limit`, 5 to 50 ms.
    pub fn chunk_timeout(mut self, limit: Duration) -> Self {
        self.settings.chunk_timeout = Some(limit);
        self
    }

    /// The whole phase may take this long; then workers with a chunk in hand are killed and it ends with an error.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.settings.deadline = Some(limit);
        self
    }

    /// How often a chunk is run again after a death or a time-out; 3 by default, so 4 attempts. Then it is given up: all
    /// other chunks are finished and the error names it.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// Runs a chunk again, within [`Phase::retries`], also when its kernel itself failed and `wanted` says so. Without it an
    /// error or a panic of a kernel ends the phase.
    pub fn retry_if(mut self, wanted: fn(&What) -> bool) -> Self {
        self.settings.retry_if = Some(wanted);
        self
    }

    pub(crate) fn keeping_values(mut self) -> Self {
        self.settings.keeping_values = true;
        self
    }

    /// Failed chunks do not end the phase and are no error: values are those of the other chunks, and the `_report` forms
    /// list what is missing.
    pub fn keep_going(mut self) -> Self {
        self.settings.keep_going = true;
        self
    }

    /// A name for errors and reports.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// The key of `ctx.rng()`; 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Calls `show` in this thread about twenty times a second at most, and once at the end.
    pub fn progress(mut self, show: impl FnMut(Progress) + 'p) -> Self {
        self.settings.progress = Some(Box::new(show));
        self
    }

    /// Runs `kernel` on every chunk. It returns nothing, or a `Result` whose error ends the phase.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] when chunks failed; see [`ErrorKind`] for the others. In every case nobody writes to the arrays
    /// any more, and [`Error::rows`](crate::Error::rows) says which rows are done, untouched, or (of `out` operands) unknown.
    pub fn for_each<R: Outcome>(self, kernel: Kernel<O, A, R>) -> Result<()> {
        self.for_each_report(kernel).map(drop)
    }

    /// As [`Phase::for_each`], with an account of the phase.
    pub fn for_each_report<R: Outcome>(self, kernel: Kernel<O, A, R>) -> Result<Report> {
        let functions = Functions { driver: drive::each::<O, A, R>, kernel: kernel as *const (), init: None };
        let (_, report) = self.run(&functions, false, |_| Ok(()))?;
        Ok(report)
    }

    /// Runs `kernel` on every chunk and keeps its value: end with `reduce`, `collect` or `concat`.
    pub fn map<R: Serialize + DeserializeOwned>(self, kernel: Kernel<O, A, R>) -> Map<'p, O, A, R> {
        let functions = Functions { driver: drive::map::<O, A, R>, kernel: kernel as *const (), init: None };
        Map { phase: self, functions, value: PhantomData }
    }

    /// As [`Phase::map`], for kernels that may fail.
    pub fn try_map<R, E>(self, kernel: Kernel<O, A, Result<R, E>>) -> Map<'p, O, A, R>
    where
        R: Serialize + DeserializeOwned,
        E: IntoFailure,
    {
        let functions =
            Functions { driver: drive::try_map::<O, A, R, E>, kernel: kernel as *const (), init: None };
        Map { phase: self, functions, value: PhantomData }
    }

    /// Every worker adds its chunks to an accumulator of its own; end with `merge`.
    ///
    /// Which chunks meet in one accumulator, and in which order, depends on the run. Use it where that cannot matter: tables
    /// of exact counts and integer sums, sets, histograms; not for sums of floats. A worker's death costs it the chunks
    /// that were in its accumulator: they are run again.
    pub fn fold<Acc, R>(self, init: fn() -> Acc, step: Step<O, A, Acc, R>) -> Fold<'p, O, A, Acc>
    where
        Acc: Serialize + DeserializeOwned,
        R: Outcome,
    {
        let functions = Functions {
            driver: drive::fold::<O, A, Acc, R>,
            kernel: step as *const (),
            init: Some(init as *const ()),
        };
        Fold { phase: self, init, functions, value: PhantomData }
    }

    fn run<T>(
        self,
        functions: &Functions,
        values: bool,
        finish: impl FnOnce(&Gather<'_>) -> Result<T>,
    ) -> Result<(T, Report)> {
        let Phase { pool, operands, args, settings } = self;
        let mut described = Vec::with_capacity(O::COUNT);
        operands.describe(&mut described);
        run::check(&described)?;
        if functions.init.is_some() && described.iter().any(|o| o.mode == crate::descriptor::Mode::Locked) {
            return Err(ErrorKind::Usage
                .with("locked(…) cannot be used with fold: what a worker has folded is lost with it, what it changed is not"));
        }
        let undo = described.iter().any(|o| o.mode == crate::descriptor::Mode::Update);
        let (rows, row_bytes) = cut(&described)?;
        let Encoded { bytes, lent: _until_it_is_over, .. } = args;
        let plan = Plan {
            geometry: Geometry::new(rows, row_bytes, undo, settings.chunk)?,
            settings,
            operands: described,
            driver: name_of(functions.driver as *const ())?,
            kernel: name_of(functions.kernel)?,
            init: functions.init.map_or(Ok(0), name_of)?,
            args: bytes?,
            values,
            measure: false,
            team: None,
        };
        pool.run(|| Ok(plan), finish)
    }
}

/// The functions of a phase, before they are named.
struct Functions {
    driver: Driver,
    kernel: *const (),
    init: Option<*const ()>,
}

/// The number of rows that all cut operands have, and the bytes of one row over all of them.
fn cut(operands: &[Described<'_>]) -> Result<(usize, usize)> {
    let mut rows: Option<usize> = None;
    let mut row_bytes = 0usize;
    for (position, operand) in operands.iter().enumerate() {
        if operand.array.ndim == 0 {
            return Err(
                ErrorKind::Shape.with(format!("operand {position} has no axis; a phase cuts along axis 0"))
            );
        }
        if !operand.mode.is_cut() {
            continue;
        }
        let own = operand.array.rows();
        if let Some(first) = rows.filter(|first| *first != own) {
            return Err(ErrorKind::Shape.with(format!(
                "operand {position} has {own} rows, those before it {first}; give an array that is not cut as whole(&a) or locked(&mut a)"
            )));
        }
        rows = Some(own);
        row_bytes = row_bytes.saturating_add(operand.array.row_bytes());
    }
    let rows = rows.ok_or_else(|| {
        ErrorKind::Shape
            .with("no operand is cut: all are whole(…) or locked(…), and nothing is left to make chunks of")
    })?;
    Ok((rows, row_bytes))
}

/// A phase whose chunks have values.
#[must_use = "end it with reduce, collect or concat"]
pub struct Map<'p, O, A, R> {
    phase: Phase<'p, O, Encoded<A>>,
    functions: Functions,
    value: PhantomData<fn() -> R>,
}

impl<O: Operand, A: DeserializeOwned, R: Serialize + DeserializeOwned> Map<'_, O, A, R> {
    /// Combines the values in a fixed binary tree over the chunk index: the same bits for any number of workers, with and
    /// without deaths. `identity` is the value of a phase without chunks. `op` runs here and may capture.
    ///
    /// # Errors
    /// As [`Phase::for_each`].
    pub fn reduce(self, identity: R, op: impl FnMut(R, R) -> R) -> Result<R> {
        self.reduce_report(identity, op).map(|(value, _)| value)
    }

    /// As [`Map::reduce`], with an account of the phase.
    pub fn reduce_report(self, identity: R, op: impl FnMut(R, R) -> R) -> Result<(R, Report)> {
        let (values, report) = self.collect_report()?;
        Ok((reduce::tree(values, identity, op), report))
    }

    /// All values, in chunk order.
    ///
    /// # Errors
    /// As [`Phase::for_each`].
    pub fn collect(self) -> Result<Vec<R>> {
        self.collect_report().map(|(values, _)| values)
    }

    /// As [`Map::collect`], with an account of the phase.
    pub fn collect_report(self) -> Result<(Vec<R>, Report)> {
        self.phase.run(&self.functions, true, |gather| gather.values())
    }
}

impl<O: Operand, A: DeserializeOwned, T: Element + Serialize + DeserializeOwned> Map<'_, O, A, Vec<T>> {
    /// Writes the chunks' elements one after the other, in chunk order, into `into`; how many there were.
    ///
    /// # Errors
    /// As [`Phase::for_each`], and [`ErrorKind::Shape`] when they do not fit; `into` is then unchanged.
    pub fn concat(self, into: Out<'_, T, Ix1>) -> Result<usize> {
        self.concat_report(into).map(|(count, _)| count)
    }

    /// As [`Map::concat`], with an account of the phase.
    pub fn concat_report(self, into: Out<'_, T, Ix1>) -> Result<(usize, Report)> {
        let (parts, report) = self.collect_report()?;
        let count: usize = parts.iter().map(Vec::len).sum();
        let mut to: ArrayViewMut1<'_, T> = into.0.try_view_mut()?;
        if count > to.len() {
            return Err(
                ErrorKind::Shape.with(format!("{count} elements do not fit into an array of {}", to.len()))
            );
        }
        for (to, from) in to.iter_mut().zip(parts.into_iter().flatten()) {
            *to = from;
        }
        Ok((count, report))
    }
}

/// A phase whose workers accumulate.
#[must_use = "end it with merge"]
pub struct Fold<'p, O, A, Acc> {
    phase: Phase<'p, O, Encoded<A>>,
    init: fn() -> Acc,
    functions: Functions,
    value: PhantomData<fn() -> Acc>,
}

impl<O: Operand, A: DeserializeOwned, Acc: Serialize + DeserializeOwned> Fold<'_, O, A, Acc> {
    /// Merges the workers' accumulators, in an order that depends on the run; `init()` if there was nothing to do.
    ///
    /// # Errors
    /// As [`Phase::for_each`].
    pub fn merge(self, op: impl FnMut(Acc, Acc) -> Acc) -> Result<Acc> {
        self.merge_report(op).map(|(value, _)| value)
    }

    /// As [`Fold::merge`], with an account of the phase.
    pub fn merge_report(self, op: impl FnMut(Acc, Acc) -> Acc) -> Result<(Acc, Report)> {
        let init = self.init;
        self.phase.run(&self.functions, false, |gather| {
            let merged = gather.accumulators()?.into_iter().reduce(op);
            Ok(merged.unwrap_or_else(init))
        })
    }
}
