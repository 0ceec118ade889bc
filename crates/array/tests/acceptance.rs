//! Cases that users of other shared-memory libraries have met, by the numbers under which they are known.

mod surroundings;

use std::fs;

use ndarray::{Array1, Ix1, Ix2};
use surroundings::Surroundings;
use swath_array::{Error, SharedArray, attach, attach_mut};
use swath_segment::Error as SegmentError;

/// C37: names and sizes.
#[test]
fn c37_names_and_sizes() {
    let surroundings = Surroundings::new();
    let name = surroundings.name("c37");
    let path = format!("/dev/shm/{name}");
    let named = |name: &str| SharedArray::<f64, _>::options().name(name);

    // 512 bytes are 512 bytes, for the creator, the attacher and the file system: no rounding up to pages anywhere.
    let mut a = named(&name).create(64).unwrap();
    let one = attach::<f64, Ix1>(&name).unwrap();
    let two = attach::<f64, Ix1>(&name).unwrap();
    assert_eq!((a.shape(), one.shape(), two.shape()), (&[64][..], &[64][..], &[64][..]));
    assert_eq!(a.array_ref().segment.len, 4096 + 512);
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096 + 512);
    // A type or shape that the attacher hopes for is compared, never believed: this is the size hint of others.
    let wrong = attach::<u8, Ix1>(&name).unwrap_err();
    assert!(matches!(wrong, Error::WrongType { .. }), "{wrong}");
    let wrong = attach::<f64, Ix2>(&name).unwrap_err();
    assert!(matches!(wrong, Error::WrongAxes { .. }), "{wrong}");

    // The same name again; a name that nobody has.
    let exists = named(&name).create(64).unwrap_err();
    assert!(matches!(&exists, Error::Segment(SegmentError::Exists { name: n }) if *n == name), "{exists}");
    assert_eq!(a.view().sum(), 0.0);
    let missing = attach::<f64, Ix1>(&surroundings.name("nobody")).unwrap_err();
    assert!(matches!(missing, Error::Segment(SegmentError::NotFound { .. })), "{missing}");

    // No bytes are an array without elements; less than none cannot be written down.
    let empty = named(&surroundings.name("empty")).create(0).unwrap();
    assert_eq!(attach::<f64, Ix1>(empty.name().unwrap()).unwrap().snapshot(), Array1::<f64>::zeros(0));
    let odd = SharedArray::<u8, _>::options().name(surroundings.name("odd")).create(5000).unwrap();
    assert_eq!(attach::<u8, Ix1>(odd.name().unwrap()).unwrap().shape(), [5000]);

    // Names that cannot be, told before any system call.
    for bad in ["a\0b", &"x".repeat(300), "", "a/b", ".."] {
        for error in [named(bad).create(1).unwrap_err(), attach::<f64, Ix1>(bad).unwrap_err()] {
            assert!(matches!(error, Error::Segment(SegmentError::InvalidName { .. })), "{error}");
        }
    }

    // Unlinked by hand while two are attached: mappings stay valid, a new attach finds nothing, unlinking again neither.
    a.view_mut()[63] = 2.5;
    fs::remove_file(&path).unwrap();
    assert_eq!(fs::remove_file(&path).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!((a.view()[63], one.snapshot()[63], two.snapshot()[63]), (2.5, 2.5, 2.5));
    let gone = attach::<f64, Ix1>(&name).unwrap_err();
    assert!(matches!(gone, Error::Segment(SegmentError::NotFound { .. })), "{gone}");

    // The name is somebody else's by now: dropping the array must not take it away from them.
    fs::write(&path, "another program's").unwrap();
    drop(a);
    assert_eq!(fs::read(&path).unwrap(), b"another program's");
    let strange = attach::<f64, Ix1>(&name).unwrap_err();
    assert!(matches!(strange, Error::Npy { .. }), "{strange}");
    fs::remove_file(&path).unwrap();
    assert_eq!(one.snapshot()[63], 2.5);
}

/// C40 (a): keep a slice, close the segment. A view borrows its array, so for it the compiler refuses (see the examples at
/// `SharedArray`); handles and foreign arrays keep the memory.
#[test]
fn c40a_views_outlive_the_close() {
    let surroundings = Surroundings::new();
    let name = surroundings.name("c40a");
    let a = SharedArray::options().name(&name).from_shape_fn(1000, |i| i as u32).unwrap();
    let handle = a.handle();
    let foreign = attach::<u32, Ix1>(&name).unwrap();
    // SAFETY: nobody writes from here on.
    let (slice, view) = (handle.view(), unsafe { foreign.view() });
    drop(a);
    assert_eq!((slice.sum(), view.sum()), (499_500, 499_500));
    let last = slice.to_owned()[999];
    drop(handle);
    assert_eq!(last, 999);
    assert_eq!(view[999], 999, "the foreign mapping is its own");
    assert!(matches!(attach::<u32, Ix1>(&name), Err(Error::Segment(SegmentError::NotFound { .. }))));
    assert_eq!(foreign.name(), name);
}

#[test]
fn attached_for_writing() {
    let surroundings = Surroundings::new();
    let name = surroundings.name("mut");
    let a = SharedArray::<f64, _>::options().name(&name).create((2, 2)).unwrap();
    // SAFETY: 1, 2, 3: one thread; no view of `a` is live while `other` has one.
    let mut other = unsafe { attach_mut::<f64, Ix2>(&name) }.unwrap();
    other.view_mut().fill(3.0);
    assert_eq!((a.view().sum(), other.view().sum(), other.snapshot().sum()), (12.0, 12.0, 12.0));
    assert_eq!((other.shape(), other.name(), other.dtype()), (&[2, 2][..], name.as_str(), a.dtype()));
}

#[test]
fn only_files_of_this_user_that_are_no_links() {
    let surroundings = Surroundings::new();
    let (name, link) = (surroundings.name("target"), surroundings.name("link"));
    let a = SharedArray::<f64, _>::options().name(&name).create(4).unwrap();
    let path = std::path::Path::new("/dev/shm").join(&link);
    std::os::unix::fs::symlink(a.path(), &path).unwrap();
    let followed = attach::<f64, Ix1>(&link);
    fs::remove_file(&path).unwrap();
    followed.unwrap_err();
}
