//! What one process tells another about a segment: enough to map it, and to know that it is the right one.

use bytemuck::{Pod, Zeroable};

use crate::limits::NAME_MAX;

/// A segment as it travels in shared memory: plain data, checked by whoever attaches.
#[repr(C)]
#[derive(Pod, Zeroable, Copy, Clone, PartialEq, Eq, Debug)]
pub struct SegmentRef {
    /// Identity in the session, never reused.
    pub id: u64,
    /// Inode.
    pub ino: u64,
    /// Device.
    pub dev: u64,
    /// Length in bytes.
    pub len: u64,
    /// The coordinator's descriptor.
    pub fd: i32,
    /// 1 when it has a name.
    pub named: u32,
    /// The name, padded with zeros.
    pub name: [u8; NAME_MAX],
}

const _: () = assert!(size_of::<SegmentRef>() == 104);

impl SegmentRef {
    /// From its parts; an empty name is none.
    pub fn new(id: u64, (dev, ino): (u64, u64), len: u64, fd: i32, name: &str) -> SegmentRef {
        SegmentRef { id, ino, dev, len, fd, named: u32::from(!name.is_empty()), name: padded(name) }
    }

    /// The name, if it has one that is text.
    pub fn name(&self) -> Option<&str> {
        (self.named == 1).then(|| text_of(&self.name)).flatten()
    }
}

/// The text before the padding.
pub(crate) fn text_of(name: &[u8; NAME_MAX]) -> Option<&str> {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_MAX);
    std::str::from_utf8(&name[..end]).ok()
}

/// Pads a name that has been validated.
pub(crate) fn padded(name: &str) -> [u8; NAME_MAX] {
    let mut bytes = [0; NAME_MAX];
    let len = name.len().min(NAME_MAX);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_come_back() {
        for len in [1, 63, 64] {
            let name = "n".repeat(len);
            assert_eq!(text_of(&padded(&name)), Some(name.as_str()));
        }
    }
}
