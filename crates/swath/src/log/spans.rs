//! The spans that are open in this process, and which of them each thread is in.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Event, Metadata};

use super::text::Fields;
use crate::cause::at_most;
use crate::limits::LOG_RECORD_BYTES;

thread_local! {
    /// The spans that this thread has entered, innermost last.
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

/// All spans of this process that have not been closed.
#[derive(Default)]
pub(super) struct Spans(Mutex<Open>);

#[derive(Default)]
struct Open {
    last: u64,
    spans: HashMap<u64, Span>,
}

struct Span {
    metadata: &'static Metadata<'static>,
    handles: usize,
    /// What stands before its own name: the spans around it.
    around: String,
    fields: Fields,
}

impl Span {
    /// `outer{n=1}>inner`.
    fn write_to(&self, path: &mut String) {
        path.push_str(&self.around);
        if !self.around.is_empty() {
            path.push('>');
        }
        path.push_str(self.metadata.name());
        self.fields.write_to(path);
        // Spans may be nested without end.
        let end = at_most(path, LOG_RECORD_BYTES).len();
        path.truncate(end);
    }
}

/// The innermost span that this thread is in. While the thread ends, none.
fn innermost() -> Option<Id> {
    ENTERED.try_with(|entered| entered.borrow().last().cloned()).ok().flatten()
}

impl Spans {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.clone()),
            None if attributes.is_contextual() => innermost(),
            None => None,
        };
        let mut open = self.lock();
        let mut around = String::new();
        if let Some(span) = parent.and_then(|id| open.spans.get(&id.into_u64())) {
            span.write_to(&mut around);
        }
        open.last += 1;
        let id = open.last;
        open.spans.insert(id, Span { metadata: attributes.metadata(), handles: 1, around, fields });
        Id::from_u64(id)
    }

    pub(super) fn record(&self, id: &Id, values: &Record<'_>) {
        // Before the lock: the fields' formatting is the user's code, and may log.
        let mut more = Fields::default();
        values.record(&mut more);
        if let Some(span) = self.lock().spans.get_mut(&id.into_u64()) {
            span.fields.update(more);
        }
    }

    pub(super) fn enter(&self, id: &Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(id.clone()));
    }

    pub(super) fn exit(&self, id: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            if let Some(at) = entered.iter().rposition(|other| other == id) {
                entered.remove(at);
            }
        });
    }

    pub(super) fn one_more(&self, id: &Id) {
        if let Some(span) = self.lock().spans.get_mut(&id.into_u64()) {
            span.handles += 1;
        }
    }

    /// True when that was the last handle.
    pub(super) fn one_less(&self, id: &Id) -> bool {
        let mut open = self.lock();
        let Some(span) = open.spans.get_mut(&id.into_u64()) else { return false };
        span.handles -= 1;
        let closed = span.handles == 0;
        if closed {
            open.spans.remove(&id.into_u64());
        }
        closed
    }

    /// Appends the spans around `event`.
    pub(super) fn around(&self, event: &Event<'_>, path: &mut String) {
        let id = match event.parent() {
            Some(parent) => Some(parent.clone()),
            None if event.is_contextual() => innermost(),
            None => None,
        };
        let Some(id) = id else { return };
        if let Some(span) = self.lock().spans.get(&id.into_u64()) {
            span.write_to(path);
        }
    }

    pub(super) fn current(&self) -> Current {
        let Some(id) = innermost() else { return Current::none() };
        let metadata = self.lock().spans.get(&id.into_u64()).map(|span| span.metadata);
        metadata.map_or_else(Current::none, |metadata| Current::new(id, metadata))
    }
}
