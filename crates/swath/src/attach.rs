//! How whoever runs kernels reaches a segment: a worker attaches it, an inline pool has it already.

use swath_segment::{Attachments, Mode, SegmentRef};

/// Access to the segments that a phase names.
pub(crate) enum Attach {
    /// A worker process.
    Process {
        /// Its cache of mappings.
        cache: Attachments,
        /// Where to look for unnamed segments.
        coordinator: u32,
    },
    /// The coordinator itself, for an inline pool: segment ids and where they are mapped.
    Inline(Vec<(u64, *mut u8)>),
}

impl Attach {
    /// The start of the mapping of `segment`, which stays until [`Attach::retire`] at least.
    pub(crate) fn get(&mut self, segment: &SegmentRef, writable: bool) -> Result<*mut u8, String> {
        match self {
            Attach::Process { cache, coordinator } => {
                let mode = if writable { Mode::ReadWrite } else { Mode::ReadOnly };
                cache.get(segment, mode, *coordinator).map_err(|error| error.to_string())
            }
            Attach::Inline(known) => {
                let found = known.iter().find(|(id, _)| *id == segment.id);
                found
                    .map(|(_, base)| *base)
                    .ok_or_else(|| format!("segment {} is not known here", segment.id))
            }
        }
    }

    /// Unmaps what the coordinator has retired, before a phase.
    pub(crate) fn retire(&mut self) {
        if let Attach::Process { cache, .. } = self {
            cache.drop_retired();
        }
    }

    /// Drops writable mappings of `segment`, so that a stray write into an input is only its writer's death.
    pub(crate) fn make_read_only(&mut self, segment: &SegmentRef) {
        if let Attach::Process { cache, .. } = self {
            cache.drop_writable_alias(segment.id);
        }
    }
}
