//! What is known about the values of one column in one group.
//!
//! A cell is small and flat, because the scan touches one for every record: half a cache line, and the [`Range`] of the
//! values, which takes a division per value, is kept beside it and only where it is asked for. The sum is an integer at the scale that all
//! cells of the column share; whatever does not fit there (infinities, exponents, more than an `i128`) goes to a
//! [`Spill`] that most cells never have. All parts are exact and commute, so neither the order of the values nor the
//! way in which they were split among workers can be seen in the end.

use super::decimal::{Exact, Wide};
use super::number::{Number, Plain};
use serde::{Deserialize, Serialize};

/// Number and sum of the values of one column in one group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[repr(align(32))]
pub(crate) struct Cell {
    sum: i128,
    count: u64,
    spill: Option<Box<Spill>>,
}

/// The least and the greatest of them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Range {
    min: f64,
    max: f64,
}

/// What a cell's integer sum cannot hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Spill {
    sum: Wide,
    positive_infinities: u64,
    negative_infinities: u64,
}

/// Ten to the power of the difference of two scales.
#[inline(always)]
fn power(exponent: u32) -> i128 {
    const POWERS: [i64; 19] = {
        let mut powers = [1; 19];
        let mut exponent = 1;
        while exponent < powers.len() {
            powers[exponent] = powers[exponent - 1] * 10;
            exponent += 1;
        }
        powers
    };
    i128::from(POWERS[exponent as usize])
}

impl Range {
    /// Of no value.
    pub(crate) const EMPTY: Range = Range { min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Makes room for one more value.
    #[inline(always)]
    pub(crate) fn widen(&mut self, value: f64) {
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    /// Makes room for all values of another range.
    pub(crate) fn merge(&mut self, other: Range) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The least value; means nothing if there was none.
    pub(crate) fn min(self) -> f64 {
        self.min
    }

    /// The greatest value; means nothing if there was none.
    pub(crate) fn max(self) -> f64 {
        self.max
    }
}

impl Cell {
    /// Adds a number to a cell whose column is at `scale` ≥ the number's.
    #[inline(always)]
    pub(crate) fn add_plain(&mut self, number: Plain, scale: u32) {
        self.count += 1;
        let mut value = i128::from(number.mantissa);
        if number.scale != scale {
            value *= power(scale - number.scale);
        }
        match self.sum.checked_add(value) {
            Some(sum) => self.sum = sum,
            None => self.overflow(value, scale),
        }
    }

    /// Adds a number of any form.
    pub(crate) fn add(&mut self, number: &Number, scale: u32) {
        match number {
            Number::Plain(plain) => return self.add_plain(*plain, scale),
            Number::Long(long) => self.spill().sum.add_long(long),
            Number::Infinite { negative: false } => self.spill().positive_infinities += 1,
            Number::Infinite { negative: true } => self.spill().negative_infinities += 1,
        }
        self.count += 1;
    }

    /// Adds all values of another cell of the same column, both at `scale`.
    pub(crate) fn merge(&mut self, other: &Cell, scale: u32) {
        self.count += other.count;
        match self.sum.checked_add(other.sum) {
            Some(sum) => self.sum = sum,
            None => self.overflow(other.sum, scale),
        }
        if let Some(theirs) = &other.spill {
            let mine = self.spill();
            mine.sum.add(&theirs.sum);
            mine.positive_infinities += theirs.positive_infinities;
            mine.negative_infinities += theirs.negative_infinities;
        }
    }

    /// Goes from one scale of the column to a finer one.
    pub(crate) fn rescale(&mut self, from: u32, to: u32) {
        match self.sum.checked_mul(power(to - from)) {
            Some(sum) => self.sum = sum,
            None => {
                let sum = std::mem::take(&mut self.sum);
                self.spill().sum.add_scaled(sum, from);
            }
        }
    }

    #[cold]
    fn overflow(&mut self, value: i128, scale: u32) {
        let sum = std::mem::take(&mut self.sum);
        let wide = &mut self.spill().sum;
        wide.add_scaled(sum, scale);
        wide.add_scaled(value, scale);
    }

    #[cold]
    fn spill(&mut self) -> &mut Spill {
        self.spill.get_or_insert_default()
    }

    /// How many values there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The sum if it is finite, else what IEEE arithmetic makes of the infinities, in whatever order they came.
    pub(crate) fn sum(&self, scale: u32) -> Result<Exact, f64> {
        let Some(spill) = &self.spill else { return Ok(Exact::scaled(self.sum, scale)) };
        match (spill.positive_infinities, spill.negative_infinities) {
            (0, 0) => {
                let mut wide = spill.sum.clone();
                wide.add_scaled(self.sum, scale);
                Ok(wide.exact())
            }
            (_, 0) => Err(f64::INFINITY),
            (0, _) => Err(f64::NEG_INFINITY),
            _ => Err(f64::NAN),
        }
    }

    /// The exact sum divided by the count, rounded once.
    pub(crate) fn mean(&self, scale: u32) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        self.short_mean(scale).or_else(|| {
            Some(match self.sum(scale) {
                Ok(exact) => exact.divided_by(self.count),
                Err(infinite) => infinite,
            })
        })
    }

    /// One division of two integers that an `f64` holds exactly rounds once, and is what most means need.
    fn short_mean(&self, scale: u32) -> Option<f64> {
        const EXACT: u128 = 1 << 53;
        let divisor = u128::from(self.count).checked_mul(power(scale).unsigned_abs())?;
        let short = self.spill.is_none() && self.sum.unsigned_abs() <= EXACT && divisor <= EXACT;
        short.then(|| self.sum as f64 / divisor as f64 + 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(numbers: &[&str], scale: u32) -> Cell {
        let mut cell = Cell::default();
        for text in numbers {
            cell.add(&Number::parse(text.as_bytes()).expect("a number"), scale);
        }
        cell
    }

    #[test]
    fn infinities_follow_ieee_in_any_order() {
        assert_eq!(cell(&["1", "inf", "2"], 0).sum(0), Err(f64::INFINITY));
        assert_eq!(cell(&["-inf", "-inf"], 0).sum(0), Err(f64::NEG_INFINITY));
        for order in [["inf", "-inf", "1"], ["1", "-inf", "inf"]] {
            let cell = cell(&order, 0);
            assert!(cell.sum(0).is_err_and(f64::is_nan));
            assert!(cell.mean(0).is_some_and(f64::is_nan));
        }
    }

    #[test]
    fn a_full_integer_spills_and_stays_exact() {
        let mut cell = cell(&["999999999999999999"], 0);
        cell.rescale(0, 18);
        for _ in 0..300 {
            cell.add_plain(Plain { mantissa: 999_999_999_999_999_999, scale: 0 }, 18);
        }
        let twice = {
            let mut twice = cell.clone();
            twice.merge(&cell, 18);
            twice
        };
        assert_eq!(cell.sum(18).expect("finite").to_string(), "300999999999999999699");
        assert_eq!(twice.sum(18).expect("finite").to_string(), "601999999999999999398");
        assert_eq!(twice.mean(18), Some(999_999_999_999_999_999.0));
    }

    #[test]
    fn rescaling_spills_when_it_must() {
        let mut cell = Cell { sum: i128::MAX / 2, count: 2, ..Cell::default() };
        let before = cell.sum(0);
        cell.rescale(0, 3);
        assert_eq!(cell.sum(3), before);
    }

    #[test]
    fn no_value_no_answer() {
        let empty = Cell::default();
        assert_eq!((empty.count(), empty.mean(0)), (0, None));
    }
}
