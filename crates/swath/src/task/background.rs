//! Pools that finish their tasks after the program has let go of them.

use std::sync::{Mutex, Once, PoisonError};
use std::thread::JoinHandle;

use swath_platform::process;

use crate::pool::Pool;

static FINISHING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Waits for the pool's tasks in a thread of its own, and for that thread at the end of the program.
pub(crate) fn finish(pool: Pool) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        process::at_exit(wait);
    });
    let body = move || {
        pool.join();
        drop(pool);
    };
    match std::thread::Builder::new().name("swath-finish".to_owned()).spawn(body) {
        Ok(thread) => {
            let mut all = FINISHING.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|thread| !thread.is_finished());
            all.push(thread);
        }
        // The pool was dropped with the closure: its tasks are cancelled, which the caller's handles say.
        Err(error) => tracing::error!("no thread to finish a pool's tasks in: {error}"),
    }
}

extern "C" fn wait() {
    let all = std::mem::take(&mut *FINISHING.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in all {
        let _ = thread.join();
    }
}
