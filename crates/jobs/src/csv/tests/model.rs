//! The job against a model that is too slow and too simple to be wrong: records as values, sums as integers.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Sums in units of 10⁻⁶; all model numbers are whole multiples of it.
const UNIT: i64 = 1_000_000;

#[derive(Clone, Debug)]
struct Field {
    text: String,
    /// In units; `None` if the field is null.
    value: Option<i64>,
    quoted: bool,
}

#[derive(Clone, Debug)]
struct Row {
    keys: [(String, bool); 2],
    values: [Field; 2],
    crlf: bool,
}

fn number() -> impl Strategy<Value = Field> {
    let plain = (-99_999_i64..=99_999, 0_u32..5).prop_map(|(mantissa, scale)| {
        let sign = if mantissa < 0 { "-" } else { "" };
        let (size, power) = (mantissa.abs(), 10_i64.pow(scale));
        let fraction = format!("{:01$}", size % power, scale as usize);
        let dot = if scale > 0 { "." } else { "" };
        let text = format!("{sign}{}{dot}{}", size / power, if scale > 0 { &fraction } else { "" });
        (text, Some(mantissa * (UNIT / power)))
    });
    let exponent = (-999_i64..=999, -3_i32..3).prop_map(|(mantissa, exponent)| {
        let unit = if exponent < 0 {
            UNIT / 10_i64.pow(-exponent as u32)
        } else {
            UNIT * 10_i64.pow(exponent as u32)
        };
        (format!(" {mantissa}e{exponent}"), Some(mantissa * unit))
    });
    let null = prop::sample::select(vec!["", "NA", "null"]).prop_map(|text| (text.to_owned(), None));
    (prop_oneof![6 => plain, 1 => exponent, 1 => null], any::<bool>())
        .prop_map(|((text, value), quoted)| Field { text, value, quoted })
}

fn key() -> impl Strategy<Value = (String, bool)> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "seventeen letters", "NA", "", "12", "é"]).prop_map(str::to_owned),
        1 => "[ab,\n\"]{0,4}",
    ]
    .prop_flat_map(|text| {
        let must = text.contains([',', '\n', '"']);
        (Just(text), any::<bool>().prop_map(move |quoted| quoted || must))
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = ([key(), key()], [number(), number()], any::<bool>());
    prop::collection::vec(row.prop_map(|(keys, values, crlf)| Row { keys, values, crlf }), 0..40)
}

fn field(text: &str, quoted: bool) -> String {
    if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Columns in the order key 0, value 0, value 1, key 1.
fn csv(rows: &[Row], ending: bool) -> String {
    let mut text = "k,v,w,l\n".to_owned();
    for row in rows {
        let [k, l] = &row.keys;
        let [v, w] = &row.values;
        let fields = [field(&k.0, k.1), field(&v.text, v.quoted), field(&w.text, w.quoted), field(&l.0, l.1)];
        text += &fields.join(",");
        text += if row.crlf { "\r\n" } else { "\n" };
    }
    if !ending {
        text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
    }
    text
}

type Key = Vec<Option<String>>;
#[derive(Default)]
struct Group {
    count: u64,
    values: [Vec<i64>; 2],
}

fn model(rows: &[Row], columns: &[usize]) -> BTreeMap<Key, Group> {
    let null = |text: &String| (!DEFAULT_NULLS.contains(&text.as_str())).then(|| text.clone());
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    if columns.is_empty() {
        groups.entry(vec![]).or_default();
    }
    for row in rows {
        let group = groups.entry(columns.iter().map(|&c| null(&row.keys[c].0)).collect()).or_default();
        group.count += 1;
        for (values, field) in group.values.iter_mut().zip(&row.values) {
            values.extend(field.value);
        }
    }
    groups
}

/// A decimal text in units.
fn units(text: &str) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 6, "{text} is not a multiple of a unit");
    format!("{whole}{fraction:0<6}").parse().expect("a number")
}

