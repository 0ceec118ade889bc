//! A queue that carries what two processes have to say to each other, of any type and size.
//!
//! ```text
//! cargo run --release --example guide_queue
//! ```

use serde::{Deserialize, Serialize};
use swath::prelude::*;
use swath::shared::{MessageError, Shared};
use swath::sync::{MessageQueue, MessageQueueError};

/// A mixed list.
#[derive(Debug, Serialize, Deserialize)]
enum Item {
    Number(i64),
    Nothing,
    Text(String),
    Series(Vec<f64>),
}

fn produce(queue: Shared<MessageQueue>) -> Result<()> {
    queue.put(&Item::Number(42))?;
    queue.put(&Item::Nothing)?;
    queue.put(&Item::Text("hello".to_owned()))?;
    queue.put(&Item::Series(vec![0.5; 1_000_000]))?;
    queue.close()?;
    Ok(())
}

fn main() -> Result<()> {
    swath::init();
    let queue = Shared::new(MessageQueue::with_capacity(8))?;
    let producer = Process::spawn(produce, queue.clone())?;

    // Joined first, with eight megabytes still in the queue: there is no thread in the producer that has yet to send them.
    println!("the producer has ended: {}", producer.join()?);
    loop {
        match queue.get() {
            Ok(Item::Series(values)) => println!("a series of {} numbers", values.len()),
            Ok(item) => println!("{item:?}"),
            Err(MessageError::Refused(end)) if matches!(end.why(), Some(MessageQueueError::Closed)) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("the queue is closed and empty");
    Ok(())
}
