//! First pass: how many quotes are in a chunk.
//!
//! Whether a line break ends a record cannot be seen from the neighbourhood of the line break: in the middle of a long
//! quoted text everything looks like records. But a quote that is doubled counts twice, so the parity of all quotes
//! before a place says whether it is inside a quoted field, and parities of chunks can be found by anybody, in any
//! order.

use super::chunk::Chunk;
use super::error::Error;
use super::input::Inputs;
use super::plan::Plan;

/// Bytes that are read and counted at a time: they stay in the processor's cache.
const WINDOW: usize = 128 << 10;

/// The number of quotes in a chunk.
pub fn quotes(plan: &Plan, chunk: Chunk) -> Result<u64, Error> {
    let mut inputs = Inputs::default();
    let mut buffer = vec![0; WINDOW.min((chunk.hi - chunk.lo) as usize)];
    let (mut at, mut count) = (chunk.lo, 0);
    while at < chunk.hi {
        let length = buffer.len().min((chunk.hi - at) as usize);
        inputs.read(&plan.sources, chunk.file as usize, at, &mut buffer[..length])?;
        count += memchr::memchr_iter(b'"', &buffer[..length]).count() as u64;
        at += length as u64;
    }
    Ok(count)
}
