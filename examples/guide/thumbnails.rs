//! Thumbnails of a folder of pictures: at most 128 × 128, `NAME_thumb.png` beside each. One picture is broken; it is one error.
//!
//! ```text
//! cargo run --release --example guide_thumbnails [FOLDER]      default: a folder of its own making, removed afterwards
//! ```

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use swath::prelude::*;

const SIDE: usize = 128;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Red, green, blue; rows one after the other.
struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    fn read(path: &Path) -> Result<Picture, Failure> {
        let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let mut pixels = vec![0; reader.output_buffer_size().ok_or("too large")?];
        let info = reader.next_frame(&mut pixels)?;
        let rgb = match info.color_type {
            png::ColorType::Rgb => pixels,
            png::ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
            png::ColorType::Grayscale => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
            other => return Err(format!("pictures of kind {other:?} are not for this program").into()),
        };
        Ok(Picture { width: info.width as usize, height: info.height as usize, rgb })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let to = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(to, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&self.rgb)?;
        Ok(())
    }

    /// Each pixel is the mean of the box that it stands for; the sides keep their proportion.
    fn thumbnail(&self) -> Picture {
        let longest = self.width.max(self.height).max(SIDE);
        let scaled = |side: usize| (side * SIDE / longest).max(1);
        let (width, height) = (scaled(self.width), scaled(self.height));
        let mut rgb = Vec::with_capacity(3 * width * height);
        for row in 0..height {
            for column in 0..width {
                let rows = row * self.height / height..(row + 1) * self.height / height;
                let columns = column * self.width / width..(column + 1) * self.width / width;
                let boxed = |colour: usize| {
                    let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| y * self.width + x));
                    pixels.map(|pixel| usize::from(self.rgb[3 * pixel + colour])).sum::<usize>()
                };
                let count = rows.len() * columns.len();
                rgb.extend([0, 1, 2].map(|colour| (boxed(colour) / count) as u8));
            }
        }
        Picture { width, height, rgb }
    }
}

/// What a worker does: one picture; returns what there is to say.
fn shrink(path: PathBuf) -> Result<String, Failure> {
    let picture = Picture::read(&path)?;
    let small = picture.thumbnail();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let thumb = path.with_file_name(format!("{stem}_thumb.png"));
    small.write(&thumb)?;
    let name = thumb.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(format!("{} × {} -> {name}, {} × {}", picture.width, picture.height, small.width, small.height))
}

/// Some pictures to begin with, painted by the workers too.
fn paint((path, width, height): (PathBuf, usize, usize)) -> Result<(), Failure> {
    let colour = |x: usize, y: usize| [x * 255 / width, y * 255 / height, (x ^ y) & 255].map(|c| c as u8);
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| colour(x, y))).collect();
    Picture { width, height, rgb }.write(&path)
}

/// A folder with four pictures, and a file that is none.
fn sample(pool: &Pool) -> Result<tempfile::TempDir, Failure> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).with_extension("png");
    let sizes = [("beach", 640, 480), ("castle", 480, 640), ("dog", 300, 300), ("icon", 64, 32)];
    pool.try_map(paint, sizes.map(|(name, width, height)| (path(name), width, height)))?;
    fs::write(path("broken"), "not a picture")?;
    Ok(folder)
}

/// The pictures in a folder, without the thumbnails of an earlier run.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<std::io::Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "png"));
    paths.retain(|path| !path.to_string_lossy().ends_with("_thumb.png"));
    paths.sort();
    Ok(paths)
}

fn main() -> Result<(), Failure> {
    swath::init();
    let pool = Pool::builder().workers(4).build()?;
    let given = std::env::args().nth(1).map(PathBuf::from);
    let made = if given.is_none() { Some(sample(&pool)?) } else { None };
    let folder = given.or(made.as_ref().map(|made| made.path().to_owned())).expect("one of both");

    let pictures = pictures(&folder)?;
    let outcomes = pool.try_map_with(shrink, pictures.clone()).chunk(1).each()?;
    for (path, outcome) in pictures.iter().zip(outcomes) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match outcome {
            Ok(done) => println!("{name}: {done}"),
            Err(error) => println!("{name}: {}", error.causes()[0].what),
        }
    }
    Ok(())
}
