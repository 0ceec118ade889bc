//! The steward: one thread of a pool, started when there is something to do that nobody who waits will do: tasks that found no
//! room in the table, callbacks, wakers of executors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use swath_platform::process;
use swath_sync::SLICE;

use super::desk::Desk;
use super::ticket::Callback;
use crate::limits::SLICE_MIN;
use crate::panic_note;

/// Starts it. Without a thread, callbacks of this pool come late: with the next call for tasks.
pub(super) fn start(desk: Arc<Desk>) -> Option<JoinHandle<()>> {
    let body = move || {
        process::SignalsBlocked::new().for_ever();
        serve(&desk);
    };
    let thread = std::thread::Builder::new().name("swath-steward".to_owned());
    thread.spawn(body).map_err(|e| tracing::error!("no thread for callbacks: {e}")).ok()
}

fn serve(desk: &Desk) {
    loop {
        let seen = desk.table.completions();
        let tending = desk.tend();
        tending.due.into_iter().for_each(call);
        if tending.over {
            return;
        }
        match (tending.waiting, tending.watched) {
            // Many at a time: the table is deep enough for workers to go on meanwhile.
            (true, false) => std::thread::sleep(SLICE_MIN),
            (waiting, true) => {
                let _ = desk.table.wait_completion(seen, Some(if waiting { SLICE_MIN } else { SLICE }));
            }
            (false, false) => desk.wait_for_work(),
        }
    }
}

/// Makes a call of the user's; its panic is logged.
pub(super) fn call(callback: Callback) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(callback)) {
        tracing::error!("a callback of a task panicked: {}", panic_note::text_of(panic.as_ref()));
    }
}
