//! The settings that a translator is created with.

use core::fmt;
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use core::str::FromStr;

use crate::error::{ConfigError, ParseError};
use crate::limits::MAX_ALTERNATIVES;
use crate::timeouts::Timeouts;
use crate::wire::checksum::Checksums;

/// Settings of a [`Translator`](crate::Translator). Only the secret is mandatory; rules that replace the source need an
/// alternative address too.
///
/// ```
/// use byway::{Config, Midstream, Timeouts};
/// use core::net::Ipv4Addr;
/// use core::time::Duration;
///
/// let config = Config::new([0x5a; 32]) // from the machine's source of randomness, of course
///     .alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535)
///     .client_limit(500)
///     .midstream(Midstream::Drop)
///     .timeouts(Timeouts { udp: Duration::from_secs(180), ..Timeouts::RECOMMENDED });
/// # let _ = config;
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) secret: [u8; 32],
    pub(crate) settings: Settings,
    unusable: Option<Unusable>,
}

/// The part of the configuration that a translator keeps: all but the secret, of which it keeps only derived keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) alternatives: List<Alternative>,
    pub(crate) own: List<u32>,
    pub(crate) timeouts: Timeouts,
    pub(crate) short_timeouts: bool,
    pub(crate) midstream: Option<Midstream>,
    pub(crate) inexact_reset: InexactReset,
    pub(crate) port_choice: PortChoice,
    pub(crate) client_limit: u32,
    pub(crate) refresh_from_server: bool,
    pub(crate) rewrite_identification: bool,
    pub(crate) checksums: Checksums,
    pub(crate) tell_changes: bool,
    pub(crate) errors_per_second: u16,
    pub(crate) resets_per_second: u16,
}

