//! Values, nulls, order, and what is malformed.

use super::*;

#[test]
fn every_spelling_of_a_number() {
    let input = "v\n+1\n\" 12 \"\n1e5\n 7\n-0.5\n";
    assert_eq!(
        ask(input, &settings("", "sum:v,min:v,max:v")).as_deref(),
        Ok("sum:v,min:v,max:v\n100019.5,-0.5,100000\n")
    );
    let input = "v\ninf\n1\n";
    assert_eq!(
        ask(input, &settings("", "sum:v,mean:v,min:v,max:v")).as_deref(),
        Ok("sum:v,mean:v,min:v,max:v\ninf,inf,1,inf\n")
    );
    let input = "v\ninf\n-inf\n1\n";
    assert_eq!(ask(input, &settings("", "sum:v,max:v")).as_deref(), Ok("sum:v,max:v\nNaN,inf\n"));
}

#[test]
fn sums_are_exact_and_means_round_once() {
    let tenths = "v\n".to_owned() + &"0.1\n".repeat(10);
    assert_eq!(ask(tenths, &settings("", "sum:v,mean:v")).as_deref(), Ok("sum:v,mean:v\n1,0.1\n"));
    assert_eq!(
        ask("v\n1e16\n1\n-1e16\n", &settings("", "sum:v,count:v")).as_deref(),
        Ok("sum:v,count:v\n1,3\n")
    );
    let input = "v\n123456789012345678901234567890.5\n0.25\n";
    assert_eq!(
        ask(input, &settings("", "sum:v")).as_deref(),
        Ok("sum:v\n123456789012345678901234567890.75\n")
    );
    assert_eq!(ask("v\n1\n1\n0\n", &settings("", "mean:v")).as_deref(), Ok("mean:v\n0.6666666666666666\n"));
}

#[test]
fn nulls_are_skipped_by_all_but_count() {
    let input = "k,v\na,1\na,NA\nb,\nb,N/A\nNaN,5\n,6\n\"null\",\"NA\"\n";
    assert_eq!(
        ask(input, &settings("k", "count,count:v,sum:v,mean:v,min:v,max:v")).as_deref(),
        Ok("k,count,count:v,sum:v,mean:v,min:v,max:v\n,3,2,11,5.5,5,6\na,2,1,1,1,1,1\nb,2,0,,,,\n")
    );
}

#[test]
fn null_texts_may_be_chosen() {
    let with = |nulls: &[&str]| Settings {
        nulls: nulls.iter().map(|&n| n.to_owned()).collect(),
        ..settings("k", "count,sum:v")
    };
    assert_eq!(
        ask("k,v\n-,1\na,-999\n", &with(&["-", "-999"])).as_deref(),
        Ok("k,count,sum:v\n,1,1\na,1,\n")
    );
    assert_eq!(ask("k,v\n,1\nNA,2\n", &with(&["-"])).as_deref(), Ok("k,count,sum:v\n\"\",1,1\nNA,1,2\n"));
    for order in ["\"\",1\n-,2\n,4\n", "-,2\n\"\",1\n,4\n", ",4\n\"\",1\n\"-\",2\n"] {
        let answer = ask(format!("k,v\n{order}"), &with(&["-"]));
        assert_eq!(answer.as_deref(), Ok("k,count,sum:v\n,1,2\n\"\",2,5\n"), "{order:?}");
    }
    let error = ask("k,v\na,\n", &with(&["-"])).expect_err("an empty field is not null");
    assert_eq!(error, "FILE, line 2, column \"v\" (2): found \"\", expected a number");
}

