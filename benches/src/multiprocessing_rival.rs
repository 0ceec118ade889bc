//! Python's multiprocessing: its queue between two processes, its pool, and the executor of concurrent.futures.

use std::process::Command;

use crate::csv_rivals::python;

/// Messages per second, as Python's own clock says.
///
/// # Errors
/// There is no Python.
pub fn queue_rate(n: u32) -> Result<f64, String> {
    let program = format!(
        "import multiprocessing as m, time\n\
         def feed(q):\n\
         \tfor i in range({n}): q.put(i)\n\
         if __name__ == '__main__':\n\
         \tm.set_start_method('fork')\n\
         \tq = m.Queue(64)\n\
         \tp = m.Process(target=feed, args=(q,))\n\
         \tt = time.perf_counter(); p.start()\n\
         \ts = sum(q.get() for _ in range({n}))\n\
         \tprint({n} / (time.perf_counter() - t)); p.join()\n"
    );
    number(&program)
}

/// Seconds per task of `Pool(2).map(square, range(n), chunksize=1)`, and the sum of what came back, modulo 2⁶⁴.
///
/// # Errors
/// There is no Python.
pub fn map_each(n: u32) -> Result<(f64, u64), String> {
    let program = format!(
        "import multiprocessing as m, time\n\
         def square(n): return n * n\n\
         if __name__ == '__main__':\n\
         \tm.set_start_method('fork')\n\
         \tp = m.Pool(2); p.map(square, range(1000), chunksize=1)\n\
         \tt = time.perf_counter(); r = p.map(square, range({n}), chunksize=1)\n\
         \tt = time.perf_counter() - t\n\
         \tprint(t / {n}, sum(r) % 2**64); p.terminate()\n"
    );
    let text = run(&program)?;
    let (seconds, sum) = text.split_once(' ').ok_or("two numbers were expected")?;
    Ok((seconds.parse().map_err(|_| text.clone())?, sum.parse().map_err(|_| text.clone())?))
}

/// The middle one of `n` times of `ProcessPoolExecutor(1).submit(square, i).result()`, in seconds.
///
/// # Errors
/// There is no Python.
pub fn executor_round_trip(n: u32) -> Result<f64, String> {
    number(&format!(
        "import concurrent.futures as c, multiprocessing as m, time\n\
         def square(n): return n * n\n\
         if __name__ == '__main__':\n\
         \twith c.ProcessPoolExecutor(1, mp_context=m.get_context('fork')) as e:\n\
         \t\tfor i in range(100): e.submit(square, i).result()\n\
         \t\ttimes = []\n\
         \t\tfor i in range({n}):\n\
         \t\t\tt = time.perf_counter(); r = e.submit(square, i).result()\n\
         \t\t\ttimes.append(time.perf_counter() - t); assert r == i * i\n\
         \t\tprint(sorted(times)[len(times) // 2])\n"
    ))
}

/// Seconds per `d["x"] = 1` on a manager's dictionary, `clients` processes sharing `n` of them.
///
/// # Errors
/// There is no Python.
pub fn managed_set(clients: usize, n: u32) -> Result<f64, String> {
    number(&format!(
        "import multiprocessing as m, time\n\
         def work(d, n, met):\n\
         \td['x'] = 1; met.wait()\n\
         \tfor i in range(n): d['x'] = 1\n\
         \tmet.wait()\n\
         if __name__ == '__main__':\n\
         \tm.set_start_method('fork')\n\
         \twith m.Manager() as manager:\n\
         \t\td = manager.dict(); met = m.Barrier({clients} + 1)\n\
         \t\tall = [m.Process(target=work, args=(d, {n} // {clients}, met)) for _ in range({clients})]\n\
         \t\tfor p in all: p.start()\n\
         \t\tmet.wait(); t = time.perf_counter()\n\
         \t\tmet.wait(); t = time.perf_counter() - t\n\
         \t\tfor p in all: p.join()\n\
         \t\tassert d['x'] == 1; print(t / {n})\n"
    ))
}

fn number(program: &str) -> Result<f64, String> {
    let text = run(program)?;
    text.parse().map_err(|_| text)
}

/// What the program printed.
fn run(program: &str) -> Result<String, String> {
    let output = Command::new(python()).args(["-c", program]).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
