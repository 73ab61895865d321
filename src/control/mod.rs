//! Instructions from a network monitor, over a port that the traffic does not use: the document's port 213.
//!
//! Both sides are here, and neither has a socket or a clock: [`Agent`] is the translator's side, [`Client`] the
//! monitor's. The protocol between them, and the attackers it withstands, are described in `docs/control-protocol.md`,
//! which is complete enough to implement either side independently.
//!
//! ```text
//!  monitor                              translator
//!     |  HELLO      key, nonce              |   authenticated with the key
//!     | ----------------------------------> |
//!     |  CHALLENGE  nonce, number           |   costs no memory, never larger than the HELLO
//!     | <---------------------------------- |
//!     |  OPEN       number                  |   authenticated with the key of the session, from here on
//!     | ----------------------------------> |
//!     |  ANSWER 0                           |
//!     | <---------------------------------- |
//!     |  REQUEST 1  instructions            |   sent again until it is answered
//!     | ----------------------------------> |
//!     |  ANSWER 1   what happened           |   kept: a repetition gets the same
//!     | <---------------------------------- |
//!     |  EVENTS 1   what was subscribed to  |
//!     | <---------------------------------- |
//! ```
//!
//! Nothing is encrypted. Where that matters, run it inside a tunnel.

mod agent;
mod answer;
mod apply;
mod authentication;
mod client;
mod code;
mod datagram;
#[cfg(feature = "naming")]
mod entry;
mod event_sender;
mod forms;
mod instruction;
mod lead;
mod measured;
mod names;
#[cfg(feature = "naming")]
mod naming;
mod pages;
mod refused;
mod report;
mod request;
mod rule;
mod server_page;
mod session;
mod several;
mod standing;
mod subject;
mod subscriber;
mod translators;
mod wire;
#[cfg(feature = "naming")]
mod with_names;

use core::time::Duration;

pub use agent::Agent;
pub use answer::{Answer, Events, ListedRule, MAX_LISTED_SERVERS, RefusedBy, Settings};
pub use authentication::{Key, KeyError, Rights};
pub use client::{Client, GaveUp, Ignored, Incoming, SendError};
pub use code::{Code, Effect, Outcome};
pub use datagram::{MAX_ANSWER, MAX_REQUEST, VERSION};
#[cfg(feature = "naming")]
pub use entry::{ListedEntry, NameSizes, NamedEntry};
pub use instruction::{Instruction, Kinds, MAX_INTERVAL, MAX_SUBSCRIPTION, MIN_INTERVAL};
pub use measured::{MeasuredServer, ServerPage};
pub use names::counter_name;
pub use refused::Refused;
pub use report::Report;
pub use request::{Request, TooLong};
pub use rule::{MAX_SERVERS, Rule};
pub use standing::{Lead, MAX_LEASE, MAX_NOTE, MIN_LEASE, Note};
pub use translators::Translators;
#[cfg(feature = "naming")]
pub use with_names::{NameRights, WithNames};

/// How many instructions one request can hold.
pub const MAX_INSTRUCTIONS: usize = 16;

/// How long a session lives without a new request. Events sent to a subscription do not refresh it: renewing the
/// subscription does.
pub const SESSION_IDLE: Duration = Duration::from_secs(3600);
