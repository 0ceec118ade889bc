//! One record as text: splitting it into fields, taking quotes off and putting them on.
//!
//! This is the slow and obvious form, for headers, reports and lists of names. The scan of whole files has its own.

use std::borrow::Cow;

/// A quote that is neither around a field nor doubled inside one, or that nothing closes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadQuote;

/// The fields of a record, without its line break and without their quotes.
pub(crate) fn split(record: &[u8], delimiter: u8) -> Result<Vec<Cow<'_, [u8]>>, BadQuote> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let length = field_length(rest, delimiter)?;
        fields.push(unquoted(&rest[..length]));
        match rest.get(length + 1..) {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// The fields of a record whose quotes are in place, with their quotes. Other fields may have quotes inside them.
pub(crate) fn raw_fields(record: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(record);
    std::iter::from_fn(move || {
        let text = rest?;
        let length = match text.first() {
            Some(b'"') => field_length(text, delimiter).ok(),
            _ => memchr::memchr(delimiter, text),
        };
        let length = length.unwrap_or(text.len());
        rest = text.get(length + 1..);
        Some(&text[..length])
    })
}

/// How far the field at the beginning of `text` goes.
fn field_length(text: &[u8], delimiter: u8) -> Result<usize, BadQuote> {
    let Some(body) = text.strip_prefix(b"\"") else {
        let length = text.iter().position(|b| *b == delimiter).unwrap_or(text.len());
        return if text[..length].contains(&b'"') { Err(BadQuote) } else { Ok(length) };
    };
    let mut at = 0;
    loop {
        at += memchr::memchr(b'"', &body[at..]).ok_or(BadQuote)?;
        match body.get(at + 1) {
            Some(b'"') => at += 2,
            Some(byte) if *byte != delimiter => return Err(BadQuote),
            _ => return Ok(at + 2),
        }
    }
}

/// A field as it was meant: if it is quoted, what is between the quotes.
pub(crate) fn unquoted(field: &[u8]) -> Cow<'_, [u8]> {
    let Some(body) = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(field);
    };
    if memchr::memchr(b'"', body).is_none() {
        return Cow::Borrowed(body);
    }
    let mut text = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'"', rest) {
        text.extend_from_slice(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

/// A text as a field: quoted if it would not read back otherwise.
pub(crate) fn quoted(text: &[u8], delimiter: u8) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| matches!(b, b'"' | b'\n' | b'\r') || *b == delimiter) {
        return Cow::Borrowed(text);
    }
    let mut field = Vec::with_capacity(text.len() + 2);
    field.push(b'"');
    for &byte in text {
        if byte == b'"' {
            field.push(b'"');
        }
        field.push(byte);
    }
    field.push(b'"');
    Cow::Owned(field)
}

/// A record without the carriage return that belongs to its line break.
pub(crate) fn without_return(record: &[u8]) -> &[u8] {
    record.strip_suffix(b"\r").unwrap_or(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(record: &str) -> Option<Vec<String>> {
        let fields = split(record.as_bytes(), b',').ok()?;
        Some(fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect())
    }

    #[test]
    fn splitting() {
        for (record, expected) in [
            ("", vec![""]),
            ("a,,b,", vec!["a", "", "b", ""]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"a\"\"b\",\"\"", vec!["a\"b", ""]),
            ("\"\"\"\",\"x\ny\"", vec!["\"", "x\ny"]),
        ] {
            assert_eq!(fields(record), Some(expected.into_iter().map(str::to_owned).collect()), "{record}");
        }
        for bad in ["a\"b", "\"a", "\"a\"b", "\"a\"\"", "x,\"", "a\""] {
            assert_eq!(fields(bad), None, "{bad}");
        }
    }

    #[test]
    fn quoting_reads_back() {
        for text in ["", "a", "a,b", "\"", "a\"\"b\n", "\r"] {
            let field = quoted(text.as_bytes(), b',').into_owned();
            assert_eq!(split(&field, b',').expect("a record"), [Cow::Borrowed(text.as_bytes())]);
        }
    }
}
