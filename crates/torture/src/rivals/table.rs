//! What came of each trial, as a table for people.

/// What becomes of the survivors when one is killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// They go on.
    Survives,
    /// They go on, and have been told that somebody died.
    Recovers,
    /// They wait for ever.
    Hangs,
    /// They go on with a state that is not true.
    Wrong(String),
    /// Something is left behind.
    Leaks(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Survives => write!(f, "survives"),
            Outcome::Recovers => write!(f, "survives, and is told"),
            Outcome::Hangs => write!(f, "**hangs**"),
            Outcome::Wrong(what) => write!(f, "**wrong**: {what}"),
            Outcome::Leaks(what) => write!(f, "**leaks**: {what}"),
        }
    }
}

/// The heading.
pub(super) fn head() {
    println!("| system | primitive | killed | the survivor | points tried |");
    println!("|---|---|---|---|---|");
}

/// A trial.
pub(super) fn row(system: &str, primitive: &str, place: &str, outcome: &Outcome, points: &str) {
    println!("| {system} | {primitive} | {place} | {outcome} | {points} |");
}
