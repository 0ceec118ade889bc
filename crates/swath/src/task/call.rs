//! A call that travels: a function by its name in the executable, and its arguments, encoded.

use serde::{Deserialize, Serialize};

use super::clerk::{self, Driver};
use crate::cause::Fault;
use crate::error::Result;
use crate::kernel::name_of;

/// A call; nothing is called by [`Call::default`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) driver: u64,
    pub(crate) function: u64,
    pub(crate) args: Vec<u8>,
}

impl Call {
    /// A call of `function` by `driver`, which knows its type.
    pub(crate) fn new(driver: Driver, function: *const (), args: Result<Vec<u8>>) -> Result<Call> {
        Ok(Call { args: args?, driver: name_of(driver as *const ())?, function: name_of(function)? })
    }

    /// Runs it here; its encoded value replaces what is in `out`.
    pub(crate) fn run_into(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        clerk::drive(self.driver, self.function, &self.args, out)
    }

    /// Runs it here; its encoded value.
    pub(crate) fn run(&self) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        self.run_into(&mut out)?;
        Ok(out)
    }
}
