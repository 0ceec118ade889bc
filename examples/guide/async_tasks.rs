//! Calls that need a processor, awaited by an event loop: a task is a `std` future, so any executor will do. This one has twenty
//! lines.
//!
//! ```text
//! cargo run --release --example guide_async_tasks
//! ```

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use swath::Task;
use swath::prelude::*;

/// Wakes the thread that waits for the future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// All of them at the same time; their values in order: Python's `asyncio.gather`.
async fn gather<F: Future + Unpin>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    poll_fn(|context| {
        for (future, value) in waiting.iter_mut().filter(|(_, value)| value.is_none()) {
            if let Poll::Ready(ready) = Pin::new(future).poll(context) {
                *value = Some(ready);
            }
        }
        if waiting.iter().all(|(_, value)| value.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, value)| value).collect()
}

fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

fn for_ever(_: ()) {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

async fn program(pool: &Pool) -> Result<()> {
    println!("one: {}", pool.submit(fibonacci, 20)?.await?);

    let tasks: Vec<Task<u64>> = (10..18).map(|n| pool.submit(fibonacci, n)).collect::<Result<_>>()?;
    let values = gather(tasks).await.into_iter().collect::<Result<Vec<_>>>()?;
    println!("gathered: {values:?}");

    // A future that nobody wants any more is dropped, and here that ends the call too.
    drop(pool.submit(for_ever, ())?.cancel_on_drop());
    let limited = pool.submit_with(for_ever, ()).timeout(Duration::from_millis(50)).submit()?;
    println!("one that is too long: {:?}", limited.await.map_err(|error| error.kind()));
    Ok(())
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;
    block_on(program(&pool))
}
