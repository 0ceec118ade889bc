//! The coordinator's side of the template ([`crate::template`]): starts it, orders workers of it, takes over what it has made, replaces
//! it when it dies. All on the service thread, which never waits for it.

use std::collections::VecDeque;
use std::io::{ErrorKind as Io, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use swath_platform::process::{self, ExitStatus};
use swath_platform::{sibling, signal};
use swath_segment::{Keep, Reactor, Service, Token};
use swath_sync::{DeathCause, SlotId};

use super::departure::what_of;
use super::hiring::Recruit;
use super::{Crew, State};
use crate::cause::{LastWords, What};
use crate::error::ErrorKind;
use crate::init;
use crate::limits::{HANDSHAKE, INITIALIZER_TIMEOUT, ORDERS_MAX};
use crate::log::Journal;
use crate::log::place::RING_FD;
use crate::relay::Tap;
use crate::respawn::{Decision, Respawn};
use crate::template::{ORDERS_FD, Order, Reply};
use crate::worker::EXIT_INITIALIZER;

/// The template of one pool's workers, and who is wanted of it.
#[derive(Default)]
pub(crate) struct Forkserver {
    template: Option<Template>,
    /// A start has been put off.
    pausing: bool,
    /// Cells for which no worker has been ordered yet.
    wanted: VecDeque<usize>,
    /// Orders that are not answered, the oldest first.
    ordered: VecDeque<Ordered>,
    /// A template of this pool has come up before.
    was_ready: bool,
    respawn: Respawn,
}

struct Template {
    slot: SlotId,
    pid: u32,
    pidfd: Arc<OwnedFd>,
    socket: UnixStream,
    heard: Vec<u8>,
    /// The hook has run.
    is_ready: bool,
    /// A worker has come of it.
    has_made: bool,
    /// Why we are killing it, or what it has said itself.
    fate: Option<What>,
    tap: Tap,
    /// What it says by `tracing`.
    journal: Arc<Journal>,
    listening: Token,
}

/// A worker on order.
struct Ordered {
    index: usize,
    recruit: Recruit,
    /// For the worker, which opens them through this process.
    _ends: [std::io::PipeWriter; 2],
}

impl Forkserver {
    /// Whether there is a template.
    pub(super) fn is_present(&self) -> bool {
        self.template.is_some()
    }

    fn awaits(&self, index: usize) -> bool {
        self.wanted.contains(&index) || self.ordered.iter().any(|order| order.index == index)
    }

    /// Workers on order: their cells and slots.
    pub(super) fn ordered(&self) -> impl Iterator<Item = (usize, SlotId)> + '_ {
        self.ordered.iter().map(|order| (order.index, order.recruit.slot))
    }

    /// The template of this generation.
    fn template(&mut self, generation: u16) -> Option<&mut Template> {
        self.template.as_mut().filter(|template| template.slot.generation == generation)
    }
}

fn of(state: &mut State) -> &mut Forkserver {
    state.forkserver.as_mut().expect("this pool's workers are copies")
}

impl Crew {
    /// Orders a worker for cell `index` of the template; false when workers of this pool are spawned.
    pub(super) fn order(self: &Arc<Self>, reactor: &mut Reactor, index: usize) -> bool {
        let mut state = self.lock();
        let is_there = state.members[index].is_present();
        let Some(forkserver) = state.forkserver.as_mut() else { return false };
        if !is_there && !forkserver.awaits(index) {
            forkserver.wanted.push_back(index);
        }
        let starts = forkserver.template.is_none() && !forkserver.pausing;
        drop(state);
        if starts {
            self.start_template(reactor);
        }
        self.place_orders(reactor);
        true
    }

    // ---- the template's life -----------------------------------------------------------------------------------------

