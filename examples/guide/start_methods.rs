//! Ways in which a process can begin: as a copy of this one, as the same executable started again, and, in pools, as a copy of a
//! template that has loaded what all workers need.
//!
//! ```text
//! cargo run --release --example guide_start_methods
//! ```

use std::sync::OnceLock;
use std::time::Instant;

use swath::StartMethod;
use swath::prelude::*;

fn sum_of(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum::<u64>() % 256
}

/// What is loaded once.
static SQUARES: OnceLock<Vec<u64>> = OnceLock::new();

fn load(count: u64) {
    println!("loading {count} squares");
    SQUARES.get_or_init(|| (0..count).map(|n| n * n).collect());
}

fn square(n: usize) -> u64 {
    SQUARES.get().expect("preloaded")[n]
}

fn main() -> Result<()> {
    swath::init();
    println!("there are {:?}", swath::start_methods());
    let numbers: Vec<u64> = (0..1000).collect();

    // A copy has everything, so the closure may capture; that is safe only while this process has one thread.
    let began = Instant::now();
    let copy = Process::fork(|| numbers.iter().sum::<u64>() % 256)?;
    println!("fork:  {}", copy.join()?);
    eprintln!("       {:?}", began.elapsed());

    // A new start has nothing but its arguments: they are encoded and sent.
    let began = Instant::now();
    let process = Process::spawn(sum_of, numbers.clone())?;
    println!("spawn: {}", process.join()?);
    eprintln!("       {:?}", began.elapsed());

    // A pool's process has threads that watch the workers. Their locks would be copied, held for ever: so a fork is refused.
    let pool = Pool::builder().workers(2).build()?;
    let refused = Process::fork(|| numbers.len() as u64).expect_err("there is a pool");
    println!("fork beside a pool: refused, {:?}", refused.kind());
    println!("spawn beside a pool: {}", Process::spawn(sum_of, numbers)?.join()?);
    drop(pool);

    // Four workers, one hook: they are copies of the process in which it ran, and share its memory until somebody writes to it.
    let began = Instant::now();
    let pool =
        Pool::builder().workers(4).start_method(StartMethod::Forkserver).preload(load, 1_000_000).build()?;
    eprintln!("       {:?}", began.elapsed());
    let sum: u64 = pool.map(square, [1, 10, 999_999])?.into_iter().sum();
    println!("sum of three: {sum}");
    Ok(())
}
