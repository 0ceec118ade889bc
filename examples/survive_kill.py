"""y += x in two processes over a memory-mapped file, one of which is killed in the middle of a chunk.

    python3 survive_kill.py multiprocessing.Pool | ProcessPoolExecutor | joblib/loky

Prints one line: finished right, finished wrong, error: ..., or skipped: ...; or nothing, for ever. Standard library only
(and joblib for its own pool), so that nothing but the pool decides what happens.
"""

import mmap
import os
import signal
import sys
import threading
import time

ELEMENTS = 1 << 20
CHUNKS = 64
WORKERS = 2
FILE = "survive_kill.bin"


def arrays():
    """x, y, and one more place: the process that began a chunk last."""
    with open(FILE, "r+b") as file:
        everything = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
    return everything[:ELEMENTS], everything[ELEMENTS : 2 * ELEMENTS], everything[2 * ELEMENTS :]


def add(chunk):
    x, y, last = arrays()
    last[0] = float(os.getpid())
    rows = ELEMENTS // CHUNKS
    for i in range(chunk * rows, (chunk + 1) * rows):
        y[i] += x[i]


def kill_one():
    """Kills a worker that is at work, once a quarter of the first chunks is done."""
    _, y, last = arrays()
    while y[ELEMENTS // CHUNKS * (CHUNKS // 4)] == 0.0:
        time.sleep(0.001)
    os.kill(int(last[0]), signal.SIGKILL)


def with_pool():
    import multiprocessing

    with multiprocessing.Pool(WORKERS) as pool:
        pool.map(add, range(CHUNKS), chunksize=1)


def with_executor():
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as executor:
        list(executor.map(add, range(CHUNKS)))


def with_joblib():
    from joblib import Parallel, delayed

    Parallel(n_jobs=WORKERS, batch_size=1)(delayed(add)(chunk) for chunk in range(CHUNKS))


RIVALS = {"multiprocessing.Pool": with_pool, "ProcessPoolExecutor": with_executor, "joblib/loky": with_joblib}


def main():
    with open(FILE, "wb") as file:
        file.truncate((2 * ELEMENTS + 1) * 8)
    x, y, _ = arrays()
    for i in range(ELEMENTS):
        x[i] = float(i + 1)
    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        RIVALS[sys.argv[1]]()
    except ImportError as missing:
        print(f"skipped: no {missing.name}", flush=True)
    except BaseException as error:
        print(f"error: {type(error).__name__}", flush=True)
    else:
        print("finished right" if y == x else "finished wrong", flush=True)


if __name__ == "__main__":
    main()
