//! A step: one function, at work on one object, with arguments and an answer. It is encoded by a proxy, and decoded and run by the
//! server, which is the same executable: drivers know the types, functions travel by their place in the code.

use std::any::{Any, TypeId, type_name};
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::fault::ManagedError;
use super::frame::{put_run, take_run, take_word};
use crate::error::Result;
use crate::freight::{self, Complete};
use crate::kernel;

/// Encodes an answer when nobody waits for the object any more.
pub(crate) type Answer = Box<dyn FnOnce() -> Result<Vec<u8>, ManagedError>>;

/// Does the step. Panics on an object of another type.
pub(crate) type Run = Box<dyn FnOnce(&mut dyn Any) -> Answer>;

/// A step that was decoded whole, and not begun.
pub(crate) struct Step {
    /// Of the object that it is for.
    pub(crate) type_id: TypeId,
    pub(crate) type_name: &'static str,
    pub(crate) run: Run,
}

/// An object that was made.
pub(crate) struct Made {
    pub(crate) value: Box<dyn Any + Send>,
    pub(crate) type_name: &'static str,
}

type StepDriver = fn(*const (), &[u8]) -> Result<Step, ManagedError>;
type MakeDriver = fn(*const (), &[u8]) -> Result<Made, ManagedError>;

fn decode<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, ManagedError> {
    let failed = |why: &dyn std::fmt::Display| ManagedError::Codec {
        what: format!("arguments of type {} cannot be decoded: {why}", type_name::<A>()),
    };
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(failed(&format_args!("{} bytes too many", rest.len()))),
        Err(error) => Err(failed(&error)),
    }
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ManagedError> {
    let failed = |error| {
        let why = freight::reason(error);
        ManagedError::Codec { what: format!("a value of type {} cannot be encoded: {why}", type_name::<T>()) }
    };
    postcard::to_stdvec(&Complete(value)).map_err(failed)
}

fn drive_step<M, A, R>(function: *const (), args: &[u8]) -> Result<Step, ManagedError>
where
    M: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    // SAFETY: `put_step` names this driver together with a function of exactly this type.
    let function = unsafe { std::mem::transmute::<*const (), fn(&mut M, A) -> R>(function) };
    let args: A = decode(args)?;
    let run = move |object: &mut dyn Any| {
        let answer = function(object.downcast_mut().expect("its type was compared"), args);
        Box::new(move || encode(&answer)) as Answer
    };
    Ok(Step { type_id: TypeId::of::<M>(), type_name: type_name::<M>(), run: Box::new(run) })
}

fn drive_make<M, A>(function: *const (), args: &[u8]) -> Result<Made, ManagedError>
where
    M: Send + 'static,
    A: DeserializeOwned,
{
    // SAFETY: `put_make` names this driver together with a function of exactly this type.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> M>(function) };
    let value = Box::new(function(decode(args)?));
    Ok(Made { value, type_name: type_name::<M>() })
}

fn put(out: &mut Vec<u8>, driver: *const (), function: *const (), args: &[u8]) -> Result<()> {
    out.extend_from_slice(&kernel::name_of(driver)?.to_le_bytes());
    out.extend_from_slice(&kernel::name_of(function)?.to_le_bytes());
    put_run(out, args);
    Ok(())
}

/// Appends a step. `args` is encoded as an `A` is.
pub(crate) fn put_step<M, A, R>(
    out: &mut Vec<u8>,
    function: fn(&mut M, A) -> R,
    args: &impl Serialize,
) -> Result<()>
where
    M: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    put(out, drive_step::<M, A, R> as StepDriver as *const (), function as *const (), &encode(args)?)
}

/// Appends the making of an object.
pub(crate) fn put_make<M, A>(out: &mut Vec<u8>, function: fn(A) -> M, args: &impl Serialize) -> Result<()>
where
    M: Send + 'static,
    A: DeserializeOwned,
{
    put(out, drive_make::<M, A> as MakeDriver as *const (), function as *const (), &encode(args)?)
}

/// Takes driver, function and arguments off the beginning.
fn take<'a, D: Copy>(rest: &mut &'a [u8]) -> Option<(D, *const (), &'a [u8])> {
    let (driver, function) = (take_word(rest)?, take_word(rest)?);
    let args = take_run(rest)?;
    // SAFETY: 1. who sent this knows the manager's secret, which only proxies have, and `put` wrote it there: `D` is the driver's
    // type by the frame's verb.
    let driver = unsafe { kernel::function::<D>(driver) }?;
    Some((driver, kernel::address_of(function)?, args))
}

fn malformed() -> ManagedError {
    ManagedError::Codec { what: "a message that no proxy has written".to_owned() }
}

/// All steps of a message. One that cannot be decoded is an error of the whole.
pub(crate) fn take_steps(mut rest: &[u8]) -> Result<Vec<Step>, ManagedError> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (driver, function, args) = take::<StepDriver>(&mut rest).ok_or_else(malformed)?;
        steps.push(driver(function, args)?);
    }
    Ok(steps)
}

/// Makes the object of a message.
pub(crate) fn take_make(mut rest: &[u8]) -> Result<Made, ManagedError> {
    let (driver, function, args) = take::<MakeDriver>(&mut rest).ok_or_else(malformed)?;
    if rest.is_empty() { driver(function, args) } else { Err(malformed()) }
}

/// A function as an argument of a step: one that changes a value inside an object. It comes *before* all arguments that the program's own
/// types encode: one that is decoded with fewer bytes, or more, than it was encoded with would have something else taken for it.
pub(crate) struct Change<V, A, R> {
    name: u64,
    marker: PhantomData<fn(&mut V, A) -> R>,
}

impl<V, A, R> Change<V, A, R> {
    pub(crate) fn of(function: fn(&mut V, A) -> R) -> Result<Change<V, A, R>> {
        Ok(Change { name: kernel::name_of(function as *const ())?, marker: PhantomData })
    }

    pub(crate) fn run(&self, value: &mut V, args: A) -> R {
        // SAFETY: 1. `of` named a function of this type, the step that has it as an argument has its types, and it was decoded from
        // where it was encoded: nothing else comes before it.
        let function = unsafe { kernel::function::<fn(&mut V, A) -> R>(self.name) };
        function.expect("checked when it was decoded")(value, args)
    }
}

impl<V, A, R> Serialize for Change<V, A, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name.serialize(serializer)
    }
}

impl<'de, V, A, R> Deserialize<'de> for Change<V, A, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = u64::deserialize(deserializer)?;
        match kernel::address_of(name) {
            Some(_) => Ok(Change { name, marker: PhantomData }),
            None => Err(de::Error::custom("its function is not in the executable")),
        }
    }
}
