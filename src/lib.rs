//! A `no_std` translator that moves a client's traffic from the server it asked for to another one, even in
//! mid-connection, and the client never notices.

#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(not(target_arch = "x86_64"), forbid(unsafe_code))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
mod connection;
mod counters;
mod endpoint;
mod event;
mod prefetch;
mod table;
mod time;
mod track;
mod translator;
mod verdict;
mod wire;

pub use config::{Checksums, Config, ConfigError, InexactReset, MAX_ALTERNATIVES, Midstream, PortChoice, Timeouts};
pub use connection::{Connection, Direction, Measured, State, Volume};
pub use counters::Counters;
pub use endpoint::{Pair, Prefix, Protocol};
pub use event::{Closed, Event};
pub use table::divert::{Divert, DivertEntry, DivertError, Match, Target, Weighted};
#[cfg(feature = "alloc")]
pub use table::storage::Heap;
pub use table::storage::{Borrowed, Fixed, INDEX_WORDS, Storage};
pub use time::Instant;
pub use translator::{
    Connections, Diverted, Imported, RECORD_LENGTH, Record, RecordError, Redivert, RedivertError, Rediverted, Removed,
    TRANSMIT_BUFFER, Translator, Transmit,
};
pub use verdict::{DropReason, Verdict};

/// The slots that [`Borrowed`] storage is made of.
pub mod slots {
    pub use crate::event::EventSlot as Event;
    pub use crate::table::connection::ConnectionSlot as Connection;
    pub use crate::table::divert::DivertSlot as Divert;
    pub use crate::table::moves::MoveSlot as Move;
    pub use crate::table::server::ServerSlot as Server;
    pub use crate::track::fragments::FragmentSlot as Fragment;
    pub use crate::track::measure::MeasureSlot as Measure;
}
