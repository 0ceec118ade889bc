//! The flags of `swath csv`, as typed and as meant.

use crate::progress;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use swath_jobs::csv::{DEFAULT_NULLS, Expression, Format, OnError, RunOptions, Settings, names};

const EXAMPLES: &str = "\
Examples:
  swath csv --group-by origin --agg mean:temp,max:temp data/weather.csv
  swath csv --group-by origin,month --agg 'count,mean(temp)' --format json data/weather.csv
  zcat big.csv.gz | swath csv --agg sum:amount --on-error skip --rejects bad.csv -

Numbers are added exactly and every mean is rounded once, so the answer is the same, byte for byte, for any number of \
workers, even if some of them are killed on the way.";

/// Group the records of CSV files and count, add, average their values
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Flags {
    /// The files, one table if there are several; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The columns that make a group; without it, one group of everything
    #[arg(long, value_name = "COL[,COL...]")]
    group_by: Vec<String>,

    /// What to compute: count, count:COL, sum:COL, mean:COL, min:COL, max:COL, or mean(COL) and so on [default: count]
    #[arg(long, value_name = "EXPR[,EXPR...]")]
    agg: Vec<String>,

    /// The character between two fields; \t is a tab
    #[arg(long, value_name = "C", default_value = ",")]
    delimiter: String,

    /// The first line is data; columns are called 1, 2, 3 ...
    #[arg(long)]
    no_header: bool,

    /// A field that means "no value"; may be given several times [default: empty, NA, NaN, null, N/A]
    #[arg(long, value_name = "TEXT")]
    null: Vec<String>,

    /// What to do about a malformed number or a ragged record
    #[arg(long, value_enum, default_value = "fail")]
    on_error: Policy,

    /// With --on-error skip: fail if there are more malformed records than this
    #[arg(long, value_name = "N")]
    max_errors: Option<u64>,

    /// With --on-error skip: where to write the malformed records
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,

    /// Where to write the answer [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How to write it [default: table on a terminal, else csv]
    #[arg(long, value_enum)]
    format: Option<FormatName>,

    /// How many worker processes; 0 does the work in this process [default: the processors we may use]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Try a chunk again in a new worker if it takes longer
    #[arg(long, value_name = "SECS")]
    chunk_timeout: Option<f64>,

    /// How often a chunk is tried again before it is given up [default: 3]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,

    /// Leave out chunks that were given up, list them, and exit with 3
    #[arg(long)]
    keep_going: bool,

    /// How to show progress on standard error
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto")]
    progress: progress::Mode,

    /// Where to write a JSON account of the run: workers, chunks, retries, failures, times
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Say nothing but why there is no result
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// End without a result, and report the first one in the input
    Fail,
    /// Leave the record out, and exit with 3
    Skip,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Table,
    Csv,
    Json,
}

/// The flags, checked.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) files: Vec<PathBuf>,
    pub(super) settings: Settings,
    pub(super) options: RunOptions,
    pub(super) rejects: Option<PathBuf>,
    pub(super) output: Option<PathBuf>,
    pub(super) format: Option<Format>,
    pub(super) workers: Option<usize>,
    pub(super) progress: progress::Mode,
    pub(super) report: Option<PathBuf>,
    pub(super) quiet: bool,
}

impl Flags {
    pub(super) fn check(self) -> Result<Wanted, String> {
        let stdin = self.files.iter().filter(|file| file.as_os_str() == "-").count();
        if stdin > 1 {
            return Err("standard input (-) can be read only once".to_owned());
        }
        let settings = self.settings()?;
        let options = RunOptions {
            chunk_timeout: self.chunk_timeout.map(seconds).transpose()?,
            retries: self.retries,
            keep_going: self.keep_going,
        };
        Ok(Wanted {
            files: self.files,
            settings,
            options,
            rejects: self.rejects,
            output: self.output,
            format: self.format.map(|format| match format {
                FormatName::Table => Format::Table,
                FormatName::Csv => Format::Csv,
                FormatName::Json => Format::Json,
            }),
            workers: self.workers,
            progress: if self.quiet { progress::Mode::None } else { self.progress },
            report: self.report,
            quiet: self.quiet,
        })
    }

    fn settings(&self) -> Result<Settings, String> {
        let mut aggregates = Vec::new();
        for expression in lists(&self.agg)? {
            aggregates.push(Expression::parse(&expression).map_err(|error| error.to_string())?);
        }
        if aggregates.is_empty() {
            aggregates.push(Expression::parse("count").map_err(|error| error.to_string())?);
        }
        let nulls = match &self.null[..] {
            [] => DEFAULT_NULLS.map(str::to_owned).to_vec(),
            given => given.to_vec(),
        };
        Ok(Settings {
            group_by: lists(&self.group_by)?,
            aggregates,
            delimiter: Settings::delimiter(&self.delimiter).map_err(|error| error.to_string())?,
            header: !self.no_header,
            nulls,
            on_error: self.on_error()?,
        })
    }

    fn on_error(&self) -> Result<OnError, String> {
        match self.on_error {
            Policy::Skip => Ok(OnError::Skip { max: self.max_errors, keep: self.rejects.is_some() }),
            Policy::Fail if self.max_errors.is_some() => Err("--max-errors needs --on-error skip".to_owned()),
            Policy::Fail if self.rejects.is_some() => Err("--rejects needs --on-error skip".to_owned()),
            Policy::Fail => Ok(OnError::Fail),
        }
    }
}

fn lists(given: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for list in given {
        all.extend(names(list).map_err(|error| error.to_string())?);
    }
    Ok(all)
}

fn seconds(seconds: f64) -> Result<Duration, String> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("--chunk-timeout {seconds}: expected a number of seconds above zero")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        flags: Flags,
    }

    fn check(arguments: &str) -> Result<Wanted, String> {
        let words = arguments.split_whitespace();
        Whole::try_parse_from([""].into_iter().chain(words)).map_err(|e| e.to_string())?.flags.check()
    }

    #[test]
    fn lists_may_be_joined_or_repeated() {
        let wanted = check("--group-by a,b --agg count --agg sum:x,mean(y) f").expect("it makes sense");
        assert_eq!(wanted.settings.group_by, ["a", "b"]);
        let written: Vec<_> = wanted.settings.aggregates.iter().map(|e| e.written.as_str()).collect();
        assert_eq!(written, ["count", "sum:x", "mean(y)"]);
        assert_eq!(wanted.settings.nulls, DEFAULT_NULLS);
    }

    #[test]
    fn without_a_question_records_are_counted() {
        let wanted = check("f g").expect("it makes sense");
        assert_eq!(wanted.settings.aggregates[0].written, "count");
        assert_eq!(wanted.files.len(), 2);
    }

    #[test]
    fn what_makes_no_sense() {
        for (arguments, why) in [
            ("- -", "only once"),
            ("--max-errors 3 f", "needs --on-error skip"),
            ("--rejects r f", "needs --on-error skip"),
            ("--agg median:x f", "median:x"),
            ("--delimiter ab f", "delimiter"),
            ("--chunk-timeout 0 f", "above zero"),
            ("--chunk-timeout=-1 f", "above zero"),
            ("--group-by \"a f", "list"),
            ("", "FILE"),
        ] {
            let error = check(arguments).expect_err(arguments);
            assert!(error.contains(why), "{arguments}: {error}");
        }
    }
}
