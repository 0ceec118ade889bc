//! What every array does, wherever it lives: the same tests over named, automatically named, unnamed and file-backed ones.

mod surroundings;

use std::fs;

use ndarray::{Array, Array2, Array3, ArrayD, Axis, Dimension, Ix0, Ix2, Ix6, IxDyn, s};
use surroundings::Surroundings;
use swath_array::{ArrayOptions, Bool, Element, Error, Order, SharedArray, Torn, c64};

/// The place where a backend puts its arrays.
struct Site<'s> {
    surroundings: &'s Surroundings,
    directory: tempfile::TempDir,
    backend: Backend,
    made: std::cell::Cell<u32>,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum Backend {
    Automatic,
    Named,
    Unnamed,
    File,
}

impl Site<'_> {
    /// Options for one more array of this backend.
    fn options<T: Element, D: Dimension>(&self) -> ArrayOptions<T, D> {
        let n = self.made.replace(self.made.get() + 1);
        let options = SharedArray::<T, D>::options();
        match self.backend {
            Backend::Automatic => options,
            Backend::Named => options.name(self.surroundings.name(&n.to_string())),
            Backend::Unnamed => options.unnamed(),
            Backend::File => options.file(self.directory.path().join(format!("{n}.npy"))),
        }
    }
}

/// `conformance!(test)` instantiates `fn test(&Site)` for every backend.
macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        conformance!(@ automatic Automatic $($test)*);
        conformance!(@ named Named $($test)*);
        conformance!(@ unnamed Unnamed $($test)*);
        conformance!(@ file File $($test)*);
    };
    (@ $module:ident $backend:ident $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    let surroundings = super::Surroundings::new();
                    let site = super::Site {
                        surroundings: &surroundings,
                        directory: tempfile::tempdir().unwrap(),
                        backend: super::Backend::$backend,
                        made: Default::default(),
                    };
                    super::$test(&site);
                }
            )*
        }
    };
}

conformance!(
    zeros_of_every_shape,
    what_is_written_is_read,
    any_layout_in_c_order_stored,
    fortran_order,
    the_image_is_a_npy_file,
    handles_share_and_forbid_change,
    torn_rows_are_remembered,
    threads_may_share_an_array,
    impossible_shapes_make_nothing,
    a_panic_while_filling_leaves_nothing,
    populated_and_huge,
);

fn zeros_of_every_shape(site: &Site) {
    let scalar = site.options::<f64, Ix0>().create(()).unwrap();
    assert_eq!((scalar.len(), scalar.view()[()]), (1, 0.0));
    let empty = site.options::<f64, _>().create((3, 0)).unwrap();
    assert!(empty.is_empty() && empty.view().is_empty());
    assert_eq!(empty.shape(), [3, 0]);
    let six = site.options::<u8, Ix6>().create((1, 2, 3, 4, 5, 6)).unwrap();
    assert_eq!(six.view().iter().filter(|&&x| x == 0).count(), 720);
    let dynamic = site.options::<c64, IxDyn>().create(IxDyn(&[2, 2])).unwrap();
    assert_eq!(dynamic.to_owned(), ArrayD::from_elem(IxDyn(&[2, 2]), c64::new(0.0, 0.0)));
    let truth = site.options::<Bool, _>().create(5).unwrap();
    assert!(truth.view().iter().all(|x| !x.get()));
}

fn what_is_written_is_read(site: &Site) {
    let mut a = site.options().from_shape_fn((4, 5), |(i, j)| (10 * i + j) as i32).unwrap();
    assert_eq!(a.view()[[3, 4]], 34);
    a.view_mut().row_mut(2).fill(-1);
    assert_eq!(a.view().sum_axis(Axis(1))[2], -5);
    assert_eq!(a.view().as_slice().unwrap().len(), 20);
    assert_eq!((a.shape(), a.ndim(), a.raw_dim(), a.order()), (&[4, 5][..], 2, Ix2(4, 5), Order::C));
}

fn any_layout_in_c_order_stored(site: &Site) {
    let plain = Array3::from_shape_fn((3, 4, 5), |(i, j, k)| (100 * i + 10 * j + k) as u16);
    for view in [
        plain.view(),
        plain.view().permuted_axes([2, 0, 1]),
        plain.slice(s![..;-1, 1..;2, ..;3]),
        plain.slice(s![.., 2..2, ..]),
        plain.view().reversed_axes(),
    ] {
        let a = site.options().from_array(&view).unwrap();
        assert_eq!(a.view(), view);
        assert!(a.view().is_standard_layout());
    }
}