impl Config {
    /// A configuration with the defaults that each method's documentation names.
    ///
    /// `secret` keys every choice that an attacker must not predict: hashes, alternative ports, identifications. Take
    /// 32 bytes from the machine's source of randomness, new ones at each start. Translators that exchange records need
    /// not share it.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        let settings = Settings {
            alternatives: List::new(Alternative::NONE),
            own: List::new(0),
            timeouts: Timeouts::recommended(),
            short_timeouts: false,
            midstream: None,
            inexact_reset: InexactReset::Pass,
            port_choice: PortChoice::Random,
            client_limit: 0,
            refresh_from_server: true,
            rewrite_identification: false,
            checksums: Checksums::Software,
            tell_changes: false,
            errors_per_second: 100,
            resets_per_second: 10_000,
        };
        Self { secret, settings, unusable: None }
    }

    /// Adds an alternative source address, and the ports (and ICMP echo identifiers) of it that may be used.
    ///
    /// A packet to this address and one of these ports is a reply. Other ports of the address are the machine's own,
    /// and packets to them pass. Port zero is never used. Call it repeatedly for several addresses; a client keeps to one of them as long as
    /// that has free ports (RFC 4787, REQ-2, "paired").
    #[must_use]
    pub const fn alternative(self, address: Ipv4Addr, ports: RangeInclusive<u16>) -> Self {
        self.alternatives(address, address, ports)
    }

    /// Adds every address from `first` to `last` as an alternative source address, each with these ports. The range
    /// takes one of the [`MAX_ALTERNATIVES`] places, however many addresses it has.
    #[must_use]
    pub const fn alternatives(mut self, first: Ipv4Addr, last: Ipv4Addr, ports: RangeInclusive<u16>) -> Self {
        let ports = (*ports.start(), *ports.end());
        // Port zero is never given to a connection.
        if ports.0 > ports.1 || ports.1 == 0 || first.to_bits() > last.to_bits() {
            self.unusable = Some(Unusable::Empty { first, last, ports });
            return self;
        }
        let new = Alternative { first: first.to_bits(), last: last.to_bits(), ports };
        if !self.settings.alternatives.push(new) {
            self.unusable = Some(Unusable::Alternative { first, last });
        }
        self
    }

    /// Adds another address of this machine, besides the alternative ones. Packets that claim to come from it are
    /// dropped where a rule matches them, packets to it pass unless a rule names this very address, and nothing can be
    /// diverted to it.
    #[must_use]
    pub const fn own(mut self, address: Ipv4Addr) -> Self {
        if !self.settings.own.push(address.to_bits()) {
            self.unusable = Some(Unusable::Own { address });
        }
        self
    }

    /// How long connections live without a packet. Default: [`Timeouts::RECOMMENDED`].
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.settings.timeouts = timeouts;
        self
    }

    /// Permits time-outs below the floors of the RFCs ([`Timeouts::FLOORS`]), for tests and for machines with very
    /// little memory.
    #[must_use]
    pub const fn allow_short_timeouts(mut self) -> Self {
        self.settings.short_timeouts = true;
        self
    }

    /// What happens to a TCP segment in the middle of an unknown connection, for every rule and overriding the rule's
    /// own setting ([`Divert::midstream`](crate::Divert::midstream)). Default: each rule's own.
    ///
    /// With [`Midstream::Pass`] a masquerading rule lets such segments leave with their private source.
    #[must_use]
    pub const fn midstream(mut self, midstream: Midstream) -> Self {
        self.settings.midstream = Some(midstream);
        self
    }

    /// What happens to a RST that does not have the expected sequence number. Default: [`InexactReset::Pass`].
    #[must_use]
    pub const fn inexact_reset(mut self, inexact_reset: InexactReset) -> Self {
        self.settings.inexact_reset = inexact_reset;
        self
    }

    /// How alternative ports are chosen. Default: [`PortChoice::Random`].
    #[must_use]
    pub const fn port_choice(mut self, choice: PortChoice) -> Self {
        self.settings.port_choice = choice;
        self
    }

    /// How many connections one client address may have at once (RFC 6888, REQ-4), at most 65 534. Zero means no limit,
    /// and is the default.
    #[must_use]
    pub const fn client_limit(mut self, connections: u32) -> Self {
        self.settings.client_limit = connections;
        self
    }

    /// Whether packets from the server refresh a connection as packets from the client do (RFC 4787, REQ-6). Default:
    /// they do.
    #[must_use]
    pub const fn refresh_from_server(mut self, refresh: bool) -> Self {
        self.settings.refresh_from_server = refresh;
        self
    }

    /// Whether the identification of packets that may be fragmented is replaced by the translator's own, so that two
    /// clients behind one alternative address cannot use the same one at once (RFC 7857, section 10; RFC 6864).
    /// Default: it is kept.
    #[must_use]
    pub const fn rewrite_identification(mut self, rewrite: bool) -> Self {
        self.settings.rewrite_identification = rewrite;
        self
    }

    /// What updates the checksums of translated packets. Default: [`Checksums::Software`].
    #[must_use]
    pub const fn checksums(mut self, checksums: Checksums) -> Self {
        self.settings.checksums = checksums;
        self
    }

    /// Whether each change of a connection's state produces an [`Event::Changed`](crate::Event::Changed), for example
    /// for another portion that shares the connections. Default: no.
    #[must_use]
    pub const fn tell_changes(mut self, tell: bool) -> Self {
        self.settings.tell_changes = tell;
        self
    }

    /// How many packets per second the translator may originate: ICMP errors about refused packets together with RSTs
    /// about evicted connections (RFC 1812, section 4.3.2.8), and separately the RSTs that a re-divert with
    /// [`Redivert::Reset`](crate::Redivert::Reset) orders. Default: 100 and 10 000. Zero disables that kind.
    #[must_use]
    pub const fn transmit_rates(mut self, errors_per_second: u16, resets_per_second: u16) -> Self {
        self.settings.errors_per_second = errors_per_second;
        self.settings.resets_per_second = resets_per_second;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.unusable {
            None => {}
            Some(Unusable::Alternative { first, last }) => {
                return Err(ConfigError::TooManyAlternatives { first, last });
            }
            Some(Unusable::Empty { first, last, ports }) => {
                return Err(ConfigError::EmptyAlternative { first, last, ports });
            }
            Some(Unusable::Own { address }) => return Err(ConfigError::TooManyOwn { address }),
        }
        for alternative in self.settings.alternatives.iter() {
            if let Some(address) = crate::wire::ipv4::martian_within(alternative.first, alternative.last) {
                return Err(ConfigError::MartianAlternative { address: Ipv4Addr::from_bits(address) });
            }
        }
        if self.settings.client_limit > 65_534 {
            return Err(ConfigError::ClientLimit { value: self.settings.client_limit });
        }
        self.settings.timeouts.check(self.settings.short_timeouts)
    }
}

