//! Reading the bytes of a planned file, and noticing when it is no longer the planned file.
//!
//! Files are read with `pread` into private memory and never mapped: reading behind the end of a file that has shrunk
//! gives a short count, which becomes an error with a name, where a mapping would give SIGBUS.

use super::error::Error;
use super::plan::Source;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The files of a plan, each opened when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    files: Vec<Option<File>>,
}

impl Inputs {
    /// Fills `buffer` with the bytes of file `number` from `offset` on.
    pub(crate) fn read(
        &mut self,
        sources: &[Source],
        number: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        self.files.resize_with(self.files.len().max(number + 1), || None);
        let source = &sources[number];
        let file = match &mut self.files[number] {
            Some(file) => file,
            closed => closed.insert(open(source)?),
        };
        read_exactly(file, source, offset, buffer)
    }
}

fn read_exactly(file: &File, source: &Source, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Error> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => {
                return Err(changed(source, format!("it ends at byte {offset}, expected {}", source.len)));
            }
            Ok(count) => {
                offset += count as u64;
                buffer = &mut buffer[count..];
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(&source.name, "read it")(error)),
        }
    }
    Ok(())
}

/// Opens a planned file, if it still is that file.
pub(crate) fn open(source: &Source) -> Result<File, Error> {
    let file = File::open(&source.path).map_err(Error::io(&source.name, "open it"))?;
    check(source, &file.metadata().map_err(Error::io(&source.name, "examine it"))?)?;
    Ok(file)
}

/// Whether every file still is what was planned; asked once more when all has been read.
pub(crate) fn unchanged(sources: &[Source]) -> Result<(), Error> {
    sources.iter().try_for_each(|source| open(source).map(drop))
}

fn check(source: &Source, now: &Metadata) -> Result<(), Error> {
    if now.len() != source.len {
        return Err(changed(source, format!("it has {} bytes, expected {}", now.len(), source.len)));
    }
    if modified(now) != source.modified {
        return Err(changed(source, "it was written to".to_owned()));
    }
    Ok(())
}

/// Seconds and nanoseconds.
pub(crate) fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// The metadata of something that has bytes at positions.
pub(crate) fn regular(name: &Path, file: &File) -> Result<Metadata, Error> {
    let metadata = file.metadata().map_err(Error::io(name, "examine it"))?;
    if metadata.is_file() { Ok(metadata) } else { Err(Error::NotAFile { path: name.to_owned() }) }
}

fn changed(source: &Source, what: String) -> Error {
    Error::Changed { path: source.name.clone(), what }
}
