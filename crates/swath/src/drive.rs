//! Drivers: the loops over chunks, one per end of a phase, compiled for each kernel's types.
//!
//! The coordinator names a driver and a kernel by their offsets in the executable; the worker calls the driver, which knows
//! the types, and the driver calls the kernel.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_platform::cpu;

use crate::cause::{Fault, What, shorten};
use crate::context::Ctx;
use crate::limits::FLUSH_AFTER;
use crate::operand::Operand;
use crate::panic_note;
use crate::team::{Team, TeamKernel, TeamOperand};
use crate::turn::{InHand, Turn};

/// A driver, as it is named in a descriptor.
pub(crate) type Driver = fn(&mut Turn<'_>);

/// A kernel of `for_each` and `map`.
pub type Kernel<O, A, R> = for<'c, 'v> fn(&'c Ctx<A>, <O as Operand>::View<'v>) -> R;

/// A kernel of `fold`: adds a chunk to an accumulator.
pub type Step<O, A, Acc, R> = for<'c, 'm, 'v> fn(&'c Ctx<A>, &'m mut Acc, <O as Operand>::View<'v>) -> R;

/// What a kernel without a value may return: nothing, or a `Result` whose error says why the chunk failed.
pub trait Outcome {
    /// `Err` with the error's text and those of its sources.
    fn outcome(self) -> Result<(), Box<What>>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), Box<What>> {
        Ok(())
    }
}

impl<E: IntoFailure> Outcome for Result<(), E> {
    fn outcome(self) -> Result<(), Box<What>> {
        self.map_err(|error| Box::new(error.into_failure()))
    }
}

/// Errors that kernels may return: every `std::error::Error`, boxed ones, and plain texts.
pub trait IntoFailure {
    /// As data.
    fn into_failure(self) -> What;
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> IntoFailure for E {
    fn into_failure(self) -> What {
        let error: Box<dyn std::error::Error + Send + Sync> = self.into();
        let mut chain = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            chain.push(shorten(cause.to_string()));
            source = cause.source();
        }
        What::Failed { message: shorten(error.to_string()), chain }
    }
}

fn fault(error: impl IntoFailure) -> Fault {
    Box::new(error.into_failure())
}

/// `for_each`: the chunk's effect is in its arrays.
pub(crate) fn each<O: Operand, A: DeserializeOwned, R: Outcome>(turn: &mut Turn<'_>) {
    // SAFETY: the coordinator names this driver together with a kernel of exactly this type.
    let kernel = unsafe { turn.function::<Kernel<O, A, R>>(turn.descriptor.kernel) };
    chunks::<O, A, ()>(
        turn,
        |ctx, views| kernel.clone()?(ctx, views).outcome(),
        |turn, held, ()| {
            turn.commit(held);
            Ok(())
        },
    );
}

/// `map`: the chunk has a value.
pub(crate) fn map<O: Operand, A: DeserializeOwned, R: Serialize>(turn: &mut Turn<'_>) {
    // SAFETY: as above.
    let kernel = unsafe { turn.function::<Kernel<O, A, R>>(turn.descriptor.kernel) };
    chunks::<O, A, R>(turn, |ctx, views| Ok(kernel.clone()?(ctx, views)), put_and_commit);
}

/// `try_map`: the chunk has a value or fails.
pub(crate) fn try_map<O: Operand, A: DeserializeOwned, R: Serialize, E: IntoFailure>(turn: &mut Turn<'_>) {
    // SAFETY: as above.
    let kernel = unsafe { turn.function::<Kernel<O, A, Result<R, E>>>(turn.descriptor.kernel) };
    chunks::<O, A, R>(turn, |ctx, views| kernel.clone()?(ctx, views).map_err(fault), put_and_commit);
}

fn put_and_commit<R: Serialize>(turn: &mut Turn<'_>, held: InHand, value: R) -> Result<(), (InHand, Fault)> {
    match turn.put_value(&held, &value) {
        Ok(()) => turn.commit(held),
        Err(what) => return Err((held, what)),
    }
    Ok(())
}

/// The loop of `for_each` and `map`: claim, prepare once, save, run, finish.
fn chunks<O: Operand, A: DeserializeOwned, R>(
    turn: &mut Turn<'_>,
    run: impl for<'v> Fn(&Ctx<A>, O::View<'v>) -> Result<R, Fault>,
    mut finish: impl FnMut(&mut Turn<'_>, InHand, R) -> Result<(), (InHand, Fault)>,
) {
    let Some(first) = turn.next() else { return };
    let mut prepared = prepare::<O, A>(turn);
    let mut next = Some(first);
    while let Some(mut held) = next {
        let result = attempt::<O, A, R>(turn, &mut prepared, &mut held, &run);
        let finished = match result {
            Ok(value) => finish(turn, held, value),
            Err(what) => Err((held, what)),
        };
        if let Err((held, what)) = finished {
            turn.fail(held, *what);
        }
        next = turn.next();
    }
    turn.idle();
}

fn prepare<O: Operand, A: DeserializeOwned>(turn: &mut Turn<'_>) -> Result<Ctx<A>, Fault> {
    panic_note::install();
    let args = turn.prepare::<A>(O::COUNT, O::check)?;
    Ok(Ctx::new(args, turn.hand.index, turn.descriptor.seed, turn.hand.board))
}

