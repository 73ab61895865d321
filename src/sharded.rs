//! A set of translators that share nothing, one per core.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use crate::config::Config;
use crate::connection::Connection;
use crate::counters::Counters;
use crate::divert::{Divert, Match, Target};
use crate::error::ConfigError;
use crate::event::Event;
use crate::packet_meta::PacketMeta;
use crate::sharding::{Owner, Sharding, ShardingError};
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::timeouts::Timeouts;
use crate::translator::{
    Diverted, Forgotten, Imported, Record, RecordError, Redivert, RedivertError, Rediverted, Removed, Translator,
    Transmit,
};
use crate::verdict::Verdict;

/// A set of translators ("shards") with the same rules and disjoint alternative ports. Each connection, with all of its
/// packets, belongs to one of them.
///
/// # On several cores
///
/// Give each thread one translator ([`Sharded::into_shards`], or [`Sharded::shards_mut`] and scoped threads), and a
/// copy of [`Sharded::sharding`]. A thread that receives a packet asks [`Sharding::owner`]. It translates the packet if
/// its own shard is the owner, and passes it to the owner's queue otherwise; [`Owner::Every`] means a copy for each. No
/// translator is ever locked, and no two cores write to the same cache line except in those queues.
///
/// ```
/// use byway::{Config, Divert, Heap, Instant, Owner, Sharded, Verdict};
/// use core::net::{Ipv4Addr, SocketAddrV4};
/// use std::sync::mpsc;
/// # fn send(_: Vec<u8>) {}
/// # let received: Vec<Vec<u8>> = Vec::new();
///
/// // Two addresses, so that each of the two shards has its own.
/// let (first, last) = (Ipv4Addr::new(10, 10, 10, 10), Ipv4Addr::new(10, 10, 10, 11));
/// let config = Config::new([7; 32]).alternatives(first, last, 1024..=65535);
/// let mut sharded = Sharded::new(config, [Heap::new(1_000, 16), Heap::new(1_000, 16)])?;
/// let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
/// sharded.divert(Divert::new(original).to(Ipv4Addr::new(123, 45, 67, 89)))?;
///
/// let sharding = sharded.sharding();
/// let mut queues = Vec::new();
/// let mut threads = Vec::new();
/// for mut translator in sharded.into_shards() {
///     let (queue, packets) = mpsc::channel::<(Instant, Vec<u8>)>();
///     queues.push(queue);
///     threads.push(std::thread::spawn(move || {
///         for (now, mut packet) in packets {
///             match translator.translate(now, &mut packet) {
///                 Verdict::ToServer | Verdict::ToClient | Verdict::Pass => send(packet),
///                 Verdict::Hold | Verdict::Drop(_) => {}
///             }
///         }
///         translator // with its counters and connections
///     }));
/// }
/// for packet in received {
///     let owner = sharding.owner(&packet);
///     for (shard, queue) in queues.iter().enumerate().filter(|(shard, _)| owner.includes(*shard)) {
///         queue.send((Instant::ZERO, packet.clone()))?;
///     }
/// }
/// # drop(queues);
/// # assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Getting packets to their owner's core
///
/// Passing a packet on costs a queue operation and a cache miss; steering that agrees with [`Sharding::owner`] avoids
/// it. Steering need not always agree, since every packet's owner is looked up: a packet on the wrong core is passed
/// on.
///
/// - **Receive-side scaling** distributes packets by a hash of their addresses and ports, and fragments, which have no
///   ports, by their addresses alone, so one connection's packets reach two cores. *Server side*: if each shard has its
///   own address, one rule per shard in the network card is exact, including fragments and ICMP errors, where its
///   driver accepts such rules: `ethtool -N DEVICE flow-type ip4 dst-ip ADDRESS action QUEUE`, for the addresses that
///   [`Sharding::alternatives`] lists. *Client side*: no card computes our keyed hash. Whatever the card hashes, some
///   packets reach a core other than their owner's; a hash of the source address alone (DPDK: `L3_SRC_ONLY`) at least
///   keeps each client's packets in order until they are passed on.
/// - **XDP** can compute [`Sharding::owner`] exactly: it is a hash ([`Sharding::client_key`]) or a comparison of
///   addresses and ports. A `cpumap` redirects to the owner's core.
/// - **Multi-queue TUN** (`IFF_MULTI_QUEUE`): open one queue per shard, and let the shard's thread write the packets
///   that it has translated to its own queue. Linux delivers packets of a flow to the queue that last wrote one of that
///   flow, in either direction, so the rest of a connection reaches its owner in both directions. First packets and
///   fragments arrive on any queue: look up their owner.
/// - **`SO_REUSEPORT`**, where packets arrive in the datagrams of a tunnel: the kernel chooses the socket by the outer
///   addresses, so everything inside the tunnel of one peer reaches one thread. Look up the owner of the inner packet,
///   or choose the socket by that owner with `SO_ATTACH_REUSEPORT_EBPF`.
///
/// Held copies of a later fragment ([`Owner::Every`]) may belong to another shard: keep them no longer than any
/// fragment that waits for its first ([`Translator::hold_until`]), and limit their number.
///
/// # What a set does not do
///
/// A rule with a target cannot keep the source ([`ShardingError::KeptSource`]). A port forward on an alternative
/// address (a rule whose original is that address) belongs entirely to one shard where the address, or the port,
/// belongs to one. [`PortChoice::Keep`](crate::PortChoice::Keep) and [`SameRange`](crate::PortChoice::SameRange) look
/// for a port in the shard's own part of the range.
#[derive(Debug)]
pub struct Sharded<S> {
    shards: Vec<Apart<S>>,
    sharding: Sharding,
}

