//! The array workloads: the same kernel functions for every contender, on plain slices.

/// `a = b + s·c`, the STREAM triad (McCalpin 1995).
#[inline]
pub fn triad(a: &mut [f64], b: &[f64], c: &[f64], s: f64) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + s * c;
    }
}

/// `y = s·y + t`, in place.
#[inline]
pub fn update(y: &mut [f64], s: f64, t: f64) {
    for y in y {
        *y = s * *y + t;
    }
}

/// The `i`-th input.
pub fn input(i: usize) -> f64 {
    (i % 1013) as f64 * 0.5
}

/// A digest of the bits, order included.
pub fn digest(values: &[f64]) -> u64 {
    values.iter().fold(0, |d: u64, v| d.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ v.to_bits())
}