    /// T1.
    fn start_template(self: &Arc<Self>, reactor: &mut Reactor) {
        if self.lock().leaving {
            return;
        }
        if let Err(why) = self.try_start_template(reactor) {
            let why = format!("the workers' template could not be started: {why}");
            tracing::warn!("{why}");
            let decision = of(&mut self.lock()).respawn.failed_to_start();
            self.start_another(reactor, decision, (ErrorKind::Spawn, why));
        }
    }

    fn try_start_template(self: &Arc<Self>, reactor: &mut Reactor) -> Result<(), String> {
        let slots = self.session.slots();
        let (socket, theirs) = UnixStream::pair().map_err(|e| format!("a socket: {e}"))?;
        socket.set_nonblocking(true).map_err(|e| format!("its socket: {e}"))?;
        let (tap, ends, bell) = self.open_outlet()?;
        let (journal, ring) =
            self.journals.open_template().map_err(|e| format!("memory for its log: {e}"))?;
        let slot = slots.reserve().ok_or("all slots of the session are taken")?;
        let more = [(ring.as_raw_fd(), RING_FD), (theirs.as_raw_fd(), ORDERS_FD)];
        let child = self.spawn(reactor, init::TEMPLATE, (0, slot), (&ends, bell), &more);
        let child = child.inspect_err(|_| self.vacate(slot))?;
        self.session.guard_now(reactor);
        self.outlet.follow_asleep(journal.clone());
        let (pid, pidfd) = (child.pid, Arc::new(child.pidfd));
        let generation = slot.generation;
        let crew = self.clone();
        let exited = move |reactor: &mut Reactor| {
            crew.template_exited(reactor, generation);
            Keep::No
        };
        reactor.watch(pidfd.as_raw_fd(), Box::new(exited));
        let crew = self.clone();
        let heard = move |reactor: &mut Reactor| crew.hear_template(reactor, generation);
        let listening = reactor.watch(socket.as_raw_fd(), Box::new(heard));
        let (heard, is_ready, has_made, fate) = (Vec::new(), false, false, None);
        let template =
            Template { slot, pid, pidfd, socket, heard, is_ready, has_made, fate, tap, journal, listening };
        of(&mut self.lock()).template = Some(template);
        self.introduce(slot, pid);
        let hook = self.contract.preload.as_ref();
        let limit = hook.map(|_| self.contract.preload_timeout.unwrap_or(INITIALIZER_TIMEOUT));
        let crew = Arc::downgrade(self);
        let look = move |_: &mut Reactor| {
            let Some(crew) = crew.upgrade() else { return };
            let what = match limit {
                Some(limit) => What::TimedOut { limit },
                None => What::Setup { message: format!("it did not show itself within {HANDSHAKE:?}") },
            };
            crew.kill_template(generation, what, |template| !template.is_ready);
        };
        reactor.after(limit.unwrap_or(HANDSHAKE), Box::new(look));
        Ok(())
    }

    /// Kills the template of this generation if it is `still` as it was.
    fn kill_template(&self, generation: u16, why: What, still: impl FnOnce(&Template) -> bool) {
        let mut state = self.lock();
        let template = of(&mut state).template(generation);
        if let Some(template) = template.filter(|template| still(template)) {
            template.fate.get_or_insert(why);
            let _ = process::pidfd_signal(&*template.pidfd, signal::KILL);
            let _ = process::kill_group(template.pid, signal::KILL);
        }
    }

    /// The pool ends: no more workers. From any thread.
    pub(super) fn end_template(self: &Arc<Self>) {
        Service::global().call(|_| {
            let mut state = self.lock();
            let Some(forkserver) = state.forkserver.as_mut() else { return };
            forkserver.wanted.clear();
            let Some(generation) = forkserver.template.as_ref().map(|t| t.slot.generation) else { return };
            drop(state);
            self.kill_template(generation, What::Cancelled, |_| true);
        });
    }

