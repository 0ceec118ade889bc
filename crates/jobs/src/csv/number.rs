//! Reading one number, exactly.
//!
//! Almost every number in a CSV file is a few digits with perhaps a point: [`plain`] turns those into an integer and a
//! scale (`-12.3` is −123 at scale 1), eight bytes in a handful of instructions ([`eight`]) and up to eighteen digits in
//! a loop. Whatever it declines goes to [`Number::parse`], which knows the whole grammar:
//!
//! ```text
//! number = blanks ["+" | "-"] ( "inf" | digits ["." [digits]] [exp] | "." digits [exp] ) blanks
//! exp    = ("e" | "E") ["+" | "-"] digits          blanks = spaces and tabs
//! ```
//!
//! A number is within the range of `f64` (so `1e400` is malformed) and no finer than 10^−[`FINEST`].

/// The deepest decimal place that a non-zero digit may stand on. The finest `f64` needs 1074.
pub(crate) const FINEST: i32 = 1100;
/// Digits that fit in an `i64` whatever they are.
const PLAIN_DIGITS: usize = 18;
/// Bytes that must be readable behind a field that is given to [`plain`].
pub(crate) const PADDING: usize = 16;

/// A number without exponent and with at most eighteen digits: `mantissa` × 10^−`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) mantissa: i64,
    pub(crate) scale: u32,
}

/// Any number that the grammar allows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    Plain(Plain),
    Long(Long),
    Infinite { negative: bool },
}

/// A finite number that is not plain: its digits × 10^`exponent`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Long {
    pub(crate) negative: bool,
    /// Values 0 to 9, not characters.
    pub(crate) digits: Vec<u8>,
    pub(crate) exponent: i32,
    /// The nearest `f64`.
    pub(crate) nearest: f64,
}

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

impl Plain {
    /// The nearest `f64`; never −0.
    #[inline]
    pub(crate) fn nearest(self) -> f64 {
        if self.mantissa.unsigned_abs() <= 1 << 53 {
            // Both operands are exact, so the one division rounds once.
            self.mantissa as f64 / POWERS[self.scale as usize]
        } else {
            self.nearest_by_text()
        }
    }

    #[cold]
    fn nearest_by_text(self) -> f64 {
        format!("{}e-{}", self.mantissa, self.scale).parse().expect("digits and an exponent")
    }
}

/// The plain number in `text[start..end]`, or `None` for everything that needs a closer look.
///
/// `text` must go on for [`PADDING`] bytes behind `end`, with whatever contents.
#[inline(always)]
pub(crate) fn plain(text: &[u8], start: usize, end: usize) -> Option<Plain> {
    let first: &[u8; 9] = text[start..].first_chunk()?;
    let negative = first[0] == b'-';
    let digits = (end - start).wrapping_sub(usize::from(negative));
    if digits.wrapping_sub(1) < 8 {
        let [_, rest @ ..] = *first;
        let [whole @ .., _] = *first;
        eight(u64::from_le_bytes(if negative { rest } else { whole }), digits as u32, negative)
    } else {
        longer(text.get(start + usize::from(negative)..end)?, negative)
    }
}

const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;
const TOP_BITS: u64 = 0x8080_8080_8080_8080;

/// One to eight characters, digits with at most one point among them, all at once.
///
/// The text is moved to the top of the word (its last character in the top byte, zeros below), the characters in front
/// of the point are moved up over it, and the eight bytes that are then digits are added up in pairs, fours, eights.
#[inline(always)]
fn eight(word: u64, length: u32, negative: bool) -> Option<Plain> {
    let unused = 8 * (8 - length);
    let word = word << unused;
    let x = word ^ (EVERY_BYTE * u64::from(b'.'));
    let points = x.wrapping_sub(EVERY_BYTE) & !x & TOP_BITS;
    // Without a point: as if it stood behind the last character.
    let (whole, scale, dropped) = if points == 0 {
        (word, 0, 0)
    } else {
        let at = points.trailing_zeros() & !7;
        let before = (1_u64 << at) - 1;
        let after = !before << 8;
        ((word & after) | (word & before) << 8, 7 - (at >> 3), 8)
    };
    // The bytes below the text count as the digit 0.
    let filler = unused + dropped;
    if filler == 64 {
        return None;
    }
    let digits = (whole ^ (EVERY_BYTE * u64::from(b'0'))) & (u64::MAX << filler);
    if ((digits + EVERY_BYTE * (127 - 9)) | digits) & TOP_BITS != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    let value = (fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff) as i64;
    Some(Plain { mantissa: if negative { -value } else { value }, scale })
}

