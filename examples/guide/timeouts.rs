//! Waiting only so long, and calling only so long: the first leaves the call alone, the second ends it.
//!
//! ```text
//! cargo run --release --example guide_timeouts
//! ```

use std::time::Duration;

use swath::prelude::*;
use swath::shared::Shared;
use swath::sync::Event;
use swath::{current_task, isolated_with};

fn answer(go: Shared<Event>) -> Result<u64> {
    go.wait()?;
    Ok(42)
}

fn nap(seconds: u64) -> u64 {
    std::thread::sleep(Duration::from_secs(seconds));
    seconds
}

/// Hangs at the first attempt.
fn hang_once(_: ()) -> u32 {
    let attempt = current_task().map_or(0, |task| task.attempt());
    if attempt == 0 {
        nap(600);
    }
    attempt
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;
    let limit = Duration::from_millis(500);

    let go = Shared::new(Event::new())?;
    let task = pool.try_submit(answer, go.clone())?;
    println!("within half a second: {:?}", task.result_timeout(limit)?);
    go.set()?;
    println!("in the end:           {}", task.result()?);

    let task = pool.submit_with(nap, 600).timeout(limit).submit()?;
    println!("ten minutes, of which it gets half a second: {:?}", task.result().map_err(|e| e.kind()));

    let task = pool.submit_with(hang_once, ()).timeout(limit).retries(1).submit()?;
    println!("the attempt that had a value: {}", task.result()?);

    let each = pool.map_with(nap, [0, 600, 0]).chunk(1).timeout(limit).each()?;
    let ends: Vec<_> = each.into_iter().map(|end| end.map_err(|e| e.kind())).collect();
    println!("a map, with a limit for each: {ends:?}");

    let call = isolated_with().timeout(limit).call(nap, 600);
    println!("a call in a process of its own: {:?}", call.map_err(|e| e.kind()));
    Ok(())
}
