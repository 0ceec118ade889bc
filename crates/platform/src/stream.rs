//! Stream sockets between processes of one machine, by names that are in no file system (`unix(7)`, "abstract").
//!
//! A name is free as soon as the last descriptor of its socket is closed, however that came about. It belongs to a network
//! namespace, not to a user: whoever connects, or is connected to, is known by [`Stream::peer`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with,
};

/// Who wait to be accepted, at most; the next ones wait in `connect`.
const BACKLOG: i32 = 1024;

fn stream_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// A socket that others connect to.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Binds and listens. The name has at most 107 bytes.
    pub fn bind(name: &[u8]) -> io::Result<Listener> {
        let socket = stream_socket()?;
        bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
        listen(&socket, BACKLOG)?;
        Ok(Listener(socket))
    }

    /// The next one who connects.
    pub fn accept(&self) -> io::Result<Stream> {
        loop {
            match accept_with(&self.0, SocketFlags::CLOEXEC) {
                Ok(stream) => return Ok(Stream(stream)),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next one, if one waits.
    pub fn accept_now(&self) -> io::Result<Stream> {
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&Timespec::default()))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => self.accept(),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id when it connected, or listened; 0 of a process that our pid namespace does not show.
    pub pid: u32,
    /// Its effective user id then.
    pub uid: u32,
}

/// A connection. Its descriptor is closed in programs that this one executes.
#[derive(Debug)]
pub struct Stream(OwnedFd);

impl Stream {
    /// Connects to who listens under that name. `TimedOut`: nobody accepted until `deadline`.
    pub fn connect(name: &[u8], deadline: Option<Instant>) -> io::Result<Stream> {
        let socket = stream_socket()?;
        let address = SocketAddrUnix::new_abstract_name(name)?;
        loop {
            if let Some(deadline) = deadline {
                // Zero would mean: for ever.
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
                sockopt::set_socket_timeout(&socket, Timeout::Send, Some(left))?;
            }
            match connect(&socket, &address) {
                Ok(()) => return Ok(Stream(socket)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Who is at the other end: for who connected, the process that listened.
    pub fn peer(&self) -> io::Result<Peer> {
        let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut len = size_of::<libc::ucred>() as libc::socklen_t;
        let fd = self.0.as_raw_fd();
        // SAFETY: getsockopt(2) writes at most `len` bytes to `peer`; both are live locals, the descriptor is ours. (rustix has
        // a type for it in which no process can have the id 0.)
        let result = unsafe {
            let peer = (&raw mut peer).cast();
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, peer, &raw mut len)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Peer { pid: peer.pid as u32, uid: peer.uid })
    }

    /// Sends all of `bytes`. `BrokenPipe` and `ConnectionReset`: the other end is closed. `TimedOut`: not all was taken until
    /// `deadline`, however steadily.
    pub fn send_all(&self, mut bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | deadline.map_or(SendFlags::empty(), |_| SendFlags::DONTWAIT);
        while !bytes.is_empty() {
            match send(&self.0, bytes, flags) {
                Ok(sent) if sent < bytes.len() && is_over(deadline) => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives some bytes into `buffer`, how many; 0: the other end is closed. `TimedOut`: none came until `deadline`, or it was over
    /// before.
    pub fn recv(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        if is_over(deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if deadline.is_some() {
            self.wait(PollFlags::IN, deadline)?;
        }
        loop {
            match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
                Ok((received, _)) => return Ok(received),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the other end is closed, or has sent what nobody has asked for.
    pub fn is_disturbed(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN | PollFlags::RDHUP)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
    }

    fn wait(&self, what: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            let left = deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
            });
            match poll(&mut [PollFd::new(&self.0, what)], left.as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < end, "it never does");
            std::thread::yield_now();
        }
    }

    #[test]
    fn bytes_go_both_ways_and_an_end_is_noticed() {
        let name = format!("swath-test-{}", std::process::id());
        let listener = Listener::bind(name.as_bytes()).expect("a free name");
        assert!(Listener::bind(name.as_bytes()).is_err(), "taken");
        let here = Stream::connect(name.as_bytes(), None).expect("it listens");
        let there = listener.accept().expect("somebody connects");
        let me = Peer { pid: std::process::id(), uid: crate::process::geteuid() };
        assert_eq!((here.peer().unwrap(), there.peer().unwrap()), (me, me));
        here.send_all(b"hello", None).expect("taken");
        let mut buffer = [0; 8];
        assert_eq!(there.recv(&mut buffer, None).unwrap(), 5);
        let soon = || Some(Instant::now() + Duration::from_millis(5));
        assert_eq!(there.recv(&mut buffer, soon()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let much = vec![0; 16 << 20];
        assert_eq!(there.send_all(&much, soon()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(here.is_disturbed() && !there.is_disturbed());
        drop(here);
        // A process that another test is starting may have copies of both ends, until it executes its program.
        until(|| there.is_disturbed());
        assert!(there.send_all(&much, None).is_err(), "and no signal");
        drop(listener);
        let refusal = || Stream::connect(name.as_bytes(), None).err().map(|error| error.kind());
        until(|| refusal() == Some(io::ErrorKind::ConnectionRefused));
    }
}
