//! Shared lists of mixed values: `ShareableList`.

use swath_sync::{ListError, ListValue, ShareableList};

use super::{Refused, Shared, forward, forward_sure};

impl Shared<ShareableList> {
    /// The value at `index`.
    ///
    /// # Errors
    ///
    /// As [`ShareableList::get`], with the list's name.
    pub fn get(&self, index: usize) -> Result<ListValue, Refused<ListError>> {
        self.ask(|list, _| list.get(index))
    }

    /// All values, each as it is when it is reached.
    ///
    /// # Errors
    ///
    /// As [`ShareableList::to_vec`], with the list's name.
    pub fn to_vec(&self) -> Result<Vec<ListValue>, Refused<ListError>> {
        self.ask(|list, _| list.to_vec())
    }

    forward! {
        /// Sets the value at `index`, whole or not at all.
        fn set(index: usize, value: impl Into<ListValue>) -> (), ListError;
    }
    forward_sure! {
        /// How many values.
        fn len() -> usize;
        /// Whether there are none.
        fn is_empty() -> bool;
        /// How many values equal this one.
        fn count(value: impl Into<ListValue>) -> usize;
        /// The first place of this value.
        fn index_of(value: impl Into<ListValue>) -> Option<usize>;
    }
}