    /// Its exit is confirmed.
    fn template_exited(self: &Arc<Self>, reactor: &mut Reactor, generation: u16) {
        // What it has still said; of what it did not say, the kernel has.
        self.hear_template(reactor, generation);
        let left = std::mem::take(&mut of(&mut self.lock()).ordered);
        for order in left {
            self.close_order(reactor, order, None);
        }
        let Some(template) = of(&mut self.lock()).template.take() else { return };
        reactor.unwatch(template.listening);
        let status = process::reap(&*template.pidfd).ok().flatten();
        let _ = process::kill_group(template.pid, signal::KILL);
        let mut last_words = template.journal.close();
        template.tap.close();
        let slots = self.session.slots();
        let cause = status.map_or(DeathCause::UNKNOWN, |s| DeathCause(s.raw()));
        // SAFETY: its pidfd says that it has exited.
        unsafe { slots.mark_dead(template.slot, cause) };
        slots.release(template.slot);
        let mut state = self.lock();
        if state.leaving {
            drop(state);
            self.changed.notify_all();
            return;
        }
        let oom_kill = state.notice_oom_kill();
        let what = template.fate.unwrap_or_else(|| what_of(status, oom_kill));
        let forkserver = of(&mut state);
        let decision = match &what {
            _ if template.has_made => forkserver.respawn.lost(),
            What::Killed { signal: signal::KILL, likely_out_of_memory: false } => {
                forkserver.respawn.killed_at_start()
            }
            // Its hook does so at every start; one that did not before may have met with bad luck.
            _ if !forkserver.was_ready => Decision::GiveUp,
            _ => forkserver.respawn.failed_to_start(),
        };
        drop(state);
        let (kind, hook) = match self.contract.preload {
            Some(_) if !template.is_ready => (ErrorKind::Initializer, ", which is to run the preload hook,"),
            _ => (ErrorKind::Spawn, ""),
        };
        if status.and_then(ExitStatus::code) == Some(EXIT_INITIALIZER) {
            // It has said itself why.
            last_words.clear();
        }
        let (pid, last_words) = (template.pid, LastWords(&last_words));
        let why = format!("the workers' template{hook} does not last (pid {pid}): {what}{last_words}");
        tracing::warn!("{why}");
        self.start_another(reactor, decision, (kind, why));
    }

    fn start_another(self: &Arc<Self>, reactor: &mut Reactor, decision: Decision, why: (ErrorKind, String)) {
        let Decision::After(pause) = decision else { return self.give_up(why) };
        of(&mut self.lock()).pausing = true;
        let crew = Arc::downgrade(self);
        let start = move |reactor: &mut Reactor| {
            let Some(crew) = crew.upgrade() else { return };
            of(&mut crew.lock()).pausing = false;
            crew.start_template(reactor);
        };
        reactor.after(pause, Box::new(start));
    }

    // ---- workers of it -----------------------------------------------------------------------------------------------

    /// What it says; forgotten when it says nothing any more.
    fn hear_template(self: &Arc<Self>, reactor: &mut Reactor, generation: u16) -> Keep {
        let mut is_open = true;
        if let Some(template) = of(&mut self.lock()).template(generation) {
            let mut buffer = [0; 4096];
            while is_open {
                match template.socket.read(&mut buffer) {
                    Ok(0) => is_open = false,
                    Ok(n) => template.heard.extend_from_slice(&buffer[..n]),
                    Err(error) if error.kind() == Io::Interrupted => {}
                    Err(error) if error.kind() == Io::WouldBlock => break,
                    Err(_) => is_open = false,
                }
            }
        }
        loop {
            let mut state = self.lock();
            let forkserver = of(&mut state);
            let Some(template) = forkserver.template(generation) else { return Keep::No };
            let Some(reply) = Reply::take(&mut template.heard) else { break };
            let refused = match reply {
                Reply::Ready => {
                    template.is_ready = true;
                    forkserver.was_ready = true;
                    continue;
                }
                Reply::Failed(what) => {
                    template.fate = Some(what);
                    continue;
                }
                Reply::Copied => None,
                Reply::Refused(why) => Some(why),
            };
            let answered = forkserver.ordered.pop_front();
            drop(state);
            if let Some(order) = answered {
                self.close_order(reactor, order, refused);
            }
        }
        self.place_orders(reactor);
        if is_open { Keep::Yes } else { Keep::No }
    }

