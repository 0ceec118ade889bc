//! The Python literals that a `.npy` header may consist of: dictionary, tuple, list, string, number, True, False.
//!
//! Nesting is bounded and every step consumes a byte, so a hostile header costs time linear in its length.

use super::NpyError;

/// A structured type's `descr` is a list of tuples, at times of lists: deeper nesting is nobody's header.
const NESTING_MAX: usize = 16;

/// One parsed literal.
#[derive(Debug)]
pub(super) enum Literal {
    Text(String),
    Number(u64),
    Bool(bool),
    Tuple(Vec<Literal>),
    List(#[allow(dead_code)] Vec<Literal>),
    /// (byte of the value, key, value)
    Dict(Vec<(usize, String, Literal)>),
}

/// A cursor over the header; positions count from the start of the file.
pub(super) struct Parser<'b> {
    bytes: &'b [u8],
    at: usize,
    depth: usize,
}

impl<'b> Parser<'b> {
    /// `bytes` from the start of the file to the end of the header; the text begins at `at`.
    pub(super) fn new(bytes: &'b [u8], at: usize) -> Parser<'b> {
        Parser { bytes, at, depth: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// One literal, and nothing but blanks behind it.
    pub(super) fn document(&mut self) -> Result<Literal, NpyError> {
        let literal = self.literal()?;
        match self.peek() {
            None => Ok(literal),
            Some(_) => Err(self.expected("the end of the header")),
        }
    }

    fn literal(&mut self) -> Result<Literal, NpyError> {
        if self.depth == NESTING_MAX {
            return Err(self.expected("less nesting"));
        }
        self.depth += 1;
        let literal = match self.peek() {
            Some(b'{') => self.dict(),
            Some(b'(') => self.parenthesis(),
            Some(b'[') => self.sequence(b']').map(|(items, _)| Literal::List(items)),
            Some(b'\'' | b'"') => self.text().map(Literal::Text),
            Some(b'0'..=b'9') => self.number().map(Literal::Number),
            Some(b'A'..=b'Z' | b'a'..=b'z' | b'_') => self.word(),
            _ => Err(self.expected("a value")),
        };
        self.depth -= 1;
        literal
    }

    /// The next byte that is not blank, which is not consumed.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += here as usize;
        here
    }

    fn expected(&self, expected: &'static str) -> NpyError {
        NpyError::Malformed { at: self.at, expected }
    }

    fn dict(&mut self) -> Result<Literal, NpyError> {
        self.at += 1;
        let mut entries = Vec::new();
        while !self.skip(b'}') {
            if !matches!(self.peek(), Some(b'\'' | b'"')) {
                return Err(self.expected("a key or '}'"));
            }
            let key = self.text()?;
            if !self.skip(b':') {
                return Err(self.expected("':'"));
            }
            self.peek();
            entries.push((self.at, key, self.literal()?));
            if !self.skip(b',') && self.peek() != Some(b'}') {
                return Err(self.expected("',' or '}'"));
            }
        }
        Ok(Literal::Dict(entries))
    }

    /// `(1, 2)`, `(1,)`, `()` are tuples, `(1)` is a number.
    fn parenthesis(&mut self) -> Result<Literal, NpyError> {
        let (mut items, comma) = self.sequence(b')')?;
        Ok(match items.pop() {
            Some(single) if items.is_empty() && !comma => single,
            last => {
                items.extend(last);
                Literal::Tuple(items)
            }
        })
    }

    /// The items up to `close`, and whether a comma stood among them.
    fn sequence(&mut self, close: u8) -> Result<(Vec<Literal>, bool), NpyError> {
        self.at += 1;
        let (mut items, mut comma) = (Vec::new(), false);
        while !self.skip(close) {
            items.push(self.literal()?);
            if self.skip(b',') {
                comma = true;
            } else if self.peek() != Some(close) {
                return Err(self.expected("',' or the closing bracket"));
            }
        }
        Ok((items, comma))
    }

    /// A quoted string. Escapes occur in names of fields only, which nothing here looks at: a backslash protects the
    /// character behind it, that is all.
    fn text(&mut self) -> Result<String, NpyError> {
        let (start, quote) = (self.at + 1, self.bytes[self.at]);
        self.at = start;
        while let Some(&byte) = self.bytes.get(self.at) {
            if byte == quote {
                self.at += 1;
                return Ok(String::from_utf8_lossy(&self.bytes[start..self.at - 1]).into_owned());
            }
            self.at += if byte == b'\\' { 2 } else { 1 };
        }
        self.at = start - 1;
        Err(self.expected("the end of this string"))
    }

    /// Digits; an `L` behind them is how Python 2 wrote long integers.
    fn number(&mut self) -> Result<u64, NpyError> {
        let start = self.at;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add((digit - b'0') as u64))
                .ok_or(NpyError::Malformed { at: start, expected: "a length below 2^64" })?;
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'L') {
            self.at += 1;
        }
        Ok(value)
    }

    fn word(&mut self) -> Result<Literal, NpyError> {
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if self.bytes[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(Literal::Bool(value));
            }
        }
        Err(self.expected("a value"))
    }
}
