//! What ended a party: the wait status of its process, by name.

use std::fmt;

/// A wait status as the kernel packs it (`exit code << 8`, or the signal's number, + 128 with a core dump).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct DeathCause(pub u32);

impl DeathCause {
    /// The party is known to be dead, its exit status is not known (yet).
    pub const UNKNOWN: Self = Self(u32::MAX);

    /// The process ended by `exit(code)`.
    pub const fn exit(code: u8) -> Self {
        Self((code as u32) << 8)
    }

    /// The process was ended by a signal.
    pub const fn killed_by(signal: i32) -> Self {
        Self(signal as u32 & 0x7F)
    }

    /// The exit code, if the process ended by itself.
    pub const fn code(self) -> Option<i32> {
        if self.0 != u32::MAX && self.0 & 0x7F == 0 { Some((self.0 >> 8 & 0xFF) as i32) } else { None }
    }

    /// The signal's number, if one ended the process.
    pub const fn signal(self) -> Option<i32> {
        if self.0 != u32::MAX && self.0 & 0x7F != 0 { Some((self.0 & 0x7F) as i32) } else { None }
    }
}

impl fmt::Display for DeathCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit {code}"),
            (None, Some(signal)) => f.write_str(&swath_platform::signal::name(signal)),
            (None, None) => f.write_str("cause not known yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_happened() {
        let texts = [
            (DeathCause::exit(0), "exit 0"),
            (DeathCause::exit(255), "exit 255"),
            (DeathCause::killed_by(9), "SIGKILL"),
            (DeathCause(11 | 0x80), "SIGSEGV"),
            (DeathCause::killed_by(40), "signal 40"),
            (DeathCause::UNKNOWN, "cause not known yet"),
        ];
        for (cause, text) in texts {
            assert_eq!(cause.to_string(), text);
        }
        assert_eq!(DeathCause::exit(3).code(), Some(3));
        assert_eq!(DeathCause::killed_by(9).signal(), Some(9));
        assert_eq!(DeathCause::UNKNOWN.code().or(DeathCause::UNKNOWN.signal()), None);
    }
}