/// A translator on its own cache lines, aligned to pairs of lines as processors fetch them: its neighbour runs on
/// another core.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<S>(Translator<S>);

impl<S: Storage> Sharded<S> {
    /// Creates a translator for each of `storages`, all with `config` except for their shares of the alternative
    /// addresses and ports. Any previous contents of the storages are cleared.
    ///
    /// # Errors
    /// [`ShardingError`] says what cannot be divided, or what is wrong with the configuration or a storage.
    pub fn new(config: Config, storages: impl IntoIterator<Item = S>) -> Result<Self, ShardingError> {
        let storages: Vec<S> = storages.into_iter().collect();
        let sharding = Sharding::new(&config, storages.len())?;
        let of_shard = |(shard, storage)| {
            let config = sharding.config(&config, shard)?;
            Some(Translator::new(config, storage).map(Apart))
        };
        let shards: Result<_, ConfigError> = storages.into_iter().enumerate().filter_map(of_shard).collect();
        Ok(Self { shards: shards.map_err(ShardingError::Config)?, sharding })
    }

    /// The function that finds a packet's owner, for each thread that receives packets.
    #[must_use]
    pub const fn sharding(&self) -> Sharding {
        self.sharding
    }

    /// The translators, in the order of their numbers.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = &Translator<S>> {
        self.shards.iter().map(|shard| &shard.0)
    }

    /// The translators, for lending one to each thread. A change to the rules of one must be made to all, or the set no
    /// longer translates as one.
    pub fn shards_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Translator<S>> {
        self.shards.iter_mut().map(|shard| &mut shard.0)
    }

    /// The translators, for moving one to each thread. Instructions must then be given to each of them. They have the
    /// same rules, so they refuse the same instructions, except for lack of room.
    pub fn into_shards(self) -> impl ExactSizeIterator<Item = Translator<S>> {
        self.shards.into_iter().map(|shard| shard.0)
    }

    /// Translates one packet in place on the shard that owns it, as [`Translator::translate`] does: for a single thread
    /// that has the whole set.
    ///
    /// A later fragment that may belong to any shard is offered to one after the other. Each shard that has not seen
    /// its first fragment counts it as held.
    pub fn translate(&mut self, now: Instant, packet: &mut [u8]) -> Verdict {
        match self.sharding.owner(packet) {
            Owner::One(shard) => match self.shards.get_mut(shard) {
                Some(shard) => shard.0.translate(now, packet),
                None => Verdict::Pass,
            },
            Owner::Every => {
                let mut verdicts = self.shards_mut().map(|shard| shard.translate(now, packet));
                verdicts.find(|verdict| *verdict != Verdict::Hold).unwrap_or(Verdict::Hold)
            }
        }
    }

    /// Like [`translate`](Self::translate), with what the driver knows about the packet besides its bytes, as
    /// [`Translator::translate_with`] does.
    pub fn translate_with(&mut self, now: Instant, packet: &mut [u8], meta: PacketMeta) -> Verdict {
        match self.sharding.owner(packet) {
            Owner::One(shard) => match self.shards.get_mut(shard) {
                Some(shard) => shard.0.translate_with(now, packet, meta),
                None => Verdict::Pass,
            },
            // Only fragments have every shard as owner, and metadata makes no difference to them.
            Owner::Every => self.translate(now, packet),
        }
    }

    /// Adds a rule to every shard, or to none: [`Translator::divert`].
    ///
    /// # Errors
    /// [`ShardingError::KeptSource`], or [`ShardingError::Divert`] with what is wrong; nothing has changed then.
    pub fn divert(&mut self, divert: Divert<'_>) -> Result<Diverted, ShardingError> {
        self.sharding.check(&divert)?;
        for shard in self.shards_mut() {
            shard.plan().divert(&divert).map_err(ShardingError::Divert)?;
        }
        // An instruction that its plan accepts is accepted by the translator.
        let done = self.shards_mut().map(|shard| shard.divert(divert).map_err(ShardingError::Divert));
        sum(done, |all, one| all.left_behind = all.left_behind.saturating_add(one.left_behind))
    }

    /// Removes the rule with exactly this match from every shard: [`Translator::remove`]. `None` if there is none.
    pub fn remove(&mut self, matches: impl Into<Match>) -> Option<Removed> {
        let matches = matches.into();
        let done = self.shards_mut().filter_map(|shard| shard.remove(matches));
        done.reduce(|all, one| Removed { left_behind: all.left_behind.saturating_add(one.left_behind), ..all })
    }

    /// Re-diverts in every shard, or in none: [`Translator::redivert`].
    ///
    /// # Errors
    /// [`RedivertError`] says what is wrong; nothing has changed then.
    pub fn redivert(
        &mut self,
        from: impl Into<Target>,
        to: impl Into<Target>,
        how: Redivert,
    ) -> Result<Rediverted, RedivertError> {
        let (from, to) = (from.into(), to.into());
        for shard in self.shards_mut() {
            shard.plan().redivert(from, to, how)?;
        }
        // As in `divert`: the plan has accepted it.
        let done = self.shards_mut().map(|shard| shard.redivert(from, to, how));
        sum(done, |all, one| all.connections = all.connections.saturating_add(one.connections))
    }

    /// Ends every connection in every shard: [`Translator::forget`].
    pub fn forget(&mut self) -> Forgotten {
        let connections = self.shards_mut().map(|shard| shard.forget().connections);
        Forgotten { connections: connections.fold(0, u32::saturating_add) }
    }

    /// Ends one connection: [`Translator::close`].
    pub fn close(&mut self, connection: &Connection) -> bool {
        let shard = self.sharding.shard_of(connection);
        shard.and_then(|shard| self.shards.get_mut(shard)).is_some_and(|Apart(shard)| shard.close(connection))
    }

    /// Ends one TCP connection with a RST to both ends: [`Translator::reset`].
    pub fn reset(&mut self, connection: &Connection) -> bool {
        let shard = self.sharding.shard_of(connection);
        shard.and_then(|shard| self.shards.get_mut(shard)).is_some_and(|Apart(shard)| shard.reset(connection))
    }

    /// How many connections are on a server at present, in all shards: [`Translator::connections_on`].
    #[must_use]
    pub fn connections_on(&self, server: impl Into<Target>) -> u32 {
        let server = server.into();
        self.shards().map(|shard| shard.connections_on(server)).sum()
    }

    /// Whether an address is one of the set's own: [`Translator::is_own`].
    #[must_use]
    pub fn is_own(&self, address: Ipv4Addr) -> bool {
        // Each shard knows the addresses of all.
        self.shards().next().is_some_and(|shard| shard.is_own(address))
    }

    /// Whether connections get this endpoint from one of the shards: [`Translator::is_alternative`].
    #[must_use]
    pub fn is_alternative(&self, endpoint: SocketAddrV4) -> bool {
        self.shards().any(|shard| shard.is_alternative(endpoint))
    }

    /// Changes the time-outs of every shard, or of none.
    ///
    /// # Errors
    /// Those of [`Translator::set_timeouts`].
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), ConfigError> {
        // All have the same configuration: the first refuses what any would.
        self.shards_mut().try_for_each(|shard| shard.set_timeouts(timeouts))
    }

    /// Changes how many connections one client may have, in every shard or in none. All connections of a client are in
    /// one shard.
    ///
    /// # Errors
    /// Those of [`Translator::set_client_limit`].
    pub fn set_client_limit(&mut self, connections: u32) -> Result<(), ConfigError> {
        self.shards_mut().try_for_each(|shard| shard.set_client_limit(connections))
    }

    /// The sums of the counters of all shards.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shards().map(Translator::counters).sum()
    }

    /// Until when a fragment that is held at `now` is worth keeping, whichever shard it belongs to:
    /// [`Translator::hold_until`].
    #[must_use]
    pub fn hold_until(&self, now: Instant) -> Instant {
        // All have the same time-outs.
        self.shards().next().map_or(now, |shard| shard.hold_until(now))
    }

    /// Does the time-driven work of every shard: [`Translator::poll`].
    pub fn poll(&mut self, now: Instant) {
        for shard in self.shards_mut() {
            shard.poll(now);
        }
    }

    /// When to call [`poll`](Self::poll) and [`poll_transmit`](Self::poll_transmit) next: the earliest time of any
    /// shard.
    #[must_use]
    pub fn poll_at(&mut self) -> Option<Instant> {
        self.shards_mut().filter_map(Translator::poll_at).min()
    }

    /// The next packet that a shard itself originates: [`Translator::poll_transmit`].
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.shards_mut().find_map(|shard| shard.poll_transmit(now, buffer))
    }

    /// The next event of any shard. The events of one shard come in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shards_mut().find_map(Translator::poll_event)
    }

    /// A record of each current connection that another translator can carry on: [`Translator::records`].
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.shards().flat_map(Translator::records)
    }

    /// Imports the connection of a record on the shard that it belongs to: [`Translator::import`]. This requires the
    /// same secret, alternative addresses and number of shards as those of the set that made the record.
    ///
    /// # Errors
    /// [`RecordError`]; it is [`RecordError::ForeignAlternative`] if the alternative endpoint is not one of the shard
    /// that its client belongs to. A [second](Record::is_second) record goes to the shard that has its connection, and
    /// is [`RecordError::NoConnection`] if none has.
    pub fn import(&mut self, now: Instant, record: &Record) -> Result<Imported, RecordError> {
        let connection = record.connection();
        let shard = connection.and_then(|connection| self.sharding.shard_of(&connection));
        match (shard.and_then(|shard| self.shards.get_mut(shard)), connection) {
            (None, Some(Connection { server_side, .. })) => {
                Err(RecordError::ForeignAlternative { alternative: server_side.source })
            }
            // A second record names only what its connection is found by: it belongs to the shard that has it. What
            // is no record gets the same error from each.
            (None, None) => self
                .shards_mut()
                .map(|shard| shard.import(now, record))
                .find(|imported| !matches!(imported, Err(RecordError::NoConnection)))
                .unwrap_or(Err(RecordError::NoConnection)),
            (Some(shard), _) => shard.0.import(now, record),
        }
    }
}

#[cfg(feature = "defmt")]
impl<S: Storage> defmt::Format for Sharded<S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Sharded {{ sharding: {}, counters: {} }}", self.sharding, self.counters());
    }
}

/// The combined result of all shards: that of the first, with those of the others added.
fn sum<T, E>(mut done: impl Iterator<Item = Result<T, E>>, add: impl Fn(&mut T, T)) -> Result<T, E> {
    let mut all = done.next().expect("a set has at least one shard")?;
    for one in done {
        add(&mut all, one?);
    }
    Ok(all)
}
