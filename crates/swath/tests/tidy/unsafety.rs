//! `unsafe` stands in listed files only, each with its reason.

use crate::check::Check;
use crate::{rust, tree};

/// Crates in which nobody can say it.
const FORBIDDING: [&str; 2] = ["crates/jobs/src/lib.rs", "crates/cli/src/main.rs"];

/// Where it may stand, and what for.
const ALLOWED: &[(&str, &str)] = &[
    ("crates/platform/src/cpu.rs", "reads and sets the floating-point control word"),
    ("crates/platform/src/crash.rs", "handlers of crashes, on a stack of their own"),
    ("crates/platform/src/exe.rs", "asks the loader where the executable lies"),
    ("crates/platform/src/file.rs", "fcntl of OFD locks, poll"),
    (
        "crates/platform/src/fork.rs",
        "a page that forked children find empty; fork, while there is one thread",
    ),
    ("crates/platform/src/life.rs", "registers a robust list with the kernel, clone for its self-test"),
    ("crates/platform/src/memory.rs", "madvise and mappings over a given address"),
    ("crates/platform/src/process.rs", "close_range, signal masks"),
    ("crates/platform/src/signal.rs", "installs handlers, resets masks"),
    ("crates/platform/src/simd.rs", "vector instructions behind a run-time check"),
    ("crates/platform/src/stream.rs", "asks who is at the other end of a socket"),
    ("crates/platform/src/sibling.rs", "clone, and what the C library does after a fork"),
    ("crates/platform/src/spawn.rs", "posix_spawn and its attribute objects"),
    ("crates/sync/src/atomics.rs", "the half of a word that the kernel compares"),
    ("crates/sync/src/barrier/words.rs", "a barrier is placed in memory that the caller names"),
    ("crates/sync/src/event.rs", "an event is found in memory that the caller names"),
    (
        "crates/sync/src/mutex.rs",
        "lends the value that the lock guards; found in memory that the caller names",
    ),
    ("crates/sync/src/locked_array.rs", "an array is placed in memory that the caller names"),
    ("crates/sync/src/party.rs", "the process-wide pointer to its slot table; whose a slot is"),
    ("crates/sync/src/joinable.rs", "a model's queue, as the queue that it is"),
    ("crates/sync/src/ring.rs", "a ring is found in memory that the caller names"),
    ("crates/sync/src/list.rs", "a list is found in memory that the caller names"),
    ("crates/sync/src/messages.rs", "a queue is found in memory that the caller names"),
    ("crates/sync/src/pipe.rs", "a pipe is found in memory that the caller names"),
    ("crates/sync/src/pod.rs", "copies memory that others may be writing, by atomic accesses"),
    ("crates/sync/src/queue.rs", "lends the item of an owned cell"),
    ("crates/sync/src/queue/plan.rs", "a queue is found in memory that the caller names"),
    ("crates/sync/src/place.rs", "the contract of what lies in shared memory"),
    ("crates/sync/src/recursive.rs", "lends the value that the lock guards"),
    ("crates/sync/src/rwlock.rs", "lends the value that the lock guards"),
    ("crates/sync/src/raw_sync.rs", "makes the guards of raw_sync, which have no constructor"),
    ("crates/sync/src/raw_sync/mutex.rs", "raw_sync's traits place a lock in memory that the caller names"),
    ("crates/sync/src/raw_sync/rwlock.rs", "raw_sync's traits place a lock in memory that the caller names"),
    ("crates/sync/src/raw_sync/word.rs", "a lock's counts are found by the pointer that raw_sync hands out"),
    ("crates/sync/src/semaphore.rs", "a semaphore is placed in memory that the caller names"),
    ("crates/sync/src/slots.rs", "found in memory that the caller names; who is dead"),
    ("crates/sync/src/witness.rs", "how a process learns who is dead"),
    ("crates/sync/src/taken.rs", "moves a guard out of the one that recovered it"),
    ("crates/sync/src/value.rs", "a value is found in memory that the caller names"),
    ("crates/segment/src/backing.rs", "a mapping may be sent to other threads"),
    ("crates/segment/src/control.rs", "the control segment is mapped at one address for life"),
    ("crates/segment/src/guest.rs", "which slot is ours, who is dead"),
    ("crates/segment/src/guardian.rs", "takes over the descriptor it was started with"),
    ("crates/segment/src/object.rs", "writes the header before anybody can attach; parties for its users"),
    ("crates/segment/src/membership.rs", "which slot is ours"),
    ("crates/segment/src/session.rs", "which slot is ours"),
    ("crates/segment/src/service.rs", "a job that borrows, run while its caller waits"),
    ("crates/array/src/backing.rs", "writes the header before anybody can attach"),
    ("crates/array/src/foreign.rs", "views of memory that another program may write"),
    ("crates/array/src/rows.rs", "makes views from a base and a checked reference"),
    ("crates/array/src/snapshot.rs", "copies memory that others may be writing, by atomic loads"),
    ("crates/array/src/storage.rs", "makes views of an array's own memory"),
    (
        "crates/swath/src/board/cell.rs",
        "its part for one worker: references that one side writes while the other cannot look",
    ),
    ("crates/swath/src/board.rs", "the board that coordinator and workers share, by pointer"),
    ("crates/swath/src/crew.rs", "places the board"),
    ("crates/swath/src/crew/departure.rs", "who is dead"),
    ("crates/swath/src/crew/forkserver.rs", "who is dead"),
    ("crates/swath/src/crew/hiring.rs", "which process a slot is for"),
    ("crates/swath/src/descriptor.rs", "plain bytes: an array too large for the derive"),
    ("crates/swath/src/drive.rs", "calls kernels by their address, makes their views"),
    ("crates/swath/src/gather.rs", "reads the table of partials"),
    ("crates/swath/src/init.rs", "a static in .init_array"),
    ("crates/swath/src/kernel.rs", "turns the address of a function into the function"),
    ("crates/swath/src/inline.rs", "places the board, calls the driver by its address"),
    ("crates/swath/src/locked.rs", "copies and shows an array that the phase's lock guards"),
    ("crates/swath/src/log/place.rs", "the ring in a mapping, and the bell that was passed down"),
    ("crates/swath/src/managed/step.rs", "calls functions on a manager's objects by their address"),
    ("crates/swath/src/map/drive.rs", "calls maps' functions by their address"),
    ("crates/swath/src/map/imap.rs", "calls streams' functions by their address"),
    ("crates/swath/src/operand.rs", "what an operand promises about its views"),
    ("crates/swath/src/pool.rs", "an inline pool's pointers may be sent to other threads"),
    ("crates/swath/src/process/entry.rs", "which slot is ours"),
    ("crates/swath/src/process/launch.rs", "which process a slot is for, who is dead"),
    ("crates/swath/src/process/record.rs", "as whom processes are waited for beside objects"),
    ("crates/swath/src/process/errand.rs", "calls the driver by its address, and the function by the driver"),
    ("crates/swath/src/recovery.rs", "the ledger and the arrays of the phase under way, by pointer"),
    ("crates/swath/src/run.rs", "hands the ledger to the recovery"),
    ("crates/swath/src/run/memory.rs", "copies arguments into their segment before a phase is published"),
    ("crates/swath/src/shared.rs", "an object in a mapping that was checked for it"),
    ("crates/swath/src/task/clerk.rs", "calls tasks' functions by their address"),
    ("crates/swath/src/task/desk.rs", "places the table of tasks"),
    ("crates/swath/src/task/table.rs", "the table of tasks that coordinator and workers share, by pointer"),
    ("crates/swath/src/team.rs", "views that several members of a team have at once"),
    ("crates/swath/src/turn/binding.rs", "the bytes of a phase's arguments"),
    ("crates/swath/src/template.rs", "attaches the board, takes over the descriptors it was started with"),
    ("crates/swath/src/turn.rs", "the ledger, the arrays and the functions of a phase, by pointer"),
    ("crates/swath/src/undo.rs", "copies rows to and from the undo slot"),
    ("crates/swath/src/worker.rs", "attaches the board, calls the driver by its address"),
    ("crates/array/tests/acceptance.rs", "looks through two views at once"),
    ("crates/array/tests/backends.rs", "looks at an array's bytes"),
    ("crates/array/tests/references.rs", "views as workers make them"),
    ("crates/array/tests/taint.rs", "writes like a process that cannot be killed"),
    ("crates/swath/tests/array_tasks.rs", "writes to memory that is mapped for reading, to crash"),
    ("crates/swath/tests/tasks.rs", "writes where nothing is mapped, to crash"),
    ("crates/segment/tests/conformance.rs", "reads and writes segments"),
    ("crates/segment/tests/deaths.rs", "forks"),
    ("crates/segment/tests/room.rs", "writes every byte of a segment, closes descriptor 0"),
    ("crates/segment/tests/tracer/calls.rs", "ptrace"),
    ("crates/swath/tests/steps.rs", "ptrace, and instructions that stop a worker"),
    ("crates/sync/tests/condvar_processes.rs", "places a condition in shared memory"),
    ("crates/sync/tests/loom_slots.rs", "who is dead"),
    ("crates/sync/tests/loom_once.rs", "reads what the once wrote"),
    ("crates/sync/tests/once_processes.rs", "places a once in shared memory"),
    ("crates/sync/tests/recursive_processes.rs", "places a mutex in shared memory"),
    ("crates/sync/tests/strangers.rs", "writes to the words of every object while it is used"),
    ("crates/sync/tests/values_processes.rs", "places values in shared memory"),
    ("crates/sync/tests/refusals.rs", "looks at the word of a condition"),
    ("crates/sync/tests/rwlock_processes.rs", "places a lock in shared memory"),
    ("crates/sync/tests/acceptance.rs", "forks behind the library's back, presets words, sets a timer"),
    ("crates/sync/tests/barrier_processes.rs", "places a barrier in shared memory"),
    ("crates/sync/tests/event_processes.rs", "places an event in shared memory"),
    ("crates/sync/tests/layout.rs", "looks at the bytes of every type"),
    ("crates/sync/tests/locks/mod.rs", "places locks in shared memory, filters of system calls"),
    ("crates/sync/tests/loom_barrier.rs", "data that the barrier orders"),
    ("crates/sync/tests/loom_event.rs", "data that the event orders"),
    ("crates/sync/tests/mutex_processes.rs", "places a mutex in shared memory"),
    ("crates/sync/tests/raw_sync_locks.rs", "places locks in shared memory, looks at what they guard"),
    ("crates/sync/tests/semaphore_processes.rs", "places semaphores in shared memory"),
    ("crates/sync/tests/ring_processes.rs", "places rings in shared memory"),
    ("crates/sync/tests/messages_processes.rs", "places queues and pipes in shared memory"),
    ("crates/sync/tests/support/extents.rs", "memfd_create, fallocate"),
    ("crates/sync/tests/wait_any_processes.rs", "places what is waited for in shared memory"),
    ("crates/sync/tests/acceptance_messages.rs", "places what is asked about in shared memory"),
    ("crates/sync/tests/model_messages.rs", "places objects, with counters near their wrap"),
    ("crates/sync/tests/garbage.rs", "fenced memory, filled with garbage"),
    ("crates/sync/tests/list_processes.rs", "places lists in shared memory"),
    ("crates/sync/tests/queue_processes.rs", "places queues in shared memory"),
    ("crates/sync/tests/slots.rs", "places a slot table in shared memory, forks"),
    ("crates/sync/tests/model/mod.rs", "who is dead"),
    ("crates/sync/tests/support/mod.rs", "shared memory, fork, signals"),
    ("crates/swath/tests/forkserver.rs", "asks the C library about its thread, crashes on purpose"),
    ("crates/swath/tests/isolated.rs", "crashes on purpose, sets a limit that cuts an answer in two"),
    ("crates/swath/tests/processes.rs", "descriptors that careless libraries leave open"),
    ("crates/swath/tests/shared.rs", "forks"),
    ("benches/questions/sync.rs", "places primitives in shared memory"),
    ("benches/src/attempts.rs", "places words in shared memory"),
    ("benches/src/futex_rival.rs", "places two words in shared memory"),
    ("benches/src/partner.rs", "shared memory, fork, affinity"),
    ("benches/src/pthread_rival.rs", "calls libc"),
    ("benches/src/raw_sync_rival.rs", "raw_sync places its lock in memory that the caller names"),
    ("crates/torture/src/chaos/acts/barrier.rs", "places a barrier"),
    ("crates/torture/src/chaos/arena.rs", "places what the acts play with"),
    ("crates/torture/src/chaos/fault.rs", "signals, and a crash on purpose"),
    ("crates/torture/src/chaos/urgency.rs", "setpriority"),
    ("crates/torture/src/party.rs", "who is dead, and which slot is whose"),
    ("crates/torture/src/ops/letters.rs", "places what is tortured"),
    ("crates/torture/src/ops/props.rs", "places what is tortured"),
    ("crates/torture/src/raw_memory.rs", "raw_sync places locks in memory that the caller names"),
    ("crates/torture/src/rivals/glibc.rs", "calls C's primitives"),
    ("crates/torture/src/rivals/glibc_barrier.rs", "calls C's primitives"),
    ("crates/torture/src/rivals/glibc_condition.rs", "calls C's primitives"),
    ("crates/torture/src/rivals/raw_sync.rs", "raw_sync places its objects in memory that the caller names"),
    (
        "crates/torture/src/seeded/probe.rs",
        "operations of a known number of instructions, and ones that crash",
    ),
    ("crates/torture/src/seeded/slot.rs", "a toy that registers a robust list by itself"),
    ("crates/torture/src/stage.rs", "memory that harness and victim share"),
    ("crates/torture/src/surroundings.rs", "namespaces, mounts, the reaping of orphans"),
    ("crates/torture/src/tracer.rs", "ptrace, waitpid, affinity"),
    ("crates/torture/src/victim.rs", "fork, and instructions that stop the victim"),
    ("crates/torture/src/watchdog.rs", "kill and waitpid"),
    ("crates/torture/src/word.rs", "futex calls without swath's own layer"),
];

