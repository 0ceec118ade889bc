//! A list in a manager, and its operations.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Value;
use super::proxy::{Batch, Like, Proxy, Ticket, operations};
use super::step::Change;
use crate::error::Result;

/// A list in a manager. Indices are from 0; one beyond the end is no error but an answer that says so, and changes nothing.
pub type List<T> = Proxy<Vec<T>>;

operations! {
    impl[T: Value] Vec<T> {
        /// Appends a value; its index.
        fn push(value: T) -> usize = |list, (value,)| {
            list.push(value);
            list.len() - 1
        };
        /// Takes the last value.
        fn pop() -> Option<T> = |list, ()| list.pop();
        /// Inserts a value before that index; whether there is such a place.
        fn insert(index: usize, value: T) -> bool = |list, (index, value)| {
            let there = index <= list.len();
            if there {
                list.insert(index, value);
            }
            there
        };
        /// Takes the value at that index.
        fn remove(index: usize) -> Option<T> = |list, (index,)| (index < list.len()).then(|| list.remove(index));
        /// The value at that index.
        fn get(index: usize) -> Option<T> where [T: Clone] = |list, (index,)| list.get(index).cloned();
        /// Replaces the value at that index, by its old one.
        fn set(index: usize, value: T) -> Option<T> =
            |list, (index, value)| Some(std::mem::replace(list.get_mut(index)?, value));
        /// Replaces the value at that index if it is `expected`; whether it was.
        fn replace_if(index: usize, expected: T, value: T) -> bool where [T: PartialEq] =
            |list, (index, expected, value)| match list.get_mut(index) {
                Some(place) if *place == expected => {
                    *place = value;
                    true
                }
                _ => false,
            };
        /// Exchanges the values at two indices; whether there are both.
        fn swap(a: usize, b: usize) -> bool = |list, (a, b)| {
            let there = a.max(b) < list.len();
            if there {
                list.swap(a, b);
            }
            there
        };
        /// How many values.
        fn len() -> usize = |list, ()| list.len();
        /// Whether there are none.
        fn is_empty() -> bool = |list, ()| list.is_empty();
        /// Appends values; how many there are then.
        fn extend(values: Vec<T>) -> usize = |list, (values,)| {
            list.extend(values);
            list.len()
        };
        /// The values from index `start` up to `end`, without it; as many as there are.
        fn slice(start: usize, end: usize) -> Vec<T> where [T: Clone] = |list, (start, end)| {
            let end = end.min(list.len());
            list.get(start..end).unwrap_or_default().to_vec()
        };
        /// All values.
        fn to_vec() -> Vec<T> where [T: Clone] = |list, ()| list.clone();
        /// Drops all but the first `len` values.
        fn truncate(len: usize) -> () = |list, (len,)| list.truncate(len);
        /// Drops all values.
        fn clear() -> () = |list, ()| list.clear();
        /// Turns the order round.
        fn reverse() -> () = |list, ()| list.reverse();
        /// Sorts; equal values keep their order. For values that are not [`Ord`], or another order: [`Proxy::apply`].
        fn sort() -> () where [T: Ord] = |list, ()| list.sort();
        /// The first index of a value.
        fn index_of(value: T) -> Option<usize> where [T: PartialEq] =
            |list, (value,)| list.iter().position(|other| *other == value);
        /// Whether a value is there.
        fn contains(value: T) -> bool where [T: PartialEq] = |list, (value,)| list.contains(&value);
        /// How often a value is there.
        fn count(value: T) -> usize where [T: PartialEq] =
            |list, (value,)| list.iter().filter(|other| **other == value).count();
    }
}

/// The function of `update`: on a list as it lies in its manager.
#[expect(clippy::ptr_arg, reason = "it is a function on the object, which is a Vec")]
fn change<T, A, R>(list: &mut Vec<T>, (change, index, args): (Change<T, A, R>, usize, A)) -> Option<R> {
    Some(change.run(list.get_mut(index)?, args))
}

impl<T: Value> List<T> {
    /// Changes the value at that index in place: nobody else's change is lost. `None`: there is no such index.
    pub fn update<A: Value, R: Value>(
        &self,
        index: usize,
        f: fn(&mut T, A) -> R,
        args: impl Like<A>,
    ) -> Result<Option<R>> {
        self.step(change::<T, A, R>, &(Change::of(f)?, index, args))
    }

    /// All values, fetched `page` at a time: each page is of one moment, the whole is not.
    pub fn pages(&self, page: usize) -> impl Iterator<Item = Result<T>> + use<T>
    where
        T: Clone,
    {
        let (list, mut at, mut over) = (self.clone(), 0, false);
        let next = move || {
            let values = (!over).then(|| list.slice(at, at.saturating_add(page.max(1))))?;
            over = values.as_ref().map_or(true, Vec::is_empty);
            at += values.as_ref().map_or(0, Vec::len);
            Some(match values {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        };
        std::iter::from_fn(next).flatten()
    }
}

impl<T: Value> Batch<'_, Vec<T>> {
    /// Changes the value at that index in place. `None`: there is no such index.
    pub fn update<A, R>(
        &mut self,
        index: usize,
        f: fn(&mut T, A) -> R,
        args: impl Like<A>,
    ) -> Ticket<Option<R>>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        match Change::of(f) {
            Ok(function) => self.step(change::<T, A, R>, &(function, index, args)),
            Err(error) => self.fail(error),
        }
    }
}
