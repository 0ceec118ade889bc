//! numpy opens our live segments, and we open what numpy has written.
//!
//! Where no numpy can be had (no Python, no network) each test says so by its name and passes.

mod surroundings;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ndarray::{Array3, Ix0, Ix1, Ix2, Ix3};
use surroundings::Surroundings;
use swath_array::{Bool, Element, Error, Order, SharedArray, attach, c32, c64};

/// A Python that can import numpy: the system's, or one made once in the build's temporary directory.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let works = |python: &Path| {
        let output = Command::new(python).args(["-c", "import numpy"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let find = || {
        let (system, venv) = (PathBuf::from("python3"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("numpy"));
        let made = venv.join("bin/python");
        if works(&system) {
            return Some(system);
        }
        if !works(&made) {
            Command::new("python3").args(["-m", "venv"]).arg(&venv).output().ok()?;
            let pip = ["-m", "pip", "install", "--quiet", "--timeout", "10", "--retries", "1", "numpy"];
            Command::new(&made).args(pip).output().ok()?;
        }
        works(&made).then_some(made)
    };
    PYTHON.get_or_init(find).as_deref()
}

/// What the script prints, with `path` as `sys.argv[1]` and numpy as `np`; `None` (loudly) without numpy.
fn run(test: &str, path: &Path, script: &str) -> Option<String> {
    let Some(python) = python() else {
        eprintln!("SKIPPED {test}: no python3 with numpy here, and none could be installed");
        return None;
    };
    let script = format!("import sys, numpy as np\npath = sys.argv[1]\n{script}");
    let output = Command::new(python).args(["-c", &script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

const SHOW: &str =
    "a = np.load(path, mmap_mode='r'); print(a.dtype, a.shape, a.flags.c_contiguous, a.offset, a.tolist())";

#[test]
fn numpy_opens_a_live_named_segment() {
    let surroundings = Surroundings::new();
    let name = surroundings.name("live");
    let mut a =
        SharedArray::options().name(&name).from_shape_fn((2, 3), |(i, j)| (10 * i + j) as f64).unwrap();
    let path = PathBuf::from(format!("/dev/shm/{name}"));
    assert_eq!(a.path(), path);
    let Some(shown) = run("numpy_opens_a_live_named_segment", &path, SHOW) else { return };
    assert_eq!(shown, "float64 (2, 3) True 4096 [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]");
    // The mapping is live: a change here is seen there, and Python's end leaves the name alone.
    let script = "print(np.load(path, mmap_mode='r')[0, 0])";
    a.view_mut()[[0, 0]] = -8.5;
    assert_eq!(run("numpy_opens_a_live_named_segment", &path, script).unwrap(), "-8.5");
    assert!(path.exists());
}

#[test]
fn numpy_opens_an_unnamed_segment_and_a_file() {
    let _surroundings = Surroundings::new();
    let unnamed = SharedArray::options().unnamed().from_shape_fn(3, |i| i as i16).unwrap();
    let Some(shown) = run("numpy_opens_an_unnamed_segment_and_a_file", &unnamed.path(), SHOW) else { return };
    assert_eq!(shown, "int16 (3,) True 4096 [0, 1, 2]");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.npy");
    SharedArray::options().file(&path).from_shape_fn(3, |i| i as u8).unwrap().finish().unwrap();
    assert_eq!(run("", &path, SHOW).unwrap(), "uint8 (3,) True 4096 [0, 1, 2]");
}

#[test]
fn numpy_reads_every_element_type_and_shape() {
    fn shown<T: Element>(one: T, expected: &str) {
        let a = SharedArray::from_shape_fn(2, |i| if i == 0 { T::zeroed() } else { one }).unwrap();
        if let Some(shown) = run("numpy_reads_every_element_type_and_shape", &a.path(), SHOW) {
            assert_eq!(shown, format!("{} (2,) True 4096 {expected}", T::DTYPE));
        }
    }
    let _surroundings = Surroundings::new();
    shown(Bool::TRUE, "[False, True]");
    shown(i8::MIN, "[0, -128]");
    shown(i16::MIN, "[0, -32768]");
    shown(i32::MIN, "[0, -2147483648]");
    shown(i64::MIN, "[0, -9223372036854775808]");
    shown(u8::MAX, "[0, 255]");
    shown(u16::MAX, "[0, 65535]");
    shown(u32::MAX, "[0, 4294967295]");
    shown(u64::MAX, "[0, 18446744073709551615]");
    shown(0.5f32, "[0.0, 0.5]");
    shown(f64::MIN_POSITIVE, "[0.0, 2.2250738585072014e-308]");
    shown(c32::new(1.0, -2.0), "[0j, (1-2j)]");
    shown(c64::new(1.5, 0.25), "[0j, (1.5+0.25j)]");
    // An mmap of zero bytes is nothing numpy can do; a plain load is.
    let load = "a = np.load(path); print(a.shape, a.flags.f_contiguous, a.tolist())";
    let scalar = SharedArray::<f64, Ix0>::zeros(()).unwrap();
    let Some(shown) = run("", &scalar.path(), load) else { return };
    assert_eq!(shown, "() True 0.0");
    let empty = SharedArray::<f64, _>::zeros((0, 3)).unwrap();
    assert_eq!(run("", &empty.path(), load).unwrap(), "(0, 3) True []");
    let fortran = SharedArray::<i32, _>::options().order(Order::Fortran);
    let fortran = fortran.from_shape_fn((2, 2), |(i, j)| (10 * i + j) as i32).unwrap();
    assert_eq!(run("", &fortran.path(), load).unwrap(), "(2, 2) True [[0, 1], [10, 11]]");
}

#[test]
fn files_written_by_numpy() {
    let _surroundings = Surroundings::new();
    let directory = tempfile::tempdir().unwrap();
    let script = "
from numpy.lib import format
a = np.arange(24, dtype='<f8').reshape(2, 3, 4)
for version in [(1, 0), (2, 0), (3, 0)]:
    for order in 'CF':
        with open(f'{path}/{version[0]}{order}.npy', 'wb') as file:
            format.write_array(file, np.asarray(a, order=order), version=version)
np.save(f'{path}/big.npy', a.astype('>f8'))
np.save(f'{path}/objects.npy', np.array([{}, 'x'], dtype=object), allow_pickle=True)
np.save(f'{path}/records.npy', np.zeros(3, dtype=[('x', '<f8'), ('\u{e9}', '<i4', (2,))]))
np.save(f'{path}/text.npy', np.array(['abc']))
np.save(f'{path}/dates.npy', np.array(['2020-01-01'], dtype='M8[D]'))
np.save(f'{path}/half.npy', np.zeros(3, dtype='f2'))
np.save(f'{path}/bytes.npy', np.arange(5, dtype='u1'))
";
    if run("files_written_by_numpy", directory.path(), script).is_none() {
        return;
    }
    let path = |name: &str| directory.path().join(name);
    let expected = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (12 * i + 4 * j + k) as f64);
    for version in 1..=3 {
        for (letter, order) in [("C", Order::C), ("F", Order::Fortran)] {
            let file = path(&format!("{version}{letter}.npy"));
            for a in [SharedArray::<f64, Ix3>::open_npy(&file), SharedArray::options().read_npy(&file)] {
                let a = a.unwrap();
                assert_eq!((a.view(), a.order()), (expected.view(), order));
            }
        }
    }
    assert_eq!(SharedArray::<u8, Ix1>::open_npy(path("bytes.npy")).unwrap().view().sum(), 10);
    for (name, text) in [
        ("big", "big-endian"),
        ("objects", "Python objects"),
        ("records", "named fields"),
        ("text", "'<U3' is none of"),
        ("dates", "'<M8[D]' is none of"),
        ("half", "'<f2' is none of"),
    ] {
        let error = SharedArray::<f64, Ix2>::open_npy(path(&format!("{name}.npy"))).unwrap_err();
        assert!(matches!(error, Error::Npy { .. }) && error.to_string().contains(text), "{error}");
    }
}

#[test]
fn an_array_that_python_has_put_into_shared_memory() {
    let surroundings = Surroundings::new();
    let name = surroundings.name("python");
    let path = PathBuf::from(format!("/dev/shm/{name}"));
    let script = "np.save(open(path, 'wb'), np.arange(6.0).reshape(2, 3).T)";
    if run("an_array_that_python_has_put_into_shared_memory", &path, script).is_none() {
        return;
    }
    let foreign = attach::<f64, Ix2>(&name).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(foreign.snapshot(), ndarray::array![[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
}
