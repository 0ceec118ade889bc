//! The operations of swath, one file per family.

use crate::scenario::Case;

/// Every operation in every scenario, in the order of the report.
pub(crate) fn all() -> Vec<Case> {
    Vec::new()
}

/// A process that a victim started by executing ourselves (its guardian) does its work here and does not return.
pub(crate) fn become_helper_process() {}
