//! What a turn needs before its first kernel: arrays, undo slot, partials, arguments. Once per turn, with a claim in hand.

use std::slice;

use serde::de::DeserializeOwned;

use super::Turn;
use crate::cause::{Fault, What};
use crate::checksum::checksum;
use crate::descriptor::flag;
use crate::freight;
use crate::locked::{self, Site};
use crate::operand::Bound;
use crate::partial::Partial;
use crate::undo;

impl<'t> Turn<'t> {
    /// Attaches arrays, undo slot and partials, and decodes the arguments.
    pub(crate) fn prepare<A: DeserializeOwned>(
        &mut self,
        arrays: usize,
        check: fn(&[Bound]) -> Result<(), swath_array::Error>,
    ) -> Result<A, Fault> {
        self.prepare_memory()?;
        if self.bound.len() < arrays {
            return Err(What::setup("the phase names fewer arrays than its kernel takes"));
        }
        check(&self.bound).map_err(|e| What::setup(e.to_string()))?;
        self.args()
    }

    /// As `prepare`, for phases without arrays whose arguments are not one encoded value.
    pub(crate) fn prepare_bytes(&mut self) -> Result<&'t [u8], Fault> {
        self.prepare_memory()?;
        self.arg_bytes()
    }

    fn prepare_memory(&mut self) -> Result<(), Fault> {
        if self.hand.arena_epoch != self.descriptor.epoch {
            self.hand.arena.clear().map_err(|e| What::setup(format!("its arena: {e}")))?;
            self.hand.arena_epoch = self.descriptor.epoch;
        }
        self.bind().map_err(What::setup)
    }

    fn bind(&mut self) -> Result<(), String> {
        let strict = self.descriptor.has(flag::STRICT_INPUTS);
        for operand in self.descriptor.operands() {
            let mode = operand.mode().ok_or("an operand of an unknown kind")?;
            if strict && !mode.writes() {
                self.hand.attach.make_read_only(&operand.array.segment);
            }
            let base = self.hand.attach.get(&operand.array.segment, mode.writes())?;
            self.bound.push(Bound::new(operand.array, mode, base));
        }
        self.bind_undo()?;
        if self.descriptor.partials.id != 0 {
            let table = &self.descriptor.partials;
            if table.len < (self.geometry.chunks() * size_of::<Partial>()) as u64 {
                return Err("the table of partials is shorter than its phase".into());
            }
            self.partials = self.hand.attach.get(table, true)?.cast();
        }
        Ok(())
    }

    fn bind_undo(&mut self) -> Result<(), String> {
        let locked = self.bound.iter().any(Bound::is_locked);
        if !locked && !self.descriptor.has(flag::UNDO) {
            return Ok(());
        }
        let slot = self.cell().undo();
        let rows = undo::bytes(&self.bound, self.geometry.rows_per_chunk());
        if rows.saturating_add(locked::bytes(&self.bound)) as u64 > slot.len {
            return Err("the undo slot is too small".into());
        }
        self.undo = self.hand.attach.get(&slot, true)?;
        if locked {
            let (board, epoch) = (self.hand.board, self.descriptor.epoch);
            let copy = self.undo.wrapping_add(rows);
            let site = Box::new(Site::new(board, self.hand.index, epoch, &self.bound, copy));
            for operand in self.bound.iter_mut().filter(|b| b.is_locked()) {
                operand.site = &raw const *site;
            }
            self.site = Some(site);
        }
        Ok(())
    }

    fn args<A: DeserializeOwned>(&mut self) -> Result<A, Fault> {
        freight::unpack(self.arg_bytes()?).map_err(|e| What::undecodable("its arguments", e))
    }

    fn arg_bytes(&mut self) -> Result<&'t [u8], Fault> {
        let (descriptor, len) = (self.descriptor, self.descriptor.args_len as usize);
        let bytes: &'t [u8] = match descriptor.args_inline.0.get(..len) {
            Some(inline) => inline,
            None => {
                let segment = &descriptor.args;
                if segment.len < len as u64 {
                    return Err(What::setup("the arguments are longer than their segment"));
                }
                let base = self.hand.attach.get(segment, false).map_err(What::setup)?;
                // SAFETY: in bounds by the check above; the coordinator wrote it before it published the phase, and does
                // not change it while a claim is held; mappings stay until `retire`, which happens between turns.
                unsafe { slice::from_raw_parts(base, len) }
            }
        };
        if checksum(bytes) != descriptor.args_checksum {
            return Err(What::setup("the arguments did not arrive whole"));
        }
        Ok(bytes)
    }
}
