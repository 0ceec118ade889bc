//! Arrays in `.npy` files on disk: opened in place, read as a copy, made anew.

mod surroundings;

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Ix1, Ix2, IxDyn, array};
use surroundings::Surroundings;
use swath_array::{Error, SharedArray, c64};

/// A `.npy` file written by hand, its data at `offset`.
fn write_npy(path: &Path, version: u8, offset: usize, descr: &str, fortran: bool, shape: &str, data: &[u8]) {
    let fortran = if fortran { "True" } else { "False" };
    let text = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend(((offset - 10) as u16).to_le_bytes()),
        _ => bytes.extend(((offset - 12) as u32).to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    assert!(bytes.len() < offset);
    bytes.resize(offset - 1, b' ');
    bytes.push(b'\n');
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

struct Files {
    directory: tempfile::TempDir,
    _surroundings: Surroundings,
}

impl Files {
    fn new() -> Files {
        let surroundings = Surroundings::new();
        Files { directory: tempfile::tempdir().unwrap(), _surroundings: surroundings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const SIX: [f64; 6] = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0];

fn bytes(numbers: &[f64]) -> Vec<u8> {
    bytemuck::cast_slice(numbers).to_vec()
}

#[test]
fn any_version_offset_and_order_is_opened_in_place() {
    let files = Files::new();
    let path = files.path("a.npy");
    for version in 1..=3 {
        for offset in [80, 128, 4096, 8200] {
            write_npy(&path, version, offset, "'<f8'", false, "(2, 3)", &bytes(&SIX));
            let a = SharedArray::<f64, Ix2>::open_npy(&path).unwrap();
            assert_eq!(a.view(), array![[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]);
            assert_eq!((a.name(), a.path()), (None, path.clone()));
            write_npy(&path, version, offset, "'<f8'", true, "(3, 2)", &bytes(&SIX));
            let a = SharedArray::<f64, IxDyn>::open_npy(&path).unwrap();
            assert_eq!(
                a.view().into_dimensionality::<Ix2>().unwrap(),
                array![[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]]
            );
        }
    }
}

#[test]
fn empty_files_of_every_kind() {
    let files = Files::new();
    let path = files.path("a.npy");
    write_npy(&path, 1, 128, "'<f8'", false, "(0, 3)", &[]);
    assert_eq!(SharedArray::<f64, Ix2>::open_npy(&path).unwrap().shape(), [0, 3]);
    assert_eq!(SharedArray::<f64, Ix2>::options().read_npy(&path).unwrap().shape(), [0, 3]);
    fs::write(&path, b"").unwrap();
    assert!(matches!(SharedArray::<f64, Ix2>::open_npy(&path), Err(Error::Npy { .. })));
}

#[test]
fn misaligned_data_is_an_error_that_names_the_way_out() {
    let files = Files::new();
    let path = files.path("a.npy");
    write_npy(&path, 1, 84, "'<f8'", true, "(2, 3)", &bytes(&SIX));
    let error = SharedArray::<f64, Ix2>::open_npy(&path).unwrap_err();
    assert!(matches!(error, Error::Misaligned { offset: 84, .. }), "{error}");
    assert!(error.to_string().contains("read_npy"));
    let copy = SharedArray::<f64, Ix2>::options().read_npy(&path).unwrap();
    assert_eq!(copy.view(), array![[0.0, 2.0, 11.0], [1.0, 10.0, 12.0]]);
    write_npy(&path, 1, 84, "'<i4'", false, "(1,)", &[1, 0, 0, 0]);
    assert_eq!(SharedArray::<i32, Ix1>::open_npy(&path).unwrap().view()[0], 1);
}

#[test]
fn files_that_are_something_else() {
    let files = Files::new();
    let path = files.path("a.npy");
    let error = |text: &str| {
        let error = SharedArray::<f64, Ix2>::open_npy(&path).unwrap_err().to_string();
        assert!(error.contains(text) && error.contains("a.npy"), "{error}");
    };
    error("No such file");
    fs::create_dir(&path).unwrap();
    error("not a regular file");
    fs::remove_dir(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    error("not a regular file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "station,value\n").unwrap();
    error("does not begin with the magic bytes");
    write_npy(&path, 1, 128, "'<f4'", false, "(2, 3)", &[0; 24]);
    error("holds float32, not float64");
    write_npy(&path, 1, 128, "'<f8'", false, "(6,)", &[0; 48]);
    error("has the shape (6,); expected number of axes: 2");
    write_npy(&path, 1, 128, "'<f8'", false, "(2, 3)", &[0; 47]);
    error("cut short: header and data need 176 bytes, it has 175");
    write_npy(&path, 1, 128, "'<f8'", false, "(1000000000, 1000000000)", &[0; 48]);
    error("cut short");
    write_npy(&path, 1, 128, "'>f8'", false, "(2, 3)", &[0; 48]);
    error("big-endian");
    write_npy(&path, 1, 128, "'|O'", false, "(2, 3)", &[0; 48]);
    error("Python objects");
    write_npy(&path, 1, 128, "[('x', '<f8')]", false, "(2, 3)", &[0; 48]);
    error("named fields");
}

#[test]
fn opened_for_reading_only() {
    let files = Files::new();
    let path = files.path("a.npy");
    write_npy(&path, 1, 128, "'<f8'", false, "(6,)", &bytes(&SIX));
    let mut a = SharedArray::<f64, Ix1>::open_npy(&path).unwrap();
    assert!(a.array_ref().is_read_only());
    for error in [a.try_exclusive().unwrap_err(), a.try_view_mut().unwrap_err()] {
        assert!(matches!(error, Error::NotWritable { .. }), "{error}");
        assert!(error.to_string().contains("a.npy"), "{error}");
    }
    assert_eq!(a.view().sum(), 36.0);
    drop(a);
    assert_eq!(files.names(), ["a.npy"], "dropping an opened file removes nothing");
}

#[test]
fn opened_for_writing() {
    let files = Files::new();
    let path = files.path("a.npy");
    write_npy(&path, 2, 128, "'<c16'", false, "(3,)", &bytes(&SIX));
    let mut a = SharedArray::<c64, Ix1>::open_npy_mut(&path).unwrap();
    a.view_mut()[2] = c64::new(-1.0, -2.0);
    a.finish().unwrap();
    let again = SharedArray::<c64, Ix1>::open_npy(&path).unwrap();
    assert_eq!(again.view(), array![c64::new(0.0, 1.0), c64::new(2.0, 10.0), c64::new(-1.0, -2.0)]);
}

#[test]
fn one_writer_or_many_readers_of_a_file_in_one_process() {
    let files = Files::new();
    let path = files.path("a.npy");
    let read = |path: &Path| SharedArray::<f64, Ix1>::open_npy(path);
    let write = |path: &Path| SharedArray::<f64, Ix1>::open_npy_mut(path);
    let new = SharedArray::<f64, _>::options().file(&path).create(10).unwrap();
    assert!(matches!(read(&new.path()), Err(Error::InUse { .. })));
    new.finish().unwrap();
    let readers = (read(&path).unwrap(), read(&path).unwrap());
    assert!(matches!(write(&path), Err(Error::InUse { .. })));
    drop(readers);
    let writer = write(&path).unwrap();
    assert!(matches!(write(&path), Err(Error::InUse { .. })));
    assert!(matches!(read(&path), Err(Error::InUse { .. })));
    drop(writer);
    read(&path).unwrap();
    let live = SharedArray::<f64, _>::zeros(3).unwrap();
    assert!(matches!(write(&live.path()), Err(Error::InUse { .. })));
}

#[test]
fn a_new_file_is_partial_until_it_is_finished() {
    let files = Files::new();
    let path = files.path("a.npy");
    fs::write(&path, "an older result").unwrap();
    let mut a = SharedArray::<f64, _>::options().file(&path).create((100, 10)).unwrap();
    a.view_mut().fill(0.5);
    assert_eq!(
        (files.names(), a.path()),
        (vec!["a.npy".into(), "a.npy.partial".into()], files.path("a.npy.partial"))
    );
    assert_eq!(fs::read(&path).unwrap(), b"an older result");
    let handle = a.handle();
    drop(handle);
    a.finish().unwrap();
    assert_eq!(files.names(), ["a.npy"]);
    let finished = SharedArray::<f64, Ix2>::open_npy(&path).unwrap();
    assert_eq!(finished.view(), Array2::from_elem((100, 10), 0.5));
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096 + 8000);
}

#[test]
fn dropped_before_the_finish_it_is_gone() {
    let files = Files::new();
    drop(SharedArray::<f64, _>::options().file(files.path("a.npy")).create(10).unwrap());
    let shared = SharedArray::<f64, _>::options().file(files.path("b.npy")).create(10).unwrap();
    let handle = shared.handle();
    assert!(matches!(shared.finish(), Err(Error::NotWritable { .. })));
    drop(handle);
    assert_eq!(files.names(), Vec::<String>::new());
}

#[test]
fn partial_files_of_the_dead_are_replaced_those_of_the_living_are_not() {
    let files = Files::new();
    let path = files.path("a.npy");
    fs::write(files.path("a.npy.partial"), "left by a process that was killed").unwrap();
    let first = SharedArray::<u8, _>::options().file(&path).create(10).unwrap();
    let error = SharedArray::<u8, _>::options().file(&path).create(10).unwrap_err();
    assert!(error.to_string().contains("a.npy.partial"), "{error}");
    first.finish().unwrap();
    let second = SharedArray::<u8, _>::options().file(&path).from_array(&Array1::from(vec![1u8, 2])).unwrap();
    second.finish().unwrap();
    assert_eq!(SharedArray::<u8, Ix1>::open_npy(&path).unwrap().to_owned(), array![1, 2]);
}

#[test]
fn only_files_can_be_finished() {
    let _files = Files::new();
    let error = SharedArray::<u8, _>::zeros(1).unwrap().finish().unwrap_err();
    assert!(matches!(error, Error::NotInFile { .. }), "{error}");
}

#[test]
fn places_that_cannot_be_written() {
    let files = Files::new();
    let error = SharedArray::<u8, _>::options().file(files.path("no/such/a.npy")).create(1).unwrap_err();
    assert!(error.to_string().contains("no/such"), "{error}");
}
