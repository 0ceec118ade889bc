//! Shape and dtype at the beginning of an array segment, for `list`: an allegation of whoever wrote it.

use crate::limits::NPY_HEADER_MAX;

/// What a `.npy` header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Npy {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
}

/// Reads a header of version 1–3. `None`: not one that we understand.
pub(crate) fn parse(bytes: &[u8]) -> Option<Npy> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (len, begin) = match rest.first()? {
        1 => (usize::from(u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?)), 4),
        2 | 3 => (usize::try_from(u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?)).ok()?, 6),
        _ => return None,
    };
    let dict = std::str::from_utf8(rest.get(begin..begin + len.min(NPY_HEADER_MAX))?).ok()?;
    let dtype = dict.split_once("'descr':")?.1.trim_start().strip_prefix('\'')?.split_once('\'')?.0;
    let shape = dict.split_once("'shape':")?.1.trim_start().strip_prefix('(')?.split_once(')')?.0;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<u64> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    Some(Npy { dtype: dtype_name(dtype)?, shape })
}

/// "<f8" → "f64"; what is not one of our elements stays as numpy writes it.
fn dtype_name(descr: &str) -> Option<String> {
    if descr.is_empty() || descr.len() > 16 || !descr.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let little = descr.strip_prefix(['<', '|', '=']);
    let (kind, size) = match little {
        Some(rest) if rest.len() >= 2 && rest.is_ascii() => rest.split_at(1),
        _ => return Some(descr.to_owned()),
    };
    let name = match (kind, size.parse::<u32>()) {
        ("f" | "i" | "u", Ok(bytes)) => format!("{kind}{}", bytes * 8),
        // A complex number is named after its parts.
        ("c", Ok(bytes)) => format!("c{}", bytes * 4),
        ("b", Ok(1)) => "bool".to_owned(),
        _ => descr.to_owned(),
    };
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(dict: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dict.len() as u16).to_le_bytes());
        bytes.extend(dict.as_bytes());
        bytes
    }

    #[test]
    fn what_numpy_writes() {
        let found =
            parse(&header("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }   \n")).unwrap();
        assert_eq!(found, Npy { dtype: "f64".to_owned(), shape: vec![3, 4] });
        let names = ["<i2", "|u1", "|b1", "<c8", "<c16", ">f8"].map(|descr| dtype_name(descr).unwrap());
        assert_eq!(names, ["i16", "u8", "bool", "c32", "c64", ">f8"]);
        assert_eq!(parse(&header("{'descr': '<f4', 'shape': (), }")).unwrap().shape, Vec::<u64>::new());
    }

    #[test]
    fn what_others_write_is_no_header() {
        let whole = header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }\n");
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
        assert_eq!(parse(b""), None);
        assert_eq!(parse(&[0; 128]), None);
        assert_eq!(parse(&header("{'descr': 'f\n8', 'shape': (3,)}")), None);
        assert_eq!(parse(&header("{'descr': '<f8', 'shape': (99999999999999999999,)}")), None);
    }
}
