//! A tainted array says so at every use and is never unmapped: whoever may still write into it must not hit memory that
//! became something else.

mod surroundings;

use surroundings::Surroundings;
use swath_array::{ArrayOptions, Error, SharedArray, Taint};

fn taint() -> Taint {
    Taint { worker: 3, pid: 4711, rows: Some(10..20), why: "no exit within 5 s of SIGKILL".into() }
}

const TEXT: &str =
    "is tainted: worker 3 (pid 4711) may still write its rows 10..20: no exit within 5 s of SIGKILL";

fn refused<V>(result: Result<V, Error>) {
    let error = result.err().expect("a tainted array was used");
    assert!(error.to_string().ends_with(TEXT), "{error}");
}

/// An array with its taint, used in every way and dropped; what its first element was.
fn taint_one(options: ArrayOptions<u64, ndarray::Ix1>) -> *const u64 {
    let mut a = options.create(1000).unwrap();
    a.view_mut().fill(7);
    let handle = a.handle();
    assert_eq!(a.tainted(), None);
    a.taint(taint());
    a.taint(Taint { worker: 9, ..taint() });
    assert_eq!((a.tainted(), handle.tainted()), (Some(taint()), Some(taint())));
    refused(a.try_view());
    refused(a.try_shared());
    refused(handle.try_view());
    drop(handle);
    refused(a.try_view_mut());
    refused(a.try_exclusive());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| a.view().sum())).unwrap_err();
    assert!(panic.downcast::<String>().unwrap().ends_with(TEXT));
    a.data_ptr()
}

#[test]
fn tainted_arrays_say_so_and_their_memory_stays() {
    let mut surroundings = Surroundings::new();
    surroundings.only_names();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.npy");
    let options = SharedArray::<u64, ndarray::Ix1>::options;
    let all = [options(), options().name(surroundings.name("a")), options().unnamed(), options().file(&file)];
    for first in all.map(taint_one) {
        // SAFETY: that this is still mapped is what is tested; nobody writes it.
        let memory = unsafe { std::slice::from_raw_parts(first, 1000) };
        assert!(memory.iter().all(|&x| x == 7));
    }
    assert!(!file.exists());
}

#[test]
fn a_tainted_file_is_never_made_final() {
    let mut surroundings = Surroundings::new();
    surroundings.only_names();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.npy");
    let a = SharedArray::<u64, _>::options().file(&file).create(1000).unwrap();
    a.taint(taint());
    refused(a.finish());
    assert!(!file.exists());
}
