//! The files in `data/`: real ones with answers known from elsewhere, broken ones with the error beside them.

use super::*;
use std::fs;
use std::path::PathBuf;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data")
}

#[test]
fn weather() {
    let path = data().join("weather.csv");
    let settings = settings("origin", "count,mean:temp,min:temp,max:temp,sum:precip,count:wind_gust");
    let plan = plan(&[&path], &settings).expect("a plan");
    let expected = fs::read_to_string(data().join("weather.by-origin.csv")).expect("the expected answer");
    for workers in [1, 2, 3, 8] {
        let outcome = run_dealt(&plan, workers, workers == 3, |number| number).expect("an answer");
        assert_eq!(text(&outcome, Format::Csv), expected);
    }
}

/// Every `malformed/NAME.csv` has a `NAME.error` with what is said about it; the question is always the same.
#[test]
fn malformed_files() {
    let directory = data().join("malformed");
    let mut seen = 0;
    for entry in fs::read_dir(&directory).expect("the malformed files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "csv") {
            continue;
        }
        let expected = fs::read_to_string(path.with_extension("error")).expect("an expected error");
        let outcome = plan(&[&path], &settings("station", "mean:value")).and_then(|plan| run(&plan));
        let error = outcome.expect_err("it is malformed").to_string();
        let name = path.file_name().expect("a name").to_string_lossy();
        assert_eq!(error.replace(&*path.to_string_lossy(), &name), expected.trim_end(), "{name}");
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} malformed files in {}", directory.display());
}
