//! A value of a list, and how it lies in words: `kind:8 | length:56`, then its bytes.

/// What a slot of a list holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum ListValue {
    /// Nothing.
    #[default]
    None,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating-point number; equal as numbers are, so not a number equals nothing.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

const KIND_SHIFT: u32 = 56;
const LEN_MASK: u64 = (1 << KIND_SHIFT) - 1;

/// The length that a copy's first word says.
pub(super) fn len_of(head: u64) -> usize {
    (head & LEN_MASK) as usize
}

impl ListValue {
    /// How many bytes of room it takes.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether it takes no room.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first word, and its bytes as words.
    pub(super) fn words(&self) -> (u64, Vec<u64>) {
        let (kind, bytes): (u64, &[u8]) = match self {
            Self::None => (0, &[]),
            Self::Bool(value) => (1, &[u8::from(*value)]),
            Self::Int(value) => return (2 << KIND_SHIFT | 8, vec![*value as u64]),
            Self::Float(value) => return (3 << KIND_SHIFT | 8, vec![value.to_bits()]),
            Self::Text(text) => (4, text.as_bytes()),
            Self::Bytes(bytes) => (5, bytes),
        };
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        };
        (kind << KIND_SHIFT | bytes.len() as u64, bytes.chunks(8).map(word).collect())
    }

    /// The value of a copy; `None` if that is garbage.
    pub(super) fn of_words(head: u64, words: &[u64]) -> Option<Self> {
        let len = len_of(head);
        if len.div_ceil(8) != words.len() {
            return None;
        }
        let bytes = || -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).take(len).collect() };
        match (head >> KIND_SHIFT, len) {
            (0, 0) => Some(Self::None),
            (1, 1) if words[0] <= 1 => Some(Self::Bool(words[0] == 1)),
            (2, 8) => Some(Self::Int(words[0] as i64)),
            (3, 8) => Some(Self::Float(f64::from_bits(words[0]))),
            (4, _) => String::from_utf8(bytes()).ok().map(Self::Text),
            (5, _) => Some(Self::Bytes(bytes())),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($kind:ty => $make:expr),* $(,)?) => {
        $(impl From<$kind> for ListValue {
            fn from(value: $kind) -> Self {
                $make(value)
            }
        })*
    };
}

from! {
    () => |()| Self::None,
    bool => Self::Bool,
    i64 => Self::Int,
    i32 => |value: i32| Self::Int(value.into()),
    f64 => Self::Float,
    String => Self::Text,
    &str => |value: &str| Self::Text(value.to_owned()),
    Vec<u8> => Self::Bytes,
    &[u8] => |value: &[u8]| Self::Bytes(value.to_owned()),
}

impl<const N: usize> From<&[u8; N]> for ListValue {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<T: Into<Self>> From<Option<T>> for ListValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}
