//! Frames: what goes over a connection, in both directions. A head of fixed size, then as many bytes as it says.
//!
//! Whoever receives one believes nothing: memory is taken as bytes arrive, never for a length that was only announced.

use std::io;
use std::time::Instant;

use bytemuck::{Pod, Zeroable};
use swath_platform::stream::Stream;

/// What a frame is for.
pub(crate) mod verb {
    /// To the server: who connects, and that it may.
    pub(crate) const HELLO: u64 = u64::from_le_bytes(*b"swathmg1");
    /// To the server: makes an object.
    pub(crate) const MAKE: u64 = 1;
    /// To the server: steps on an object, all in one turn.
    pub(crate) const CALL: u64 = 2;
    /// To the server: the same on a poisoned one, which then is whole again.
    pub(crate) const REPAIR: u64 = 3;
    /// To the server: forgets an object.
    pub(crate) const REMOVE: u64 = 4;
    /// To the server: what there is.
    pub(crate) const STATS: u64 = 5;
    /// To the server: it ends.
    pub(crate) const END: u64 = 6;
    /// To the client: done.
    pub(crate) const DONE: u64 = 100;
    /// To the client: not done; the body says why.
    pub(crate) const REFUSED: u64 = 101;
}

/// What stands before every body.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct Head {
    /// Bytes of the body.
    pub(crate) len: u64,
    /// See [`verb`].
    pub(crate) verb: u64,
    /// Which object; 0 where none is meant.
    pub(crate) object: u64,
}

pub(crate) const HEAD_BYTES: usize = size_of::<Head>();

/// Room for more bytes is made in steps of this size at first, then by doubling.
const ROOM_BYTES: usize = 64 << 10;

/// A frame that is being written: its head is filled in at the end.
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    pub(crate) fn new() -> Frame {
        Frame(vec![0; HEAD_BYTES])
    }

    pub(crate) fn with(body: &[u8]) -> Frame {
        let mut frame = Frame::new();
        frame.0.extend_from_slice(body);
        frame
    }

    /// What follows the head.
    pub(crate) fn body(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    pub(crate) fn len(&self) -> u64 {
        (self.0.len() - HEAD_BYTES) as u64
    }

    /// The whole, ready to be sent.
    pub(crate) fn seal(mut self, verb: u64, object: u64) -> Vec<u8> {
        let head = Head { len: self.len(), verb, object };
        self.0[..HEAD_BYTES].copy_from_slice(bytemuck::bytes_of(&head));
        self.0
    }
}

/// Receives a frame whose body has at most `most` bytes. `None`: the other end was closed before its first byte.
///
/// # Errors
/// As of [`Stream::recv`]; `UnexpectedEof` in the middle of a frame; `InvalidData` if it would be longer, its length then being in the
/// error's text; `OutOfMemory`.
pub(crate) fn receive(
    stream: &Stream,
    most: u64,
    deadline: Option<Instant>,
) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut head = Head::default();
    let mut filled = 0;
    let room = bytemuck::bytes_of_mut(&mut head);
    while filled < HEAD_BYTES {
        match stream.recv(&mut room[filled..], deadline)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            received => filled += received,
        }
    }
    let Some(len) = usize::try_from(head.len).ok().filter(|_| head.len <= most) else {
        let text = format!("a body of {} bytes was announced, at most {most} are taken", head.len);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    };
    let mut body = Vec::new();
    let mut filled = 0;
    while filled < len {
        if filled == body.len() {
            let room = len.min((2 * filled).max(ROOM_BYTES));
            let none = |_| io::Error::new(io::ErrorKind::OutOfMemory, format!("no memory for {len} bytes"));
            body.try_reserve_exact(room - filled).map_err(none)?;
            body.resize(room, 0);
        }
        match stream.recv(&mut body[filled..], deadline)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            received => filled += received,
        }
    }
    Ok(Some((head, body)))
}

/// Runs of bytes, one after the other, each with its length before it.
pub(crate) fn put_run(out: &mut Vec<u8>, run: &[u8]) {
    out.extend_from_slice(&(run.len() as u64).to_le_bytes());
    out.extend_from_slice(run);
}

/// Takes eight bytes off the beginning.
pub(crate) fn take_word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*word))
}

/// The inverse of [`put_run`]; takes it off the beginning.
pub(crate) fn take_run<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_word(rest)?).ok()?;
    let (run, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(run)
}
