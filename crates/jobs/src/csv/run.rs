//! The job on a pool: two phases over an array with one row per chunk.
//!
//! What the workers share is tiny: the plan travels as arguments, the chunks lie in a shared array, and the text is read
//! by each worker for itself. A worker that dies takes the chunks in its accumulator with it; the engine runs them again,
//! and since accumulators commute exactly, nobody can see it in the answer.

use super::chunk::{self, Chunk};
use super::error::Error;
use super::outcome::Outcome;
use super::partial::Partial;
use super::plan::Plan;
use super::{borders, scan};
use std::path::PathBuf;
use std::time::Duration;
use swath::prelude::ndarray::{Array2, ArrayView2, Ix2};
use swath::{Phase, Pool, Progress, Report, SharedArray, What};

/// How the job is run; none of it changes the answer.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// A chunk that takes longer is tried again in another worker.
    pub chunk_timeout: Option<Duration>,
    /// How often a chunk is tried again; the engine's default if absent.
    pub retries: Option<u32>,
    /// Whether chunks that fail again and again may be left out.
    pub keep_going: bool,
}

/// A finished job, and how it went.
#[derive(Debug)]
pub struct Finished {
    /// What was asked for.
    pub outcome: Outcome,
    /// What the engine says about the two phases, "borders" and "records".
    pub phases: Vec<Report>,
    /// The parts of the input that are in no answer, if that was allowed.
    pub left_out: Vec<LeftOut>,
}

/// Bytes `lo..hi` of a file; records that start there are in no answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// The first byte.
    pub lo: u64,
    /// The byte behind the last one.
    pub hi: u64,
    /// Why.
    pub cause: String,
}

/// Runs a planned job. `progress` is called now and then, in this thread.
pub fn run(
    pool: &Pool,
    plan: &Plan,
    options: &RunOptions,
    mut progress: impl FnMut(&'static str, Progress),
) -> Result<Finished, Error> {
    let mut chunks = chunk::chunks(plan);
    if chunks.is_empty() {
        let outcome = Outcome::new(plan, Partial::default())?;
        return Ok(Finished { outcome, phases: Vec::new(), left_out: Vec::new() });
    }
    let mut rows = share(&chunks)?;
    let (quotes, borders) = set(pool.phase(&rows).args(plan), options)
        .name("borders")
        .progress(|now| progress("borders", now))
        .try_map(|ctx, rows| borders::quotes(ctx.args(), chunk_in(rows)))
        .collect_report()
        .map_err(of_the_job)?;
    chunk::settle(&mut chunks, &quotes);
    rows.try_view_mut().map_err(swath::Error::from)?.assign(&table(&chunks));
    let mut records = set(pool.phase(&rows).args(plan), options).name("records");
    if options.keep_going {
        records = records.keep_going();
    }
    let (whole, records) = records
        .progress(|now| progress("records", now))
        .fold(Partial::default, |ctx, partial, rows| scan::scan(ctx.args(), chunk_in(rows), partial))
        .merge_report(Partial::merge)
        .map_err(of_the_job)?;
    let outcome = Outcome::new(plan, whole)?;
    let left_out = left_out(plan, &chunks, &records);
    Ok(Finished { outcome, phases: vec![borders, records], left_out })
}

type ChunkPhase<'p, 'a> = Phase<'p, &'a SharedArray<u64, Ix2>, swath::Encoded<Plan>>;

fn set<'p, 'a>(phase: ChunkPhase<'p, 'a>, options: &RunOptions) -> ChunkPhase<'p, 'a> {
    let mut phase = phase.chunk(swath::Chunk::Rows(1));
    if let Some(limit) = options.chunk_timeout {
        phase = phase.chunk_timeout(limit);
    }
    if let Some(retries) = options.retries {
        phase = phase.retries(retries);
    }
    phase
}

fn table(chunks: &[Chunk]) -> Array2<u64> {
    let rows: Vec<[u64; 4]> = chunks.iter().map(|chunk| chunk.to_row()).collect();
    Array2::from(rows)
}

fn share(chunks: &[Chunk]) -> Result<SharedArray<u64, Ix2>, Error> {
    let options = SharedArray::options().unnamed();
    Ok(options.from_array(&table(chunks)).map_err(swath::Error::from)?)
}

/// The one chunk of a view of one row.
fn chunk_in(rows: ArrayView2<'_, u64>) -> Chunk {
    Chunk::from_row(std::array::from_fn(|column| rows[(0, column)]))
}

/// An error that our own code returned in a worker is told in its own words; the engine's account of where it happened
/// would only hide it.
fn of_the_job(error: swath::Error) -> Error {
    let ours = |failure: &swath::ChunkFailure| match &failure.causes.last()?.what {
        What::Failed { message, .. } => Some(message.clone()),
        _ => None,
    };
    match error.failures().iter().find_map(ours) {
        Some(message) => Error::Worker(message),
        None => Error::Engine(error),
    }
}

fn left_out(plan: &Plan, chunks: &[Chunk], records: &Report) -> Vec<LeftOut> {
    let describe = |failure: &swath::ChunkFailure| {
        let chunk = chunks[failure.chunk];
        LeftOut {
            path: plan.sources[chunk.file as usize].name.clone(),
            lo: chunk.lo,
            hi: chunk.hi,
            cause: failure.to_string(),
        }
    };
    records.failed.iter().map(describe).collect()
}
