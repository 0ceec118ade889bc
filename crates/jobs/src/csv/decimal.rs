//! Exact decimal sums, whatever is added and in whatever order.
//!
//! [`Wide`] is the place where a sum goes when an `i128` at the column's scale cannot hold it: a row of *limbs*, limb
//! *i* counting units of 10^18*i*. A number is added by cutting it into pieces of eighteen digits that are aligned with
//! the limbs. Nothing is carried while adding, so adding commutes, and a limb has room for 10²⁰ additions. Only
//! [`Wide::exact`] carries, once, and gives the one form that every order of additions leads to: [`Exact`].

use super::number::{Long, nearest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Decimal digits of a limb.
const LIMB_DIGITS: i32 = 18;
/// What a limb counts up to before it carries.
const LIMB: i128 = 1_000_000_000_000_000_000;
/// No `f64`, and no half-way point between two, has more significant digits than this.
const SIGNIFICANT_DIGITS: usize = 770;

/// A sum that may have any decimal exponent; limbs that nothing was added to do not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wide {
    limbs: BTreeMap<i32, i128>,
}

/// A finite decimal number in its only form: no zeros at either end of the digits, zero has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exact {
    negative: bool,
    /// Values 0 to 9.
    digits: Vec<u8>,
    exponent: i32,
}

impl Wide {
    /// Adds `value` × 10^−`scale`.
    pub(crate) fn add_scaled(&mut self, value: i128, scale: u32) {
        let mut rest = value;
        let mut exponent = -(scale as i32);
        while rest != 0 {
            self.add_piece(rest % LIMB, exponent);
            rest /= LIMB;
            exponent += LIMB_DIGITS;
        }
    }

    /// Adds a number that did not fit anywhere else.
    pub(crate) fn add_long(&mut self, number: &Long) {
        let mut exponent = number.exponent;
        for piece in number.digits.rchunks(LIMB_DIGITS as usize) {
            let size = piece.iter().fold(0_i128, |n, d| n * 10 + i128::from(*d));
            self.add_piece(if number.negative { -size } else { size }, exponent);
            exponent += LIMB_DIGITS;
        }
    }

    /// Adds another sum.
    pub(crate) fn add(&mut self, other: &Wide) {
        for (&index, &limb) in &other.limbs {
            *self.limbs.entry(index).or_default() += limb;
        }
    }

    /// |piece| < 10^18.
    fn add_piece(&mut self, piece: i128, exponent: i32) {
        let index = exponent.div_euclid(LIMB_DIGITS);
        let shifted = piece * 10_i128.pow(exponent.rem_euclid(LIMB_DIGITS) as u32);
        *self.limbs.entry(index).or_default() += shifted % LIMB;
        *self.limbs.entry(index + 1).or_default() += shifted / LIMB;
    }

    /// The sum in its only form.
    pub(crate) fn exact(&self) -> Exact {
        let (Some((&low, _)), Some((&high, _))) = (self.limbs.first_key_value(), self.limbs.last_key_value())
        else {
            return Exact::default();
        };
        let limbs: Vec<i128> = (low..=high).map(|i| self.limbs.get(&i).copied().unwrap_or(0)).collect();
        let (limbs, negative) = carried(limbs);
        let digits = limbs.iter().rev().flat_map(|limb| limb_digits(*limb)).collect();
        Exact::trimmed(negative, digits, low * LIMB_DIGITS)
    }
}

/// Limbs between 0 and 10^18, lowest first, and the sign of the whole.
fn carried(mut limbs: Vec<i128>) -> (Vec<i128>, bool) {
    let negative = carry(&mut limbs) < 0;
    if negative {
        limbs.iter_mut().for_each(|limb| *limb = -*limb);
        carry(&mut limbs);
    }
    (limbs, negative)
}

