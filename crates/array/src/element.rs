//! What an array may hold: the plain number types that numpy has too.
//!
//! [`Element`] is sealed. Every implementor is [`bytemuck::Pod`] (any bits are a value, no padding, no pointers), so an
//! array can live in memory that another process, another language or a dead worker has written.

use std::fmt;

use bytemuck::{Pod, Zeroable};
use num_complex::Complex;

#[cfg(target_endian = "big")]
compile_error!(
    "array segments are little-endian `.npy` images read in place; big-endian machines are not supported"
);

/// An element type of arrays: `i8`–`i64`, `u8`–`u64`, `f32`, `f64`, [`Bool`], [`c32`], [`c64`].
///
/// A zero-filled segment is an array of zeros for every implementor. The trait is sealed.
pub trait Element: Pod + Send + Sync + PartialEq + fmt::Debug + sealed::Sealed {
    /// The same type in numpy's words.
    const DTYPE: DType;
}

mod sealed {
    pub trait Sealed {}
}

/// Two `f32`: numpy's `complex64`.
#[allow(non_camel_case_types)]
pub type c32 = Complex<f32>;

/// Two `f64`: numpy's `complex128`.
#[allow(non_camel_case_types)]
pub type c64 = Complex<f64>;

/// A truth value in shared memory: one byte, zero is false, anything else is true.
///
/// Rust's own `bool` must never hold a byte other than 0 or 1, which no file and no other process can promise.
#[derive(Copy, Clone, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// True, stored as 1.
    pub const TRUE: Bool = Bool(1);
    /// False, stored as 0.
    pub const FALSE: Bool = Bool(0);

    /// The value as Rust's `bool`.
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Bool {
        Bool(value as u8)
    }
}

impl From<Bool> for bool {
    fn from(value: Bool) -> bool {
        value.get()
    }
}

impl PartialEq for Bool {
    fn eq(&self, other: &Bool) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool {}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

impl fmt::Display for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

/// The element types by numpy's names. The number of each is part of the layout of shared memory.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum DType {
    Bool = 1,
    Int8 = 2,
    Int16 = 3,
    Int32 = 4,
    Int64 = 5,
    UInt8 = 6,
    UInt16 = 7,
    UInt32 = 8,
    UInt64 = 9,
    Float32 = 10,
    Float64 = 11,
    Complex64 = 12,
    Complex128 = 13,
}

impl DType {
    /// All of them, in the order of their numbers.
    pub const ALL: [DType; 13] = [
        DType::Bool,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::UInt8,
        DType::UInt16,
        DType::UInt32,
        DType::UInt64,
        DType::Float32,
        DType::Float64,
        DType::Complex64,
        DType::Complex128,
    ];

    /// The number that stands for it in shared memory; never 0.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The type with this number, if there is one.
    pub fn from_code(code: u32) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.code() == code)
    }

    /// Numpy's name: `float64`.
    pub const fn name(self) -> &'static str {
        self.table().0
    }

    /// The `descr` of a `.npy` header: `<f8`.
    pub const fn descr(self) -> &'static str {
        self.table().1
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        self.table().2
    }

    /// The alignment in bytes that one element needs in memory (a complex number: that of its parts).
    pub const fn align(self) -> usize {
        match self {
            DType::Complex64 => align_of::<c32>(),
            DType::Complex128 => align_of::<c64>(),
            _ => self.size(),
        }
    }

    const fn table(self) -> (&'static str, &'static str, usize) {
        match self {
            DType::Bool => ("bool", "|b1", 1),
            DType::Int8 => ("int8", "|i1", 1),
            DType::Int16 => ("int16", "<i2", 2),
            DType::Int32 => ("int32", "<i4", 4),
            DType::Int64 => ("int64", "<i8", 8),
            DType::UInt8 => ("uint8", "|u1", 1),
            DType::UInt16 => ("uint16", "<u2", 2),
            DType::UInt32 => ("uint32", "<u4", 4),
            DType::UInt64 => ("uint64", "<u8", 8),
            DType::Float32 => ("float32", "<f4", 4),
            DType::Float64 => ("float64", "<f8", 8),
            DType::Complex64 => ("complex64", "<c8", 8),
            DType::Complex128 => ("complex128", "<c16", 16),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! elements {
    ($($ty:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const DTYPE: DType = DType::$dtype;
        }
        const _: () = assert!(size_of::<$ty>() == DType::$dtype.size() && align_of::<$ty>() == DType::$dtype.align());
    )*};
}

elements! {
    Bool => Bool,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    u8 => UInt8,
    u16 => UInt16,
    u32 => UInt32,
    u64 => UInt64,
    f32 => Float32,
    f64 => Float64,
    c32 => Complex64,
    c64 => Complex128,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_frozen() {
        let frozen: Vec<String> = DType::ALL.map(|d| format!("{}={d}{}", d.code(), d.descr())).into();
        assert_eq!(
            frozen.join(" "),
            "1=bool|b1 2=int8|i1 3=int16<i2 4=int32<i4 5=int64<i8 6=uint8|u1 7=uint16<u2 8=uint32<u4 9=uint64<u8 \
             10=float32<f4 11=float64<f8 12=complex64<c8 13=complex128<c16"
        );
        for dtype in DType::ALL {
            assert_eq!(DType::from_code(dtype.code()), Some(dtype));
        }
        assert_eq!(DType::from_code(0), None);
        assert_eq!(DType::from_code(14), None);
    }

    #[test]
    fn any_byte_is_a_bool() {
        assert_eq!(bytemuck::cast::<u8, Bool>(7), Bool::TRUE);
        assert_eq!(bool::from(Bool::from(false)), Bool::default().get());
        assert_eq!(format!("{:?} {}", Bool::TRUE, Bool::FALSE), "true false");
    }
}
