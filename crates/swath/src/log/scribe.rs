//! The subscriber of a worker, or of a process of one's own: what is said there becomes a record.

use std::cell::RefCell;

use tracing_core::span::{Attributes, Current, Id, Record as Values};
use tracing_core::{Event, Interest, LevelFilter, Metadata, Subscriber};

use super::below::Below;
use super::berth::{self, Berth};
use super::emit::is_emitted;
use super::record::Record;
use super::spans::Spans;
use super::text::Said;

/// Writes a process's events to its ring, and to its file if it has one. Where these are is looked up: a copy of a template has the
/// template's scribe, and places of its own.
#[derive(Default)]
pub(super) struct Scribe {
    spans: Spans,
}

/// What an event is put together in, kept from one to the next.
#[derive(Default)]
struct Desk {
    said: Said,
    spans: String,
    words: Vec<u64>,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

impl Scribe {
    fn level(&self) -> LevelFilter {
        berth::current().map_or(LevelFilter::OFF, Berth::level)
    }

    fn write(&self, berth: &Berth, event: &Event<'_>, desk: &mut Desk) {
        let metadata = event.metadata();
        if is_emitted(metadata) {
            let below = Below::of(event);
            let record = below.record(berth.blank(*metadata.level()));
            record.encode(&mut desk.words);
            return berth.put(&mut desk.words, &record);
        }
        desk.said.clear();
        desk.spans.clear();
        event.record(&mut desk.said);
        self.spans.around(event, &mut desk.spans);
        let record = Record {
            target: metadata.target(),
            file: metadata.file().unwrap_or_default(),
            line: metadata.line().unwrap_or_default(),
            message: &desk.said.message.0,
            spans: &desk.spans,
            fields: &desk.said.fields.0,
            ..berth.blank(*metadata.level())
        };
        record.encode(&mut desk.words);
        berth.put(&mut desk.words, &record);
    }
}

impl Subscriber for Scribe {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked again when the level changes.
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level())
    }

    fn event(&self, event: &Event<'_>) {
        // A process that a kernel forked has the ring too, and it has one writer.
        let Some(berth) = berth::current().filter(|berth| berth.is_ours()) else { return };
        let written = DESK.try_with(|desk| match desk.try_borrow_mut() {
            Ok(mut desk) => self.write(berth, event, &mut desk),
            // A field's `Debug` logs.
            Err(_) => self.write(berth, event, &mut Desk::default()),
        });
        if written.is_err() {
            // The thread ends.
            self.write(berth, event, &mut Desk::default());
        }
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.spans.open(attributes)
    }

    fn record(&self, span: &Id, values: &Values<'_>) {
        self.spans.record(span, values);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, span: &Id) {
        self.spans.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.spans.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.spans.one_more(span);
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        self.spans.one_less(&span)
    }

    fn current_span(&self) -> Current {
        self.spans.current()
    }
}
