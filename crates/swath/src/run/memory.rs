//! Memory that phases of a pool use again and again: the ledger, the table of partials, long arguments.

use std::sync::atomic::AtomicU64;

use bytemuck::Zeroable;
use swath_segment::{Segment, SegmentRef};

use super::plan::{Plan, flags};
use crate::board;
use crate::checksum::checksum;
use crate::descriptor::{Descriptor, OperandRef};
use crate::error::Result;
use crate::limits::ARGS_INLINE_BYTES;
use crate::partial::Partial;
use crate::team::Meeting;

/// Memory that phases of a pool use again and again.
#[derive(Default)]
pub(crate) struct Memory {
    ledger: Option<Segment>,
    partials: Option<Segment>,
    args: Option<Segment>,
    sequence: u32,
}

impl Memory {
    /// A segment of at least `bytes`, the old one if it is large enough.
    fn at_least(slot: &mut Option<Segment>, label: &'static str, bytes: usize) -> Result<SegmentRef> {
        if slot.as_ref().is_none_or(|segment| segment.len() < bytes) {
            // The old one goes first: two of them may not fit.
            *slot = None;
            *slot = Some(Segment::options().unnamed(label).create(bytes.next_power_of_two().max(4096))?);
        }
        Ok(slot.as_ref().map_or_else(SegmentRef::zeroed, Segment::reference))
    }

    fn base(slot: &Option<Segment>) -> *mut u8 {
        slot.as_ref().map_or(std::ptr::null_mut(), |segment| segment.as_ptr())
    }

    /// Everything that `plan` needs, allocated before any chunk runs, and its descriptor.
    pub(crate) fn describe(&mut self, plan: &Plan<'_>, strict_inputs: bool) -> Result<Box<Descriptor>> {
        let chunks = plan.geometry.chunks();
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let mut d = board::blank();
        d.sequence = self.sequence;
        d.epoch = self.sequence;
        d.flags = flags(plan, strict_inputs);
        (d.driver, d.kernel, d.init) = (plan.driver, plan.kernel, plan.init);
        d.rows = plan.geometry.rows() as u64;
        d.rows_per_chunk = plan.geometry.rows_per_chunk() as u64;
        d.seed = plan.settings.seed;
        d.chunk_timeout_ns = plan.settings.chunk_timeout.map_or(0, |t| t.as_nanos() as u64);
        d.operand_count = plan.operands.len() as u32;
        for (to, operand) in d.operands.iter_mut().zip(&plan.operands) {
            *to = OperandRef::new(operand.array, operand.mode);
        }
        d.ledger = Memory::at_least(&mut self.ledger, "ledger", chunks * size_of::<AtomicU64>())?;
        if plan.values {
            d.partials = Memory::at_least(&mut self.partials, "partials", chunks * size_of::<Partial>())?;
        }
        d.team = plan.team.as_ref().map_or_else(SegmentRef::zeroed, Meeting::segment);
        self.put_args(&mut d, &plan.args)?;
        Ok(d)
    }

    fn put_args(&mut self, d: &mut Descriptor, args: &[u8]) -> Result<()> {
        (d.args_len, d.args_checksum) = (args.len() as u64, checksum(args));
        match d.args_inline.0.get_mut(..args.len()) {
            Some(room) => room.copy_from_slice(args),
            None => {
                debug_assert!(args.len() > ARGS_INLINE_BYTES);
                d.args = Memory::at_least(&mut self.args, "arguments", args.len())?;
                // SAFETY: the segment has room for them, is writable, and no phase is under way that could read it.
                unsafe { std::ptr::copy_nonoverlapping(args.as_ptr(), Memory::base(&self.args), args.len()) };
            }
        }
        Ok(())
    }

    /// The ledger's words.
    pub(crate) fn entries(&self) -> *const AtomicU64 {
        Memory::base(&self.ledger).cast_const().cast()
    }

    /// The table of partials.
    pub(crate) fn partials(&self) -> *const Partial {
        Memory::base(&self.partials).cast_const().cast()
    }

    /// Where this process has mapped what a descriptor names, for inline pools.
    pub(crate) fn known(&self) -> Vec<(u64, *mut u8)> {
        let all = [&self.ledger, &self.partials, &self.args];
        all.into_iter().flatten().map(|segment| (segment.reference().id, segment.as_ptr())).collect()
    }
}
