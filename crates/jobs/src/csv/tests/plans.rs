//! What is found out about files before anything is scanned.

use super::*;

fn error(input: &str, settings: &Settings) -> String {
    ask(input, settings).expect_err("this is an error")
}

#[test]
fn unknown_columns_are_answered_with_the_known_ones() {
    assert_eq!(
        error("a,b\n1,2\n", &settings("c", "count")),
        "no column is called \"c\"; the columns of FILE are: a, b"
    );
    assert_eq!(
        error("a\u{1b}[2J,b\n1,2\n", &settings("c", "count")),
        "no column is called \"c\"; the columns of FILE are: a\\u{1b}[2J, b"
    );
    assert_eq!(
        error("a,b,a\n1,2,3\n", &settings("a", "count")),
        "column \"a\" is ambiguous: FILE has it at columns 1 and 3"
    );
    assert!(ask("a,b,a\n1,2,3\n", &settings("b", "count")).is_ok());
}

#[test]
fn empty_files() {
    assert_eq!(error("", &settings("", "count")), "FILE: the file is empty; expected a header line");
    assert_eq!(error("\u{feff}", &settings("", "count")), "FILE: the file is empty; expected a header line");
    let without = Settings { header: false, ..settings("", "count") };
    assert_eq!(error("", &without), "FILE: the file is empty; expected at least one record");
}

#[test]
fn a_header_alone_is_an_empty_table() {
    for header in ["a,b", "a,b\n", "a,b\r\n", "\u{feff}a,b\n"] {
        assert_eq!(ask(header, &settings("a", "sum:b")).as_deref(), Ok("a,sum:b\n"), "{header:?}");
        assert_eq!(
            ask(header, &settings("", "count,count:a,sum:b,mean:b,min:b,max:b")).as_deref(),
            Ok("count,count:a,sum:b,mean:b,min:b,max:b\n0,0,,,,\n"),
            "{header:?}"
        );
    }
}

#[test]
fn names_in_headers_may_be_quoted() {
    let input = "\u{feff}\"a,1\",\"b\"\"2\",\"c\nd\"\r\nx,1,2\r\n";
    let answer = ask(input, &settings("\"a,1\"", "sum:c\nd"));
    assert_eq!(answer.as_deref(), Ok("\"a,1\",\"sum:c\nd\"\nx,2\n"));
    assert!(
        error("a\"b\n1\n", &settings("", "count")).starts_with("FILE, line 1: the header cannot be read")
    );
}

#[test]
fn columns_have_numbers_without_a_header() {
    let without = Settings { header: false, ..settings("1", "sum:2") };
    assert_eq!(ask("\u{feff}x,1\ny,2\nx,3\n", &without).as_deref(), Ok("1,sum:2\nx,4\ny,2\n"));
    assert_eq!(
        error("x,1\n", &Settings { header: false, ..settings("3", "count") }).matches("1, 2").count(),
        1
    );
}

#[test]
fn files_with_one_header_are_one_table() {
    let (one, two) = (file("k,v\na,1\nb,2"), file("\u{feff}k,v\r\na,10\r\n"));
    let plan = plan(&[one.path(), two.path()], &settings("k", "sum:v,count")).expect("one table");
    let outcome = run(&plan).expect("an answer");
    assert_eq!(text(&outcome, Format::Csv), "k,sum:v,count\na,11,2\nb,2,1\n");
}

#[test]
fn files_with_two_headers_are_not() {
    let (one, two, three) = (file("k,v\na,1\n"), file("k,w\na,1\n"), file("k\na\n"));
    let settings = settings("k", "count");
    let words = |other: &NamedTempFile| {
        plan(&[one.path(), other.path()], &settings).expect_err("two tables").to_string()
    };
    assert!(words(&two).ends_with("column 2 is \"w\", expected \"v\""), "{}", words(&two));
    assert!(words(&three).ends_with("column 2 is missing, expected \"v\""), "{}", words(&three));
}

#[test]
fn what_has_no_bytes_at_positions_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = plan(&[directory.path()], &settings("", "count")).expect_err("a directory is no file");
    assert!(error.to_string().ends_with("not a regular file"), "{error}");
    let error = plan(&[Path::new("/nonexistent.csv")], &settings("", "count")).expect_err("no such file");
    assert!(error.to_string().starts_with("/nonexistent.csv: cannot open it: "), "{error}");
    assert!(matches!(plan(&[], &settings("", "count")), Err(Error::NoInput)));
}

#[test]
fn a_file_that_changes_is_an_error() {
    let shrunk = file("k,v\na,1\nb,2\n");
    let plan_before = plan(&[shrunk.path()], &settings("k", "sum:v")).expect("a plan");
    shrunk.as_file().set_len(6).expect("it shrinks");
    let error = run(&plan_before).expect_err("it shrank");
    assert!(error.to_string().ends_with("it has 6 bytes, expected 12"), "{error}");

    let touched = file("k,v\na,1\nb,2\n");
    let plan_before = plan(&[touched.path()], &settings("k", "sum:v")).expect("a plan");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    touched.as_file().set_modified(later).expect("it is touched");
    assert!(matches!(run(&plan_before), Err(Error::Changed { .. })));
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_an_error() {
    let shrinking = file("k,v\n".to_owned() + &"a,1\n".repeat(100_000));
    let mut plan = plan(&[shrinking.path()], &settings("k", "sum:v")).expect("a plan");
    plan.chunk_bytes = 1000;
    let chunks = chunk::chunks(&plan);
    let mut partial = Partial::default();
    scan::scan(&plan, chunks[0], &mut partial).expect("the file is whole");
    shrinking.as_file().set_len(5000).expect("it shrinks");
    let error = scan::scan(&plan, chunks[50], &mut partial).expect_err("the chunk is gone");
    assert!(matches!(error, Error::Changed { .. }), "{error}");
}
