//! Line numbers, found by counting when somebody asks for one.

use super::error::Error;
use super::input;
use super::plan::{Plan, Source};
use std::fs::File;
use std::os::unix::fs::FileExt;

const WINDOW: usize = 128 << 10;

/// Counts line breaks forwards; asked in the order of the input, it reads every file once.
pub(crate) struct Lines<'p> {
    plan: &'p Plan,
    open: Option<(u32, File)>,
    /// Up to where line breaks have been counted.
    at: u64,
    breaks: u64,
    buffer: Vec<u8>,
}

impl<'p> Lines<'p> {
    pub(crate) fn new(plan: &'p Plan) -> Lines<'p> {
        Lines { plan, open: None, at: 0, breaks: 0, buffer: vec![0; WINDOW] }
    }

    /// The line of a place, counted from 1. Line breaks inside quoted fields count, as they do in an editor.
    pub(crate) fn line(&mut self, file: u32, place: u64) -> Result<u64, Error> {
        let source = self.source(file);
        if self.open.as_ref().is_none_or(|(number, _)| *number != file) || place < self.at {
            self.open = Some((file, input::open(source)?));
            (self.at, self.breaks) = (0, 0);
        }
        let (_, opened) = self.open.as_ref().expect("opened above");
        while self.at < place {
            let length = self.buffer.len().min((place - self.at) as usize);
            let text = &mut self.buffer[..length];
            opened.read_exact_at(text, self.at).map_err(Error::io(&source.name, "read it"))?;
            self.breaks += memchr::memchr_iter(b'\n', text).count() as u64;
            self.at += length as u64;
        }
        Ok(1 + self.breaks)
    }

    /// Bytes of a file.
    pub(crate) fn text(&self, file: u32, at: u64, length: u64) -> Result<Vec<u8>, Error> {
        let source = self.source(file);
        let mut text = vec![0; length as usize];
        input::open(source)?.read_exact_at(&mut text, at).map_err(Error::io(&source.name, "read it"))?;
        Ok(text)
    }

    fn source(&self, file: u32) -> &'p Source {
        &self.plan.sources[file as usize]
    }
}
