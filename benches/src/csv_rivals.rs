//! Polars, DuckDB, pandas in a process pool: the same group-by, each as a whole Python process with an honest one-liner.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A rival: its name and the Python program that reads `argv[1]` and writes `argv[2]`.
pub struct Rival {
    /// As printed.
    pub name: &'static str,
    module: &'static str,
    program: &'static str,
}

/// All of them.
pub const ALL: [Rival; 3] = [
    Rival {
        name: "polars",
        module: "polars",
        program: "import sys, polars as p\n\
                  q = p.scan_csv(sys.argv[1]).group_by('station').agg(p.len().alias('count'), p.col('value').mean().alias('mean'), \
                  p.col('value').min().alias('min'), p.col('value').max().alias('max'))\n\
                  q.collect(engine='streaming').sort('station').write_csv(sys.argv[2])",
    },
    Rival {
        name: "duckdb",
        module: "duckdb",
        program: "import sys, duckdb\n\
                  duckdb.sql(f\"copy (select station, count(*) count, avg(value) mean, min(value) min, max(value) max from \
                  read_csv('{sys.argv[1]}') group by station order by station) to '{sys.argv[2]}' (header, delimiter ',')\")",
    },
    Rival {
        name: "pandas",
        module: "pandas",
        program: "import sys, pandas as p\n\
                  d = p.read_csv(sys.argv[1], engine='pyarrow').groupby('station')['value'].agg(['count', 'mean', 'min', 'max'])\n\
                  d.sort_index().to_csv(sys.argv[2])",
    },
];

/// The Python to ask: `SWATH_BENCH_PYTHON`, else `python3`.
pub fn python() -> PathBuf {
    std::env::var_os("SWATH_BENCH_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

impl Rival {
    /// Its version, if it is installed.
    pub fn version(&self) -> Option<String> {
        let ask = format!("import {0}; print({0}.__version__)", self.module);
        let output = Command::new(python()).args(["-c", &ask]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The command that does the work.
    pub fn command(&self, file: &Path, out: &Path) -> Command {
        let mut command = Command::new(python());
        command.arg("-c").arg(self.program).arg(file).arg(out);
        command
    }
}
