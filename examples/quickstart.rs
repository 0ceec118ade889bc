//! The first program: two arrays in shared memory, worker processes that compute on them in place, a sum over all.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! A kernel is handed the rows of one chunk as ndarray views; nothing is copied, and nothing is sent but the order to begin.
//! A worker may be killed at any moment: its chunk is run again, and the printed digits stay the same.
//!
//! What to change first: the factor `2.0`. A kernel is a function, so it captures nothing; what it needs from outside
//! travels through `.args(…)`, which takes any serde value, and arrives as `ctx.args()`. Then the number of workers, here
//! or by `SWATH_WORKERS=8`; `SWATH_WORKERS=0` runs the same chunks in this process, for a debugger.

use swath::prelude::*;

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(4).build()?;

    let x = SharedArray::from_shape_fn(1_000_000, |i| i as f64)?;
    let mut y = SharedArray::<f64, _>::zeros(1_000_000)?;

    // y = 2 √x. Every element of y is written and none is read: out.
    pool.phase((&x, out(&mut y)))
        .args(2.0)
        .for_each(|ctx, (x, mut y)| azip!((y in &mut y, &x in &x) *y = ctx.args() * x.sqrt()))?;
    let squares = pool.phase(&y).map(|_, y| y.dot(&y)).reduce(0.0, |a, b| a + b)?;

    println!("sum of (2 √i)² for i below a million: {squares}");
    println!("by the formula:                       {}", 4.0 * (999_999.0 * 1_000_000.0 / 2.0));
    println!("workers:                              {}", pool.workers());
    Ok(())
}
