//! Shared channels for messages of any size: `MessageQueue`, `Pipe`. Bytes, or whatever serde can encode.
//!
//! A long message lies behind the object in its segment's file, outside of every mapping, and is given back when it has been
//! received.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use swath_sync::{
    Announced, MessageQueue, MessageQueueError, Party, Pipe, PipeEnd, PipeError, PipeSide, Waitable,
};

use super::{Refused, Shared, forward_sure};
use crate::error::{Error, ErrorKind};
use crate::freight;

/// Why a value was not sent or received.
#[derive(Debug)]
pub enum MessageError<E> {
    /// The channel refused.
    Refused(Refused<E>),
    /// The value cannot be encoded, or what was received is no such value (it is gone then).
    Codec {
        /// The channel.
        object: String,
        /// What the encoding says.
        why: String,
    },
}

impl<E: fmt::Display> fmt::Display for MessageError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Refused(refused) => refused.fmt(f),
            MessageError::Codec { object, why } => write!(f, "{object}: {why}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for MessageError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MessageError::Refused(refused) => refused.source(),
            MessageError::Codec { .. } => None,
        }
    }
}

impl<E> From<Refused<E>> for MessageError<E> {
    fn from(refused: Refused<E>) -> Self {
        MessageError::Refused(refused)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<MessageError<E>> for Error {
    fn from(error: MessageError<E>) -> Error {
        match error {
            MessageError::Refused(refused) => refused.into(),
            MessageError::Codec { .. } => ErrorKind::Codec.with(error.to_string()),
        }
    }
}

fn encode<M: Serialize + ?Sized, E>(object: &str, message: &M) -> Result<Vec<u8>, MessageError<E>> {
    let why = |error| format!("a {} cannot be encoded: {error}", std::any::type_name::<M>());
    freight::encode(message).map_err(|e| MessageError::Codec { object: object.to_owned(), why: why(e) })
}

fn decode<M: DeserializeOwned, E>(object: &str, bytes: &[u8]) -> Result<M, MessageError<E>> {
    let why = |error| format!("what was received is no {}: {error}", std::any::type_name::<M>());
    postcard::from_bytes(bytes).map_err(|e| MessageError::Codec { object: object.to_owned(), why: why(e) })
}

/// Both kinds of a method for each form: bytes, and values.
macro_rules! queue_forms {
    ($($when:literal: $put:ident $put_bytes:ident $get:ident $get_bytes:ident = $put_own:ident $get_own:ident($($arg:ident: $ty:ty)?);)*) => {
        $(
            #[doc = concat!("Puts a value, encoded", $when, ".")]
            ///
            /// # Errors
            ///
            /// As [`MessageQueue::put`], with the queue's name; the value cannot be encoded.
            pub fn $put<M: Serialize + ?Sized>(&self, message: &M $(, $arg: $ty)?) -> Result<(), MessageError<MessageQueueError>> {
                Ok(self.$put_bytes(&encode(&self.label(), message)? $(, $arg)?)?)
            }

            #[doc = concat!("Puts bytes", $when, ".")]
            ///
            /// # Errors
            ///
            /// As [`MessageQueue::put`], with the queue's name.
            pub fn $put_bytes(&self, message: &[u8] $(, $arg: $ty)?) -> Result<(), Refused<MessageQueueError>> {
                self.ask(|queue, me| queue.$put_own(me, &*self.object, message $(, $arg)?))
            }

            #[doc = concat!("Gets a value, decoded", $when, ".")]
            ///
            /// # Errors
            ///
            /// As [`MessageQueue::get`], with the queue's name; the message is no such value, and gone.
            pub fn $get<M: DeserializeOwned>(&self $(, $arg: $ty)?) -> Result<M, MessageError<MessageQueueError>> {
                decode(&self.label(), &self.$get_bytes($($arg)?)?)
            }

            #[doc = concat!("Gets bytes", $when, ".")]
            ///
            /// # Errors
            ///
            /// As [`MessageQueue::get`], with the queue's name.
            pub fn $get_bytes(&self $(, $arg: $ty)?) -> Result<Vec<u8>, Refused<MessageQueueError>> {
                self.ask(|queue, me| queue.$get_own(me, &*self.object $(, $arg)?))
            }
        )*
    };
}

impl Shared<MessageQueue> {
    queue_forms! {
        ", however long that lasts": put put_bytes get get_bytes = put get();
        " if that is possible without waiting": try_put try_put_bytes try_get try_get_bytes = try_put try_get();
        ", waiting at most for `timeout`":
            put_timeout put_bytes_timeout get_timeout get_bytes_timeout = put_timeout get_timeout(timeout: Duration);
        ", waiting at most until `deadline`":
            put_deadline put_bytes_deadline get_deadline get_bytes_deadline = put_deadline get_deadline(deadline: Instant);
    }
    forward_sure! {
        /// Puts are refused from now on; gets are, when all that was put has been got.
        fn close() -> ();
        /// Messages that wait to be got.
        fn len() -> usize;
        /// Whether no message waits.
        fn is_empty() -> bool;
    }
}

impl Shared<Pipe> {
    /// Takes an end that nobody living holds.
    ///
    /// # Errors
    ///
    /// A living party holds it.
    pub fn end(&self, side: PipeSide) -> Result<SharedPipeEnd<'_>, Refused<PipeError>> {
        let (end, me) = self.ask(|pipe, me| Ok((pipe.end(me, &*self.object, side)?, *me)))?;
        Ok(SharedPipeEnd { end, me, label: self.label() })
    }

    forward_sure! {
        /// Nothing is sent any more, either way.
        fn close() -> ();
    }
}

/// One end of a shared pipe, given back when dropped.
pub struct SharedPipeEnd<'p> {
    end: PipeEnd<'p>,
    pub(super) me: Party,
    label: String,
}

