//! Writing our own header: version 1.0, data at byte 4096.

use std::fmt::Write;

use super::MAGIC;
use crate::limits::DATA_OFFSET_BYTES;
use crate::shape::{Extent, Order, ShapeText};

/// Magic, version, length of the text.
const PREFIX: usize = MAGIC.len() + 2 + 2;

/// The first page of an array segment or file: a complete `.npy` header of exactly [`DATA_OFFSET_BYTES`] bytes.
///
/// The longest text (six axes of twenty digits) is far below a page, so this cannot fail.
pub fn image_header(extent: &Extent) -> Box<[u8; DATA_OFFSET_BYTES]> {
    let mut page = Box::new([b' '; DATA_OFFSET_BYTES]);
    page[..6].copy_from_slice(MAGIC);
    page[6..8].copy_from_slice(&[1, 0]);
    page[8..PREFIX].copy_from_slice(&((DATA_OFFSET_BYTES - PREFIX) as u16).to_le_bytes());
    let text = dictionary(extent);
    page[PREFIX..PREFIX + text.len()].copy_from_slice(text.as_bytes());
    page[DATA_OFFSET_BYTES - 1] = b'\n';
    page
}

fn dictionary(extent: &Extent) -> String {
    let fortran = match extent.order() {
        Order::C => "False",
        Order::Fortran => "True",
    };
    let shape = ShapeText(extent.shape().to_vec());
    let mut text = String::new();
    write!(text, "{{'descr': '{}', 'fortran_order': {fortran}, 'shape': {shape}, }}", extent.dtype().descr())
        .expect("writing to a String does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn golden_bytes() {
        let page = image_header(&Extent::new(DType::Float64, Order::C, &[3, 4]).unwrap());
        let text = b"\x93NUMPY\x01\x00\xf6\x0f{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }";
        assert_eq!(page[..text.len()], text[..]);
        assert!(page[text.len()..DATA_OFFSET_BYTES - 1].iter().all(|&b| b == b' '));
        assert_eq!(page[DATA_OFFSET_BYTES - 1], b'\n');
    }

    #[test]
    fn golden_dictionaries() {
        let text = |dtype, order, shape: &[usize]| dictionary(&Extent::new(dtype, order, shape).unwrap());
        assert_eq!(
            text(DType::Bool, Order::C, &[]),
            "{'descr': '|b1', 'fortran_order': False, 'shape': (), }"
        );
        assert_eq!(
            text(DType::Int8, Order::C, &[0]),
            "{'descr': '|i1', 'fortran_order': False, 'shape': (0,), }"
        );
        assert_eq!(
            text(DType::Complex128, Order::Fortran, &[1, 2, 3, 4, 5, 6]),
            "{'descr': '<c16', 'fortran_order': True, 'shape': (1, 2, 3, 4, 5, 6), }"
        );
    }
}
