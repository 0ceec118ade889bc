//! π by throwing points at a square: random numbers that do not depend on who draws them.
//!
//! ```text
//! cargo run --release --example pi [MILLIONS OF POINTS]
//! ```
//!
//! Every chunk has a generator of its own, keyed by the phase's seed and the chunk's index: [`Ctx::rng`]. So the digits are
//! the same for one worker and for eight, in whatever order the chunks are taken, and when a chunk is run a second time
//! because its worker was killed. Try `SWATH_WORKERS=1`, `SWATH_WORKERS=3`, and 0, which needs no processes at all.
//!
//! What to change first: the seed, and the quantity that a batch counts. A batch is a row and a chunk, so that its points
//! stay the same when the number of batches changes.

use std::f64::consts::PI;

use swath::prelude::*;

const POINTS_PER_BATCH: u64 = 100_000;

/// One batch: how many of its points fall into the quarter circle.
fn throw(ctx: &Ctx<u64>, mut hits: ArrayViewMut1<'_, u64>) {
    let mut rng = ctx.rng();
    let mut inside = || {
        let (x, y) = (rng.next_f64(), rng.next_f64());
        x * x + y * y < 1.0
    };
    for hits in &mut hits {
        *hits = (0..*ctx.args()).map(|_| u64::from(inside())).sum();
    }
}

fn main() -> Result<()> {
    swath::init();
    let millions: usize = match std::env::args().nth(1) {
        None => 50,
        Some(text) => text.parse().map_err(|_| Error::other("usage: pi [MILLIONS OF POINTS]"))?,
    };
    let pool = Pool::builder().build()?;
    let mut hits = SharedArray::<u64, _>::zeros(millions * 1_000_000 / POINTS_PER_BATCH as usize)?;

    let report = pool
        .phase(out(&mut hits))
        .args(POINTS_PER_BATCH)
        .seed(2024)
        .chunk(Chunk::Rows(1))
        .for_each_report(throw)?;

    let points = (hits.len() as u64 * POINTS_PER_BATCH) as f64;
    let share = hits.view().sum() as f64 / points;
    let one_sigma = 4.0 * (share * (1.0 - share) / points).sqrt();
    println!("points    {points}");
    println!("estimate  {}", 4.0 * share);
    println!("error     {:+.7}, one standard deviation is {one_sigma:.7}", 4.0 * share - PI);
    println!("workers   {}, {:.3} s", report.workers, report.wall.as_secs_f64());
    Ok(())
}
