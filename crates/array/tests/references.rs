//! What travels between processes: references that lie are errors, and views of rows are the rows.

mod surroundings;

use ndarray::{Array3, ArrayView, Axis, Dimension, Ix0, Ix1, Ix2, Ix3, IxDyn, Slice};
use proptest::prelude::*;
use surroundings::Surroundings;
use swath_array::{ArrayRef, DType, Element, Error, Order, SharedArray, rows_view, rows_view_mut};

fn rows<T: Element, D: Dimension>(
    a: &SharedArray<T, D>,
    rows: std::ops::Range<usize>,
) -> ArrayView<'_, T, D> {
    let reference = a.array_ref();
    reference.check::<T, D>().unwrap();
    assert!(rows.end <= reference.rows());
    // SAFETY: 1 the array's own mapping, borrowed; 2, 3 checked above; 4 nobody writes while the array is borrowed.
    unsafe { rows_view(a.base_ptr(), &reference, rows) }
}

#[test]
fn every_range_of_rows_is_the_slice() {
    let _surroundings = Surroundings::new();
    let plain = Array3::from_shape_fn((5, 3, 2), |(i, j, k)| (100 * i + 10 * j + k) as i16);
    for order in [Order::C, Order::Fortran] {
        let a = SharedArray::<i16, _>::options().order(order).from_array(&plain).unwrap();
        for start in 0..=5 {
            for end in start..=5 {
                let part = rows(&a, start..end);
                assert_eq!(
                    part,
                    plain.slice_axis(Axis(0), Slice::from(start..end)),
                    "{order:?} {start}..{end}"
                );
                assert!(
                    order == Order::Fortran || part.as_slice().is_some(),
                    "rows in C order are contiguous"
                );
            }
        }
    }
}

#[test]
fn empty_and_axisless_arrays_have_rows_too() {
    let _surroundings = Surroundings::new();
    let scalar = SharedArray::<f64, Ix0>::zeros(()).unwrap();
    assert_eq!((scalar.array_ref().rows(), rows(&scalar, 0..1).len()), (1, 1));
    for order in [Order::C, Order::Fortran] {
        let flat = SharedArray::<f64, Ix2>::options().order(order).create((4, 0)).unwrap();
        assert_eq!(rows(&flat, 1..3).shape(), [2, 0]);
        assert_eq!(flat.array_ref().row_bytes(), 0);
        let none = SharedArray::<f64, Ix2>::options().order(order).create((0, 4)).unwrap();
        assert_eq!(rows(&none, 0..0).shape(), [0, 4]);
    }
    // Every shape with some axis of length 0, mutable views too: ndarray looks at strides of those very closely.
    for axes in 0..27 {
        let shape = (axes / 9, axes / 3 % 3, axes % 3);
        for order in [Order::C, Order::Fortran] {
            let mut a = SharedArray::<u16, Ix3>::options().unnamed().order(order).create(shape).unwrap();
            a.view_mut().fill(1);
            for end in 0..=shape.0 {
                assert_eq!(
                    rows(&a, 0..end).sum() as usize,
                    end * shape.1 * shape.2,
                    "{shape:?} {order:?} {end}"
                );
            }
        }
    }
    let dynamic = SharedArray::<u32, IxDyn>::zeros(IxDyn(&[3, 2])).unwrap();
    assert_eq!((rows(&dynamic, 2..3).shape(), dynamic.array_ref().row_bytes()), (&[1, 2][..], 8));
}

#[test]
fn disjoint_rows_may_be_changed_at_the_same_time() {
    let _surroundings = Surroundings::new();
    for order in [Order::C, Order::Fortran] {
        let a = SharedArray::<u64, _>::options().order(order).create((100, 7)).unwrap();
        let (reference, base) = (a.array_ref(), a.base_ptr().expose_provenance());
        std::thread::scope(|scope| {
            for part in 0..4 {
                scope.spawn(move || {
                    let base = std::ptr::with_exposed_provenance_mut(base);
                    // SAFETY: 1 the array outlives the scope; 2 made by the array itself; 3 25 × 4 rows; 4 each thread has its own.
                    let mut rows =
                        unsafe { rows_view_mut::<u64, Ix2>(base, &reference, 25 * part..25 * (part + 1)) };
                    rows.fill(part as u64);
                });
            }
        });
        assert_eq!(a.view().sum_axis(Axis(1))[99], 21);
        assert_eq!(a.view().sum(), 7 * 25 * (1 + 2 + 3));
    }
}

