//! A simulation at every point of a grid of parameters, each with random numbers of its own.
//!
//! ```text
//! cargo run --release --example guide_sweep
//! ```
//!
//! The same digits for any number of workers, and when points are run again.

use serde::{Deserialize, Serialize};
use swath::ChunkRng;
use swath::prelude::*;

const SEED: u64 = 2024;
const PEOPLE: u32 = 500;

/// A point of the grid: its number is the key of its random numbers.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Point {
    number: u64,
    infection: f64,
    recovery: f64,
}

/// How many people an epidemic reaches that one of them begins.
fn epidemic(point: Point) -> u32 {
    let mut rng = ChunkRng::new(SEED, point.number);
    let (mut healthy, mut ill) = (PEOPLE - 1, 1_u32);
    while ill > 0 {
        let avoids_one = 1.0 - point.infection / f64::from(PEOPLE);
        let avoids_all = (0..ill).fold(1.0, |chance, _| chance * avoids_one);
        let caught = (0..healthy).filter(|_| rng.next_f64() > avoids_all).count() as u32;
        let recovered = (0..ill).filter(|_| rng.next_f64() < point.recovery).count() as u32;
        (healthy, ill) = (healthy - caught, ill + caught - recovered);
    }
    PEOPLE - healthy
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().build()?;
    let grid = [0.1, 0.3, 0.5].into_iter().flat_map(|infection| [0.1, 0.2, 0.4].map(|r| (infection, r)));
    let points: Vec<Point> =
        grid.zip(0..).map(|((infection, recovery), number)| Point { number, infection, recovery }).collect();

    let reached = pool.map(epidemic, points.iter().copied())?;
    println!("infection  recovery  reached");
    for (Point { infection, recovery, .. }, reached) in points.iter().zip(&reached) {
        println!("{infection:>9}  {recovery:>8}  {reached:>7}");
    }
    let again = Pool::builder().inline().build()?.map(epidemic, points)?;
    println!("the same without any worker: {}", again == reached);
    Ok(())
}
