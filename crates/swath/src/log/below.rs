//! What came up from a process that this one has started, on its way further up.

use std::fmt::{Debug, Write};

use tracing_core::field::Visit;
use tracing_core::{Event, Field};

use super::record::Record;
use super::text::Text;

/// The fields of an event that [`emit`](super::emit::emit) has made.
#[derive(Debug, Default)]
pub(super) struct Below {
    message: Text,
    target: Text,
    file: Text,
    line: u64,
    spans: Text,
    /// The original's, and behind them who said it: level by level, the lowest first.
    fields: Text,
    who: Text,
    time_ns: u64,
}

impl Below {
    pub(super) fn of(event: &Event<'_>) -> Below {
        let mut below = Below::default();
        event.record(&mut below);
        let space = if below.fields.0.is_empty() { "" } else { " " };
        let _ = write!(below.fields, "{space}{}", below.who.0);
        below
    }

    /// The original, as one of this process: `blank` has its level.
    pub(super) fn record<'a>(&'a self, blank: Record<'a>) -> Record<'a> {
        Record {
            time_ns: self.time_ns,
            target: &self.target.0,
            file: &self.file.0,
            line: self.line as u32,
            message: &self.message.0,
            spans: &self.spans.0,
            fields: &self.fields.0,
            ..blank
        }
    }
}

impl Visit for Below {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "line" => self.line = value,
            "time_ns" => self.time_ns = value,
            _ => self.who.record_u64(field, value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = match field.name() {
            "target" => &mut self.target,
            "file" => &mut self.file,
            _ => return self.who.record_str(field, value),
        };
        let _ = text.write_str(value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = match field.name() {
            "message" => &mut self.message,
            "spans" => &mut self.spans,
            "fields" => &mut self.fields,
            _ => return self.who.record_debug(field, value),
        };
        let _ = write!(text, "{value:?}");
    }
}
