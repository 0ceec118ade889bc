//! The numbers that a value can be.

mod sealed {
    pub trait Sealed {}
}

/// A number with at most 64 bits, or a `bool`.
pub trait Number: sealed::Sealed + Copy + Send + Sync + 'static {
    /// What a value of it is called.
    #[doc(hidden)]
    const KIND: &'static str;

    #[doc(hidden)]
    fn to_bits64(self) -> u64;

    /// Any bits are some number.
    #[doc(hidden)]
    fn from_bits64(bits: u64) -> Self;
}

/// A number that can be added to.
pub trait Arithmetic: Number + PartialOrd {
    /// Whether addition modulo 2^64 on its bits is its addition.
    #[doc(hidden)]
    const IS_WORD: bool;

    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;

    #[doc(hidden)]
    fn minus(self, other: Self) -> Self;
}

macro_rules! integers {
    ($($number:ident $bits:ident $kind:literal),*) => {$(
        impl sealed::Sealed for $number {}

        impl Number for $number {
            const KIND: &'static str = $kind;

            #[inline]
            fn to_bits64(self) -> u64 {
                u64::from(self as $bits)
            }

            #[inline]
            fn from_bits64(bits: u64) -> Self {
                bits as $bits as $number
            }
        }

        impl Arithmetic for $number {
            const IS_WORD: bool = size_of::<$number>() == 8;

            #[inline]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    )*};
}

integers!(
    i8 u8 "value i8", i16 u16 "value i16", i32 u32 "value i32", i64 u64 "value i64",
    u8 u8 "value u8", u16 u16 "value u16", u32 u32 "value u32", u64 u64 "value u64"
);

macro_rules! floats {
    ($($number:ident $bits:ident $kind:literal),*) => {$(
        impl sealed::Sealed for $number {}

        impl Number for $number {
            const KIND: &'static str = $kind;

            #[inline]
            fn to_bits64(self) -> u64 {
                u64::from(self.to_bits())
            }

            #[inline]
            fn from_bits64(bits: u64) -> Self {
                $number::from_bits(bits as $bits)
            }
        }

        impl Arithmetic for $number {
            const IS_WORD: bool = false;

            #[inline]
            fn plus(self, other: Self) -> Self {
                self + other
            }

            #[inline]
            fn minus(self, other: Self) -> Self {
                self - other
            }
        }
    )*};
}

floats!(f32 u32 "value f32", f64 u64 "value f64");

impl sealed::Sealed for bool {}

impl Number for bool {
    const KIND: &'static str = "value bool";

    #[inline]
    fn to_bits64(self) -> u64 {
        u64::from(self)
    }

    #[inline]
    fn from_bits64(bits: u64) -> Self {
        bits & 1 != 0
    }
}
