//! The path of a packet. Read this first.
//!
//! ```text
//!                      wire::ipv4, wire::flow: parse
//!                                      |
//!              to an alternative address?  ----- no -----> may a rule match its destination?
//!                         | yes                                |  no: Pass
//!             look up in the reply index           look up in the forward index
//!              |               |                       |            |
//!            found         not found                 found      not found
//!              |               |                       |            |
//!              |     an any-port reply? else drop      |     a rule? open a connection; else Pass
//!              |                                       |
//!       dead? stale? finished? (revisit, rarely)
//!              |                                       |
//!       track: TCP state, sequence numbers, time of last packet
//!              |                                       |
//!       wire::rewrite: both addresses, both ports, checksums by one delta
//!              |                                       |
//!           ToClient                                ToServer
//! ```
//!
//! This file has the part that every packet goes through. The folders have the rest, one file per topic.

mod addresses;
mod connection;
#[cfg(all(test, feature = "alloc"))]
mod consistency;
mod handover;
mod measurements;
mod path;
mod redivert;
#[cfg(feature = "report")]
mod report;
mod rules;
mod span;
mod state;
mod sync;
mod table;
mod transmit;

use crate::config::Config;
use crate::error::ConfigError;
use crate::table::index::Layout;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::Directory;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::verdict::Verdict;

pub use connection::forget::Forgotten;
pub use connection::list::Connections;
#[cfg(feature = "http")]
pub use handover::HttpGet;
pub use handover::{AtRest, Checked, Greeted, HandOvers, Kept, Observed, Outcome, Position, Resumed, Resumption};
pub use measurements::MeasuredServers;
pub use redivert::how::Redivert;
pub use redivert::instruction::{RedivertError, Rediverted};
pub use rules::instruction::{Diverted, Removed};
pub use rules::plan::Plan;
pub use sync::import::Imported;
pub use sync::record::{RECORD_LENGTH, Record, RecordError};
pub use transmit::{TRANSMIT_BUFFER, Transmit};

pub(crate) use state::Table;
#[cfg(feature = "control")]
pub(crate) use {connection::list::MAX_CLIENT_LIMIT, redivert::instruction::place_of, rules::plan::Reservation};

use path::measured::FOR_MEASURED;
use path::resumable::FOR_RESUMABLE;
use state::State;

/// Diverts clients' traffic from the servers that they asked for to other servers, and translates the replies back: the
/// document's proxy process 205 with its address table 207.
///
/// It has no clock, no sockets and no threads. Pass it each packet that the machine forwards, starting at the IPv4
/// header, and do what the [`Verdict`] says; see the [crate's documentation](crate) for the loop around it.
///
/// All methods do a bounded amount of work, whatever the number of connections.
#[derive(Debug)]
// The fields of the state that every packet reads lie at small offsets from the start, before the tables.
#[repr(C)]
pub struct Translator<S> {
    state: State,
    storage: S,
}

impl<S: Storage> Translator<S> {
    /// Creates a translator without rules or connections. Any previous contents of `storage` are cleared.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that cannot be used and its value.
    pub fn new(config: Config, mut storage: S) -> Result<Self, ConfigError> {
        config.check()?;
        let view = storage.view();
        view.check()?;
        let layout = Layout::new(view.index, view.connections.len());
        let for_measured = if S::MEASURES && !view.measured.is_empty() { Some(&FOR_MEASURED) } else { None };
        let for_resumable = if S::RESUMES && !view.resumable.is_empty() { Some(&FOR_RESUMABLE) } else { None };
        storage.clear();
        #[cfg(target_pointer_width = "64")]
        let directory = Directory::new(storage.parts().rule_index);
        let state = State::new(config, layout, for_measured, for_resumable);
        #[cfg(target_pointer_width = "64")]
        let state = {
            // An update of the whole state would be copied in parts.
            let mut state = state;
            state.directory = directory;
            state
        };
        Ok(Self { state, storage })
    }

    /// Translates one packet in place, if it belongs to a connection or a rule matches it.
    ///
    /// `packet` begins with the IPv4 header. Bytes after its total length are padding and are not touched. Its bytes
    /// change if and only if the verdict is [`Verdict::ToServer`] or [`Verdict::ToClient`], and its length never
    /// changes. A packet of another IP version passes.
    ///
    /// `now` is the time at which the packet arrived. A few milliseconds early or late do not matter: an error in `now`
    /// shortens or lengthens the life of a connection by the same amount.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let mut packet = [
    /// #     0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 1, 2, 3, 4, 100, 100, 100, 100, // addresses
    /// #     0x0d, 0x80, 0, 53, 0, 8, 0, 0, // ports, length, no checksum
    /// # ];
    /// byway.divert(Divert::new(Ipv4Addr::new(100, 100, 100, 100)).to(Ipv4Addr::new(123, 45, 67, 89)))?;
    ///
    /// // The packet goes from 1.2.3.4:3456 to 100.100.100.100:53.
    /// assert_eq!(byway.translate(Instant::ZERO, &mut packet), Verdict::ToServer);
    /// assert_eq!(packet[12..20], [10, 10, 10, 10, 123, 45, 67, 89]);
    ///
    /// // The server's answer goes in the other direction, and the client sees it come from 100.100.100.100.
    /// packet[12..20].rotate_left(4);
    /// packet[20..24].rotate_left(2);
    /// assert_eq!(byway.translate(Instant::from_millis(20), &mut packet), Verdict::ToClient);
    /// assert_eq!(packet[12..20], [100, 100, 100, 100, 1, 2, 3, 4]);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[inline]
    pub fn translate(&mut self, now: Instant, packet: &mut [u8]) -> Verdict {
        let late = self.state.advance(now);
        #[cfg(target_pointer_width = "64")]
        if late {
            return self.translate_late(packet);
        }
        #[cfg(target_pointer_width = "64")]
        return self.fast(packet);
        #[cfg(not(target_pointer_width = "64"))]
        self.fast(packet, late)
    }

    #[inline(always)]
    pub(super) fn table(&mut self) -> Table<'_> {
        Table { state: &mut self.state, memory: self.storage.parts() }
    }

    /// Like [`table`](Self::table), for calls that need not be fast: on a small processor each inlined copy takes 120
    /// bytes of flash.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn rare_table(&mut self) -> Table<'_> {
        self.table()
    }
}
