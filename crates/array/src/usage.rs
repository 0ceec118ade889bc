//! Which files this process has mapped, and how: the same bytes are never writable through one array while another array
//! of this process shows them.
//!
//! Rust's rules are about addresses, and the same file at two addresses would slip through them. Other processes are
//! beyond this: those of the same user are trusted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Device and inode.
type Identity = (u64, u64);

/// Readers of a file, or [`WRITER`].
static MAPPED: Mutex<BTreeMap<Identity, usize>> = Mutex::new(BTreeMap::new());

const WRITER: usize = usize::MAX;

/// The right to have a file mapped; given back when dropped.
#[derive(Debug)]
pub(crate) struct Usage {
    file: Identity,
}

impl Usage {
    /// `None` while another array of this process has the file mapped and one of the two would write.
    pub(crate) fn claim(file: Identity, writable: bool) -> Option<Usage> {
        let mut mapped = mapped();
        let users = match (mapped.get(&file), writable) {
            (None, true) => WRITER,
            (None, false) => 1,
            (Some(&WRITER), _) | (Some(_), true) => return None,
            (Some(&readers), false) => readers + 1,
        };
        mapped.insert(file, users);
        Some(Usage { file })
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        let mut mapped = mapped();
        match mapped.get_mut(&self.file) {
            Some(readers) if *readers != WRITER && *readers > 1 => *readers -= 1,
            _ => drop(mapped.remove(&self.file)),
        }
    }
}

fn mapped() -> MutexGuard<'static, BTreeMap<Identity, usize>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_or_many_readers() {
        let file = (u64::MAX, 1);
        let (one, two) = (Usage::claim(file, false), Usage::claim(file, false));
        assert!(one.is_some() && two.is_some() && Usage::claim(file, true).is_none());
        drop(one);
        assert!(Usage::claim(file, true).is_none());
        drop(two);
        let writer = Usage::claim(file, true);
        assert!(
            writer.is_some() && Usage::claim(file, false).is_none() && Usage::claim(file, true).is_none()
        );
        drop(writer);
        assert!(Usage::claim(file, false).is_some());
    }
}
