//! Python's multiprocessing.Queue between two processes.

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
    let output = Command::new(python()).args(["-c", &program]).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
