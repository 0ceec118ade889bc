//! Memory that a member makes and gives away: the segment goes, as an open file in a datagram, to an inbox of the coordinator.
//!
//! 1. The member sends the file, stamped with who sends it and for what, and only then answers that it is done.
//! 2. The service thread takes it out of the socket's queue at once, so no sender waits for long; or whoever looks for it first.
//! 3. Whoever reads the answer takes the file out of the inbox and makes it a segment of the coordinator's session.
//! 4. What nobody takes is forgotten when its sender, or what it was for, is over.
//!
//! *Killed before 1 is complete*: there is no answer, and the memory ends with its maker. *After 1*: the file is in the queue, which does not
//! depend on the sender. *The coordinator dies*: the queue ends with it, and all that is in it or in the inbox.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytemuck::{Pod, Zeroable};
use swath_platform::socket::{self, FileReceiver};
use swath_platform::{file, process};

use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::service::{Keep, Service, Token};

/// Device and inode.
type Identity = (u64, u64);

/// Who sends, and for what: the sender's slot and generation, and a number of the receiver's choice.
#[repr(C)]
#[derive(Pod, Zeroable, Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Of the sender.
    pub slot: u32,
    /// Of the sender.
    pub generation: u32,
    /// What it is for.
    pub lot: u64,
}

impl Segment {
    /// Step 1: sends this segment's file to the inbox of that address. It is the receiver's from then on; this side drops the segment.
    ///
    /// # Errors
    ///
    /// Nobody receives there; too many files are on their way.
    pub fn hand_over(&self, address: &str, stamp: Stamp) -> Result<()> {
        let failed = |error| Error::system("hand over", "a segment", error);
        socket::send_file(address, bytemuck::bytes_of(&stamp), self.file().as_fd()).map_err(failed)
    }
}

/// Where segments arrive.
#[derive(Debug)]
pub struct Inbox {
    address: String,
    receiver: Arc<FileReceiver>,
    held: Mutex<HashMap<Identity, (Stamp, OwnedFd)>>,
    watch: Mutex<Option<Token>>,
    pid: u32,
}

impl Inbox {
    /// A new one, emptied by the service thread from now on.
    ///
    /// # Errors
    ///
    /// No descriptor left; no service thread.
    pub fn open() -> Result<Arc<Inbox>> {
        let service = Service::start()?;
        // One for each array that waits to be taken.
        process::raise_open_files();
        let failed = |what| move |error| Error::system(what, "an inbox", error);
        let mut number = [0; 16];
        file::random(&mut number).map_err(failed("name"))?;
        let address = format!("swath-{:032x}", u128::from_ne_bytes(number));
        let receiver = Arc::new(FileReceiver::bind(&address).map_err(failed("bind"))?);
        let fd = receiver.as_raw_fd();
        let (held, watch) = (Mutex::default(), Mutex::default());
        let inbox = Arc::new(Inbox { address, receiver, held, watch, pid: process::getpid() });
        let weak = Arc::downgrade(&inbox);
        let look = move |_: &mut _| match Weak::upgrade(&weak) {
            // Whoever looks for something still receives it.
            Some(inbox) if !inbox.receive_all(&mut inbox.lock()) => Keep::No,
            Some(_) => Keep::Yes,
            None => Keep::No,
        };
        // Its descriptor is closed when the watch has ended: see drop.
        service.post({
            let weak = Arc::downgrade(&inbox);
            move |reactor| {
                if let Some(inbox) = weak.upgrade() {
                    *inbox.watch.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(reactor.watch(fd, Box::new(look)));
                }
            }
        });
        Ok(inbox)
    }

    /// Where members send.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Nothing that can panic half-way runs under this lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, (Stamp, OwnedFd)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Step 2. False: it cannot be received from.
    fn receive_all(&self, held: &mut HashMap<Identity, (Stamp, OwnedFd)>) -> bool {
        let mut buffer = [0; size_of::<Stamp>() + 1];
        loop {
            match self.receiver.receive(&mut buffer) {
                Ok(None) => return true,
                Ok(Some(received)) => {
                    let stamp = bytemuck::try_pod_read_unaligned::<Stamp>(&buffer[..received.len]);
                    let Some(file) = received.file else {
                        let limit = process::raise_open_files();
                        tracing::error!(
                            "an array that a worker has handed over is lost: no descriptor was left (RLIMIT_NOFILE, \
                             {limit} from now on)"
                        );
                        continue;
                    };
                    if let (Ok(stamp), Ok(stat)) = (stamp, file::stat(&file)) {
                        held.insert(stat.identity(), (stamp, file));
                    }
                }
                Err(error) => {
                    tracing::error!("what workers hand over cannot be received: {error}");
                    return false;
                }
            }
        }
    }

    /// Step 3: the file of that identity, if it was sent.
    pub fn take(&self, identity: Identity) -> Option<OwnedFd> {
        let mut held = self.lock();
        if !held.contains_key(&identity) {
            self.receive_all(&mut held);
        }
        held.remove(&identity).map(|(_, file)| file)
    }

    /// Step 4: what was sent with such a stamp is of no use to anybody.
    pub fn forget(&self, of_no_use: impl Fn(&Stamp) -> bool) {
        let mut held = self.lock();
        self.receive_all(&mut held);
        held.retain(|_, (stamp, _)| !of_no_use(stamp));
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // A forked child has a copy of the value, not the service thread.
        if self.pid != process::getpid() {
            return;
        }
        let Some(token) = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        match (Service::is_current(), Service::start()) {
            (false, Ok(service)) => service.call(|reactor| reactor.unwatch(token)),
            // The descriptor is closed in the job: until then the reactor may look at it once more.
            (true, Ok(service)) => {
                let receiver = self.receiver.clone();
                service.post(move |reactor| {
                    reactor.unwatch(token);
                    drop(receiver);
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_taken_once_or_forgotten() {
        let inbox = Inbox::open().unwrap();
        let make = |lot| {
            let segment = Segment::options().unnamed("gift").create(8192).unwrap();
            let identity = (segment.reference().dev, segment.reference().ino);
            segment.hand_over(inbox.address(), Stamp { slot: 3, generation: 1, lot }).unwrap();
            identity
        };
        let (one, two) = (make(1), make(2));
        let file = inbox.take(one).expect("sent");
        assert_eq!(file::stat(&file).unwrap().size, 8192);
        assert!(inbox.take(one).is_none(), "once");
        inbox.forget(|stamp| stamp.lot == 2);
        assert!(inbox.take(two).is_none(), "forgotten");
        let address = inbox.address().to_owned();
        drop(inbox);
        let segment = Segment::options().unnamed("gift").create(8192).unwrap();
        assert!(segment.hand_over(&address, Stamp { slot: 3, generation: 1, lot: 0 }).is_err());
    }

    #[test]
    fn a_flood_does_not_stop_its_sender() {
        let inbox = Inbox::open().unwrap();
        let stamp = Stamp { slot: 1, generation: 1, lot: 0 };
        let segments: Vec<_> =
            (0..100).map(|_| Segment::options().unnamed("gift").create(4096).unwrap()).collect();
        segments.iter().for_each(|segment| segment.hand_over(inbox.address(), stamp).unwrap());
        for segment in &segments {
            let reference = segment.reference();
            assert!(inbox.take((reference.dev, reference.ino)).is_some());
        }
    }
}