#[test]
fn other_types_and_axes_are_refused() {
    let _surroundings = Surroundings::new();
    let reference = SharedArray::<f64, _>::zeros((3, 4)).unwrap().array_ref();
    reference.check::<f64, Ix2>().unwrap();
    reference.check::<f64, IxDyn>().unwrap();
    let wrong = reference.check::<f32, Ix2>().unwrap_err();
    assert_eq!(wrong.to_string(), "the array holds float64, not float32");
    let wrong = reference.check::<f64, Ix1>().unwrap_err();
    assert_eq!(wrong.to_string(), "the array has the shape (3, 4); expected number of axes: 1");
}

#[test]
fn the_layout_of_a_reference_is_frozen() {
    use std::mem::offset_of;
    let offsets = [
        offset_of!(ArrayRef, segment),
        offset_of!(ArrayRef, data_offset),
        offset_of!(ArrayRef, dtype),
        offset_of!(ArrayRef, ndim),
        offset_of!(ArrayRef, shape),
        offset_of!(ArrayRef, strides),
        offset_of!(ArrayRef, flags),
    ];
    assert_eq!((offsets, size_of::<ArrayRef>()), ([0, 104, 112, 116, 120, 168, 216], 224));
}

#[test]
fn lies_are_found_one_by_one() {
    let _surroundings = Surroundings::new();
    let honest = SharedArray::<f64, _>::zeros((3, 4)).unwrap().array_ref();
    let lies: [fn(&mut ArrayRef); 14] = [
        |r| r.dtype = 0,
        |r| r.dtype = 99,
        |r| r.ndim = 7,
        |r| r.ndim = u32::MAX,
        |r| r.ndim = 1,
        |r| r.ndim = 3,
        |r| r.shape[0] = 1 << 40,
        |r| r.shape[0] = u64::MAX,
        |r| r.shape[5] = 1,
        |r| r.strides[0] = -4,
        |r| r.strides[1] = 1 << 40,
        |r| r.data_offset += 1,
        |r| r.data_offset = u64::MAX - 7,
        |r| r.segment.len -= 1,
    ];
    for (i, lie) in lies.iter().enumerate() {
        let mut reference = honest;
        lie(&mut reference);
        assert!(reference.check::<f64, Ix2>().is_err(), "lie {i}");
    }
    let mut fortran = honest;
    fortran.flags |= ArrayRef::FORTRAN;
    assert!(matches!(fortran.check::<f64, Ix2>(), Err(Error::BadReference { .. })));
}

/// References with all fields near values that matter.
fn alleged() -> impl Strategy<Value = ArrayRef> {
    let number = || prop_oneof![0u64..8, Just(u64::MAX), Just(1 << 63), Just(1 << 61), any::<u64>()];
    let head = (number(), number(), 0u32..20, 0u32..9, 0u64..4);
    let axes = || proptest::array::uniform6(number());
    (head, axes(), axes()).prop_map(|((len, data_offset, dtype, ndim, flags), shape, strides)| {
        let mut reference: ArrayRef = bytemuck::Zeroable::zeroed();
        reference.segment.len = len;
        (reference.data_offset, reference.dtype, reference.ndim, reference.flags) =
            (data_offset, dtype, ndim, flags);
        (reference.shape, reference.strides) = (shape, strides.map(|s| s as i64));
        reference
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_believed_lies_in_its_segment(reference in alleged()) {
        let _ = (reference.rows(), reference.row_bytes(), reference.check::<u8, Ix3>());
        if let Ok(extent) = reference.extent() {
            let last: u64 = extent.shape().iter().zip(extent.strides()).map(|(&n, s)| n.saturating_sub(1) as u64 * s as u64).sum();
            let end = reference.data_offset + last * extent.dtype().size() as u64;
            prop_assert!(end <= reference.segment.len);
            prop_assert!(DType::from_code(reference.dtype) == Some(extent.dtype()));
        }
    }
}
