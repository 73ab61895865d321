//! The enhanced naming server (the document's Figure 5): answers queries for a predetermined set of names from its own
//! table, and lets all others pass to the DNS server untouched.
//!
//! ```text
//!   clients            this machine                       DNS server
//!      |  query www.bt.com  |                                 |
//!      | -----------------> |  in the table                   |
//!      |  100.100.100.100   |                                 |
//!      | <----------------- |                                 |
//!      |  query example.org |                                 |
//!      | -----------------> | ------- bit for bit ----------> |
//!      | <-------------------------------------------------- |
//! ```
//!
//! Next to a [`Translator`](crate::Translator) it does what no other naming server can. A name is answered with an
//! original destination that a rule diverts ([`Names::divert`]), so when the name moves to another server
//! ([`Names::redivert`]), **every client follows with its next packet**: those that have cached the answer for a day, and
//! those in the middle of a connection.
//!
//! - [`Names::intercept`] takes IPv4 packets, where the machine forwards them; [`Names::intercept_burst`] takes many at once.
//! - [`Names::answer`] takes a message from a socket, and [`Names::answer_stream`] those of a TCP connection.
//! - [`Relay`] takes a query for another name, where clients ask this machine and the DNS server is elsewhere.
//! - [`Names::insert`], [`Names::remove`] and [`Names::entries`] are the instructions.
//!
//! A name in the table has an A record and nothing else. AAAA, HTTPS, SVCB and all other types get "no data", so that
//! no client bypasses the entry with another type. Answers are not signed, so a client that validates signed names
//! itself rejects them as forged; see `docs/naming.md`, which covers this RFC by RFC.

mod burst;
mod config;
mod cookie;
mod counters;
mod entry;
mod index;
#[cfg(feature = "control")]
mod instructed;
mod list;
mod lookup;
mod name;
mod packet;
mod pool;
mod question;
mod relay;
mod respond;
mod rules;
mod storage;
mod stream;
mod table;

pub use config::NamesConfig;
pub use counters::{NameCounters, Outcome};
pub use entry::{EntryError, Inserted, MAX_ADDRESSES, MAX_CLIENT_PREFIXES, MAX_TTL, NameEntry, WeightedAddress};
#[cfg(feature = "control")]
pub(crate) use instructed::NameRoom;
#[cfg(feature = "control")]
pub use instructed::NameTable;
pub use list::ListedName;
pub use name::{Name, Pattern};
pub use packet::MAX_ANSWER_PACKET;
#[cfg(feature = "alloc")]
pub use relay::HeapRelay;
pub use relay::{
    BorrowedRelay, FixedRelay, MAX_RELAY_QUERY, MAX_RELAY_SERVERS, RELAY_INDEX_WORDS, Relay, RelayConfig,
    RelayCounters, RelayError, RelayNotice, RelayOutcome, RelayRecord, RelayRecordError, RelaySlot, RelayStorage,
    Relayed,
};
pub use respond::{Answered, MAX_ANSWER, Transport};
#[cfg(feature = "control")]
pub(crate) use rules::one_address;
pub use rules::{NameDiverted, TieError};
#[cfg(feature = "alloc")]
pub use storage::HeapNames;
pub use storage::{BorrowedNames, FixedNames, NAME_INDEX_WORDS, NameSlot, NameStorage, RateSlot};
pub use stream::{MAX_STREAM_ANSWER, Next, Streamed};
pub use table::Names;
#[cfg(feature = "control")]
pub(crate) use table::check;
