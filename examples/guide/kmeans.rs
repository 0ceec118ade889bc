//! Training on all processors: k-means, with points and labels in shared memory, updated in place, and a reduction per round.
//!
//! ```text
//! cargo run --release --example guide_kmeans
//! ```
//!
//! The same bits for any number of workers, and when workers are killed.

use swath::prelude::*;

const POINTS: usize = 100_000;
const CLUSTERS: usize = 3;

/// Where the points of each cluster are made.
const TRUTH: [[f64; 2]; CLUSTERS] = [[0.0, 0.0], [4.0, 0.0], [2.0, 3.0]];

type Centres = [[f64; 2]; CLUSTERS];
/// Per cluster: the sums of both coordinates, and how many points.
type Sums = [[f64; 3]; CLUSTERS];

/// Draws points around the centres; a sum of uniform numbers is nearly normal.
fn draw(ctx: &Ctx<()>, mut points: ArrayViewMut2<'_, f64>) {
    let mut rng = ctx.rng();
    for mut point in points.rows_mut() {
        let centre = TRUTH[rng.below(CLUSTERS as u64) as usize];
        for (value, centre) in point.iter_mut().zip(centre) {
            *value = centre + (0..12).map(|_| rng.next_f64()).sum::<f64>() / 2.0 - 3.0;
        }
    }
}

/// Labels the points of a chunk with the nearest centre, and sums them up.
fn assign(ctx: &Ctx<Centres>, (points, mut labels): (ArrayView2<'_, f64>, ArrayViewMut1<'_, u8>)) -> Sums {
    let mut sums = Sums::default();
    for (point, label) in points.rows().into_iter().zip(&mut labels) {
        let distance = |centre: &[f64; 2]| {
            let (x, y) = (point[0] - centre[0], point[1] - centre[1]);
            x * x + y * y
        };
        let nearest =
            (0..CLUSTERS).min_by(|a, b| distance(&ctx.args()[*a]).total_cmp(&distance(&ctx.args()[*b])));
        let nearest = nearest.unwrap_or_default();
        *label = nearest as u8;
        let sum = &mut sums[nearest];
        *sum = [sum[0] + point[0], sum[1] + point[1], sum[2] + 1.0];
    }
    sums
}

fn add(mut a: Sums, b: Sums) -> Sums {
    a.iter_mut().flatten().zip(b.iter().flatten()).for_each(|(a, b)| *a += b);
    a
}

fn main() -> Result<()> {
    swath::init();
    let pool = Pool::builder().build()?;
    let mut points = SharedArray::<f64, _>::zeros((POINTS, 2))?;
    let mut labels = SharedArray::<u8, _>::zeros(POINTS)?;
    pool.phase(out(&mut points)).seed(7).for_each(draw)?;

    let mut centres: Centres = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];
    for round in 1.. {
        let sums =
            pool.phase((&points, out(&mut labels))).args(centres).map(assign).reduce(Sums::default(), add)?;
        let next = sums.map(|[x, y, count]| [x / count, y / count]);
        let moved = next.iter().flatten().zip(centres.iter().flatten()).map(|(a, b)| (a - b).abs());
        let moved = moved.fold(0.0, f64::max);
        centres = next;
        if moved < 1e-3 {
            println!("after {round} rounds:");
            break;
        }
    }
    for (cluster, [x, y]) in centres.iter().enumerate() {
        let members = labels.view().iter().filter(|label| usize::from(**label) == cluster).count();
        println!("  ({x:.3}, {y:.3}) with {members} points");
    }
    Ok(())
}
