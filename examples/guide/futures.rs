//! Twenty tasks, taken as they are ready; one error each; a time limit; cancelling one that runs.
//!
//! ```text
//! cargo run --release --example guide_futures
//! ```

use std::time::Duration;

use swath::prelude::*;
use swath::{Until, as_completed, wait};

fn root(number: i64) -> Result<f64, String> {
    if number % 7 == 3 { Err(format!("{number} is bad luck")) } else { Ok((number as f64).sqrt()) }
}

fn sleep(how_long: Duration) {
    std::thread::sleep(how_long);
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(4).build()?;

    let tasks = (0..20).map(|n| pool.try_submit(root, n)).collect::<Result<Vec<_>>>()?;
    let (mut roots, mut errors) = (Vec::new(), Vec::new());
    for task in as_completed(tasks) {
        match task.result() {
            Ok(root) => roots.push(root),
            Err(error) => errors.push(error.causes()[0].what.to_string()),
        }
    }
    // The order in which they were ready is another one each time.
    errors.sort();
    println!("{} roots, their sum {:.6}", roots.len(), {
        roots.sort_by(f64::total_cmp);
        roots.iter().sum::<f64>()
    });
    println!("{} errors: {}", errors.len(), errors.join("; "));

    let tasks = [Duration::from_secs(60), Duration::from_millis(1)].map(|time| pool.submit(sleep, time));
    let tasks = tasks.into_iter().collect::<Result<Vec<_>>>()?;
    println!("{:?}", wait(&tasks, Until::FirstCompleted, None));
    println!(
        "after 10 ms the long one has no result: {}",
        tasks[0].result_timeout(Duration::from_millis(10))?.is_none()
    );
    println!("cancelled while it ran: {}", tasks[0].cancel());
    println!("so it ends: {:?}", tasks[0].result().map_err(|error| error.kind()));

    let limited =
        pool.submit_with(sleep, Duration::from_secs(60)).timeout(Duration::from_millis(50)).submit()?;
    println!("with a limit: {:?}", limited.result().map_err(|error| error.kind()));
    println!("and the pool goes on: {}", pool.apply(|n: u64| n + 1, 1)?);
    Ok(())
}
