//! How fast are phases? Against rayon on the same arrays, in turn, with a digest that proves equal work.
//!
//! `cargo bench -p swath-benches --bench phases`; `-- MIB` sets the size of each array (512), `-- quick` makes it 64.

use std::hint::black_box;
use std::time::Duration;

use swath::prelude::*;
use swath_benches::{arrays, machine, rayon_rival, timing};

const WORKERS: usize = 2;

fn main() -> Result<()> {
    swath::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = args.iter().find_map(|a| a.parse::<usize>().ok());
    let mib = size.unwrap_or(if args.iter().any(|a| a == "quick") { 64 } else { 512 });
    println!(
        "{}\n{WORKERS} workers, {WORKERS} threads, arrays of {mib} MiB, medians of interleaved pairs\n",
        machine::line()
    );
    let pool = Pool::builder().workers(WORKERS).build()?;
    let threads = rayon_rival::pool(WORKERS);
    triad(&pool, &threads, mib << 17)?;
    update(&pool, &threads, mib << 17)?;
    empty_phase(&pool, &threads)?;
    claims(&pool)
}

/// Warm: every page of every array has been touched by both contenders before the first counted round.
fn triad(pool: &Pool, threads: &rayon::ThreadPool, n: usize) -> Result<()> {
    let b = SharedArray::from_shape_fn(n, arrays::input)?;
    let c = SharedArray::from_shape_fn(n, |i| arrays::input(i + 1))?;
    let mut a = SharedArray::<f64, _>::zeros(n)?;
    let mut theirs = vec![0f64; n];
    let (ours_b, ours_c) =
        (b.to_owned().into_raw_vec_and_offset().0, c.to_owned().into_raw_vec_and_offset().0);
    let run = |a: &mut SharedArray<f64, ndarray::Ix1>| {
        pool.phase((out(a), &b, &c)).args(3.0).for_each(|ctx, (mut a, b, c)| {
            let slices = (a.as_slice_mut(), b.as_slice(), c.as_slice());
            if let (Some(a), Some(b), Some(c)) = slices {
                arrays::triad(a, b, c, *ctx.args());
            }
        })
    };
    run(&mut a)?;
    let (ours, rayon) = timing::pairs(
        11,
        || timing::time(|| run(&mut a)),
        || timing::time(|| rayon_rival::triad(threads, &mut theirs, &ours_b, &ours_c, 3.0)),
    );
    assert_eq!(
        arrays::digest(a.view().as_slice().expect("contiguous")),
        arrays::digest(&theirs),
        "equal work"
    );
    throughput("triad, warm    ", n * 24, &ours, &rayon, "≥ 0.95");
    Ok(())
}

fn update(pool: &Pool, threads: &rayon::ThreadPool, n: usize) -> Result<()> {
    let mut y = SharedArray::from_shape_fn(n, arrays::input)?;
    let mut theirs = y.to_owned().into_raw_vec_and_offset().0;
    let (ours, rayon) = timing::pairs(
        11,
        || {
            timing::time(|| {
                pool.phase(&mut y).args((0.999, 0.25)).for_each(|ctx, mut y| {
                    let (s, t) = *ctx.args();
                    if let Some(y) = y.as_slice_mut() {
                        arrays::update(y, s, t);
                    }
                })
            })
        },
        || timing::time(|| rayon_rival::update(threads, &mut theirs, 0.999, 0.25)),
    );
    assert_eq!(
        arrays::digest(y.view().as_slice().expect("contiguous")),
        arrays::digest(&theirs),
        "equal work"
    );
    throughput("update in place", n * 16, &ours, &rayon, "≥ 0.60; ours survives a kill");
    Ok(())
}

/// One line: bytes moved per second by both, and how much of rayon's throughput is ours.
fn throughput(what: &str, bytes: usize, ours: &timing::Times, rayon: &timing::Times, goal: &str) {
    let gb = bytes as f64 / 1e9;
    println!(
        "{what}       swath {:6.1} GB/s   rayon {:6.1} GB/s   {:.2} of rayon   (goal {goal})",
        gb / ours.median(),
        gb / rayon.median(),
        rayon.median() / ours.median()
    );
}

/// The cost of a phase as such: one empty chunk per worker, against a broadcast that reaches every thread.
fn empty_phase(pool: &Pool, threads: &rayon::ThreadPool) -> Result<()> {
    let tiny = SharedArray::<u8, _>::zeros(WORKERS)?;
    let empty = || pool.phase(&tiny).chunk(Chunk::Rows(1)).for_each(|_, _| ());
    empty()?;
    let (ours, rayon) = timing::pairs(
        41,
        || timing::each(500, || drop(black_box(empty()))),
        || timing::each(500, || drop(black_box(threads.broadcast(|context| context.index())))),
    );
    println!(
        "empty phase           swath {:6.2} µs     rayon {:6.2} µs     {:.2} × rayon's broadcast   (goal ≤ 1.5)",
        ours.median() * 1e6,
        rayon.median() * 1e6,
        ours.median() / rayon.median()
    );
    let idle = Duration::from_micros(300);
    let pause = || std::thread::sleep(idle);
    let (ours, rayon) = timing::pairs(
        201,
        || {
            pause();
            timing::time(empty)
        },
        || {
            pause();
            timing::time(|| threads.broadcast(|context| context.index()))
        },
    );
    println!(
        "  after 300 µs idle   swath {:6.2} µs     rayon {:6.2} µs     {:.2} × rayon's broadcast",
        ours.median() * 1e6,
        rayon.median() * 1e6,
        ours.median() / rayon.median()
    );
    Ok(())
}

/// A million chunks of one row: claim, call, commit, per chunk and worker.
fn claims(pool: &Pool) -> Result<()> {
    const CHUNKS: usize = 1_000_000;
    let rows = SharedArray::<u8, _>::zeros(CHUNKS)?;
    let run = || pool.phase(&rows).chunk(Chunk::Rows(1)).for_each(|_, _| ());
    run()?;
    let times = timing::Times::new((0..11).map(|_| timing::time(run).as_secs_f64()).collect());
    let per_claim = |seconds: f64| seconds * 1e9 * WORKERS as f64 / CHUNKS as f64;
    println!(
        "claim, 1 M chunks     swath {:6.1} ns each (min {:.1}, p90 {:.1}), kernel call and commit included   (goal ≤ 60)",
        per_claim(times.median()),
        per_claim(times.at(0.0)),
        per_claim(times.at(0.9))
    );
    Ok(())
}
