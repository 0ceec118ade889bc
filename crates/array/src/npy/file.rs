//! A `.npy` file whose header was read and whose length was compared with what the header says.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Header, read_header};
use crate::Error;

/// An open file and its checked header.
pub(crate) struct NpyFile {
    pub(crate) file: File,
    /// How errors call it.
    pub(crate) object: String,
    pub(crate) header: Header,
}

impl NpyFile {
    /// Opens and checks; a link is followed, as users of files expect.
    pub(crate) fn open(path: &Path, writable: bool) -> Result<NpyFile, Error> {
        let object = path.display().to_string();
        let failed = |source| Error::Io { operation: "open", object: object.clone(), source };
        // Asked before opening too: opening a FIFO would wait for its writer.
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(failed(not_regular()));
        }
        let file = File::options().read(true).write(writable).open(path).map_err(failed)?;
        NpyFile::check(file, object)
    }

    /// Reads the header of an open file and checks that all the data is there.
    pub(crate) fn check(mut file: File, object: String) -> Result<NpyFile, Error> {
        let failed = |source| Error::Io { operation: "read", object: object.clone(), source };
        let wrong = |source| Error::Npy { object: object.clone(), source };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(not_regular()));
        }
        let header = read_header(&mut file).map_err(failed)?.map_err(wrong)?;
        header.expect_data(metadata.len()).map_err(wrong)?;
        Ok(NpyFile { file, object, header })
    }

    /// Reads the data; `into` has as many bytes as the header's extent.
    pub(crate) fn read_data(&mut self, into: &mut [u8]) -> Result<(), Error> {
        let failed = |source| Error::Io { operation: "read", object: self.object.clone(), source };
        self.file.seek(SeekFrom::Start(self.header.data_offset as u64)).map_err(failed)?;
        self.file.read_exact(into).map_err(failed)
    }
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}
