//! A counter of keys in a manager, and its operations.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Value;
use super::proxy::{Proxy, operations};

/// How often each key was counted, in a manager: Python's `collections.Counter`.
pub type Counter<K> = Proxy<Tally<K>>;

/// What a [`Counter`] has in its manager. A key that was never counted has 0, and takes no room; counts end at the limits of an `i64`.
#[derive(Clone, Debug)]
pub struct Tally<K>(BTreeMap<K, i64>);

impl<K> Default for Tally<K> {
    fn default() -> Tally<K> {
        Tally(BTreeMap::new())
    }
}

impl<K: Ord> Tally<K> {
    fn add(&mut self, key: K, amount: i64) -> i64 {
        let count = self.0.entry(key).or_default();
        *count = count.saturating_add(amount);
        *count
    }
}

operations! {
    impl[K: Value + Ord] Tally<K> {
        /// Adds to a key's count, which may become negative; the count. Nobody else's addition is lost.
        fn add(key: K, amount: i64) -> i64 = |tally, (key, amount)| tally.add(key, amount);
        /// Adds to many counts.
        fn add_all(amounts: Vec<(K, i64)>) -> () = |tally, (amounts,)| {
            for (key, amount) in amounts {
                tally.add(key, amount);
            }
        };
        /// Counts each of these once.
        fn count(keys: Vec<K>) -> () = |tally, (keys,)| {
            for key in keys {
                tally.add(key, 1);
            }
        };
        /// A key's count; 0 if it was never counted.
        fn get(key: K) -> i64 = |tally, (key,)| tally.0.get(&key).copied().unwrap_or(0);
        /// Forgets a key; its count.
        fn remove(key: K) -> i64 = |tally, (key,)| tally.0.remove(&key).unwrap_or(0);
        /// How many keys.
        fn len() -> usize = |tally, ()| tally.0.len();
        /// Whether there are none.
        fn is_empty() -> bool = |tally, ()| tally.0.is_empty();
        /// The sum of all counts.
        fn total() -> i64 = |tally, ()| tally.0.values().fold(0_i64, |sum, count| sum.saturating_add(*count));
        /// The `most` keys with the largest counts, largest first; of equal ones the smaller key first.
        fn most_common(most: usize) -> Vec<(K, i64)> where [K: Clone] = |tally, (most,)| {
            let mut all: Vec<_> = tally.0.iter().collect();
            all.sort_by_key(|(_, count)| Reverse(**count));
            all.into_iter().take(most).map(|(key, count)| (key.clone(), *count)).collect()
        };
        /// All keys with their counts, in the order of the keys.
        fn items() -> Vec<(K, i64)> where [K: Clone] =
            |tally, ()| tally.0.iter().map(|(key, count)| (key.clone(), *count)).collect();
        /// Forgets all keys.
        fn clear() -> () = |tally, ()| tally.0.clear();
    }
}
