//! The Mandelbrot set: chunks of very different cost, shared out fairly without anybody planning it.
//!
//! ```text
//! cargo run --release --example mandelbrot [FILE]         default: mandelbrot.png in the temporary directory
//! ```
//!
//! Rows near the middle of the picture cost hundreds of times what rows at its edge cost. Each worker starts with a range
//! of chunks of its own; one that runs out takes half of what another has left. The printed shares show who did how much:
//! the worker with the costly rows did fewer.
//!
//! The array is the picture, (height, width, 3) bytes: workers write their rows of it in place, and what `png` reads at the
//! end is the same memory. The kernel also returns a value for each chunk, here what it cost.
//!
//! What to change first: the window that is looked at (`WINDOW`) and the number of rows in a chunk.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ndarray::ArrayViewMut3;
use serde::{Deserialize, Serialize};
use swath::prelude::*;

const WIDTH: usize = 900;
const HEIGHT: usize = 600;
const ROWS_PER_CHUNK: usize = 4;
const WINDOW: Window = Window { left: -2.15, top: 1.0, step: 3.0 / WIDTH as f64, limit: 500 };

/// What is looked at, and how hard.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Window {
    left: f64,
    top: f64,
    /// Between the points of two neighbouring pixels.
    step: f64,
    /// A point that has not escaped after so many steps is taken to belong to the set.
    limit: u32,
}

/// Paints the rows of one chunk and returns the number of steps that took.
fn paint(ctx: &Ctx<Window>, mut picture: ArrayViewMut3<'_, u8>) -> u64 {
    let window = ctx.args();
    let mut cost = 0;
    for (row, mut line) in ctx.rows().zip(picture.outer_iter_mut()) {
        let y = window.top - row as f64 * window.step;
        for (column, mut pixel) in line.outer_iter_mut().enumerate() {
            let (steps, size) = escape(window.left + column as f64 * window.step, y, window.limit);
            pixel.assign(&ndarray::aview1(&colour(steps, size, window.limit)));
            cost += u64::from(steps);
        }
    }
    cost
}

/// How many steps of z² + c stay small, and |z|² after them.
fn escape(cx: f64, cy: f64, limit: u32) -> (u32, f64) {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..limit {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > 256.0 {
            return (step, xx + yy);
        }
        (x, y) = (xx - yy + cx, 2.0 * x * y + cy);
    }
    (limit, 0.0)
}

/// Black inside; outside a colour without steps (the fraction comes from how far the last step went).
fn colour(steps: u32, size: f64, limit: u32) -> [u8; 3] {
    if steps == limit {
        return [0; 3];
    }
    let smooth = f64::from(steps) + 1.0 - (size.ln() / 2.0).log2();
    [0.0, 0.6, 1.2].map(|shift| (127.5 - 127.5 * (0.7 * smooth.max(0.0).sqrt() + shift).cos()) as u8)
}

fn write_png(path: &Path, rgb: &[u8]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()
}

fn main() -> Result<()> {
    swath::init();
    let path = std::env::args_os().nth(1).map_or(std::env::temp_dir().join("mandelbrot.png"), PathBuf::from);
    let pool = Pool::builder().build()?;
    let mut picture = SharedArray::<u8, _>::zeros((HEIGHT, WIDTH, 3))?;

    let (costs, report) = pool
        .phase(out(&mut picture))
        .args(WINDOW)
        .chunk(Chunk::Rows(ROWS_PER_CHUNK))
        .map(paint)
        .collect_report()?;

    let picture = picture.view();
    write_png(&path, picture.to_slice().expect("rows in C order"))
        .map_err(|error| Error::other(format!("{}: {error}", path.display())))?;

    let (least, most) = (costs.iter().min().unwrap_or(&0), costs.iter().max().unwrap_or(&0));
    println!(
        "{} chunks of {} rows in {:.3} s",
        report.chunks,
        report.rows_per_chunk,
        report.wall.as_secs_f64()
    );
    println!("the cheapest took {least} steps, the costliest {most}");
    for (worker, chunks) in report.committed_by_worker.iter().enumerate() {
        let share = *chunks as f64 / report.chunks as f64;
        println!("worker {worker}: {chunks:3} chunks {:5.1} %  {}", 100.0 * share, bar(share));
    }
    println!("wrote {}", path.display());
    Ok(())
}

fn bar(share: f64) -> String {
    "█".repeat((share * 40.0).round() as usize)
}
