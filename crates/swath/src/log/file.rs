//! The file that a process appends its records to, a line each.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::record::Record;

/// `NAME-PID.log` in the directory that the pool was given; NAME is the program's.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: PathBuf,
    failed: AtomicBool,
}

impl LogFile {
    /// The file of process `pid`; without it the process works all the same, and says why on its standard error.
    pub(super) fn open(directory: &Path, pid: u32) -> Option<LogFile> {
        let program = std::env::current_exe().ok();
        let name = program.as_deref().and_then(Path::file_name).unwrap_or("swath".as_ref()).to_string_lossy();
        // What the kernel says of a program that was built anew meanwhile.
        let name = name.trim_end_matches(" (deleted)");
        let path = directory.join(format!("{name}-{pid}.log"));
        match File::options().append(true).create(true).open(&path) {
            Ok(file) => Some(LogFile { file, path, failed: AtomicBool::new(false) }),
            Err(error) => {
                eprintln!("swath process {pid}: {}: {error}", path.display());
                None
            }
        }
    }

    /// One line, by one `write`: there even if the process is killed after it.
    pub(super) fn append(&self, record: &Record<'_>) {
        let line = format!("{} {}\n", timestamp(record.time_ns), record.to_line());
        if let Err(error) = (&self.file).write_all(line.as_bytes())
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            eprintln!("swath process {}: {}: {error}; said once", record.pid, self.path.display());
        }
    }
}

/// Nanoseconds since 1970 as RFC 3339 has them, in UTC.
fn timestamp(time_ns: u64) -> String {
    let (seconds, nanos) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar from a day's number, in years that begin in March (Hinnant, "chrono-Compatible Low-Level Date
    // Algorithms", 2013): 146,097 days are 400 years.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn dates_are_right() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_399_000_000_001), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(timestamp(951_827_696_000_000_000), "2000-02-29T12:34:56.000000000Z");
        assert_eq!(timestamp(1_767_225_600_000_000_000), "2026-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
    }
}
