//! What a process's function may return, and the exit code that this becomes.

use std::io::Write;

use crate::cause::What;
use crate::drive::IntoFailure;

/// Exit code of a function that returned an error or a text.
const FAILED: i32 = 1;
/// Exit code of a function that panicked, as of Rust's own `main`.
pub(crate) const PANICKED: i32 = 101;

/// What the function of a [`Process`](crate::Process) may return.
///
/// | returned | exit code | on standard error |
/// |---|---|---|
/// | `()`, `None` | 0 | |
/// | `true`, `false` | 1, 0 (as Python's `sys.exit`) | |
/// | an integer | itself, of which the kernel keeps eight bits | |
/// | `String`, `&'static str` | 1 | the text |
/// | `Ok(value)`, `Some(value)` | that of the value | |
/// | `Err(error)` | 1 | the error and its sources |
/// | `!` | whatever ends it | |
/// | a panic | 101 | its message and place |
pub trait ExitValue: sealed::Sealed {
    /// The exit code, when what there is to say has been said.
    #[doc(hidden)]
    fn report(self) -> i32;
}

mod sealed {
    /// What this crate knows an exit code for.
    pub trait Sealed {}
}

/// Whether anybody reads it is not our concern.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

macro_rules! exit_values {
    ($($type:ty: |$value:ident| $code:expr;)*) => {
        $(
            impl sealed::Sealed for $type {}
            impl ExitValue for $type {
                fn report(self) -> i32 {
                    let $value = self;
                    $code
                }
            }
        )*
    };
}

exit_values! {
    (): |_unit| 0;
    bool: |truth| i32::from(truth);
    i8: |code| code.into();
    i16: |code| code.into();
    i32: |code| code;
    i64: |code| code as i32;
    isize: |code| code as i32;
    u8: |code| code.into();
    u16: |code| code.into();
    u32: |code| code as i32;
    u64: |code| code as i32;
    usize: |code| code as i32;
    &'static str: |text| { say(format_args!("{text}")); FAILED };
    String: |text| { say(format_args!("{text}")); FAILED };
}

/// `!`, which cannot be written as a type yet, but named as what a function that never returns returns: a closure that only panics
/// has it.
type Never = <fn() -> ! as Returns>::Value;

#[doc(hidden)]
pub trait Returns {
    type Value;
}

impl<R> Returns for fn() -> R {
    type Value = R;
}

impl sealed::Sealed for Never {}
impl ExitValue for Never {
    fn report(self) -> i32 {
        self
    }
}

impl<T: ExitValue> sealed::Sealed for Option<T> {}
impl<T: ExitValue> ExitValue for Option<T> {
    fn report(self) -> i32 {
        self.map_or(0, T::report)
    }
}

impl<T: ExitValue, E: IntoFailure> sealed::Sealed for Result<T, E> {}
impl<T: ExitValue, E: IntoFailure> ExitValue for Result<T, E> {
    fn report(self) -> i32 {
        match self.map_err(E::into_failure) {
            Ok(value) => value.report(),
            Err(What::Failed { message, chain }) => {
                say(format_args!("Error: {message}"));
                chain.iter().for_each(|source| say(format_args!("  because: {source}")));
                FAILED
            }
            Err(what) => {
                say(format_args!("Error: {what}"));
                FAILED
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_pythons() {
        assert_eq!([true.report(), false.report(), 8.report(), ().report()], [1, 0, 8, 0]);
        assert_eq!((None::<i32>.report(), "text".report(), (-1i8).report()), (0, 1, -1));
        assert_eq!((Ok::<_, String>(7).report(), Err::<(), _>("no").report()), (7, 1));
    }
}