#[test]
fn groups_are_sorted_as_numbers_if_all_are() {
    let sorted = |keys: &str| {
        let answer = ask(format!("k\n{keys}"), &settings("k", "count")).expect("an answer");
        answer
            .lines()
            .skip(1)
            .map(|line| line.rsplit_once(',').expect("two fields").0.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(sorted("10\n9\n-1\n1e1\nNA\n+9\n"), ["", "-1", "+9", "9", "10", "1e1"]);
    assert_eq!(sorted("10\n9\nx\n\"NA\"\nB\na\n"), ["", "10", "9", "B", "a", "x"]);
}

#[test]
fn json_and_tables() {
    let input = "k,v\n\"a\"\"b\",1.50\nNA,inf\nc,\nlonger name,1e30\n";
    let file = file(input);
    let plan = plan(&[file.path()], &settings("k", "sum:v,count")).expect("a plan");
    let outcome = run(&plan).expect("an answer");
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(&text(&outcome, Format::Json)).expect("it is JSON");
    assert_eq!(rows[0], serde_json::json!({"k": null, "sum:v": "inf", "count": 1}));
    assert_eq!(rows[1], serde_json::json!({"k": "a\"b", "sum:v": 1.5, "count": 1}));
    assert_eq!(rows[2], serde_json::json!({"k": "c", "sum:v": null, "count": 1}));
    assert_eq!(
        text(&outcome, Format::Table),
        "k                                      sum:v  count\n\
         ───────────  ───────────────────────────────  ─────\n\
        \x20                                        inf      1\n\
         a\"b                                      1.5      1\n\
         c                                                 1\n\
         longer name  1000000000000000000000000000000      1\n"
    );
}

fn fault(input: &str) -> String {
    ask(input, &settings("k", "sum:v")).expect_err("this is malformed")
}

#[test]
fn the_first_fault_is_reported_with_its_place() {
    for (input, expected) in [
        ("k,v\na,1\nb,two\nc,three\n", "line 3, column \"v\" (2): found \"two\", expected a number"),
        (
            "k,v\n\"a\n\nb\",1\nc,\"x\"\"y\"\n",
            "line 5, column \"v\" (2): found \"x\\\"y\", expected a number",
        ),
        ("k,v\na,1\nb\nc,x\n", "line 3: found 1 field, expected 2"),
        ("k,v\na,1,\n", "line 2: found 3 fields, expected 2"),
        (
            "k,v\na,1\nb\"b,2\n",
            "line 3, column \"k\" (1): found a quote in the middle of a field, expected quotes around the whole field, and doubled inside it",
        ),
        (
            "k,v\n\"a\"x,1\n",
            "line 2, column \"k\" (1): found a quote in the middle of a field, expected quotes around the whole field, and doubled inside it",
        ),
        (
            "k,v\na,\"1\nb,2\n",
            "line 2, column \"v\" (2): found a quote that is never closed, expected a closing quote",
        ),
        ("k,v\na,1 2\n", "line 2, column \"v\" (2): found \"1 2\", expected a number"),
        ("k,v\na,1e999\n", "line 2, column \"v\" (2): found \"1e999\", expected a number"),
    ] {
        assert_eq!(fault(input), format!("FILE, {expected}"), "{input}");
    }
    let long = "z".repeat(1000);
    assert!(fault(&format!("k,v\na,{long}\n")).contains(&format!("found \"{}\" …", "z".repeat(60))));
}

#[test]
fn the_first_fault_is_the_same_for_any_chunks_and_order() {
    let mut input = "k,v\n".to_owned();
    for line in 0..200 {
        input += match line {
            77 => "a,x1\n",
            78..100 => "a,x\n",
            150 => "a\n",
            180 => "a\"b,1\n",
            _ => "\"a\",1\n",
        };
    }
    let file = file(&input);
    let mut plan = plan(&[file.path()], &settings("k", "sum:v")).expect("a plan");
    for bytes in 1..200 {
        plan.chunk_bytes = bytes;
        for (workers, backwards) in [(1, true), (3, false), (3, true)] {
            let error = run_dealt(&plan, workers, backwards, |n| n).expect_err("malformed").to_string();
            assert!(error.ends_with("line 79, column \"v\" (2): found \"x1\", expected a number"), "{error}");
        }
    }
}

#[test]
fn a_lone_quote_is_found_without_reading_to_the_next() {
    let input = "k,v\na,1\nb\"b,2\n".to_owned() + &"c,3\n".repeat(500_000);
    let file = file(&input);
    let plan = plan(&[file.path()], &settings("k", "sum:v")).expect("a plan");
    let error = run_dealt(&plan, 2, true, |n| n).expect_err("malformed").to_string();
    assert!(error.contains("line 3, column \"k\" (1): found a quote in the middle"), "{error}");
}

fn skipping(max: Option<u64>) -> Settings {
    Settings { on_error: OnError::Skip { max, keep: true }, ..settings("k", "count,sum:v,min:v") }
}

#[test]
fn malformed_records_may_be_left_out() {
    let input = "k,v,w\na,1,1\nonly,x,1\na,\"2\nz\",1\n\n\"b\",3\na,4,1\r\nb,5,1,\n";
    let file = file(input);
    let mut plan = plan(&[file.path()], &skipping(None)).expect("a plan");
    for bytes in [1, 5, 17, 1000] {
        plan.chunk_bytes = bytes;
        let outcome = run_dealt(&plan, 2, true, |n| n).expect("an answer");
        assert_eq!(text(&outcome, Format::Csv), "k,count,sum:v,min:v\na,2,5,1\n");
        assert_eq!(outcome.rejected, 4);
        let lines: Vec<u64> = outcome.first_rejects.iter().map(|r| r.line).collect();
        assert_eq!(lines, [3, 4, 7, 9]);
        let mut rejects = Vec::new();
        outcome.write_rejects(&plan, &mut rejects).expect("memory takes everything");
        let rejects =
            String::from_utf8(rejects).expect("UTF-8").replace(&*file.path().to_string_lossy(), "F");
        assert_eq!(
            rejects,
            "file,line,column,found,expected,record\n\
             F,3,v,\"\"\"x\"\"\",a number,\"only,x,1\"\n\
             F,4,v,\"\"\"2\\nz\"\"\",a number,\"a,\"\"2\nz\"\",1\"\n\
             F,7,,2 fields,3,\"\"\"b\"\",3\"\n\
             F,9,,4 fields,3,\"b,5,1,\"\n"
        );
    }
}

#[test]
fn but_not_too_many_and_not_stray_quotes() {
    let input = "k,v\na,x\na,y\na,1\n";
    assert!(ask(input, &skipping(Some(2))).is_ok());
    let error = ask(input, &skipping(Some(1))).expect_err("two is more than one");
    assert_eq!(
        error,
        "2 malformed records, more than the 1 allowed; the first: FILE, line 2, column \"v\" (2): found \"x\", expected a number"
    );
    let error = ask("k,v\na,x\na\"a,1\n", &skipping(None)).expect_err("nobody knows where records begin");
    assert!(error.contains("line 3, column \"k\" (1): found a quote in the middle"), "{error}");
}
