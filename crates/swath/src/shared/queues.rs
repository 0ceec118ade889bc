//! Shared queues of plain values: `Queue`, `JoinableQueue`, `SimpleQueue`, `SpscRing`.

use bytemuck::Pod;
use swath_sync::{
    Consumer, Delivery, JoinableQueue, Producer, Queue, QueueError, RingError, SimpleQueue, SpscRing,
};

use super::{Refused, Shared, forward, forward_sure, forward_waiting};

impl<T: Pod> Shared<Queue<T>> {
    forward_waiting! {
        "Puts an item": put try_put put_timeout put_deadline(item: T) -> (), QueueError;
        "Gets an item": get try_get get_timeout get_deadline() -> T, QueueError;
    }

    /// Reads an item in its place. If the process dies meanwhile, somebody else gets it.
    ///
    /// # Errors
    ///
    /// As [`Queue::get_with`], with the queue's name.
    pub fn get_with<R>(&self, read: impl FnOnce(&T) -> R) -> Result<R, Refused<QueueError>> {
        self.ask(|queue, me| queue.get_with(me, read))
    }

    forward_sure! {
        /// Puts are refused from now on; gets are, when all that was put has been got.
        fn close() -> ();
        /// Items that wait to be got.
        fn len() -> usize;
        /// Whether no item waits.
        fn is_empty() -> bool;
        /// Items that it has room for.
        fn capacity() -> usize;
    }
}

impl<T: Pod> Shared<JoinableQueue<T>> {
    forward_waiting! {
        "Puts an item": put try_put put_timeout put_deadline(item: T) -> (), QueueError;
        "Gets an item, to be acknowledged": get try_get get_timeout get_deadline() -> Delivery<'_, T>, QueueError;
    }

    /// Waits until all items that were put are acknowledged.
    ///
    /// # Errors
    ///
    /// The calling thread cannot take part.
    pub fn join(&self) -> Result<(), Refused<std::convert::Infallible>> {
        self.ask(|queue, me| {
            queue.join(me);
            Ok(())
        })
    }

    /// Waits for that at most for `timeout`; says whether it is so.
    ///
    /// # Errors
    ///
    /// The calling thread cannot take part.
    pub fn join_timeout(
        &self,
        timeout: std::time::Duration,
    ) -> Result<bool, Refused<std::convert::Infallible>> {
        self.ask(|queue, me| Ok(queue.join_timeout(me, timeout)))
    }
}

impl<T: Pod> Shared<SimpleQueue<T>> {
    forward! {
        /// Puts an item, waiting for room if there is none.
        fn put(item: T) -> (), QueueError;
        /// Gets an item, however long there is none.
        fn get() -> T, QueueError;
    }
    forward_sure! {
        /// Whether no item waits.
        fn empty() -> bool;
    }
}

impl<T: Pod> Shared<SpscRing<T>> {
    forward! {
        /// The end that pushes, unless a living party has it.
        fn producer() -> Producer<'_, T>, RingError;
        /// The end that pops, unless a living party has it.
        fn consumer() -> Consumer<'_, T>, RingError;
    }
    forward_sure! {
        /// Pushes are refused from now on; pops are, when all is popped.
        fn close() -> ();
        /// Items in it.
        fn len() -> usize;
        /// Whether there are none.
        fn is_empty() -> bool;
        /// Items that it has room for.
        fn capacity() -> usize;
    }
}
