//! Fields of events and spans, as text.

use std::fmt::{self, Write};

use tracing_core::Field;
use tracing_core::field::Visit;

use crate::cause::at_most;
use crate::limits::LOG_RECORD_BYTES;

/// What an event says: its message, and its other fields as `key=value`.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) message: Text,
    pub(super) fields: Text,
}

impl Said {
    pub(super) fn clear(&mut self) {
        self.message.0.clear();
        self.fields.0.clear();
    }
}

/// A text that stops growing where no record could carry more of it: somebody may log a whole array.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        // Not an error: a `Display` that unwraps would panic.
        if self.0.len() <= LOG_RECORD_BYTES {
            self.0.push_str(at_most(part, LOG_RECORD_BYTES));
        }
        Ok(())
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => drop(self.message.write_str(value)),
            _ => self.fields.record_str(field, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => drop(write!(self.message, "{value:?}")),
            _ => self.fields.record_debug(field, value),
        }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        let _ = write!(self, "{space}{}={value:?}", field.name());
    }
}

/// A span's fields, each with what was said of it last.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Text)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Text::default();
        let _ = write!(text, "{value:?}");
        self.0.push((field.name(), text));
    }
}

impl Fields {
    /// What is said later counts.
    pub(super) fn update(&mut self, more: Fields) {
        for (name, text) in more.0 {
            match self.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = text,
                None => self.0.push((name, text)),
            }
        }
    }

    /// `{a=1 b=2}`, or nothing.
    pub(super) fn write_to(&self, to: &mut String) {
        for (n, (name, text)) in self.0.iter().enumerate() {
            to.extend([if n == 0 { "{" } else { " " }, name, "=", &text.0]);
        }
        to.push_str(if self.0.is_empty() { "" } else { "}" });
    }
}