impl fmt::Debug for Config {
    /// Everything but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("alternatives", &self.settings.alternatives)
            .field("own", &self.settings.own)
            .field("timeouts", &self.settings.timeouts)
            .field("midstream", &self.settings.midstream)
            .field("inexact_reset", &self.settings.inexact_reset)
            .field("port_choice", &self.settings.port_choice)
            .field("client_limit", &self.settings.client_limit)
            .field("refresh_from_server", &self.settings.refresh_from_server)
            .field("rewrite_identification", &self.settings.rewrite_identification)
            .field("checksums", &self.settings.checksums)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Config {
    /// The settings that are numbers or choices, without the secret.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Config {{ timeouts: {}, midstream: {}, inexact_reset: {}, port_choice: {}, client_limit: {}, checksums: {} }}",
            self.settings.timeouts,
            self.settings.midstream,
            self.settings.inexact_reset,
            self.settings.port_choice,
            self.settings.client_limit,
            self.settings.checksums
        );
    }
}

/// What happens to a TCP segment that a rule matches, that is not a SYN, and whose connection is unknown: it was opened
/// before the rule was added or before the translator was started, was evicted, or has expired.
///
/// [`Divert::midstream`](crate::Divert::midstream) sets it for one rule, [`Config::midstream`] for all. Where neither
/// does, a rule that leads to another server passes such segments, because the client may be talking to the original
/// one. A rule that only masquerades adopts them, because they would otherwise leave with a private source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Midstream {
    /// It passes untouched: its connection was opened before the rule was added, and its server knows it.
    Pass,
    /// It opens a connection as if it were a SYN: the server is the same, or the servers share their state, or the new
    /// one is to reset the client. A segment that cannot be part of an established connection (a RST, a SYN with ACK, a
    /// segment without ACK) opens none: a rule that masquerades drops it, any other passes it.
    Adopt,
    /// It is dropped.
    Drop,
}

impl fmt::Display for Midstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Adopt => "adopt",
            Self::Drop => "drop",
        })
    }
}

impl FromStr for Midstream {
    type Err = ParseError;

    /// Reads `pass`, `adopt` or `drop`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "pass" => Ok(Self::Pass),
            "adopt" => Ok(Self::Adopt),
            "drop" => Ok(Self::Drop),
            _ => Err(ParseError::new("midstream", text, "pass, adopt or drop")),
        }
    }
}

/// What happens to a RST whose sequence number is not the one that its receiver expects. Neither choice ends the
/// connection (RFC 5961, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum InexactReset {
    /// It is translated like any segment; its receiver decides what to do with it.
    Pass,
    /// It is dropped.
    Drop,
}

/// How an alternative port is chosen. All of them fall back to a random port of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PortChoice {
    /// At random over the range (RFC 6056, keyed).
    Random,
    /// At random among the ports on the same side of 1024 as the client's (RFC 4787, REQ-3a).
    SameRange,
    /// The client's own port if it is in the range and free; otherwise as [`PortChoice::SameRange`].
    Keep,
}

/// The last address that was added and cannot be used. A [`ConfigError`] would be three times as large, in every
/// translator.
#[derive(Clone, Copy, Debug)]
enum Unusable {
    Alternative { first: Ipv4Addr, last: Ipv4Addr },
    Empty { first: Ipv4Addr, last: Ipv4Addr, ports: (u16, u16) },
    Own { address: Ipv4Addr },
}

/// A range of alternative addresses and the ports of each. If the first port is above the last, there are none: the
/// addresses are the machine's own, and another shard gives their ports to connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alternative {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) ports: (u16, u16),
}

impl Alternative {
    /// An unused place in a list.
    pub(crate) const NONE: Self = Self { first: 0, last: 0, ports: (0, 0) };

