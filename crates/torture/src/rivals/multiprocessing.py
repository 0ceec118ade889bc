"""One trial: a process of Python's multiprocessing is killed with something in hand; does the survivor come through?

argv: the primitive, and where the victim is killed. Prints "struck" after the confirmed death, then what came of it.
"""

import multiprocessing
import os
import signal
import sys
import time

context = multiprocessing.get_context("fork")


def die(target, *arguments, asleep=True):
    """Starts a process, waits until it has said that it is there (and sleeps), kills it, and reaps it."""
    here, there = context.Pipe()
    victim = context.Process(target=run, args=(there, target) + arguments)
    victim.start()
    here.recv()
    while asleep and open(f"/proc/{victim.pid}/stat").read().rsplit(") ", 1)[1][0] != "S":
        time.sleep(0.001)
    time.sleep(0.05 if asleep else 0)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    print("struck", flush=True)


def run(there, target, *arguments):
    target(lambda: there.send(0), *arguments)


def hold(ready, lock):
    lock.acquire()
    ready()
    signal.pause()


def wait_for(ready, lock):
    ready()
    lock.acquire()


def wait_on(ready, condition):
    with condition:
        ready()
        condition.wait()


def call(ready, method):
    ready()
    method()


def leave(ready):
    ready()
    signal.pause()


def flood(ready, queue):
    queue.put(b"x" * 10_000_000)
    ready()
    signal.pause()


def survive(lock):
    lock.acquire()
    lock.release()
    return "survives"


def lock(make, where):
    made = make()
    if where == "holding":
        die(hold, made)
    else:
        made.acquire()
        die(wait_for, made)
        made.release()
    return survive(made)


def condition(where):
    made = context.Condition()
    if where == "holding":
        die(hold, made)
        return survive(made)
    die(wait_on, made)
    with made:
        made.notify_all()
    return "survives"


def event(_where):
    made = context.Event()
    die(call, made.wait)
    made.set()
    return "survives" if made.wait() else "wrong: not set"


def barrier(where):
    made = context.Barrier(2)
    if where == "waiting":
        die(call, made.wait)
    else:
        die(leave)
    made.wait()
    return "wrong: the survivor passes a barrier of two alone"


def queue(where):
    made = context.Queue()
    if where == "waiting in get":
        die(call, made.get)
        made.put("item")
        return "survives" if made.get() == "item" else "wrong: another item"
    die(flood, made)
    made.put("item")
    return "survives" if made.get() == "item" else "wrong: another item"


PRIMITIVES = {
    "Lock": lambda where: lock(context.Lock, where),
    "RLock": lambda where: lock(context.RLock, where),
    "Semaphore": lambda where: lock(context.Semaphore, where),
    "Condition": condition,
    "Event": event,
    "Barrier": barrier,
    "Queue": queue,
}

print(PRIMITIVES[sys.argv[1]](sys.argv[2]), flush=True)
os._exit(0)
