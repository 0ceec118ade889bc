//! Rayon: the same work on threads. A worker that crashes takes the program with it; that is the price of its speed.

use rayon::prelude::*;

use crate::arrays;

/// Elements per piece: what rayon gets as its chunk, about a mebibyte over three arrays as ours.
const PIECE: usize = 43_690;

/// `a = b + s·c` over all of it.
pub fn triad(pool: &rayon::ThreadPool, a: &mut [f64], b: &[f64], c: &[f64], s: f64) {
    pool.install(|| {
        let pieces = a.par_chunks_mut(PIECE).zip(b.par_chunks(PIECE)).zip(c.par_chunks(PIECE));
        pieces.for_each(|((a, b), c)| arrays::triad(a, b, c, s));
    });
}

/// `y = s·y + t` in place.
pub fn update(pool: &rayon::ThreadPool, y: &mut [f64], s: f64, t: f64) {
    pool.install(|| y.par_chunks_mut(PIECE).for_each(|y| arrays::update(y, s, t)));
}

/// A pool of `threads` threads.
pub fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}
