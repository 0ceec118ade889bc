//! What it costs to send eight megabytes as arguments, and what to let workers look at them where they are.
//!
//! ```text
//! cargo run --release --example guide_large_data
//! ```
//!
//! What is timed goes to standard error.

use std::time::Instant;

use swath::prelude::*;

const NUMBERS: usize = 1_000_000;
const ROUNDS: u32 = 3;

fn sum(numbers: Vec<f64>) -> f64 {
    numbers.iter().sum()
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;
    let numbers: Vec<f64> = (0..NUMBERS).map(|n| n as f64).collect();
    let block = SharedArray::from_shape_fn(NUMBERS, |n| n as f64)?;

    // Encoded here, copied to the worker, decoded there: every time.
    let began = Instant::now();
    let mut sent = 0.0;
    for _ in 0..ROUNDS {
        sent = pool.apply(sum, numbers.clone())?;
    }
    eprintln!("as arguments:     {:?} each", began.elapsed() / ROUNDS);

    // The rows lie in shared memory, and stay there: what travels is the order to begin.
    let began = Instant::now();
    let mut viewed = 0.0;
    for _ in 0..ROUNDS {
        viewed = pool.phase(&block).map(|_, rows| rows.sum()).reduce(0.0, |a, b| a + b)?;
    }
    eprintln!("in shared memory: {:?} each", began.elapsed() / ROUNDS);

    println!("as arguments:     {sent}");
    println!("in shared memory: {viewed}");
    Ok(())
}
