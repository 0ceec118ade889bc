//! Stand-in for `swath_segment::SegmentRef` until that crate has it; same bytes.

use bytemuck::{Pod, Zeroable};

/// See the segment crate.
#[derive(Copy, Clone, PartialEq, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SegmentRef {
    pub id: u64,
    pub ino: u64,
    pub dev: u64,
    pub len: u64,
    pub fd: i32,
    pub named: u32,
    pub name: [u8; 64],
}