fn fortran_order(site: &Site) {
    let plain = Array2::from_shape_fn((4, 3), |(i, j)| (10 * i + j) as f32);
    let a = site.options().order(Order::Fortran).from_array(&plain).unwrap();
    assert_eq!(a.to_owned(), plain);
    assert_eq!(a.view().strides(), [1, 4]);
    // SAFETY: twelve elements of an array that lives and that nobody writes.
    let memory = unsafe { std::slice::from_raw_parts(a.data_ptr(), 12) };
    assert_eq!(memory[..5], [0.0, 10.0, 20.0, 30.0, 1.0]);
}

fn the_image_is_a_npy_file(site: &Site) {
    let a = site.options().from_shape_fn(3, |i| i as u16 + 0x0102).unwrap();
    let image = fs::read(a.path()).unwrap();
    let text = b"\x93NUMPY\x01\x00\xf6\x0f{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }   ";
    assert_eq!(image[..text.len()], text[..]);
    assert_eq!(image[4095..], *b"\n\x02\x01\x03\x01\x04\x01");
}

fn handles_share_and_forbid_change(site: &Site) {
    let mut a = site.options().from_array(&Array::from(vec![1.0, 2.0, 3.0])).unwrap();
    let handle = a.handle();
    let clone = handle.clone();
    assert_eq!((handle.view().sum(), clone.shape(), clone.name()), (6.0, &[3][..], a.name()));
    assert!(matches!(a.try_view_mut(), Err(Error::NotWritable { .. })));
    assert!(a.try_exclusive().is_err() && a.try_shared().is_ok());
    drop(handle);
    assert!(a.try_exclusive().is_err());
    assert_eq!(std::thread::spawn(move || clone.view().sum()).join().unwrap(), 6.0);
    assert!(a.try_exclusive().is_ok());
    a.view_mut()[0] = 7.0;
    let survivor = a.handle();
    let path = a.path();
    drop(a);
    assert_eq!(survivor.to_owned()[0], 7.0);
    assert!(path.exists());
    drop(survivor);
    assert!(!path.exists(), "{}", path.display());
}

fn torn_rows_are_remembered(site: &Site) {
    let mut a = site.options::<f64, _>().create(10).unwrap();
    let torn = Torn { rows: 2..4, why: "rank 1 of team `heat` died (SIGKILL)".into() };
    assert!(a.torn().is_empty());
    a.mark_torn(torn.clone());
    assert_eq!(
        a.torn()[0].to_string(),
        "the contents of rows 2..4 are unknown: rank 1 of team `heat` died (SIGKILL)"
    );
    a.view_mut().fill(0.0);
    assert_eq!(a.torn(), [torn]);
    a.clear_torn();
    assert!(a.torn().is_empty());
}

fn threads_may_share_an_array(site: &Site) {
    fn any_thread<X: Send + Sync>(_: &X) {}
    let a = site.options().from_shape_fn(1000, |i| i as u64).unwrap();
    any_thread(&a);
    any_thread(&a.handle());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(a.view().sum(), 499_500));
        }
    });
    let moved = std::thread::spawn(move || a).join().unwrap();
    assert_eq!(moved.view()[999], 999);
}

fn impossible_shapes_make_nothing(site: &Site) {
    let seven = site.options::<f64, _>().create(IxDyn(&[1; 7])).unwrap_err();
    assert!(matches!(seven, Error::TooManyAxes { axes: 7 }), "{seven}");
    for shape in [(usize::MAX, 2), (1 << 40, 1 << 40), (0, usize::MAX)] {
        let error = site.options::<f64, _>().create(shape).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    // Possible to address, impossible to have: an error of whoever has no room, and no signal.
    let error = site.options::<u8, _>().create(1usize << 60).unwrap_err();
    assert!(matches!(error, Error::Segment(_) | Error::Io { .. }), "{error}");
    assert_eq!(fs::read_dir(site.directory.path()).unwrap().count(), 0);
}

fn a_panic_while_filling_leaves_nothing(site: &Site) {
    let filled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        site.options().from_shape_fn(10, |i| if i < 5 { i as f64 } else { panic!("no sixth element") })
    }));
    assert!(filled.is_err());
    assert_eq!(fs::read_dir(site.directory.path()).unwrap().count(), 0);
}

fn populated_and_huge(site: &Site) {
    for (populate, huge) in [(true, false), (false, true), (true, true)] {
        let mut a = site.options::<f64, _>().populate(populate).huge_pages(huge).create((512, 1024)).unwrap();
        a.view_mut()[[511, 1023]] = 1.0;
        assert_eq!(a.view().sum(), 1.0);
    }
}