/// One attempt at one chunk.
#[inline]
fn attempt<O: Operand, A, R>(
    turn: &mut Turn<'_>,
    prepared: &mut Result<Ctx<A>, Fault>,
    held: &mut InHand,
    run: impl for<'v> FnOnce(&Ctx<A>, O::View<'v>) -> Result<R, Fault>,
) -> Result<R, Fault> {
    let ctx = match prepared {
        Ok(ctx) => ctx,
        Err(what) => return Err(what.clone()),
    };
    turn.begin(held);
    ctx.enter(held.chunk(), held.rows.clone(), held.attempt(), turn.hand.claims);
    // A kernel's library may have changed rounding or flush-to-zero; the next chunk must not notice.
    cpu::reset_float_state();
    let result = panic_note::catching(|| {
        // SAFETY: `prepare` succeeded, and the views are consumed by `run`.
        let views = unsafe { turn.views::<O>(held) };
        run(ctx, views)
    });
    // A kernel that returned early because it was asked to has not finished its chunk.
    if ctx.cancelled() { Err(turn.timed_out()) } else { result }
}

/// `fold`: chunks are added to an accumulator, which takes effect as a whole when there is nothing left to claim.
pub(crate) fn fold<O, A, Acc, R>(turn: &mut Turn<'_>)
where
    O: Operand,
    A: DeserializeOwned,
    Acc: Serialize,
    R: Outcome,
{
    // SAFETY: the coordinator names this driver together with functions of exactly these types.
    let functions = unsafe {
        turn.function::<Step<O, A, Acc, R>>(turn.descriptor.kernel)
            .and_then(|step| Ok((step, turn.function::<fn() -> Acc>(turn.descriptor.init)?)))
    };
    // A flush may be followed by more chunks, which another worker's death has given back.
    while fold_once::<O, A, Acc, R>(turn, functions.clone()) {}
    turn.idle();
}

/// A team: every worker takes the one chunk that is its rank.
pub(crate) fn team_driver<O: TeamOperand, A: DeserializeOwned>(turn: &mut Turn<'_>) {
    let (rank, size) = (turn.hand.index, turn.descriptor.rows as usize);
    if rank >= size {
        return;
    }
    let Some(held) = turn.take(rank) else { return };
    match run_member::<O, A>(turn, rank, size) {
        Ok(()) => turn.commit(held),
        Err(what) => turn.fail(held, *what),
    }
    turn.idle();
}

fn run_member<O: TeamOperand, A: DeserializeOwned>(
    turn: &mut Turn<'_>,
    rank: usize,
    size: usize,
) -> Result<(), Fault> {
    let args = turn.prepare::<A>(O::COUNT, O::check)?;
    // SAFETY: the coordinator names this driver together with a kernel of exactly this type.
    let kernel = unsafe { turn.function::<TeamKernel<O, A>>(turn.descriptor.kernel)? };
    panic_note::install();
    let team = Team::new(rank, size, args, turn.meeting()?);
    cpu::reset_float_state();
    panic_note::catching(|| {
        // SAFETY: prepared with this operand's count and check; the claim on chunk `rank` makes us its only member.
        let views = unsafe { O::view(turn.bound(), rank, size) };
        kernel(&team, views).map_err(fault)
    })
}

/// Folds until nothing is left to claim, and flushes. False when there was nothing at all.
fn fold_once<O, A, Acc, R>(turn: &mut Turn<'_>, functions: Result<FoldFunctions<O, A, Acc, R>, Fault>) -> bool
where
    O: Operand,
    A: DeserializeOwned,
    Acc: Serialize,
    R: Outcome,
{
    let Some(first) = turn.next() else { return false };
    let mut prepared = prepare::<O, A>(turn);
    let mut accumulator: Option<Acc> = None;
    let mut folded: Vec<usize> = Vec::new();
    let mut stakes = Stakes::new();
    let mut next = Some(first);
    while let Some(mut held) = next {
        let result = attempt::<O, A, ()>(turn, &mut prepared, &mut held, |ctx, views| {
            let (step, init) = functions.clone()?;
            step(ctx, accumulator.get_or_insert_with(init), views).outcome()
        });
        match result {
            Ok(()) => folded.extend(turn.fold(held)),
            Err(what) => {
                // The accumulator may hold half of this chunk: nothing of it can be used.
                turn.discard(&folded);
                folded.clear();
                accumulator = None;
                turn.fail(held, *what);
            }
        }
        if stakes.are_high(turn.deaths_in_this_phase()) {
            if let Some(accumulator) = accumulator.take() {
                stakes.settle(|| flush(turn, &accumulator, &folded));
            }
            folded.clear();
        }
        next = turn.next();
    }
    if let Some(accumulator) = accumulator.filter(|_| !folded.is_empty()) {
        flush(turn, &accumulator, &folded);
    }
    true
}

/// When to publish an accumulator before its time: a death costs all that was folded since the last flush, so a worker that is
/// killed again and again would never get anywhere. A flush should cost a twentieth of the work that it saves; a third
/// when workers are dying.
struct Stakes {
    since: Instant,
    cost: Duration,
}

impl Stakes {
    fn new() -> Stakes {
        Stakes { since: Instant::now(), cost: Duration::ZERO }
    }

    fn are_high(&self, deaths: bool) -> bool {
        let patience = if deaths { 2 * self.cost } else { (20 * self.cost).max(FLUSH_AFTER) };
        self.since.elapsed() >= patience
    }

    fn settle(&mut self, flush: impl FnOnce()) {
        let began = Instant::now();
        flush();
        self.since = Instant::now();
        self.cost = self.since.duration_since(began);
    }
}

type FoldFunctions<O, A, Acc, R> = (Step<O, A, Acc, R>, fn() -> Acc);

/// Publishes the accumulator. When that is impossible, each of its chunks must fail with the reason: run again they
/// would end here again.
fn flush<Acc: Serialize>(turn: &mut Turn<'_>, accumulator: &Acc, folded: &[usize]) {
    if let Err(what) = turn.flush(accumulator, folded) {
        turn.fail_folded(folded, &what);
    }
}