#[test]
fn unsafe_stands_in_listed_files_only() {
    let mut check = Check::new("unsafe stands in listed files only");
    for file in tree::files_ending(".rs") {
        let lines: Vec<_> = rust::words(&rust::code_only(&tree::text(&file)))
            .filter(|(_, word)| *word == "unsafe")
            .map(|(line, _)| line)
            .collect();
        let reason = ALLOWED.iter().find(|(listed, _)| *listed == file).map(|(_, reason)| reason);
        match (lines.first(), reason) {
            (Some(line), None) => check.that(false, || format!("{file}:{line}: unsafe, and not in the list")),
            (None, Some(_)) => check.that(false, || format!("{file} is in the list, and has no unsafe")),
            _ => check.that(true, String::new),
        }
    }
    for (file, reason) in ALLOWED {
        check
            .that(tree::root().join(file).is_file(), || format!("{file} is in the list, and does not exist"));
        check.that(reason.len() >= 4, || format!("{file}: a reason is missing"));
    }
    check.end();
}

#[test]
fn jobs_and_command_forbid_it() {
    let mut check = Check::new("unsafe is forbidden in jobs and in the command");
    for file in FORBIDDING {
        check.that(tree::text(file).contains("\n#![forbid(unsafe_code)]\n"), || file.to_owned());
    }
    check.end();
}
