//! An answer as text: CSV for programs, JSON for programs, a table for people.

use super::answer::{Answer, Value};
use super::record::quoted;
use std::borrow::Cow;
use std::io::{self, Write};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Commas and line feeds; null is an empty field, an empty text is `""`.
    Csv,
    /// An array with one object per row; a text is a string, a number a number, null is null. Numbers that JSON does not
    /// have (`inf`, `-inf`, `NaN`) are strings.
    Json,
    /// Columns of even width; texts to the left, numbers to the right.
    Table,
}

impl Answer {
    /// Writes the whole answer.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Csv => self.write_csv(out),
            Format::Json => self.write_json(out),
            Format::Table => self.write_table(out),
        }
    }

    fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        write_record(out, self.header.iter().map(|name| quoted(name.as_bytes(), b',')))?;
        self.rows.iter().try_for_each(|row| write_record(out, row.iter().map(csv_field)))
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let names: Vec<String> = self.header.iter().map(|name| json_string(name.as_bytes())).collect();
        out.write_all(b"[")?;
        for (number, row) in self.rows.iter().enumerate() {
            out.write_all(if number == 0 { b"\n  {" } else { b",\n  {" })?;
            for (column, (name, value)) in names.iter().zip(row).enumerate() {
                let comma = if column == 0 { "" } else { ", " };
                write!(out, "{comma}{name}: {}", json_value(value))?;
            }
            out.write_all(b"}")?;
        }
        out.write_all(if self.rows.is_empty() { b"]\n" } else { b"\n]\n" })
    }

    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let header: Vec<Cow<str>> = self.header.iter().map(|name| visible(name.as_bytes())).collect();
        let rows: Vec<Vec<Cow<str>>> = self.rows.iter().map(|row| row.iter().map(shown).collect()).collect();
        let mut widths = vec![0; header.len()];
        for row in rows.iter().chain([&header]) {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = text.chars().count().max(*width);
            }
        }
        let rule = widths.iter().map(|width| Cow::Owned("─".repeat(*width))).collect();
        for row in [&header, &rule].into_iter().chain(&rows) {
            self.write_line(out, row, &widths)?;
        }
        Ok(())
    }

    fn write_line(&self, out: &mut dyn Write, row: &[Cow<str>], widths: &[usize]) -> io::Result<()> {
        let mut line = String::new();
        for (column, (text, width)) in row.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let fill = " ".repeat(width - text.chars().count());
            let (left, right) = if column < self.keys { ("", &fill[..]) } else { (&fill[..], "") };
            line.extend([gap, left, text, right]);
        }
        writeln!(out, "{}", line.trim_end())
    }
}

fn write_record<'t>(out: &mut dyn Write, fields: impl Iterator<Item = Cow<'t, [u8]>>) -> io::Result<()> {
    for (column, field) in fields.enumerate() {
        if column > 0 {
            out.write_all(b",")?;
        }
        out.write_all(&field)?;
    }
    out.write_all(b"\n")
}

fn csv_field(value: &Value) -> Cow<'_, [u8]> {
    match value {
        Value::Null => Cow::Borrowed(b""),
        Value::Text(text) if text.is_empty() => Cow::Borrowed(b"\"\""),
        Value::Text(text) => quoted(text, b','),
        Value::Number(number) => Cow::Borrowed(number.as_bytes()),
    }
}

fn json_value(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed("null"),
        Value::Text(text) => Cow::Owned(json_string(text)),
        Value::Number(number) if number.ends_with(|last: char| last.is_ascii_digit()) => {
            Cow::Borrowed(number)
        }
        Value::Number(number) => Cow::Owned(json_string(number.as_bytes())),
    }
}

fn json_string(text: &[u8]) -> String {
    serde_json::Value::from(String::from_utf8_lossy(text)).to_string()
}

/// A null group is told from an empty text; a missing value is just missing.
fn shown(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::Text(text) if text.is_empty() => Cow::Borrowed("\"\""),
        Value::Text(text) => visible(text),
        Value::Number(number) => Cow::Borrowed(number),
    }
}

/// Control characters would break the lines of a table, or do worse to a terminal.
fn visible(text: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text);
    if text.chars().any(char::is_control) { Cow::Owned(text.escape_debug().to_string()) } else { text }
}