    /// Whether it has ports for connections.
    pub(crate) const fn has_ports(&self) -> bool {
        self.ports.0 <= self.ports.1
    }

    /// Whether the address is in the range.
    #[inline(always)]
    pub(crate) const fn holds(&self, address: u32) -> bool {
        address.wrapping_sub(self.first) <= self.last.wrapping_sub(self.first)
    }
}

/// A short list inside the configuration.
#[derive(Clone, Copy)]
pub(crate) struct List<T> {
    items: [T; MAX_ALTERNATIVES],
    length: u8,
}

impl<T: Copy> List<T> {
    pub(crate) const fn new(filler: T) -> Self {
        Self { items: [filler; MAX_ALTERNATIVES], length: 0 }
    }

    pub(crate) const fn push(&mut self, item: T) -> bool {
        if self.length as usize >= MAX_ALTERNATIVES {
            return false;
        }
        self.items[self.length as usize] = item;
        self.length += 1;
        true
    }

    pub(crate) const fn len(&self) -> usize {
        self.length as usize
    }

    /// Moves the items that `is_in_front` selects to the front; both groups keep their order.
    #[cfg(target_pointer_width = "64")]
    pub(crate) fn move_in_front(&mut self, is_in_front: impl Fn(&T) -> bool) {
        let length = usize::from(self.length);
        for end in 1..length {
            for place in (1..=end).rev() {
                if let Some([before, item]) = self.items.get_mut(place - 1..=place)
                    && is_in_front(item)
                    && !is_in_front(before)
                {
                    core::mem::swap(before, item);
                }
            }
        }
    }

    /// The same as a slice. A search in it takes less flash than one through [`iter`](Self::iter); with a loop it may be the
    /// other way round.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        self.items.get(..usize::from(self.length)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn iter(&self) -> core::iter::Take<core::slice::Iter<'_, T>> {
        self.items.iter().take(usize::from(self.length))
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);

    #[test]
    #[allow(clippy::reversed_empty_ranges, reason = "it is what is tested")]
    fn what_cannot_be_used_is_named() {
        let good = Config::new([0; 32]).alternative(ADDRESS, 1024..=65535);
        assert_eq!(good.check(), Ok(()));
        let ports = (9, 1);
        assert_eq!(
            Config::new([0; 32]).alternative(ADDRESS, 9..=1).check(),
            Err(ConfigError::EmptyAlternative { first: ADDRESS, last: ADDRESS, ports })
        );
        // Port zero is never given to a connection.
        let ports = (0, 0);
        assert_eq!(
            Config::new([0; 32]).alternative(ADDRESS, 0..=0).check(),
            Err(ConfigError::EmptyAlternative { first: ADDRESS, last: ADDRESS, ports })
        );
        assert_eq!(Config::new([0; 32]).alternative(ADDRESS, 0..=1).check(), Ok(()));
        let address = Ipv4Addr::LOCALHOST;
        assert_eq!(
            Config::new([0; 32]).alternative(address, 1..=9).check(),
            Err(ConfigError::MartianAlternative { address })
        );
        let many = (0..9).fold(Config::new([0; 32]), |c, _| c.alternative(ADDRESS, 1..=1));
        assert_eq!(many.check(), Err(ConfigError::TooManyAlternatives { first: ADDRESS, last: ADDRESS }));
        assert_eq!(good.clone().client_limit(70_000).check(), Err(ConfigError::ClientLimit { value: 70_000 }));
    }

    #[test]
    fn the_floors_of_the_rfcs_hold_unless_waived_by_name() {
        let value = Duration::from_secs(7_439);
        let short = Timeouts { tcp_established: value, ..Timeouts::RECOMMENDED };
        let config = Config::new([0; 32]).alternative(ADDRESS, 1024..=65535).timeouts(short);
        let floor = Duration::from_secs(7_440);
        assert_eq!(config.check(), Err(ConfigError::TimeoutTooShort { name: "tcp_established", value, floor }));
        assert_eq!(config.allow_short_timeouts().check(), Ok(()));
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = std::format!("{:?}", Config::new([0xAB; 32]));
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, "));
    }
}
