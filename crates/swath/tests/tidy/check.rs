//! One check: how many things it looked at, and what was wrong with them.

/// Fails at its end when something was wrong, and when there was nothing to look at.
pub(crate) struct Check {
    rule: &'static str,
    looked_at: usize,
    wrong: Vec<String>,
}

impl Check {
    pub(crate) fn new(rule: &'static str) -> Self {
        Check { rule, looked_at: 0, wrong: Vec::new() }
    }

    /// Counts one thing; notes `what` unless it is `fine`.
    pub(crate) fn that(&mut self, fine: bool, what: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !fine {
            self.wrong.push(what());
        }
    }

    /// The verdict. A check that had nothing to check is a mistake in the check.
    #[track_caller]
    pub(crate) fn end(self) {
        let Check { rule, looked_at, wrong } = self;
        assert!(looked_at > 0, "{rule}: there was nothing to check, so the check itself is wrong");
        assert!(wrong.is_empty(), "{rule}:\n  {}\n", wrong.join("\n  "));
        println!("{rule}: {looked_at} checked");
    }
}

#[test]
#[should_panic(expected = "nothing to check")]
fn a_check_of_nothing_fails() {
    Check::new("no rule").end();
}

#[test]
#[should_panic(expected = "two is even")]
fn a_check_says_what_is_wrong() {
    let mut check = Check::new("numbers are odd");
    check.that(true, || unreachable!());
    check.that(false, || "two is even".to_owned());
    check.end();
}