/// The same one character after the other, up to [`PLAIN_DIGITS`].
fn longer(text: &[u8], negative: bool) -> Option<Plain> {
    let (mut value, mut count, mut point) = (0_i64, 0, None);
    if text.len() > PLAIN_DIGITS + 1 {
        return None;
    }
    for &byte in text {
        match byte {
            b'0'..=b'9' if count < PLAIN_DIGITS => {
                value = value * 10 + i64::from(byte - b'0');
                count += 1;
            }
            b'.' if point.is_none() => point = Some(count),
            _ => return None,
        }
    }
    let scale = point.map_or(0, |at| (count - at) as u32);
    (count > 0).then_some(Plain { mantissa: if negative { -value } else { value }, scale })
}

impl Number {
    /// The nearest `f64`; never −0.
    pub(crate) fn nearest(&self) -> f64 {
        match self {
            Number::Plain(plain) => plain.nearest(),
            Number::Long(long) => long.nearest,
            Number::Infinite { negative: false } => f64::INFINITY,
            Number::Infinite { negative: true } => f64::NEG_INFINITY,
        }
    }

    /// Reads a whole field; `None` if it is not a number.
    pub(crate) fn parse(field: &[u8]) -> Option<Number> {
        let (negative, unsigned) = match trimmed(field) {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if unsigned == b"inf" {
            return Some(Number::Infinite { negative });
        }
        if let Some(plain) = longer(unsigned, negative) {
            return Some(Number::Plain(plain));
        }
        let (digits, point_exponent, rest) = digits(unsigned)?;
        let exponent = exponent(rest)?;
        finite(negative, digits, point_exponent.saturating_add(exponent))
    }
}

/// Without spaces and tabs at its ends, and only those: a line break inside a quoted number is worth reporting.
fn trimmed(field: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let end = field.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    &field[start..end]
}

/// Digits with at most one point: their values, the exponent that the point gives them, and what follows.
fn digits(text: &[u8]) -> Option<(Vec<u8>, i32, &[u8])> {
    let length = text.iter().position(|b| !b.is_ascii_digit() && *b != b'.').unwrap_or(text.len());
    let (number, rest) = text.split_at(length);
    let mut parts = number.splitn(2, |b| *b == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    if fraction.contains(&b'.') || whole.len() + fraction.len() == 0 {
        return None;
    }
    let values = whole.iter().chain(fraction).map(|b| b - b'0').collect();
    Some((values, -i32::try_from(fraction.len()).ok()?, rest))
}

/// What follows the digits: nothing, or an exponent.
fn exponent(text: &[u8]) -> Option<i32> {
    let digits = match text {
        [] => return Some(0),
        [b'e' | b'E', b'+' | b'-', digits @ ..] | [b'e' | b'E', digits @ ..] => digits,
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0_i32, |n, b| n.saturating_mul(10).saturating_add(i32::from(b - b'0')));
    Some(if text[1] == b'-' { -size } else { size })
}

/// Checks the range and takes off the zeros at both ends.
fn finite(negative: bool, mut digits: Vec<u8>, mut exponent: i32) -> Option<Number> {
    while digits.last() == Some(&0) {
        digits.pop();
        exponent = exponent.saturating_add(1);
    }
    let leading = digits.iter().position(|d| *d != 0).unwrap_or(digits.len());
    digits.drain(..leading);
    if digits.is_empty() {
        return Some(Number::Plain(Plain { mantissa: 0, scale: 0 }));
    }
    if exponent < -FINEST || i64::from(exponent) + digits.len() as i64 > 400 {
        return None;
    }
    let nearest = nearest(negative, &digits, exponent);
    nearest.is_finite().then_some(Number::Long(Long { negative, digits, exponent, nearest }))
}

/// The `f64` nearest to digits × 10^exponent; the standard library rounds exactly however many digits there are.
pub(crate) fn nearest(negative: bool, digits: &[u8], exponent: i32) -> f64 {
    let sign = if negative { "-" } else { "" };
    let text: String = digits.iter().map(|d| char::from(b'0' + d)).collect();
    let value: f64 = format!("{sign}{text}e{exponent}").parse().expect("digits and an exponent");
    value + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fast(text: &str) -> Option<Plain> {
        let padded = [text.as_bytes(), &[b'7'; PADDING]].concat();
        plain(&padded, 0, text.len())
    }

    #[test]
    fn plain_numbers() {
        for (text, mantissa, scale) in [
            ("0", 0, 0),
            ("-0", 0, 0),
            ("7", 7, 0),
            ("-12.3", -123, 1),
            ("12345678", 12_345_678, 0),
            ("1234567.", 1_234_567, 0),
            (".1234567", 1_234_567, 7),
            ("-.5", -5, 1),
            ("0.00", 0, 2),
            ("123456789", 123_456_789, 0),
            ("10.357019999999999", 10_357_019_999_999_999, 15),
            ("-999999999999999999", -999_999_999_999_999_999, 0),
        ] {
            assert_eq!(fast(text), Some(Plain { mantissa, scale }), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain() {
        for text in [
            "",
            "-",
            ".",
            "-.",
            "+1",
            " 1",
            "1 ",
            "1e5",
            "--1",
            "1.2.3",
            "NA",
            "1.2.3456789",
            "1,5",
            "1-",
            "1234567890123456789",
            "inf",
            "\"12\"",
            "..",
            "1:",
            "1/2",
            "\u{b2}",
        ] {
            assert_eq!(fast(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_whole_grammar() {
        for (text, expected) in [
            ("+1", 1.0),
            (" 12 ", 12.0),
            ("1e5", 1e5),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("+inf", f64::INFINITY),
            ("1E-5", 1e-5),
            ("1.5e+3", 1500.0),
            ("\t-.5e1 ", -5.0),
            ("5.", 5.0),
            ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
            ("1e308", 1e308),
            ("0e99999999999", 0.0),
            ("4.9e-324", 5e-324),
            ("1e-400", 0.0),
            ("9007199254740993", 9_007_199_254_740_992.0),
        ] {
            assert_eq!(Number::parse(text.as_bytes()).map(|n| n.nearest()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "",
            " ",
            "+",
            "-",
            "+-1",
            "1 2",
            "1e",
            "1e+",
            "e5",
            "nan",
            "NaN",
            "Inf",
            "infinity",
            "0x10",
            "1_000",
            "1e400",
            "-1e309",
            "1e-1101",
            "1e-99999999999",
            "1\n",
            "\u{a0}1",
            "1e5.0",
            "1.5.",
            "12abc",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(text in "-?[0-9]{0,12}\\.?[0-9]{0,8}(e-?[0-9]{1,2})?") {
            let expected = text.parse::<f64>().ok().map(|v| v + 0.0);
            prop_assert_eq!(Number::parse(text.as_bytes()).map(|n| n.nearest()), expected);
            if let Some(plain) = fast(&text) {
                prop_assert_eq!(Some(plain.nearest()), expected);
            }
        }

        #[test]
        fn the_fast_paths_take_nothing_but_numbers(text in "[-0-9.e+ ,/:]{0,10}") {
            if fast(&text).is_some() {
                prop_assert!(text.parse::<f64>().is_ok(), "{}", text);
            }
        }
    }
}