/// Carries upwards and appends limbs until nothing, or only the sign of a negative number, is left over.
fn carry(limbs: &mut Vec<i128>) -> i128 {
    let mut over = 0;
    for limb in limbs.iter_mut() {
        let sum = *limb + over;
        *limb = sum.rem_euclid(LIMB);
        over = sum.div_euclid(LIMB);
    }
    while over > 0 {
        limbs.push(over % LIMB);
        over /= LIMB;
    }
    if over < 0 {
        // Kept as a limb of its own, so that negating all limbs negates the number.
        limbs.push(over);
    }
    over
}

fn limb_digits(mut limb: i128) -> [u8; LIMB_DIGITS as usize] {
    let mut digits = [0; LIMB_DIGITS as usize];
    for digit in digits.iter_mut().rev() {
        *digit = (limb % 10) as u8;
        limb /= 10;
    }
    digits
}

impl Exact {
    /// `value` × 10^−`scale`.
    pub(crate) fn scaled(value: i128, scale: u32) -> Exact {
        let digits = value.unsigned_abs().to_string().bytes().map(|b| b - b'0').collect();
        Exact::trimmed(value < 0, digits, -(scale as i32))
    }

    fn trimmed(negative: bool, mut digits: Vec<u8>, mut exponent: i32) -> Exact {
        while digits.last() == Some(&0) {
            digits.pop();
            exponent += 1;
        }
        let leading = digits.iter().position(|d| *d != 0).unwrap_or(digits.len());
        digits.drain(..leading);
        if digits.is_empty() { Exact::default() } else { Exact { negative, digits, exponent } }
    }

    /// The `f64` nearest to this number divided by `count`, rounded once.
    ///
    /// Long division until there are more digits than any half-way point between two `f64` has; what is then left over
    /// becomes one more digit, which puts the text on the right side of every such point.
    pub(crate) fn divided_by(&self, count: u64) -> f64 {
        let count = u128::from(count);
        let (mut quotient, mut rest) = (Vec::with_capacity(64), 0_u128);
        let mut exponent = self.exponent;
        let mut step = |digit: u8, quotient: &mut Vec<u8>| {
            rest = rest * 10 + u128::from(digit);
            let next = (rest / count) as u8;
            rest %= count;
            if next != 0 || !quotient.is_empty() {
                quotient.push(next);
            }
            rest
        };
        let mut left = 0;
        for &digit in &self.digits {
            left = step(digit, &mut quotient);
        }
        while left != 0 && quotient.len() < SIGNIFICANT_DIGITS {
            left = step(0, &mut quotient);
            exponent -= 1;
        }
        if left != 0 {
            quotient.push(1);
            exponent -= 1;
        }
        if quotient.is_empty() { 0.0 } else { nearest(self.negative, &quotient, exponent) }
    }
}

/// All digits: plainly if that is short, with an exponent if it is not. Reads back as the same number.
impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        if self.negative {
            f.write_str("-")?;
        }
        let text: String = self.digits.iter().map(|d| char::from(b'0' + d)).collect();
        // How many digits stand in front of the point.
        let point = self.exponent + text.len() as i32;
        match point {
            -5..=0 => write!(f, "0.{}{text}", "0".repeat(-point as usize)),
            1.. if self.exponent < 0 => {
                let (whole, fraction) = text.split_at(point as usize);
                write!(f, "{whole}.{fraction}")
            }
            1..=40 => write!(f, "{text}{}", "0".repeat(self.exponent as usize)),
            _ => {
                let (first, rest) = text.split_at(1);
                let dot = if rest.is_empty() { "" } else { "." };
                write!(f, "{first}{dot}{rest}e{}", point - 1)
            }
        }
    }
}

