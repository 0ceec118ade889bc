//! Logging across processes: what kernels, tasks and processes of one's own say by `tracing` arrives at the starter's own subscriber.
//!
//! ```text
//!  worker                                                                  coordinator
//!  tracing → Scribe → record → ring (one memfd per worker) ══════════════→ Follower → emit → the coordinator's subscriber
//!                        └──→ NAME-PID.log, if asked for                   (thread swath-output)
//! ```
//!
//! A process of one's own ([`Process`](crate::Process), [`isolated`](crate::isolated), a manager's server) is a worker in all that follows,
//! and its starter the coordinator.
//!
//! ```text
//! a worker's ring:  head: tail, oldest (the worker's) │ read, sleep (the reader's) │ level, directory │ 16 KiB of records
//! ```
//!
//! Positions count words of 8 bytes and never go back; a position's place is its remainder by the ring's length. A record has
//! its length in its first word, a checksum, and a sequence number that counts the worker's records. The protocol, which the
//! code cites:
//!
//! 1. *Room.* The worker writes a record of `n` words at `tail`. If that would overwrite old records, it first moves `oldest` past
//!    all of them; then a Release fence. It waits for nobody.
//! 2. *Write.* The record's words, each by a relaxed store.
//! 3. *Publish.* `tail += n` (Release): the one instruction at which the record exists. *Killed before*: there is no record, not
//!    half a one.
//! 4. *Bell.* A fence (SeqCst), then a look at `sleep`. Awake: nothing. Napping: the bell is rung when half of the ring is unread.
//!    Asleep: at once. Whoever rings first sets `sleep` to awake, so a flood rings once.
//! 5. *Read.* The reader has a position `at` of its own. It loads `tail` (Acquire), then `oldest`; if `oldest` is past
//!    `at`, it goes there. It copies the record's words by relaxed loads; then an Acquire fence and a second look at `oldest`. Still not
//!    past `at`: the copy is whole. Past it: the copy is thrown away and it starts over.
//! 6. *Count.* Sequence numbers that are missing are records that were dropped: their number is an event of its own.
//! 7. *Sleep.* Before it sleeps the reader sets `sleep`, then (SeqCst fence) looks at `tail` again. It naps [`LOG_NAP`] after
//!    records came, since more are likely, and sleeps until the bell otherwise.
//! 8. *Death.* When a worker's exit is confirmed, the service thread takes what the reader has not read (nobody writes any more, so
//!    step 5 needs no second look), and the last lines for the error. The ring is then the successor's; a process's is unmapped.
//!
//! **Where rings lie.** Each is an unnamed file in memory of its own, not a segment: it is in no table, and no retire list keeps it. A worker
//! finds the one of its cell through the coordinator's descriptor; a process inherits its own as descriptor [`RING_FD`], maps and closes
//! it, so that nobody has one open while it lives.
//!
//! **What a process costs** that never says anything: making the file and two mappings. Its ring begins with the reader asleep, and the
//! relay is not woken for it: the first record rings the bell. If none came, the service thread takes it off the relay's list by itself.
//! The level is the one of the moment when it is started, for it has no turns between which it could look.
//!
//! **A template** has a ring as a process has. What it is copied with is its subscriber and its place: the subscriber looks the place up at
//! each event, finds in a copy the template's, whose process it is not, and writes nothing, until the copy has taken its own, as a spawned
//! worker does.
//!
//! **Levels of processes.** A process that starts processes is a coordinator whose subscriber is its own Scribe: what is said further down
//! travels up level by level: with the target, place, time and spans of the original, as an event of the process that this coordinator has
//! started; who said it, and in hand of what, stands behind the original's fields.
//!
//! **Why step 5 takes no garbage.** Let the reader copy the record at `at`, and suppose one of its loads returned a word that was
//! stored for another record. Stores go to the same place only a whole ring later, so that record ends beyond `at` plus the ring's length,
//! and the worker, before its fence of step 1, stored an `oldest` past `at`. The reader's load read a store that comes after that Release
//! fence, and is followed by the reader's Acquire fence: the fences synchronise, so the second look sees that `oldest` or a later one, and the copy is
//! thrown away. If no load returned such a word, the copy is what step 2 wrote before the `tail` that the reader has acquired. The length in the
//! first word may be garbage until the second look: it is bounded before it is used. The checksum is for what no protocol covers: a
//! kernel's stray writes.
//!
//! **Why no bell is lost.** Between the worker's `tail` and its look at `sleep`, and between the reader's `sleep` and its look
//! at `tail`, stand SeqCst fences: at least one of both sees the other. A worker killed between the two: its death wakes the reader.
//!
//! **Who reads**: the relay (`swath-output`), which passes on what workers print and may wait for ever for its reader, as it may for a
//! subscriber. Its bell, an eventfd that it polls anyway, is handed down to all of them as descriptor [`BELL_FD`]: a wake-up costs one
//! `write`, and idle workers cost nothing. The service thread must not do it: a subscriber that waits would stop fences and replacements. No order is promised
//! between lines of output and records.
//!
//! **What a panic says where panics abort** is written past level and subscriber by the panic's hook ([`berth::leave`]): nobody comes back to tell
//! it otherwise. The hook waits for the pen only a moment, since its own thread may have it.
//!
//! **How they arrive.** `tracing` wants metadata that is static, so the coordinator has one callsite per level with target `swath::worker`,
//! and one with target `swath::process`, with the fields `message`, `worker` or `process` (its name), `pid`, `task`, `chunk`, `target`, `file`, `line`, `spans`, `fields` and `time_ns`. Before it emits, it asks
//! the subscriber's `enabled` with metadata that has the record's own target, level, file and line: filters by target work as
//! if the event had happened here.

mod below;
pub(crate) mod berth;
mod emit;
mod file;
mod follower;
mod journal;
mod journals;
mod options;
pub(crate) mod place;
mod record;
mod ring;
mod scribe;
mod spans;
mod text;

pub(crate) use follower::Follower;
pub(crate) use journal::Journal;
pub(crate) use journals::Journals;
pub(crate) use options::Options;
#[cfg(doc)]
use {crate::limits::LOG_NAP, place::BELL_FD, place::RING_FD};
