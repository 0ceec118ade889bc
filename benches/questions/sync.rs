//! What does it cost that locks, barriers and queues survive a death? Against primitives that do not.
//!
//! `cargo bench -p swath-benches --bench sync`

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swath_benches::futex_rival::PingPong;
use swath_benches::partner::{Placement, Table, shared_memory};
use swath_benches::{crossbeam_rival, machine, multiprocessing_rival, pthread_rival, raw_sync_rival, timing};
use swath_sync::{Barrier, Extents, InPlace, Mutex, Party, Pipe, PipeSide, Plan, Queue, SpscRing};

const TIMES: u32 = 200_000;
const ROUNDS: usize = 15;
/// Round trips of one measurement.
const TRIPS: u32 = 5_000;
/// Numbers of one stream.
const STREAM: u64 = 500_000;
const ROOM: usize = 64;
/// How long two processes fight for a lock.
const FIGHT: Duration = Duration::from_millis(100);

fn main() {
    println!("{}\nmedians of {ROUNDS} interleaved pairs\n", machine::line());
    let mut table = Table::enter();
    free_lock(&table.party());
    contended_lock(&mut table);
    round_trips(&mut table);
    streams(&mut table);
}

/// A mutex in memory that a partner shares.
fn mutex() -> &'static Mutex<u64> {
    // SAFETY: zeroed, page-aligned, never unmapped, used by parties of one table.
    unsafe { Mutex::at(shared_memory(4096)) }
}

#[inline]
fn add_one(mutex: &Mutex<u64>, party: &Party) {
    let guard = mutex.lock(party).ok().and_then(|locked| locked.acquired());
    *guard.expect("nobody dies") += 1;
}

fn value(mutex: &Mutex<u64>, party: &Party) -> u64 {
    mutex.lock(party).ok().and_then(|locked| locked.acquired()).map_or(0, |guard| *guard)
}

fn free_lock(party: &Party) {
    println!("lock, add one, unlock, nobody else there");
    let (ours, theirs) = (mutex(), pthread_rival::Counter::new());
    let (a, b) = timing::pairs(
        ROUNDS,
        || timing::time(|| (0..TIMES).for_each(|_| add_one(ours, party))),
        || timing::time(|| (0..TIMES).for_each(|_| theirs.add_one())),
    );
    assert_eq!(value(ours, party), theirs.value(), "equal work");
    latency("pthread", &a, &b, "≤ 1.2");
    let (ours, mut theirs) = (mutex(), raw_sync_rival::Counter::new());
    let (a, b) = timing::pairs(
        ROUNDS,
        || timing::time(|| (0..TIMES).for_each(|_| add_one(ours, party))),
        || timing::time(|| (0..TIMES).for_each(|_| theirs.add_one())),
    );
    assert_eq!(value(ours, party), theirs.value(), "equal work");
    latency("raw_sync", &a, &b, "≤ 1.2");
}

fn latency(rival: &str, ours: &timing::Times, theirs: &timing::Times, goal: &str) {
    let per = |times: &timing::Times| times.median() * 1e9 / f64::from(TIMES);
    let (a, b) = (per(ours), per(theirs));
    println!("  swath {a:9.1} ns   {rival} {b:9.1} ns   {:.2} × {rival}   (goal {goal})", a / b);
}

/// Two processes, the same lock, as often as they can.
fn contended_lock(table: &mut Table) {
    println!("lock, add one, unlock, two processes at once");
    for (placement, name) in Placement::ALL {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let lock = mutex();
            ours.push(fight(table, placement, |party| add_one(lock, party)));
            let counter = pthread_rival::Counter::new();
            theirs.push(fight(table, placement, |_| counter.add_one()));
        }
        let rate = |fights: &[Fight]| {
            timing::Times::new(fights.iter().map(|fight| fight.per_second / 1e6).collect()).median()
        };
        let luck = |fights: &[Fight]| {
            timing::Times::new(fights.iter().map(|fight| fight.luckier).collect()).median()
        };
        let (a, b) = (rate(&ours), rate(&theirs));
        println!(
            "  {name:18}  swath {a:6.2} M/s   pthread {b:6.2} M/s   {:.2} × pthread (goal ≥ 1)   luckier {:.1} × (goal ≤ 4; pthread {:.1})",
            a / b,
            luck(&ours),
            luck(&theirs)
        );
    }
}

/// Puts an object where a partner sees it too.
fn placed<P: Plan>(plan: P) -> &'static P::Object {
    let cells = plan.cells();
    let layout = P::Object::layout(cells).expect("a possible size");
    let memory = shared_memory(layout.size());
    // SAFETY: zeroed, page-aligned, of the layout's size, never unmapped; placed once, before anybody looks.
    unsafe {
        plan.place(memory);
        P::Object::at(memory, cells)
    }
}

/// There and back, against the bare hand-over in the same placement.
fn round_trips(table: &mut Table) {
    println!("there and back, two processes");
    for (placement, name) in Placement::ALL {
        let (mut bare, mut pipe, mut barrier) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ball = PingPong::new();
            bare.push(table.with_partner(
                placement,
                |_| timing::time(|| ball.serve(TRIPS)),
                |_| ball.answer(TRIPS),
            ));
            pipe.push(through_a_pipe(table, placement));
            barrier.push(through_a_barrier(table, placement));
        }
        let median = |times: Vec<Duration>| {
            timing::Times::new(times.iter().map(|time| time.as_secs_f64() * 1e6 / f64::from(TRIPS)).collect())
                .median()
        };
        let (bare, pipe, barrier) = (median(bare), median(pipe), median(barrier));
        println!(
            "  {name:18}  bare futexes {bare:6.2} µs   Pipe {pipe:6.2} µs, {:.2} × (goal ≤ 1.3 pinned)   Barrier of two {barrier:6.2} µs, {:.2} × (goal ≤ 1.5 pinned)",
            pipe / bare,
            barrier / bare
        );
    }
}

