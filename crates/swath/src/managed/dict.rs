//! A dictionary in a manager, and its operations.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Bound};

use super::Value;
use super::proxy::{Batch, Like, Proxy, Ticket, operations};
use super::step::Change;
use crate::error::Result;

/// A dictionary in a manager, in the order of its keys.
pub type Dict<K, V> = Proxy<BTreeMap<K, V>>;

operations! {
    impl[K: Value + Ord, V: Value] BTreeMap<K, V> {
        /// Sets the value of a key; its old one.
        fn insert(key: K, value: V) -> Option<V> = |dict, (key, value)| dict.insert(key, value);
        /// The value of a key.
        fn get(key: K) -> Option<V> where [V: Clone] = |dict, (key,)| dict.get(&key).cloned();
        /// The value of a key, which is set to `value` if it has none.
        fn get_or_insert(key: K, value: V) -> V where [V: Clone] =
            |dict, (key, value)| dict.entry(key).or_insert(value).clone();
        /// Takes a key out; its value.
        fn remove(key: K) -> Option<V> = |dict, (key,)| dict.remove(&key);
        /// Whether a key is there.
        fn contains_key(key: K) -> bool = |dict, (key,)| dict.contains_key(&key);
        /// How many keys.
        fn len() -> usize = |dict, ()| dict.len();
        /// Whether there are none.
        fn is_empty() -> bool = |dict, ()| dict.is_empty();
        /// All keys, in order.
        fn keys() -> Vec<K> where [K: Clone] = |dict, ()| dict.keys().cloned().collect();
        /// All values, in the order of their keys.
        fn values() -> Vec<V> where [V: Clone] = |dict, ()| dict.values().cloned().collect();
        /// All keys with their values, in order.
        fn items() -> Vec<(K, V)> where [K: Clone, V: Clone] =
            |dict, ()| dict.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        /// The first `most` keys behind `key` (`None`: from the beginning) with their values: for a dictionary that is too large to be
        /// fetched at once.
        fn items_after(key: Option<K>, most: usize) -> Vec<(K, V)> where [K: Clone, V: Clone] = |dict, (key, most)| {
            let from = key.map_or(Bound::Unbounded, Bound::Excluded);
            let items = dict.range((from, Bound::Unbounded)).take(most);
            items.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        /// Sets the values of many keys.
        fn extend(items: Vec<(K, V)>) -> () = |dict, (items,)| dict.extend(items);
        /// Takes the first key out, with its value.
        fn pop_first() -> Option<(K, V)> = |dict, ()| dict.pop_first();
        /// Drops all.
        fn clear() -> () = |dict, ()| dict.clear();
        /// Sets the value of a key to `value` (`None`: takes it out) if it is `expected` (`None`: if it has none); whether it was.
        fn replace_if(key: K, expected: Option<V>, value: Option<V>) -> bool where [V: PartialEq] =
            |dict, (key, expected, value)| {
                let as_expected = dict.get(&key) == expected.as_ref();
                if as_expected {
                    match value {
                        Some(value) => drop(dict.insert(key, value)),
                        None => drop(dict.remove(&key)),
                    }
                }
                as_expected
            };
        /// Adds to the value of a key, which begins as the default; the sum. Nobody else's addition is lost.
        fn add(key: K, amount: V) -> V where [V: Default + AddAssign + Clone] = |dict, (key, amount)| {
            let value = dict.entry(key).or_default();
            *value += amount;
            value.clone()
        };
    }
}

/// The function of `update`. The function that it calls comes first, as in all such steps: where it is read does not depend on what the
/// program's own encoders have written.
fn change<K: Ord, V, A, R>(
    dict: &mut BTreeMap<K, V>,
    (change, key, args): (Change<V, A, R>, K, A),
) -> Option<R> {
    Some(change.run(dict.get_mut(&key)?, args))
}

/// The function of `update_or_insert`.
fn change_or_insert<K: Ord, V, A, R>(
    dict: &mut BTreeMap<K, V>,
    (change, key, value, args): (Change<V, A, R>, K, V, A),
) -> R {
    change.run(dict.entry(key).or_insert(value), args)
}

impl<K: Value + Ord, V: Value> Dict<K, V> {
    /// Changes the value of a key in place: nobody else's change is lost. `None`: it has none.
    ///
    /// ```no_run
    /// # fn main() -> swath::Result<()> {
    /// let manager = swath::Manager::new()?;
    /// let scores = manager.dict::<String, Vec<u32>>()?;
    /// scores.insert("Ada", vec![3])?;
    /// scores.update("Ada", |all, score| all.push(score), 5_u32)?;
    /// # Ok(()) }
    /// ```
    pub fn update<A: Value, R: Value>(
        &self,
        key: impl Like<K>,
        f: fn(&mut V, A) -> R,
        args: impl Like<A>,
    ) -> Result<Option<R>> {
        self.step(change::<K, V, A, R>, &(Change::of(f)?, key, args))
    }

    /// As [`Dict::update`]; a key that has none gets `value` first.
    pub fn update_or_insert<A: Value, R: Value>(
        &self,
        key: impl Like<K>,
        value: impl Like<V>,
        f: fn(&mut V, A) -> R,
        args: impl Like<A>,
    ) -> Result<R> {
        self.step(change_or_insert::<K, V, A, R>, &(Change::of(f)?, key, value, args))
    }
}

impl<K: Value + Ord, V: Value> Batch<'_, BTreeMap<K, V>> {
    /// Changes the value of a key in place. `None`: it has none.
    pub fn update<A: Value, R: Value>(
        &mut self,
        key: impl Like<K>,
        f: fn(&mut V, A) -> R,
        args: impl Like<A>,
    ) -> Ticket<Option<R>> {
        match Change::of(f) {
            Ok(function) => self.step(change::<K, V, A, R>, &(function, key, args)),
            Err(error) => self.fail(error),
        }
    }
}
