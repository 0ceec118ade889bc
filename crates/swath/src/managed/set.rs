//! A set in a manager, and its operations.

use std::collections::BTreeSet;

use super::Value;
use super::proxy::{Proxy, operations};

/// A set in a manager, in order.
pub type Set<T> = Proxy<BTreeSet<T>>;

operations! {
    impl[T: Value + Ord] BTreeSet<T> {
        /// Puts a value in; whether it is new.
        fn insert(value: T) -> bool = |set, (value,)| set.insert(value);
        /// Takes a value out; whether it was there.
        fn remove(value: T) -> bool = |set, (value,)| set.remove(&value);
        /// Whether a value is there.
        fn contains(value: T) -> bool = |set, (value,)| set.contains(&value);
        /// How many values.
        fn len() -> usize = |set, ()| set.len();
        /// Whether there are none.
        fn is_empty() -> bool = |set, ()| set.is_empty();
        /// Takes the first value out.
        fn pop_first() -> Option<T> = |set, ()| set.pop_first();
        /// All values, in order.
        fn to_vec() -> Vec<T> where [T: Clone] = |set, ()| set.iter().cloned().collect();
        /// Drops all values.
        fn clear() -> () = |set, ()| set.clear();
        /// Puts these in, too; how many are new.
        fn union_with(values: Vec<T>) -> usize = |set, (values,)| {
            values.into_iter().map(|value| usize::from(set.insert(value))).sum()
        };
        /// Keeps only what is among these.
        fn intersect_with(values: BTreeSet<T>) -> () = |set, (values,)| set.retain(|value| values.contains(value));
        /// Takes these out.
        fn subtract(values: Vec<T>) -> () = |set, (values,)| {
            for value in values {
                set.remove(&value);
            }
        };
        /// Keeps what is in exactly one of both.
        fn symmetric_difference_with(values: BTreeSet<T>) -> () = |set, (values,)| {
            for value in values {
                if !set.remove(&value) {
                    set.insert(value);
                }
            }
        };
        /// Whether all of it is among these.
        fn is_subset(values: BTreeSet<T>) -> bool = |set, (values,)| set.is_subset(&values);
        /// Whether all of these are in it.
        fn is_superset(values: BTreeSet<T>) -> bool = |set, (values,)| set.is_superset(&values);
        /// Whether none of these is in it.
        fn is_disjoint(values: BTreeSet<T>) -> bool = |set, (values,)| set.is_disjoint(&values);
    }
}
