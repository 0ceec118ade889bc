//! Reading a header that somebody else wrote.

use std::io::{self, Read};

use super::literal::{Literal, Parser};
use super::{Header, MAGIC, NpyError};
use crate::limits::NPY_HEADER_BYTES_MAX;
use crate::shape::{Extent, Order};
use crate::{DType, Error};

/// Reads and checks the header at the start of `source`; the outer error is the source's own.
///
/// Reads no byte behind the header, and allocates at most [`NPY_HEADER_BYTES_MAX`].
pub fn read_header(source: &mut impl Read) -> io::Result<Result<Header, NpyError>> {
    let mut bytes = Vec::new();
    loop {
        match parse_header(&bytes) {
            Err(NpyError::HeaderTruncated { needed, .. }) => {
                let missing = (needed - bytes.len()) as u64;
                if source.take(missing).read_to_end(&mut bytes)? as u64 != missing {
                    return Ok(parse_header(&bytes));
                }
            }
            done => return Ok(done),
        }
    }
}

/// Parses and checks a header; `bytes` are the first bytes of a file, at least up to where the data begins.
pub fn parse_header(bytes: &[u8]) -> Result<Header, NpyError> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(NpyError::NotNpy);
    }
    let need = |needed: usize| match bytes.get(..needed) {
        Some(have) => Ok(have),
        None => Err(NpyError::HeaderTruncated { needed, found: bytes.len() }),
    };
    let (major, minor) = match need(8)? {
        [.., major, minor] => (*major, *minor),
        _ => unreachable!("eight bytes were asked for"),
    };
    let (prefix, length) = match (major, minor) {
        (1, 0) => (10, need(10)?[8..].iter().rev().fold(0, |n, &byte| n << 8 | byte as usize)),
        (2 | 3, 0) => (12, need(12)?[8..].iter().rev().fold(0, |n, &byte| n << 8 | byte as usize)),
        _ => return Err(NpyError::Version { major, minor }),
    };
    if length > NPY_HEADER_BYTES_MAX {
        return Err(NpyError::HeaderTooLong { bytes: length });
    }
    let data_offset = prefix + length;
    let extent = interpret(Parser::new(need(data_offset)?, prefix))?;
    Ok(Header { extent, data_offset, version: major })
}

/// The dictionary: exactly the three keys, in any order.
fn interpret(mut parser: Parser<'_>) -> Result<Extent, NpyError> {
    let start = parser.at();
    let Literal::Dict(entries) = parser.document()? else {
        return Err(NpyError::Malformed { at: start, expected: "a dictionary" });
    };
    let (mut descr, mut order, mut shape) = (None, None, None);
    for (at, key, value) in entries {
        let (slot, expected) = match key.as_str() {
            "descr" => (&mut descr, "a type"),
            "fortran_order" => (&mut order, "True or False"),
            "shape" => (&mut shape, "a tuple of lengths"),
            _ => {
                return Err(NpyError::Malformed {
                    at,
                    expected: "one of the keys descr, fortran_order, shape",
                });
            }
        };
        if slot.replace((at, expected, value)).is_some() {
            return Err(NpyError::Malformed { at, expected: "each key once" });
        }
    }
    let (Some(descr), Some(order), Some(shape)) = (descr, order, shape) else {
        return Err(NpyError::Malformed { at: start, expected: "the keys descr, fortran_order and shape" });
    };
    let dtype = dtype(descr)?;
    let order = match order {
        (_, _, Literal::Bool(true)) => Order::Fortran,
        (_, _, Literal::Bool(false)) => Order::C,
        (at, expected, _) => return Err(NpyError::Malformed { at, expected }),
    };
    let axes = axes(shape)?;
    Extent::new(dtype, order, &axes).map_err(|error| match error {
        Error::TooManyAxes { axes } => NpyError::TooManyAxes { axes },
        _ => NpyError::TooLarge { shape: format!("{axes:?}") },
    })
}

type Value = (usize, &'static str, Literal);

fn dtype((at, expected, value): Value) -> Result<DType, NpyError> {
    let descr = match value {
        Literal::Text(descr) => descr,
        Literal::List(_) => return Err(NpyError::Structured),
        _ => return Err(NpyError::Malformed { at, expected }),
    };
    let unsupported = || NpyError::UnsupportedType { descr: descr.clone() };
    let mut letters = descr.chars();
    let byte_order = letters.next().ok_or_else(unsupported)?;
    let kind = letters.as_str();
    if !matches!(byte_order, '<' | '>' | '|' | '=') {
        return Err(unsupported());
    }
    if kind.starts_with('O') {
        return Err(NpyError::Objects);
    }
    let dtype = DType::ALL.into_iter().find(|dtype| &dtype.descr()[1..] == kind).ok_or_else(unsupported)?;
    if byte_order == '>' && dtype.size() > 1 {
        return Err(NpyError::BigEndian { descr });
    }
    Ok(dtype)
}

fn axes((at, expected, value): Value) -> Result<Vec<usize>, NpyError> {
    let Literal::Tuple(items) = value else {
        return Err(NpyError::Malformed { at, expected });
    };
    let length = |item: Literal| match item {
        Literal::Number(n) => {
            usize::try_from(n).map_err(|_| NpyError::TooLarge { shape: format!("(… {n} …)") })
        }
        _ => Err(NpyError::Malformed { at, expected }),
    };
    items.into_iter().map(length).collect()
}
