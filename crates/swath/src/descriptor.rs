//! What a worker must know of a phase: one plain record, copied out of shared memory before anything in it is believed.

use bytemuck::{Pod, Zeroable};
use swath_array::ArrayRef;
use swath_segment::SegmentRef;

use crate::limits::{ARGS_INLINE_BYTES, OPERANDS_MAX};

/// How a phase treats one of its arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Mode {
    /// `&a`: the chunk's rows, read-only.
    Read = 0,
    /// `&mut a`: the chunk's rows, read and updated; copied to the undo slot first.
    Update = 1,
    /// `out(&mut a)`: the chunk's rows, written and never read.
    Out = 2,
    /// `whole(&a)`: all rows, read-only.
    Whole = 3,
    /// `locked(&mut a)`: all rows, read and updated under the phase's lock; copied to the undo slot first.
    Locked = 4,
}

impl Mode {
    /// True for operands that are cut into chunks.
    pub(crate) fn is_cut(self) -> bool {
        !matches!(self, Mode::Whole | Mode::Locked)
    }

    /// True for operands that the kernel may write.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Mode::Update | Mode::Out | Mode::Locked)
    }

    fn from_number(number: u32) -> Option<Mode> {
        [Mode::Read, Mode::Update, Mode::Out, Mode::Whole, Mode::Locked]
            .into_iter()
            .find(|m| *m as u32 == number)
    }
}

/// One array of a phase.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct OperandRef {
    /// Which array.
    pub(crate) array: ArrayRef,
    mode: u32,
    reserved: u32,
}

impl OperandRef {
    pub(crate) fn new(array: ArrayRef, mode: Mode) -> OperandRef {
        OperandRef { array, mode: mode as u32, reserved: 0 }
    }

    /// `None` for a number that no version of this code writes.
    pub(crate) fn mode(&self) -> Option<Mode> {
        Mode::from_number(self.mode)
    }
}

/// The end of a phase, which decides what becomes of a chunk's value.
pub(crate) mod flag {
    /// Operands are updated in place: undo slots are in use.
    pub(crate) const UNDO: u32 = 1;
    /// Pre-fill `out` operands with a pattern, so that a read or a gap shows.
    pub(crate) const CHECK: u32 = 2;
    /// A failed chunk does not end the phase.
    pub(crate) const KEEP_GOING: u32 = 4;
    /// Writable mappings of inputs are dropped first.
    pub(crate) const STRICT_INPUTS: u32 = 8;
    /// All workers run one function together.
    pub(crate) const TEAM: u32 = 16;
    /// What a chunk of a map gives begins with the nanoseconds that it took.
    pub(crate) const MEASURE: u32 = 32;
}

/// A phase as it lies in shared memory. Functions are offsets in the executable.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Descriptor {
    /// Number of this phase in the pool, from 1.
    pub(crate) sequence: u32,
    /// Epoch of its ledger entries.
    pub(crate) epoch: u32,
    /// Of [`flag`].
    pub(crate) flags: u32,
    /// Operands in use.
    pub(crate) operand_count: u32,
    /// Sweeps announced before this phase: more of them means that chunks were given back.
    pub(crate) sweeps: u32,
    pub(crate) reserved: u32,
    /// The monomorphised loop over chunks.
    pub(crate) driver: u64,
    /// The user's kernel.
    pub(crate) kernel: u64,
    /// The user's initial accumulator, of `fold`.
    pub(crate) init: u64,
    /// Rows that are cut.
    pub(crate) rows: u64,
    /// Rows of a chunk.
    pub(crate) rows_per_chunk: u64,
    /// Key of the random numbers.
    pub(crate) seed: u64,
    /// How long a chunk may take, nanoseconds; 0 without a limit. Enforced by the coordinator, named in the error.
    pub(crate) chunk_timeout_ns: u64,
    /// Length of the encoded arguments.
    pub(crate) args_len: u64,
    /// Their checksum.
    pub(crate) args_checksum: u64,
    /// Where they are when they do not fit inline.
    pub(crate) args: SegmentRef,
    /// One u64 per chunk.
    pub(crate) ledger: SegmentRef,
    /// One [`crate::partial::Partial`] per chunk; zero when the phase has no values.
    pub(crate) partials: SegmentRef,
    /// Barrier and mutex of a team; zero otherwise.
    pub(crate) team: SegmentRef,
    /// The arrays.
    pub(crate) operands: [OperandRef; OPERANDS_MAX],
    /// Encoded arguments that fit.
    pub(crate) args_inline: ArgsInline,
}

/// Room for short arguments.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ArgsInline(pub(crate) [u8; ARGS_INLINE_BYTES]);

// SAFETY: an array of bytes has no padding and every pattern is valid.
unsafe impl Zeroable for ArgsInline {}
// SAFETY: as above; bytemuck implements Pod itself only for lengths it lists.
unsafe impl Pod for ArgsInline {}

impl Descriptor {
    /// The arrays in use; at most [`OPERANDS_MAX`] whatever the record says.
    pub(crate) fn operands(&self) -> &[OperandRef] {
        &self.operands[..(self.operand_count as usize).min(OPERANDS_MAX)]
    }

    /// True when `bit` of [`flag`] is set.
    pub(crate) fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }
}
