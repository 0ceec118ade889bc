//! Who rings parked workers when arrays are dropped.

use std::sync::{Arc, Mutex, PoisonError};

use swath_segment::{HookId, Session};

use crate::board::Board;

/// Rings the doorbell for arrays that were dropped, so that parked workers unmap them, for as long as there is a board.
pub(super) struct Doorman {
    board: Arc<Mutex<Option<Board>>>,
    hook: HookId,
}

impl Doorman {
    pub(super) fn new(session: &Session, board: Board) -> Doorman {
        let board = Arc::new(Mutex::new(Some(board)));
        let shared = board.clone();
        let hook = session.on_retire(move |_| {
            if let Some(board) = *shared.lock().unwrap_or_else(PoisonError::into_inner) {
                board.ring_doorbell();
            }
        });
        Doorman { board, hook }
    }

    pub(super) fn leave(&self, session: &Session) {
        session.forget_hook(self.hook);
        // A hook that is running now ends before this returns; none begins after.
        *self.board.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
