//! How a process begins.

/// How a process begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMethod {
    /// As this executable, started again: nothing is shared by accident, no lock can be held by a thread that is not there. The
    /// function captures nothing, its arguments are encoded.
    #[default]
    Spawn,
    /// As a copy of this process at this moment, with all that it has in memory. Only for programs that have one thread at that
    /// moment: [`Process::fork`](crate::Process::fork).
    Fork,
}

/// All start methods, the default one first.
pub fn start_methods() -> &'static [StartMethod] {
    &[StartMethod::Spawn, StartMethod::Fork]
}
