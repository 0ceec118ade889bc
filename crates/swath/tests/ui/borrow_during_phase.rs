//! The caller looks at an array, from another thread or a callback, while workers update it.

use swath::prelude::*;

fn main() -> swath::Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;
    let mut y = SharedArray::<f64, _>::zeros(1000)?;
    std::thread::scope(|scope| {
        scope.spawn(|| println!("{}", y.view()[0]));
        pool.phase(&mut y).for_each(|_, mut y| y += 1.0)
    })?;
    pool.phase(&mut y).progress(|_| println!("{}", y.view()[0])).for_each(|_, mut y| y += 1.0)
}