fn check(values: &[i64], printed: [&Value; 5]) {
    let text = |value: &Value| match value {
        Value::Number(text) => text.clone(),
        Value::Null => String::new(),
        Value::Text(_) => panic!("an aggregate is a number"),
    };
    let [count, sum, mean, min, max] = printed.map(text);
    assert_eq!(count, values.len().to_string());
    if values.is_empty() {
        assert_eq!([sum, mean, min, max], [""; 4]);
        return;
    }
    let total: i64 = values.iter().sum();
    assert_eq!(units(&sum), total);
    // Both are below 2^53, so this one division is the exactly rounded quotient.
    let divisor = values.len() as i64 * UNIT;
    assert!(total.abs() < 1 << 53 && divisor < 1 << 53);
    let expected = total as f64 / divisor as f64;
    assert_eq!(mean.parse::<f64>().expect("a number").to_bits(), (expected + 0.0).to_bits());
    assert_eq!(units(&min), *values.iter().min().expect("a value"));
    assert_eq!(units(&max), *values.iter().max().expect("a value"));
}

fn group_by() -> impl Strategy<Value = (&'static str, &'static [usize])> {
    prop_oneof![
        Just(("", &[][..])),
        Just(("k", &[0][..])),
        Just(("l", &[1][..])),
        Just(("k,l", &[0, 1][..])),
        Just(("l,k", &[1, 0][..])),
    ]
}

const VALUES: &str = "count,count:v,sum:v,mean:v,min:v,max:v,count:w,sum:w,mean:w,min:w,max:w";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_the_model(rows in rows(), (names, columns) in group_by(), ending: bool, chunk_bytes in 1_u64..400) {
        let file = file(csv(&rows, ending || rows.is_empty()));
        let mut plan = plan(&[file.path()], &settings(names, VALUES)).expect("a plan");
        plan.chunk_bytes = chunk_bytes;
        let answer = run(&plan).expect("an answer").answer;
        let mut groups = model(&rows, columns);
        prop_assert_eq!(answer.rows.len(), groups.len());
        for row in &answer.rows {
            let (keys, values) = row.split_at(columns.len());
            let key = keys.iter().map(|value| match value {
                Value::Text(text) => Some(String::from_utf8(text.clone()).expect("UTF-8")),
                _ => None,
            });
            let group = groups.remove(&key.collect::<Key>()).expect("the model has this group, once");
            prop_assert_eq!(&values[0], &Value::Number(group.count.to_string()));
            for (model, printed) in group.values.iter().zip([1, 6]) {
                check(model, std::array::from_fn(|i| &values[printed + i]));
            }
        }
    }

    #[test]
    fn the_same_bytes_however_it_is_split(
        rows in rows(),
        (names, _) in group_by(),
        chunk_bytes in prop::collection::vec((1_u64..400, 1_usize..5, any::<bool>(), any::<usize>()), 1..4),
    ) {
        let file = file(csv(&rows, true));
        let mut plan = plan(&[file.path()], &settings(names, VALUES)).expect("a plan");
        let whole = text(&run(&plan).expect("an answer"), Format::Csv);
        for (bytes, workers, backwards, seed) in chunk_bytes {
            plan.chunk_bytes = bytes;
            let deal = |number: usize| number.wrapping_mul(seed | 1) >> 7;
            let outcome = run_dealt(&plan, workers, backwards, deal).expect("an answer");
            prop_assert_eq!(text(&outcome, Format::Csv), whole.clone());
        }
    }

    #[test]
    fn nonsense_has_one_outcome_however_it_is_split(
        input in "[ab1,\"\n\r.]{0,120}", chunk_bytes in 1_u64..60, workers in 1_usize..4, backwards: bool,
    ) {
        let file = file(format!("k,v\n{input}"));
        for on_error in [OnError::Fail, OnError::Skip { max: None, keep: true }] {
            let settings = Settings { on_error, ..settings("k", "count,sum:v") };
            let mut plan = plan(&[file.path()], &settings).expect("a plan");
            let say = |outcome: Result<Outcome, Error>| match outcome {
                Ok(outcome) => format!("{} {:?}", text(&outcome, Format::Csv), outcome.first_rejects),
                Err(error) => error.to_string(),
            };
            let whole = say(run(&plan));
            plan.chunk_bytes = chunk_bytes;
            prop_assert_eq!(say(run_dealt(&plan, workers, backwards, |n| n)), whole);
        }
    }
}
