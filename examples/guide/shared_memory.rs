//! An array in shared memory: made with a name, viewed in place by workers, opened by name in a child, gone at the end.
//!
//! ```text
//! cargo run --release --example guide_shared_memory
//! ```

use swath::array;
use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::LockedArray;

/// Opens the block by its name, as any other program of this user could, and puts the sum of a copy into the first cell.
fn sum((name, totals): (String, Shared<LockedArray<f64>>)) -> Result<()> {
    let there = array::attach::<f64, Ix1>(&name)?;
    totals.set(0, there.snapshot().sum())?;
    Ok(())
}

/// Adds one to every element, a hundred times, under the array's lock.
fn add(totals: Shared<LockedArray<f64>>) -> Result<()> {
    for _ in 0..100 {
        let mut all = totals.lock_or_repair(|_| ())?;
        all.iter_mut().for_each(|value| *value += 1.0);
    }
    Ok(())
}

/// Reads the block where it lies: a handle needs no name.
fn mean(block: ArrayHandle<f64, Ix1>) -> f64 {
    block.view().mean().unwrap_or(0.0)
}

/// Makes an array, which becomes its caller's.
fn every_thousandth(block: ArrayHandle<f64, Ix1>) -> Result<SharedArray<f64, Ix1>> {
    let block = block.view();
    Ok(SharedArray::from_shape_fn(block.len() / 1000, |i| block[1000 * i])?)
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(4).build()?;
    let name = format!("guide-{}", std::process::id());

    let mut block = SharedArray::options().name(&name).create(1_000_000)?;
    pool.phase(out(&mut block)).for_each(|ctx, mut rows| {
        for (row, index) in rows.iter_mut().zip(ctx.rows()) {
            *row = index as f64;
        }
    })?;
    println!("the last element: {}", block.view()[999_999]);

    println!("the mean, by a task that was given a handle: {}", pool.apply(mean, block.handle())?);
    let thinned = pool.try_submit(every_thousandth, block.handle())?.result()?;
    println!("an array that a task has made: {} elements, the last {}", thinned.len(), thinned.view()[999]);

    let totals = Shared::new(LockedArray::zeros(4))?;
    Process::spawn(sum, (name.clone(), totals.clone()))?.join()?;
    println!("the sum, by a child that opened it by name: {}", totals.get(0)?);

    pool.try_map(add, vec![totals.clone(); 4])?;
    println!("400 times one more, under a lock: {:?}", &totals.lock_or_repair(|_| ())?[1..]);

    drop(block);
    println!("after the owner's drop the name is free: {}", array::attach::<f64, Ix1>(&name).is_err());
    Ok(())
}
