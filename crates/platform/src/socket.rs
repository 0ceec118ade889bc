//! Datagrams that carry an open file from one process to another.
//!
//! What has been sent waits in the receiver's queue, with the file, whatever becomes of its sender: unix(7), SCM_RIGHTS. The
//! address is an abstract one: it is in no file system, and goes with the receiver.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};

use crate::process;

/// Sends one file with `bytes` to whoever receives at `address`; waits while the receiver's queue is full.
///
/// # Errors
///
/// ECONNREFUSED: nobody receives there (any more). ETOOMANYREFS: too many files of this user are on their way. EMFILE.
pub fn send_file(address: &str, bytes: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&SocketAddr::from_abstract_name(address)?)?;
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let files = [file];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where files arrive.
#[derive(Debug)]
pub struct FileReceiver(UnixDatagram);

/// A datagram, as it was found in the queue.
#[derive(Debug)]
pub struct Received {
    /// Number of its bytes in the buffer.
    pub len: usize,
    /// `None`: this process has no descriptor left (EMFILE), and the kernel has dropped the file; or none was sent.
    pub file: Option<OwnedFd>,
}

impl FileReceiver {
    /// Receives at `address` from now on.
    ///
    /// # Errors
    ///
    /// The address is taken or too long; no descriptor left.
    pub fn bind(address: &str) -> io::Result<FileReceiver> {
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(address)?)?;
        socket.set_nonblocking(true)?;
        sockopt::set_socket_passcred(&socket, true)?;
        Ok(FileReceiver(socket))
    }

    /// The next datagram of this user's; others' are thrown away. `None`: there is none now.
    ///
    /// # Errors
    ///
    /// Those of recvmsg(2).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut room);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let found = recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, flags);
            let len = match found {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (mut file, mut ours) = (None, false);
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmRights(files) => file = files.last(),
                    RecvAncillaryMessage::ScmCredentials(sender) => {
                        ours = sender.uid.as_raw() == process::geteuid();
                    }
                    _ => {}
                }
            }
            if ours {
                return Ok(Some(Received { len, file }));
            }
        }
    }
}

impl AsFd for FileReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for FileReceiver {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    #[test]
    fn a_file_arrives_though_its_sender_has_let_go_of_it() {
        let address = format!("swath-test-{}", std::process::id());
        assert!(send_file(&address, b"", file::memfd("nobody").unwrap().as_fd()).is_err());
        let receiver = FileReceiver::bind(&address).unwrap();
        let mut buffer = [0; 16];
        assert!(receiver.receive(&mut buffer).unwrap().is_none());
        let sent = file::memfd("sent").unwrap();
        file::write_at(&sent, b"content", 0).unwrap();
        let identity = file::stat(&sent).unwrap().identity();
        send_file(&address, b"note", sent.as_fd()).unwrap();
        drop(sent);
        let Received { len, file } = receiver.receive(&mut buffer).unwrap().expect("one");
        assert_eq!(&buffer[..len], b"note");
        let file = file.expect("with its file");
        assert_eq!(file::stat(&file).unwrap().identity(), identity);
        assert_eq!(file::read_at(&file, &mut buffer, 0).unwrap(), 7);
        assert!(receiver.receive(&mut buffer).unwrap().is_none());
    }
}
