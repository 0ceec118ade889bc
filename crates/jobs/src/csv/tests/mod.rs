//! The job as a whole, driven by plain loops instead of processes.

mod data;
mod golden;
mod model;
mod plans;
mod records;

use super::*;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// A file with these bytes.
fn file(text: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_ref()).expect("room for a temporary file");
    file
}

fn settings(group_by: &str, aggregates: &str) -> Settings {
    let list = |text: &str| if text.is_empty() { Vec::new() } else { names(text).expect("a list") };
    let expressions = list(aggregates).iter().map(|e| Expression::parse(e).expect("an expression")).collect();
    Settings { group_by: list(group_by), aggregates: expressions, ..Settings::default() }
}

fn plan(paths: &[&Path], settings: &Settings) -> Result<Plan, Error> {
    let inputs: Vec<Input> = paths.iter().map(|path| path.to_path_buf().into()).collect();
    Plan::new(&inputs, settings)
}

/// Both passes, the chunks dealt out to accumulators as `deal` says (by chunk number), in reverse order if it says so,
/// and every accumulator sent through the encoding in which it would travel.
fn run_dealt(
    plan: &Plan,
    workers: usize,
    backwards: bool,
    deal: impl Fn(usize) -> usize,
) -> Result<Outcome, Error> {
    let mut chunks = chunk::chunks(plan);
    let quotes = chunks.iter().map(|c| borders::quotes(plan, *c)).collect::<Result<Vec<_>, _>>()?;
    chunk::settle(&mut chunks, &quotes);
    let mut order: Vec<usize> = (0..chunks.len()).collect();
    if backwards {
        order.reverse();
    }
    let mut partials: Vec<Partial> = (0..workers).map(|_| Partial::default()).collect();
    for number in order {
        scan::scan(plan, chunks[number], &mut partials[deal(number) % workers])?;
    }
    let travelled = partials.iter().map(|partial| {
        let bytes = postcard::to_stdvec(partial).expect("an accumulator can travel");
        postcard::from_bytes::<Partial>(&bytes).expect("and arrives")
    });
    Outcome::new(plan, travelled.fold(Partial::default(), Partial::merge))
}

fn run(plan: &Plan) -> Result<Outcome, Error> {
    run_dealt(plan, 1, false, |_| 0)
}

fn text(outcome: &Outcome, format: Format) -> String {
    let mut text = Vec::new();
    outcome.answer.write(format, &mut text).expect("memory takes everything");
    String::from_utf8(text).expect("tests use UTF-8")
}

/// The answer to a question about one text, as CSV, or the error in words (with `FILE` for the file's name).
fn ask(input: impl AsRef<[u8]>, settings: &Settings) -> Result<String, String> {
    let file = file(input);
    let words = |error: Error| error.to_string().replace(&*file.path().to_string_lossy(), "FILE");
    let plan = plan(&[file.path()], settings).map_err(words)?;
    run(&plan).map(|outcome| text(&outcome, Format::Csv)).map_err(words)
}
