//! Where records and chunks begin and end.

use super::*;

/// The same question for chunks of many sizes, dealt to three accumulators: the answer, if it is always the same.
fn ask_in_pieces(input: &str, settings: &Settings) -> String {
    let whole = ask(input, settings).expect("an answer");
    let file = file(input);
    let mut plan = plan(&[file.path()], settings).expect("a plan");
    for bytes in (1..70).chain([100, 1000, 100_000]) {
        plan.chunk_bytes = bytes;
        for backwards in [false, true] {
            let outcome = run_dealt(&plan, 3, backwards, |number| number * 7 / 3).expect("an answer");
            assert_eq!(text(&outcome, Format::Csv), whole, "{bytes} bytes a chunk, backwards: {backwards}");
        }
    }
    whole
}

#[test]
fn quotes_hide_delimiters_and_line_breaks() {
    let input = "k,v,t\n\"a,\n\"\"b\"\"\",1,\"x\ny\"\n\"plain\",\"2\",\nplain,3,\"\"\n\"a,\n\"\"b\"\"\",4,z";
    assert_eq!(
        ask_in_pieces(input, &settings("k", "count,sum:v")),
        "k,count,sum:v\n\"a,\n\"\"b\"\"\",2,5\nplain,2,5\n"
    );
}

#[test]
fn carriage_returns_belong_to_line_breaks() {
    let input = "k,v\r\na,1\r\nb,2\r\n\"a\",3\r\nb,\"4\"\r\nc,5\r";
    assert_eq!(ask_in_pieces(input, &settings("k", "sum:v")), "k,sum:v\na,4\nb,6\nc,5\n");
    let input = "v,k\r\n1,a\r\n2,\"a\"\r\n3,\r\n";
    assert_eq!(ask_in_pieces(input, &settings("k", "sum:v")), "k,sum:v\n,3\na,3\n");
}

#[test]
fn a_last_line_without_a_line_break_is_a_line() {
    for end in ["", "\n", "\r\n", "\n\n", "\n\r\n\n"] {
        assert_eq!(ask_in_pieces(&format!("k,v\na,1\na,2{end}"), &settings("k", "sum:v")), "k,sum:v\na,3\n");
        assert_eq!(
            ask_in_pieces(&format!("k,v\na,\na,\"2\"{end}"), &settings("k", "sum:v")),
            "k,sum:v\na,2\n"
        );
    }
    assert_eq!(ask_in_pieces("k,v\na,", &settings("k", "count,sum:v")), "k,count,sum:v\na,1,\n");
}

#[test]
fn empty_lines() {
    assert_eq!(
        ask_in_pieces("k,v\n\na,1\n\r\n\n\nb,2\n", &settings("", "count,sum:v")),
        "count,sum:v\n2,3\n"
    );
    assert_eq!(ask_in_pieces("v\n1\n\n3\n\n", &settings("", "count,sum:v")), "count,sum:v\n4,4\n");
}

#[test]
fn records_longer_than_many_chunks() {
    let long = "x,\n".repeat(300);
    let input = format!("k,v\na,1\n\"{long}\",2\nb,3\n\"{long}\",4\n");
    assert_eq!(ask_in_pieces(&input, &settings("k", "sum:v")), format!("k,sum:v\na,1\nb,3\n\"{long}\",6\n"));
}

#[test]
fn one_huge_field() {
    let long = "y".repeat(3_000_000);
    let input = format!("t,v\n{long},1\nz,2\n\"{long}\",3\n");
    assert_eq!(ask(&input, &settings("", "sum:v")).as_deref(), Ok("sum:v\n6\n"));
    assert_eq!(ask(&input, &settings("t", "sum:v")), Ok(format!("t,sum:v\n{long},4\nz,2\n")));
}

#[test]
fn other_delimiters() {
    for delimiter in ['\t', ';', '|', ' '] {
        let input = format!("k{delimiter}v\n\"a{delimiter}b\"{delimiter}1\nc,d{delimiter}2\n");
        let settings = Settings { delimiter: delimiter as u8, ..settings("k", "sum:v") };
        let answer = ask_in_pieces(&input, &settings);
        assert_eq!(answer, format!("k,sum:v\na{delimiter}b,1\n\"c,d\",2\n"));
    }
}

#[test]
fn groups_of_several_columns() {
    let input = "a,b,c,v\nx,y,p,1\nx,\"y\",q,2\nNA,y,p,3\nxy,,p,4\nx,\"y\",p,5\n";
    assert_eq!(
        ask_in_pieces(input, &settings("a,b", "count,sum:v")),
        "a,b,count,sum:v\n,y,1,3\nx,y,3,8\nxy,,1,4\n"
    );
    assert_eq!(ask_in_pieces(input, &settings("c,a", "sum:v")), "c,a,sum:v\np,,3\np,x,6\np,xy,4\nq,x,2\n");
    assert_eq!(ask_in_pieces(input, &settings("a,a", "count")), "a,a,count\n,,1\nx,x,3\nxy,xy,1\n");
    let crlf = input.replace('\n', "\r\n");
    assert_eq!(ask_in_pieces(&crlf, &settings("c,v", "count")).lines().count(), 6);
}

#[test]
fn a_group_column_may_be_a_value_column() {
    assert_eq!(
        ask_in_pieces("v\n10\n9\n\"10\"\nNA\n", &settings("v", "count,sum:v,mean(v)")),
        "v,count,sum:v,mean(v)\n,1,,\n9,1,9,9\n10,2,20,10\n"
    );
}