fn through_a_pipe(table: &mut Table, placement: Placement) -> Duration {
    let pipe = placed(Pipe::with_capacity(4));
    table.with_partner(
        placement,
        |party| {
            let mut end = pipe.end(party, &NoExtents, PipeSide::A).expect("free");
            timing::time(|| {
                for i in 0..TRIPS {
                    end.send_bytes(&i.to_le_bytes()).expect("somebody is there");
                    assert_eq!(end.recv_bytes().expect("somebody is there"), i.to_le_bytes());
                }
            })
        },
        |party| {
            let mut end = pipe.end(party, &NoExtents, PipeSide::B).expect("free");
            for _ in 0..TRIPS {
                let message = end.recv_bytes().expect("somebody is there");
                end.send_bytes(&message).expect("somebody is there");
            }
        },
    )
}

fn through_a_barrier(table: &mut Table, placement: Placement) -> Duration {
    let barrier = placed(Barrier::of(&[table.me, table.partner]));
    let meet = |party: &Party| {
        for _ in 0..TRIPS {
            barrier.wait(party).expect("nobody dies");
        }
    };
    table.with_partner(placement, |party| timing::time(|| meet(party)), meet)
}

/// For messages that all fit into their cells.
struct NoExtents;

impl Extents for NoExtents {
    fn write(&self, _at: u64, _bytes: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn read(&self, _at: u64, _bytes: &mut [u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn free(&self, _at: u64, _len: u64) -> std::io::Result<()> {
        Ok(())
    }
}

/// A stream of numbers, one to one, room for 64.
fn streams(table: &mut Table) {
    println!("a stream of u64, one to one, room for {ROOM}");
    let python = multiprocessing_rival::queue_rate(100_000);
    for (placement, name) in [Placement::ALL[1], Placement::ALL[2]] {
        let (mut ring, mut queue, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ring.push(through_a_ring(table, placement));
            queue.push(through_a_queue(table, placement));
            theirs.push(crossbeam_rival::stream(STREAM, ROOM));
        }
        let median = |times: Vec<Duration>| {
            STREAM as f64
                / timing::Times::new(times.iter().map(Duration::as_secs_f64).collect()).median()
                / 1e6
        };
        let (ring, queue, theirs) = (median(ring), median(queue), median(theirs));
        println!(
            "  {name:18}  SpscRing {ring:6.1} M/s, {:.2} × crossbeam   Queue {queue:6.1} M/s, {:.2} × crossbeam (goal ≥ 0.5)   crossbeam {theirs:6.1} M/s",
            ring / theirs,
            queue / theirs
        );
        if let Ok(rate) = &python {
            let times = |ours: f64| ours * 1e6 / rate;
            println!(
                "  {:18}  {:.0} × and {:.0} × multiprocessing.Queue's {:.2} M/s (goal ≥ 40)",
                "",
                times(ring),
                times(queue),
                rate / 1e6
            );
        }
    }
    if let Err(why) = python {
        println!("  multiprocessing.Queue skipped: {why}");
    }
}

fn through_a_ring(table: &mut Table, placement: Placement) -> Duration {
    let ring = placed(SpscRing::<u64>::with_capacity(ROOM));
    table.with_partner(
        placement,
        |party| {
            let mut consumer = ring.consumer(party).expect("free");
            timing::time(|| {
                let sum: u64 = (0..STREAM).map(|_| consumer.pop().expect("one more")).sum();
                assert_eq!(sum, STREAM * (STREAM - 1) / 2, "equal work");
            })
        },
        |party| {
            let mut producer = ring.producer(party).expect("free");
            (0..STREAM).for_each(|i| producer.push(i).expect("somebody pops"));
        },
    )
}

fn through_a_queue(table: &mut Table, placement: Placement) -> Duration {
    let queue = placed(Queue::<u64>::with_capacity(ROOM));
    table.with_partner(
        placement,
        |party| {
            timing::time(|| {
                let sum: u64 = (0..STREAM).map(|_| queue.get(party).expect("one more")).sum();
                assert_eq!(sum, STREAM * (STREAM - 1) / 2, "equal work");
            })
        },
        |party| (0..STREAM).for_each(|i| queue.put(party, i).expect("somebody gets")),
    )
}

struct Fight {
    per_second: f64,
    /// How much more the luckier one got.
    luckier: f64,
}

fn fight(table: &mut Table, placement: Placement, deed: impl Fn(&Party)) -> Fight {
    // SAFETY: zeroed, aligned, never unmapped.
    let (counts, over) = unsafe {
        (&*shared_memory(4096).cast::<[AtomicU64; 2]>(), &*shared_memory(4096).cast::<AtomicBool>())
    };
    let began = Instant::now();
    let work = |party: &Party, count: &AtomicU64| {
        let mut done = 0;
        while !over.load(Ordering::Relaxed) {
            for _ in 0..64 {
                deed(party);
            }
            done += 64;
            if began.elapsed() > FIGHT {
                over.store(true, Ordering::Relaxed);
            }
        }
        count.store(done, Ordering::SeqCst);
    };
    table.with_partner(placement, |party| work(party, &counts[0]), |party| work(party, &counts[1]));
    let (a, b) = (counts[0].load(Ordering::SeqCst) as f64, counts[1].load(Ordering::SeqCst) as f64);
    Fight { per_second: (a + b) / began.elapsed().as_secs_f64(), luckier: a.max(b) / a.min(b).max(1.0) }
}
