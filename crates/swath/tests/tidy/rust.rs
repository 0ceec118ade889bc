//! Rust source without what is not code.

/// The text with comments, strings and character literals replaced by spaces. Lines stay where they are.
pub(crate) fn code_only(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = skipped(&source, at);
        if end == at {
            code.push(source[at]);
            at += 1;
        } else {
            code.extend(source[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn skipped(source: &[char], at: usize) -> usize {
    let next = |n: usize| source.get(at + n).copied().unwrap_or('\0');
    let in_a_word = at > 0 && (source[at - 1].is_alphanumeric() || source[at - 1] == '_');
    match source[at] {
        '/' if next(1) == '/' => find(source, at, |rest| rest[0] == '\n'),
        '/' if next(1) == '*' => block_comment(source, at),
        '"' => quoted(source, at + 1, '"'),
        'r' if !in_a_word && (next(1) == '"' || (next(1) == '#' && (next(2) == '"' || next(2) == '#'))) => {
            raw_string(source, at + 1)
        }
        'b' if !in_a_word && next(1) == '"' => quoted(source, at + 2, '"'),
        'b' if !in_a_word && next(1) == 'r' && (next(2) == '"' || next(2) == '#') => {
            raw_string(source, at + 2)
        }
        // A lifetime has no second quote behind its first character.
        '\'' if next(1) == '\\' || next(2) == '\'' => quoted(source, at + 1, '\''),
        _ => at,
    }
}

fn find(source: &[char], from: usize, end: impl Fn(&[char]) -> bool) -> usize {
    (from..source.len()).find(|at| end(&source[*at..])).unwrap_or(source.len())
}

fn quoted(source: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < source.len() && source[at] != quote {
        at += if source[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(source.len())
}

fn raw_string(source: &[char], from: usize) -> usize {
    let hashes = source[from..].iter().take_while(|c| **c == '#').count();
    let closes =
        |rest: &[char]| rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|c| *c == '#');
    (find(source, from + hashes + 1, closes) + 1 + hashes).min(source.len())
}

fn block_comment(source: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < source.len() {
        match (source[at], source[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    source.len()
}

/// The words of code: identifiers and keywords, with the number of their line.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(line, text)| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .map(move |word| (line + 1, word))
    })
}

/// Whether the code (not a comment, not a string) says this word.
pub(crate) fn says(code: &str, word: &str) -> bool {
    words(code).any(|(_, found)| found == word)
}

#[test]
fn comments_and_literals_are_no_code() {
    let source = concat!(
        "let a = \"unsafe \\\" still\"; // unsafe\n",
        "/* unsafe /* nested */ unsafe */ let b = 'u'; let c: &'static str = r#\"unsafe \" \"#;\n",
        "let d = b\"unsafe\"; let e = '\\''; fn f<'a>() { unsafe { g() } }\n",
    );
    let code = code_only(source);
    let found: Vec<_> = words(&code).filter(|(_, word)| *word == "unsafe").collect();
    assert_eq!(found, [(3, "unsafe")]);
    assert!(says(&code, "static") && says(&code, "e") && !says(&code, "still"));
}
