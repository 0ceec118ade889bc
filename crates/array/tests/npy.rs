//! The `.npy` header: what we write we read, what numpy writes we read, what is hostile is an error and nothing worse.

use proptest::prelude::*;
use swath_array::npy::{Header, NpyError, image_header, parse_header, read_header};
use swath_array::{DType, Extent, Order};

/// A header as numpy writes one: version, text, padded with spaces to a multiple of 64, a line feed.
fn header(version: u8, text: &str) -> Vec<u8> {
    let prefix = if version == 1 { 10 } else { 12 };
    let length = (prefix + text.len() + 1).next_multiple_of(64) - prefix;
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((length as u16).to_le_bytes()),
        _ => bytes.extend((length as u32).to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    bytes.resize(prefix + length - 1, b' ');
    bytes.push(b'\n');
    bytes
}

fn parse(text: &str) -> Result<Header, NpyError> {
    parse_header(&header(1, text))
}

fn with_descr(descr: &str) -> Result<Header, NpyError> {
    parse(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2, 3), }}"))
}

#[test]
fn all_three_versions_and_any_offset() {
    for version in 1..=3 {
        let bytes = header(version, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }");
        let found = parse_header(&bytes).unwrap();
        assert_eq!(found.extent, Extent::new(DType::Int32, Order::Fortran, &[2, 3]).unwrap());
        assert_eq!((found.data_offset, found.version), (bytes.len(), version));
        assert_eq!(read_header(&mut &bytes[..]).unwrap(), Ok(found));
    }
    let text = "{'descr':'<f8','fortran_order':False,'shape':(1,)}";
    let mut unpadded = b"\x93NUMPY\x01\x00".to_vec();
    unpadded.extend((text.len() as u16).to_le_bytes());
    unpadded.extend(text.as_bytes());
    assert_eq!(parse_header(&unpadded).unwrap().data_offset, unpadded.len());
}

#[test]
fn reading_consumes_no_byte_of_the_data() {
    let mut bytes = header(2, "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }");
    bytes.extend([1, 2, 3, 4]);
    let mut source = &bytes[..];
    read_header(&mut source).unwrap().unwrap();
    assert_eq!(source, [1, 2, 3, 4]);
}

#[test]
fn what_other_writers_do_to_the_dictionary() {
    let like = with_descr("'<f8'").unwrap().extent;
    for text in [
        "{\"shape\": (2, 3), \"descr\": \"<f8\", \"fortran_order\": False}",
        "{'descr':'<f8','fortran_order':False,'shape':(2,3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L), }",
        "\n{'descr': '=f8',\n\t'fortran_order': False,\r\n'shape': ( 2 , 3 , ) , } ",
    ] {
        assert_eq!(parse(text).unwrap().extent, like, "{text}");
    }
    let scalar = parse("{'descr': '<f8', 'fortran_order': False, 'shape': (), }").unwrap().extent;
    assert_eq!((scalar.shape(), scalar.elements()), (&[][..], 1));
}

#[test]
fn types_that_cannot_be_read_say_why() {
    for descr in ["'>f8'", "'>i2'", "'>c16'"] {
        assert!(matches!(with_descr(descr), Err(NpyError::BigEndian { .. })), "{descr}");
    }
    assert_eq!(with_descr("'>u1'").unwrap().extent.dtype(), DType::UInt8);
    for descr in ["'|O'", "'|O8'"] {
        assert_eq!(with_descr(descr), Err(NpyError::Objects), "{descr}");
    }
    for descr in ["[('x', '<f8'), ('y', '<i4', (2,))]", "[(('title', 'n'), '|S3')]", "[]"] {
        assert_eq!(with_descr(descr), Err(NpyError::Structured), "{descr}");
    }
    for descr in ["'<U5'", "'|S3'", "'<M8[ns]'", "'|V16'", "'<f2'", "'<f16'", "'float64'", "''", "'<'", "'é'"]
    {
        assert!(matches!(with_descr(descr), Err(NpyError::UnsupportedType { .. })), "{descr}");
    }
}

#[test]
fn malformed_headers_say_where() {
    for (text, at, expected) in [
        ("", 64, "a value"),
        ("('descr', 1)", 10, "a dictionary"),
        ("{'descr': '<f8', 'fortran_order': False}", 10, "the keys descr, fortran_order and shape"),
        ("{'descr': '<f8', 'descr': '<f8'}", 36, "each key once"),
        ("{'descr': '<f8', 'colour': 1}", 37, "one of the keys descr, fortran_order, shape"),
        ("{'descr': '<f8' 'shape': (1,)}", 26, "',' or '}'"),
        ("{'descr' '<f8'}", 19, "':'"),
        ("{descr: '<f8'}", 11, "a key or '}'"),
        ("{'descr': '<f8", 20, "the end of this string"),
        ("{'descr': 8, 'fortran_order': False, 'shape': ()}", 20, "a type"),
        ("{'descr': '<f8', 'fortran_order': 0, 'shape': ()}", 44, "True or False"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': 5}", 60, "a tuple of lengths"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (5)}", 60, "a tuple of lengths"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': ('5',)}", 60, "a tuple of lengths"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-5,)}", 61, "a value"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (5 6)}", 63, "',' or the closing bracket"),
        ("{'shape': (99999999999999999999,)}", 21, "a length below 2^64"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': ()} x", 64, "the end of the header"),
        ("{'descr': ((((((((((((((((((1))))))))))))))))))}", 35, "less nesting"),
    ] {
        assert_eq!(parse(text), Err(NpyError::Malformed { at, expected }), "{text}");
    }
}

