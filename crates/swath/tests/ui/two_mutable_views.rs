//! The same array twice in one phase, once to be written: two views of one chunk.

use swath::prelude::*;

fn main() -> swath::Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;
    let mut y = SharedArray::<f64, _>::zeros(1000)?;
    pool.phase((&mut y, &mut y)).for_each(|_, _| ())?;
    pool.phase((&y, out(&mut y))).for_each(|_, _| ())
}
