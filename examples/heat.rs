//! Heat spreads over a plate: thousands of short steps, done by a team.
//!
//! ```text
//! cargo run --release --example heat [FILE [STEPS]]       default: heat.png in the temporary directory, 600
//! ```
//!
//! A step takes a fraction of a millisecond and needs the neighbours' last one, so a phase for each would cost too much.
//! In a *team* all workers run one function together. Each has its own rows; of its neighbours' it copies the one row that
//! touches its own (`copy_rows`), and `barrier()` parts one step from the next. Two arrays swap roles: one is read while
//! the other is written, so one barrier a step is enough.
//!
//! The price: there is no retry. If a member dies, every barrier says so at once, the run ends with an error, and the arrays
//! are marked as unknown. For work that must outlive its workers use phases.
//!
//! What to change first: `plate`, where the heat is at the beginning, then the number of steps.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::{Array2, Ix2, concatenate};
use serde::{Deserialize, Serialize};
use swath::prelude::*;
use swath::{Team, TeamArray};

const SIDE: usize = 320;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Plan {
    steps: usize,
    /// Diffusivity × time step ÷ cell²; stable up to 0.25.
    rate: f64,
}

/// Three hot rings and a hot bar on a cold plate, whose edges stay as they are: warm above, cold elsewhere.
fn plate((row, column): (usize, usize)) -> f64 {
    let (y, x) = (row as f64 / SIDE as f64, column as f64 / SIDE as f64);
    let on_ring = |cx: f64, cy: f64, radius: f64| ((x - cx).hypot(y - cy) - radius).abs() < 0.02;
    let rings = on_ring(0.3, 0.35, 0.17) || on_ring(0.7, 0.35, 0.17) || on_ring(0.5, 0.55, 0.17);
    let bar = (0.8..0.86).contains(&y) && (0.15..0.85).contains(&x);
    if rings || bar { 100.0 } else { 60.0 * f64::from(row == 0) }
}

/// One row's next state, from itself and the rows above and below. The first and last cell stay.
fn next_row(rows: [ArrayView1<'_, f64>; 3], mut to: ArrayViewMut1<'_, f64>, rate: f64) {
    let [above, here, below] = rows.map(|row| row.to_slice().expect("a row in C order"));
    let to = to.as_slice_mut().expect("a row in C order");
    let inner = 1..here.len() - 1;
    let vertical = above[inner.clone()].iter().zip(&below[inner.clone()]);
    for ((to, beside), (above, below)) in to[inner].iter_mut().zip(here.windows(3)).zip(vertical) {
        let around = above + below + beside[0] + beside[2];
        *to = beside[1] + rate * (around - 4.0 * beside[1]);
    }
}

/// What every member does.
fn spread(
    team: &Team<Plan>,
    (mut a, mut b): (TeamArray<'_, f64, Ix2>, TeamArray<'_, f64, Ix2>),
) -> Result<()> {
    for step in 0..team.args().steps {
        let (from, to) = if step.is_multiple_of(2) { (&mut a, &mut b) } else { (&mut b, &mut a) };
        step_of_mine(from, to, team.args().rate);
        // Until here nobody may overwrite what a neighbour reads, and nobody may read what a neighbour is writing.
        team.barrier()?;
    }
    Ok(())
}

fn step_of_mine(from: &mut TeamArray<'_, f64, Ix2>, to: &mut TeamArray<'_, f64, Ix2>, rate: f64) {
    let (rows, last) = (from.rows(), from.all_rows() - 1);
    if rows.is_empty() {
        return; // more members than rows
    }
    // The neighbours' rows that touch ours; the plate's first and last row have none and stay as they are.
    let above = from.copy_rows(rows.start.saturating_sub(1)..rows.start);
    let below = from.copy_rows(rows.end..(rows.end + 1).min(last + 1));
    let (mine, mut to) = (from.mine(), to.mine());
    for row in rows.start.max(1)..rows.end.min(last) {
        let at = row - rows.start;
        let above = if at == 0 { above.row(0) } else { mine.row(at - 1) };
        let below = if row + 1 == rows.end { below.row(0) } else { mine.row(at + 1) };
        next_row([above, mine.row(at), below], to.row_mut(at), rate);
    }
}

/// The same in one thread, on ordinary memory.
fn serial(plan: Plan) -> Array2<f64> {
    let mut from = Array2::from_shape_fn((SIDE, SIDE), plate);
    let mut to = from.clone();
    for _ in 0..plan.steps {
        for row in 1..SIDE - 1 {
            next_row([from.row(row - 1), from.row(row), from.row(row + 1)], to.row_mut(row), plan.rate);
        }
        std::mem::swap(&mut from, &mut to);
    }
    from
}

/// FNV-1a over the bits: equal only if every element is.
fn digest<'a>(elements: impl IntoIterator<Item = &'a f64>) -> u64 {
    elements.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, element| {
        (hash ^ element.to_bits()).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Black, red, yellow, white.
fn colour(degrees: f64) -> [u8; 3] {
    [0.0, 33.0, 67.0].map(|from| ((degrees - from) / 33.0 * 255.0).clamp(0.0, 255.0) as u8)
}

/// Before and after, side by side.
fn write_png(
    path: &Path,
    before: ArrayView2<'_, f64>,
    after: ArrayView2<'_, f64>,
) -> Result<(), png::EncodingError> {
    let both = concatenate(Axis(1), &[before, after]).expect("same height");
    let rgb: Vec<u8> = both.iter().flat_map(|degrees| colour(*degrees)).collect();
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), 2 * SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()
}

fn main() -> Result<()> {
    swath::init();
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().map_or(std::env::temp_dir().join("heat.png"), PathBuf::from);
    let steps = arguments.next().map_or(Ok(600), |text| text.parse());
    let steps = steps.map_err(|_| Error::other("usage: heat [FILE [STEPS]]"))?;
    let pool = Pool::builder().build()?;
    let plan = Plan { steps, rate: 0.24 };
    let mut a = SharedArray::from_shape_fn((SIDE, SIDE), plate)?;
    let mut b = SharedArray::from_array(&a.view())?;

    let began = Instant::now();
    pool.team((&mut a, &mut b)).args(plan).name("heat").run(spread)?;
    let took = began.elapsed();
    let after = if plan.steps.is_multiple_of(2) { &a } else { &b };

    let began = Instant::now();
    let expected = serial(plan);
    let serial_took = began.elapsed();
    let (ours, theirs) = (digest(after.view().iter()), digest(expected.iter()));
    let per_step = |time: std::time::Duration| time.as_secs_f64() * 1e6 / plan.steps as f64;
    println!("{SIDE} × {SIDE} cells, {} steps, a team of {}", plan.steps, pool.workers().max(1));
    println!("team    {:7.1} µs a step, digest {ours:016x}", per_step(took));
    println!("serial  {:7.1} µs a step, digest {theirs:016x}", per_step(serial_took));
    println!("centre  {:7.3} degrees", after.view()[[SIDE / 2, SIDE / 2]]);
    if ours != theirs {
        return Err(Error::other("the team and the serial run differ"));
    }
    let before = Array2::from_shape_fn((SIDE, SIDE), plate);
    write_png(&path, before.view(), after.view())
        .map_err(|error| Error::other(format!("{}: {error}", path.display())))?;
    println!("wrote {}", path.display());
    Ok(())
}