#[test]
fn shapes_that_lie() {
    let shape =
        |shape: &str| parse(&format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"));
    for text in [
        "(18446744073709551615,)",
        "(4294967296, 4294967296)",
        "(0, 18446744073709551615)",
        "(1152921504606846976,)",
    ] {
        assert!(matches!(shape(text), Err(NpyError::TooLarge { .. })), "{text}");
    }
    assert_eq!(shape("(1, 1, 1, 1, 1, 1, 1)"), Err(NpyError::TooManyAxes { axes: 7 }));
    assert_eq!(shape("(5, 0)").unwrap().extent.bytes(), 0);
}

#[test]
fn prefixes_that_lie() {
    assert_eq!(parse_header(b"PK\x03\x04"), Err(NpyError::NotNpy));
    assert_eq!(parse_header(b""), Err(NpyError::HeaderTruncated { needed: 8, found: 0 }));
    assert_eq!(parse_header(b"\x93NUMPY\x04\x00"), Err(NpyError::Version { major: 4, minor: 0 }));
    assert_eq!(parse_header(b"\x93NUMPY\x01\x01"), Err(NpyError::Version { major: 1, minor: 1 }));
    let huge = b"\x93NUMPY\x02\x00\xff\xff\xff\xff";
    assert_eq!(parse_header(huge), Err(NpyError::HeaderTooLong { bytes: u32::MAX as usize }));
    assert_eq!(
        read_header(&mut &huge[..]).unwrap(),
        Err(NpyError::HeaderTooLong { bytes: u32::MAX as usize })
    );
    let short = b"\x93NUMPY\x01\x00\x76\x00{'descr'";
    let cut = Err(NpyError::HeaderTruncated { needed: 128, found: short.len() });
    assert_eq!((parse_header(short), read_header(&mut &short[..]).unwrap()), (cut.clone(), cut));
}

fn extents() -> impl Strategy<Value = Extent> {
    let axis = prop_oneof![Just(0), 1usize..5, any::<u32>().prop_map(|n| n as usize)];
    let order = prop_oneof![Just(Order::C), Just(Order::Fortran)];
    (proptest::sample::select(&DType::ALL[..]), order, proptest::collection::vec(axis, 0..=6))
        .prop_filter_map("too large", |(dtype, order, shape)| Extent::new(dtype, order, &shape).ok())
}

/// Headers that are right but for some bytes, and pieces of Python in any order.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let pieces = proptest::sample::select(
        &[
            "{",
            "}",
            "(",
            ")",
            "[",
            "]",
            ",",
            ":",
            "'",
            "\"",
            "\\",
            " ",
            "\n",
            "'descr'",
            "'shape'",
            "'fortran_order'",
        ][..],
    );
    let words = proptest::sample::select(
        &["'<f8'", "'|O'", "True", "False", "Truex", "1", "0L", "-1", "1e9", "\u{e9}"][..],
    );
    let soup = proptest::collection::vec(prop_oneof![pieces, words], 0..60).prop_map(|words| words.concat());
    let soup = (1u8..=3, soup).prop_map(|(version, text)| header(version, &text));
    let damage = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    let damaged = (extents(), damage, any::<proptest::sample::Index>()).prop_map(|(extent, damage, cut)| {
        let mut bytes = image_header(&extent).to_vec();
        for (at, byte) in damage {
            // Most of the page is padding: nearly all damage goes where it can hurt.
            let reach = if byte % 8 == 0 { bytes.len() } else { 100 };
            bytes[at.index(reach)] = byte;
        }
        bytes.truncate(if cut.index(2) == 0 { bytes.len() } else { cut.index(bytes.len()) });
        bytes
    });
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), soup, damaged]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ours_comes_back(extent in extents()) {
        let page = image_header(&extent);
        let expected = Header { extent, data_offset: 4096, version: 1 };
        prop_assert_eq!(parse_header(&page[..]), Ok(expected));
        prop_assert_eq!(read_header(&mut &page[..]).unwrap(), Ok(expected));
    }

    #[test]
    fn hostile_headers_never_panic_and_never_claim_more_than_memory(bytes in hostile()) {
        let parsed = parse_header(&bytes);
        prop_assert_eq!(&parsed, &read_header(&mut &bytes[..]).unwrap());
        match parsed {
            Ok(header) => {
                prop_assert!(header.data_offset <= bytes.len());
                prop_assert!(header.extent.bytes() <= isize::MAX as usize);
                prop_assert!(header.extent.shape().len() <= 6);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
