//! Why a barrier did not let somebody pass.

use super::Barrier;
use super::words::{Phase, State};
use crate::atomics::Ordering;
use crate::death::DeathCause;
use crate::owner::Owner;
use crate::slots::{Liveness, SlotId, SlotTable};

/// The fields of the fault word above the party's 22 bits.
const FAULT_PID_SHIFT: u32 = 22;
const FAULT_CAUSE_SHIFT: u32 = 44;
const FAULT_CAUSE_KNOWN: u64 = 1 << 16;

/// Why a barrier did not let somebody pass.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BarrierError {
    /// A party died.
    #[error("the barrier is broken: slot {} (pid {pid}) died ({cause})", slot.index)]
    Broken {
        /// Which party.
        slot: SlotId,
        /// Its process.
        pid: u32,
        /// What ended it; [`DeathCause::UNKNOWN`] while only the kernel's mark tells.
        cause: DeathCause,
    },
    /// This party's deadline passed, or another's: then the barrier is closed for all. [`Barrier::missing`] names who had
    /// not come.
    #[error("not all parties came to the barrier in time")]
    TimedOut,
    /// Somebody called [`Barrier::abort`], or reset it while others were waiting, or panicked in its action.
    #[error("the barrier was aborted")]
    Aborted,
    /// The caller is none of the barrier's parties.
    #[error("slot {} (generation {}) is not a party of this barrier", slot.index, slot.generation)]
    NotAParty {
        /// The caller.
        slot: SlotId,
    },
}

impl Barrier {
    /// B6, first half: the dead one's name, once; the first to write it is believed.
    pub(super) fn blame(&self, table: &SlotTable, dead: SlotId) {
        let cause = match table.liveness(dead) {
            Liveness::Dead(cause) if cause != DeathCause::UNKNOWN => {
                FAULT_CAUSE_KNOWN | u64::from(cause.0 & 0xFFFF)
            }
            _ => 0,
        };
        let holder = Owner::new(dead, 0);
        let fault = u64::from(holder.bits())
            | u64::from(table.holder(holder).pid) << FAULT_PID_SHIFT
            | cause << FAULT_CAUSE_SHIFT;
        let _ = self.head.fault.compare_exchange(0, fault, Ordering::AcqRel, Ordering::Relaxed);
    }

    #[cold]
    pub(super) fn error(&self, phase: Phase, table: &SlotTable) -> BarrierError {
        match phase.state() {
            State::Broken => {
                let fault = self.head.fault.load(Ordering::Acquire);
                let owner = Owner::of_word((fault & ((1 << FAULT_PID_SHIFT) - 1)) as u32);
                let Some(slot) = owner.map(Owner::slot) else { return BarrierError::Aborted };
                let pid = (fault >> FAULT_PID_SHIFT & ((1 << 22) - 1)) as u32;
                let noted = fault >> FAULT_CAUSE_SHIFT;
                let cause = match table.liveness(slot) {
                    Liveness::Dead(cause) => cause,
                    _ if noted & FAULT_CAUSE_KNOWN != 0 => DeathCause((noted & 0xFFFF) as u32),
                    _ => DeathCause::UNKNOWN,
                };
                BarrierError::Broken { slot, pid, cause }
            }
            State::GivenUp => BarrierError::TimedOut,
            _ => BarrierError::Aborted,
        }
    }
}
