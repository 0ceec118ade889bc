//! A kernel that captures: it could not travel to another process.

use swath::prelude::*;

fn main() -> swath::Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;
    let mut y = SharedArray::<f64, _>::zeros(1000)?;
    let factor = std::env::args().count() as f64;
    pool.phase(&mut y).for_each(|_, mut y| y += factor)
}