macro_rules! pipe_forms {
    ($($when:literal: $send:ident $send_bytes:ident $recv:ident $recv_bytes:ident($($arg:ident: $ty:ty)?);)*) => {
        $(
            #[doc = concat!("Sends a value, encoded", $when, ".")]
            ///
            /// # Errors
            ///
            /// The other end died or closed the pipe; time; no room; the value cannot be encoded.
            pub fn $send<M: Serialize + ?Sized>(&mut self, message: &M $(, $arg: $ty)?) -> Result<(), MessageError<PipeError>> {
                Ok(self.$send_bytes(&encode(&self.label, message)? $(, $arg)?)?)
            }

            #[doc = concat!("Sends bytes", $when, ".")]
            ///
            /// # Errors
            ///
            /// The other end died or closed the pipe; time; no room.
            pub fn $send_bytes(&mut self, message: &[u8] $(, $arg: $ty)?) -> Result<(), Refused<PipeError>> {
                let SharedPipeEnd { end, label, .. } = self;
                end.$send_bytes(message $(, $arg)?).map_err(|why| Refused { object: label.clone(), why: Ok(why) })
            }

            #[doc = concat!("Receives a value, decoded", $when, ".")]
            ///
            /// # Errors
            ///
            /// The other end died or closed the pipe, and all that it sent was received; time; no such value.
            pub fn $recv<M: DeserializeOwned>(&mut self $(, $arg: $ty)?) -> Result<M, MessageError<PipeError>> {
                decode(&self.label.clone(), &self.$recv_bytes($($arg)?)?)
            }

            #[doc = concat!("Receives bytes", $when, ".")]
            ///
            /// # Errors
            ///
            /// The other end died or closed the pipe, and all that it sent was received; time.
            pub fn $recv_bytes(&mut self $(, $arg: $ty)?) -> Result<Vec<u8>, Refused<PipeError>> {
                let SharedPipeEnd { end, label, .. } = self;
                end.$recv_bytes($($arg)?).map_err(|why| Refused { object: label.clone(), why: Ok(why) })
            }
        )*
    };
}

impl SharedPipeEnd<'_> {
    pipe_forms! {
        ", however long that lasts": send send_bytes recv recv_bytes();
        " if that is possible without waiting": try_send try_send_bytes try_recv try_recv_bytes();
        ", waiting at most for `timeout`": send_timeout send_bytes_timeout recv_timeout recv_bytes_timeout(timeout: Duration);
        ", waiting at most until `deadline`": send_deadline send_bytes_deadline recv_deadline recv_bytes_deadline(deadline: Instant);
    }

    /// Waits at most for `timeout`; says whether a receive would not wait.
    pub fn poll(&mut self, timeout: Duration) -> bool {
        self.end.poll(timeout)
    }
}

/// Ready when a receive would not wait.
impl Waitable for SharedPipeEnd<'_> {
    fn is_ready(&self, _party: &Party) -> bool {
        self.end.is_ready(&self.me)
    }

    fn announce(&self, _party: &Party) -> Announced<'_> {
        self.end.announce(&self.me)
    }
}

impl fmt::Debug for SharedPipeEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPipeEnd({})", self.label)
    }
}