    /// T4, for as many as the template may have in hand.
    fn place_orders(self: &Arc<Self>, reactor: &mut Reactor) {
        while let Some(index) = self.next_wanted() {
            if let Err(why) = self.place_order(reactor, index) {
                self.start_failed(reactor, index, format!("a worker could not be ordered: {why}"));
            }
        }
    }

    fn next_wanted(&self) -> Option<usize> {
        let mut state = self.lock();
        let (leaving, most) = (state.leaving, self.board.wanted());
        let forkserver = of(&mut state);
        let is_ready = forkserver.template.as_ref().is_some_and(|template| template.is_ready);
        if leaving || !is_ready || forkserver.ordered.len() >= ORDERS_MAX {
            return None;
        }
        // Those above are not wanted any more.
        while let Some(index) = forkserver.wanted.pop_front() {
            if index < most {
                return Some(index);
            }
        }
        None
    }

    fn place_order(self: &Arc<Self>, reactor: &mut Reactor, index: usize) -> Result<(), String> {
        let (slot, arena) = self.make_room(index)?;
        let (tap, ends, _) = self.open_outlet().inspect_err(|_| self.vacate(slot))?;
        let pipes = [ends[0].as_raw_fd(), ends[1].as_raw_fd()];
        let order = Order { cell: index as u32, slot, pipes };
        let mut state = self.lock();
        let forkserver = of(&mut state);
        // It cannot be full: there are few orders, and they are small. If the template is gone, its exit is about to be noticed.
        if let Some(template) = &mut forkserver.template {
            let _ = template.socket.write_all(&order.to_bytes());
        }
        let generation = forkserver.template.as_ref().map(|template| template.slot.generation);
        forkserver.ordered.push_back(Ordered { index, recruit: Recruit { slot, arena, tap }, _ends: ends });
        // It serves them in turn.
        let patience = HANDSHAKE * forkserver.ordered.len() as u32;
        drop(state);
        let crew = Arc::downgrade(self);
        let look = move |_: &mut Reactor| {
            let Some(crew) = crew.upgrade() else { return };
            let is_open = of(&mut crew.lock()).ordered.iter().any(|order| order.recruit.slot == slot);
            if let Some(generation) = generation.filter(|_| is_open) {
                let message = format!("it has not made a worker within {patience:?}");
                crew.kill_template(generation, What::Setup { message }, |_| true);
            }
        };
        reactor.after(patience, Box::new(look));
        Ok(())
    }

    /// T8: takes over the worker, if it was made; orders another one if the template is gone, and otherwise it is as if a worker had not
    /// come up.
    fn close_order(self: &Arc<Self>, reactor: &mut Reactor, order: Ordered, refused: Option<String>) {
        let Ordered { index, recruit, _ends } = order;
        let told = &self.board.cell(index).copied;
        let adopted = match (told.load(Ordering::Acquire), refused) {
            (0, None) => None,
            (0, Some(why)) => Some(Err(why)),
            _ => Some(sibling::adopt(told).map_err(|e| format!("a descriptor for it: {e}"))),
        };
        match adopted {
            Some(Ok(child)) => {
                if let Some(template) = &mut of(&mut self.lock()).template {
                    template.has_made = true;
                }
                process::lead_group(child.pid);
                self.enlist(reactor, index, recruit, child);
            }
            other => {
                self.vacate(recruit.slot);
                recruit.tap.close();
                match other {
                    Some(Err(why)) => {
                        self.start_failed(
                            reactor,
                            index,
                            format!("the template could not make a worker: {why}"),
                        );
                    }
                    _ => of(&mut self.lock()).wanted.push_back(index),
                }
            }
        }
    }
}
