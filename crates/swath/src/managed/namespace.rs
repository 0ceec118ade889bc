//! A namespace in a manager, and its operations.

use std::any::{Any, type_name};
use std::collections::BTreeMap;

use super::Value;
use super::proxy::{Like, Proxy, operations};
use super::step::Change;
use crate::error::{ErrorKind, Result};

/// Named values in a manager, each of a type of its own.
pub type Namespace = Proxy<Names>;

/// What a [`Namespace`] has in its manager.
#[derive(Default)]
pub struct Names(BTreeMap<String, Named>);

struct Named {
    value: Box<dyn Any + Send>,
    type_name: &'static str,
}

/// The type that a name has instead of the one that was asked for.
type Other = String;

impl Names {
    fn find<T: 'static>(&mut self, name: &str) -> Result<Option<&mut T>, Other> {
        let Some(Named { value, type_name }) = self.0.get_mut(name) else { return Ok(None) };
        value.downcast_mut().map(Some).ok_or_else(|| (*type_name).to_owned())
    }
}

fn of_type<T, R>(name: &str, found: Result<R, Other>) -> Result<R> {
    let wanted = type_name::<T>();
    found.map_err(|is| ErrorKind::Usage.with(format!("{name:?} is a {is} in the namespace, not a {wanted}")))
}

operations! {
    impl[] Names {
        /// Takes a name out; whether it was there.
        fn remove(name: String) -> bool = |names, (name,)| names.0.remove(&name).is_some();
        /// Whether a name is there.
        fn contains(name: String) -> bool = |names, (name,)| names.0.contains_key(&name);
        /// All names, each with the name of its type, in order.
        fn names() -> Vec<(String, String)> = |names, ()| {
            names.0.iter().map(|(name, named)| (name.clone(), named.type_name.to_owned())).collect()
        };
    }
}

/// The function of `update`.
fn change<T: 'static, A, R>(
    names: &mut Names,
    (change, name, args): (Change<T, A, R>, String, A),
) -> Result<Option<R>, Other> {
    Ok(names.find::<T>(&name)?.map(|value| change.run(value, args)))
}

impl Namespace {
    /// Sets the value of a name, whatever type it had before.
    pub fn set<T: Value + Send>(&self, name: &str, value: impl Like<T>) -> Result<()> {
        let set: fn(&mut Names, (String, T)) = |names, (name, value)| {
            names.0.insert(name, Named { value: Box::new(value), type_name: type_name::<T>() });
        };
        self.step(set, &(name, value))
    }

    /// The value of a name; `None`: there is no such name.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if it is of another type.
    pub fn get<T: Value + Clone>(&self, name: &str) -> Result<Option<T>> {
        let get: fn(&mut Names, (String,)) -> Result<Option<T>, Other> =
            |names, (name,)| Ok(names.find::<T>(&name)?.cloned());
        of_type::<T, _>(name, self.step(get, &(name,))?)
    }

    /// Changes the value of a name in place: nobody else's change is lost. `None`: there is no such name.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if it is of another type.
    pub fn update<T: Value, A: Value, R: Value>(
        &self,
        name: &str,
        f: fn(&mut T, A) -> R,
        args: impl Like<A>,
    ) -> Result<Option<R>> {
        of_type::<T, _>(name, self.step(change::<T, A, R>, &(Change::of(f)?, name, args))?)
    }
}
