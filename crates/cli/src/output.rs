//! Where results go: standard output, or a file that appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Writes to a file, or to standard output if there is none.
pub(crate) fn write(
    path: Option<&Path>,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), String> {
    match path {
        Some(path) => replace(path, content).map_err(|error| format!("{}: {error}", path.display())),
        None => match print(content) {
            // Whoever reads our output has had enough of it: not our failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(|error| format!("standard output: {error}")),
        },
    }
}

/// Whether results that go to standard output are read by a person.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

fn print(content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    content(&mut out)?;
    out.flush()
}

/// Writes beside the file under another name, makes sure that it is on disk, and only then gives it its name.
fn replace(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    // A link stays a link; a device or a pipe is written to, not replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let mut out = BufWriter::new(File::options().write(true).open(&path)?);
        content(&mut out)?;
        return out.flush();
    }
    let directory = directory_of(&path);
    let permissions = path.metadata().map(|metadata| metadata.permissions());
    let file = new_file(&directory)?;
    let mut out = BufWriter::with_capacity(1 << 16, file.as_file());
    content(&mut out)?;
    out.flush()?;
    drop(out);
    if let Ok(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// With the permissions that any new file has, and removed if it is never given its name.
fn new_file(directory: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".swath-").suffix(".partial");
    builder.make_in(directory, |path| File::options().write(true).create_new(true).open(path))
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("answer.csv");
        fs::write(&path, "old").expect("a file");
        let failing = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        };
        assert!(write(Some(&path), failing).is_err());
        assert_eq!(fs::read_to_string(&path).expect("the old file"), "old");
        write(Some(&path), |out| out.write_all(b"new")).expect("it is written");
        assert_eq!(fs::read_to_string(&path).expect("the new file"), "new");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_device_is_not_replaced() {
        write(Some(Path::new("/dev/null")), |out| out.write_all(b"gone")).expect("it takes everything");
        assert!(!Path::new("/dev/null").metadata().expect("it is still there").is_file());
    }
}
