//! A live array, read by numpy in another process: one line, no library, no copy.
//!
//! ```text
//! cargo run --release --example numpy_view              PYTHON=/path/to/python3 chooses another interpreter
//! ```
//!
//! A named array *is* a `.npy` file in /dev/shm, so the whole of the Python side is
//!
//! ```text
//! a = np.load("/dev/shm/NAME", mmap_mode="r")
//! ```
//!
//! Python opens the array once and looks at it twice. In between a phase changes it, and numpy sees the new values through
//! the mapping that it already has. Only the coordinator owns the name: Python's end leaves it alone.
//!
//! What to change first: the shape, or the type, which numpy will name.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use swath::prelude::*;

/// Prints what it sees at the beginning and again for every line that comes in.
const SCRIPT: &str = r#"
import sys, numpy as np
a = np.load(sys.argv[1], mmap_mode="r")
print(f"numpy {np.__version__} opened {a.dtype} {a.shape}, sum {a.sum()}, last row {a[-1].tolist()}", flush=True)
for line in sys.stdin:
    print(f"numpy now sees sum {a.sum()}, last row {a[-1].tolist()}", flush=True)
"#;

fn main() -> Result<()> {
    swath::init();
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let has_numpy = Command::new(&python).args(["-c", "import numpy"]).stderr(Stdio::null()).status();
    if !has_numpy.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {} has no numpy (PYTHON=… chooses another interpreter)", python.display());
        return Ok(());
    }
    let pool = Pool::builder().build()?;
    let name = format!("numpy_view-{}", std::process::id());
    let mut field = SharedArray::options().name(&name).from_shape_fn((4, 3), |(i, j)| (3 * i + j) as f64)?;
    println!("swath wrote {}, sum {}", field.path().display(), field.view().sum());

    let mut reader = Command::new(&python)
        .args(["-c", SCRIPT])
        .arg(field.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(lost)?;
    let mut answers = BufReader::new(reader.stdout.take().expect("piped")).lines();
    let mut hear =
        || answers.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())).map_err(lost);
    println!("{}", hear()?);

    pool.phase(&mut field).chunk(Chunk::Rows(1)).for_each(|_, mut rows| rows *= 10.0)?;
    println!("a phase multiplied it by 10, sum {}", field.view().sum());
    look_again(&mut reader).map_err(lost)?;
    println!("{}", hear()?);

    drop(reader.stdin.take());
    reader.wait().map_err(lost)?;
    println!("after Python's end the name is {}", if field.path().exists() { "still there" } else { "gone" });
    Ok(())
}

fn look_again(reader: &mut Child) -> io::Result<()> {
    writeln!(reader.stdin.as_mut().expect("piped"))
}

fn lost(error: io::Error) -> Error {
    Error::other(format!("the Python process: {error}"))
}
