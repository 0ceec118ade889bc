//! A phase, checked and ready to run: what both kinds of pool are given.

use crate::descriptor::flag;
use crate::error::{ErrorKind, Result};
use crate::geometry::Geometry;
use crate::limits::OPERANDS_MAX;
use crate::operand::{Bound, Described};
use crate::settings::Settings;
use crate::team::Meeting;
use crate::{locked, undo};

/// A phase, ready to run.
pub(crate) struct Plan<'p> {
    pub(crate) settings: Settings<'p>,
    pub(crate) operands: Vec<Described<'p>>,
    pub(crate) geometry: Geometry,
    pub(crate) driver: u64,
    pub(crate) kernel: u64,
    pub(crate) init: u64,
    pub(crate) args: Vec<u8>,
    /// Chunks have values.
    pub(crate) values: bool,
    /// Chunks of a map say how long they took.
    pub(crate) measure: bool,
    /// Where a team's members meet.
    pub(crate) team: Option<Meeting>,
}

impl Plan<'_> {
    /// The team's segment by id, for inline pools.
    pub(crate) fn team_base(&self) -> Option<(u64, *mut u8)> {
        self.team.as_ref().map(|meeting| (meeting.segment().id, meeting.base()))
    }
}

/// A team's arrays are never restored: no part of its work can be run again.
fn needs_undo(plan: &Plan<'_>) -> bool {
    plan.team.is_none() && bound_of(&plan.operands).iter().any(Bound::is_updated)
}

/// Bytes of undo slot per worker; 0 when nothing is undone.
pub(crate) fn undo_bytes(plan: &Plan<'_>) -> usize {
    if plan.team.is_some() {
        return 0;
    }
    let bound = bound_of(&plan.operands);
    undo::bytes(&bound, plan.geometry.rows_per_chunk()).saturating_add(locked::bytes(&bound))
}

/// The operands in the coordinator's own mapping.
pub(crate) fn bound_of(operands: &[Described<'_>]) -> Vec<Bound> {
    operands.iter().map(|o| Bound::new(o.array, o.mode, o.base)).collect()
}

/// Errors that no worker is needed for.
pub(crate) fn check(operands: &[Described<'_>]) -> Result<()> {
    if operands.len() > OPERANDS_MAX {
        return Err(
            ErrorKind::Shape.with(format!("{} arrays; a phase has at most {OPERANDS_MAX}", operands.len()))
        );
    }
    for operand in operands {
        if let Some(refused) = &operand.refused {
            let name =
                operand.name.map_or_else(|| "an unnamed array".to_owned(), |name| format!("array `{name}`"));
            return Err(ErrorKind::Memory.with(format!("{name}: {refused}")));
        }
        if operand.mode.writes() && operand.array.is_read_only() {
            return Err(
                ErrorKind::Memory.with("an array that was opened read-only cannot be written by a phase")
            );
        }
    }
    Ok(())
}

/// The bits of a descriptor.
pub(super) fn flags(plan: &Plan<'_>, strict_inputs: bool) -> u32 {
    let check = cfg!(debug_assertions) || std::env::var_os("SWATH_CHECK").is_some_and(|v| v == "1");
    let mut flags = 0;
    for (set, bit) in [
        (needs_undo(plan), flag::UNDO),
        (check && plan.team.is_none() && !plan.settings.keeping_values, flag::CHECK),
        (plan.settings.keep_going, flag::KEEP_GOING),
        (strict_inputs, flag::STRICT_INPUTS),
        (plan.team.is_some(), flag::TEAM),
        (plan.measure, flag::MEASURE),
    ] {
        flags |= if set { bit } else { 0 };
    }
    flags
}

/// Contiguous and even: worker `index` of `workers` begins with chunks `lo..hi`.
pub(crate) fn share(chunks: usize, workers: usize, index: usize) -> (u32, u32) {
    let border = |i: usize| (chunks as u128 * i as u128 / workers as u128) as u32;
    (border(index), border(index + 1))
}