/// The shortest text that reads back as the same `f64`.
pub(crate) fn shortest(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if size == 0.0 || size.is_infinite() || (1e-5..1e17).contains(&size) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::number::Number;
    use super::*;
    use proptest::prelude::*;

    fn sum(numbers: &[&str]) -> String {
        let mut wide = Wide::default();
        for text in numbers {
            match Number::parse(text.as_bytes()) {
                Some(Number::Plain(plain)) => wide.add_scaled(plain.mantissa.into(), plain.scale),
                Some(Number::Long(long)) => wide.add_long(&long),
                other => panic!("{text}: {other:?}"),
            }
        }
        wide.exact().to_string()
    }

    #[test]
    fn sums_are_exact() {
        assert_eq!(sum(&[]), "0");
        assert_eq!(sum(&["0.1", "0.2"]), "0.3");
        assert_eq!(sum(&["1e300", "1", "-1e300"]), "1");
        assert_eq!(sum(&["-1e300", "1e300"]), "0");
        assert_eq!(sum(&["1e-300", "-2e-300"]), "-1e-300");
        assert_eq!(sum(&["-1", "1e-19"]), "-0.9999999999999999999");
        assert_eq!(sum(&["999999999999999999", "1"]), "1000000000000000000");
        assert_eq!(sum(&["-999999999999999999e18", "-1e18"]), "-1000000000000000000000000000000000000");
        assert_eq!(sum(&["1e21"]), "1000000000000000000000");
        assert_eq!(sum(&["1.5e300"]), "1.5e300");
        assert_eq!(sum(&["0.00000012"]), "1.2e-7");
    }

    #[test]
    fn an_i128_has_the_same_form() {
        for (value, scale, text) in [
            (0, 5, "0"),
            (-1250, 2, "-12.5"),
            (5, 3, "0.005"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(Exact::scaled(value, scale).to_string(), text);
            let mut wide = Wide::default();
            wide.add_scaled(value, scale);
            assert_eq!(wide.exact(), Exact::scaled(value, scale));
        }
    }

    #[test]
    fn quotients_round_once() {
        assert_eq!(Exact::scaled(1, 0).divided_by(3), 1.0 / 3.0);
        assert_eq!(Exact::scaled(-3, 1).divided_by(1), -0.3);
        assert_eq!(Exact::scaled(0, 0).divided_by(7), 0.0);
        // (2^54 + 2) / 2 lies half-way between two f64: the even one; anything beyond it: the upper one.
        assert_eq!(Exact::scaled((1 << 54) + 2, 0).divided_by(2), 9_007_199_254_740_992.0);
        let above = Exact::scaled(((1 << 54) + 2) * 10_i128.pow(18) + 1, 18);
        assert_eq!(above.divided_by(2), 9_007_199_254_740_994.0);
    }

    #[test]
    fn floats_read_back() {
        for (value, text) in
            [(12.0, "12"), (0.1, "0.1"), (1e300, "1e300"), (-1.5e-9, "-1.5e-9"), (f64::INFINITY, "inf")]
        {
            assert_eq!(shortest(value), text);
        }
    }

    proptest! {
        #[test]
        fn order_does_not_matter(parts in prop::collection::vec((any::<i64>(), 0_u32..18, -40_i32..40), 1..20)) {
            let add = |wide: &mut Wide, &(mantissa, scale, exponent): &(i64, u32, i32)| {
                wide.add_scaled(mantissa.into(), scale);
                if let Some(Number::Long(long)) = Number::parse(format!("{mantissa}e{exponent}").as_bytes()) {
                    wide.add_long(&long);
                }
            };
            let (mut forwards, mut backwards) = (Wide::default(), Wide::default());
            parts.iter().for_each(|p| add(&mut forwards, p));
            parts.iter().rev().for_each(|p| add(&mut backwards, p));
            prop_assert_eq!(forwards.exact(), backwards.exact());
        }

        #[test]
        fn quotients_agree_with_one_division(value in -(1_i64 << 53)..(1 << 53), count in 1_u64..(1 << 53)) {
            prop_assert_eq!(Exact::scaled(value.into(), 0).divided_by(count), value as f64 / count as f64 + 0.0);
        }

        #[test]
        fn what_is_printed_reads_back(value in any::<i128>(), scale in 0_u32..18) {
            let exact = Exact::scaled(value, scale);
            prop_assert_eq!(sum(&[&exact.to_string()]), exact.to_string());
        }
    }
}
