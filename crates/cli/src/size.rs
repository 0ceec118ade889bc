//! Bytes for people.

use std::fmt;

/// Prints a number of bytes in the largest unit of which there is at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let unit = (0..UNITS.len()).rev().find(|unit| self.0 >> (10 * unit) > 0).unwrap_or(0);
        let text = match unit {
            0 => format!("{} B", self.0),
            _ => format!("{:.1} {}", self.0 as f64 / (1_u64 << (10 * unit)) as f64, UNITS[unit]),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 20, "64.0 MiB")] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
