//! Names: what users may choose, and the unguessable ones that we make.
//!
//! | file in `/dev/shm` | what |
//! |--|--|
//! | `swath-<uid>-<id>.lock` | a session: its lock and control segment |
//! | `swath-<uid>-<id>-<n>.new` | segment `n` while it is being made; nobody attaches to it |
//! | `swath-<uid>-<id>-<n>` | segment `n`, when the user chose no name |
//!
//! `<id>` is 128 random bits in base32.

use std::path::{Path, PathBuf};

use swath_platform::file;

use crate::error::{Error, Result};
use crate::limits::NAME_MAX;

/// Where POSIX shared memory lives on Linux.
pub const SHM_DIR: &str = "/dev/shm";

/// Characters of a session id.
pub(crate) const ID_LEN: usize = 26;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A session's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SessionId(String);

impl SessionId {
    pub(crate) fn random() -> Result<SessionId> {
        let mut bytes = [0; 16];
        file::random(&mut bytes).map_err(|e| Error::system("getrandom", "session id", e))?;
        Ok(SessionId::from_bits(u128::from_le_bytes(bytes)))
    }

    fn from_bits(mut bits: u128) -> SessionId {
        let mut text = String::with_capacity(ID_LEN);
        for _ in 0..ID_LEN {
            text.push(ALPHABET[(bits & 31) as usize] as char);
            bits >>= 5;
        }
        SessionId(text)
    }

    pub(crate) fn parse(text: &str) -> Option<SessionId> {
        let fits = text.len() == ID_LEN && text.bytes().all(|byte| ALPHABET.contains(&byte));
        fits.then(|| SessionId(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn lock_name(&self, uid: u32) -> String {
        format!("swath-{uid}-{}.lock", self.0)
    }

    /// The name of segment `sequence` when the user chose none.
    pub(crate) fn segment_name(&self, uid: u32, sequence: u64) -> String {
        format!("swath-{uid}-{}-{sequence}", self.0)
    }

    /// The name of segment `sequence` while it is being made.
    pub(crate) fn unfinished_name(&self, uid: u32, sequence: u64) -> String {
        format!("swath-{uid}-{}-{sequence}.new", self.0)
    }
}

/// The id in the name of a lock file; the uid in it is only decoration (user namespaces), the file's owner counts.
pub(crate) fn parse_lock_name(name: &str) -> Option<SessionId> {
    let (uid, id) = name.strip_prefix("swath-")?.strip_suffix(".lock")?.split_once('-')?;
    let numeric = !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_digit());
    numeric.then(|| SessionId::parse(id)).flatten()
}

/// The path of a segment or lock file.
pub fn shm_path(name: &str) -> PathBuf {
    Path::new(SHM_DIR).join(name)
}

/// Whether a segment can have this name; no system call is made.
pub fn validate(name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "it has more than 64 bytes"
    } else if name.contains('\0') {
        "it contains a NUL"
    } else if name.contains('/') {
        "it contains a slash"
    } else if name == "." || name == ".." {
        "it means a directory"
    } else if parse_lock_name(name).is_some() {
        "it has the form of a session's lock file"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { name: name.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_all_bits_and_names_fit() {
        let ids: std::collections::HashSet<_> = (0..128).map(|bit| SessionId::from_bits(1 << bit)).collect();
        assert_eq!(ids.len(), 128);
        let id = SessionId::random().unwrap();
        assert_eq!(parse_lock_name(&id.lock_name(u32::MAX)), Some(id.clone()));
        assert!(id.unfinished_name(u32::MAX, 1 << 32).len() <= NAME_MAX);
        assert_eq!(parse_lock_name(&id.segment_name(0, 1)), None);
        for foreign in ["swath-0-short.lock", "swath--x.lock", "swath-0x-aaaaaaaaaaaaaaaaaaaaaaaaaa.lock", ""]
        {
            assert_eq!(parse_lock_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names_are_judged_before_any_call() {
        let long = "x".repeat(65);
        let lock = SessionId::from_bits(7).lock_name(0);
        for bad in ["", ".", "..", "a/b", "/a", "a\0b", &long, &lock] {
            assert!(matches!(validate(bad), Err(Error::InvalidName { .. })), "{bad:?}");
        }
        for good in ["a", "field", "Grüße", &"x".repeat(64), "...", "swath-mine"] {
            validate(good).unwrap();
        }
    }
}
