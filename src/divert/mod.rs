//! Rules: which packets are diverted, and where they go instead.

mod error;
mod matches;
mod options;
mod target;

use core::fmt;

use crate::config::Midstream;
use crate::endpoint::{Prefix, Protocol};
use crate::error::ParseError;

pub use error::DivertError;
pub use matches::Match;
pub use options::DivertOptions;
pub use target::{Target, Weighted};

/// One rule of the divert table: which packets it matches, and where they go instead.
///
/// ```
/// use byway::{Divert, Prefix, Weighted};
/// use core::net::{Ipv4Addr, SocketAddrV4};
///
/// let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
/// let mirror = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 80);
///
/// let diverted = Divert::new(original).to(mirror);
/// let group = [Weighted::new(original, 1), Weighted::new(mirror, 2)];
/// let shared = Divert::new(original).to_group(&group);
/// let masquerade = Divert::new(Prefix::ALL); // no target: only the source is replaced
/// # let _ = (diverted, shared, masquerade);
/// ```
///
/// Its text, which [`Divert::parse`] reads:
/// `MATCH to TARGET[*WEIGHT][, TARGET[*WEIGHT]]... [keep-source] [any-port] [resumable] [least-loaded] [eject]
/// [midstream pass|adopt|drop]`.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Divert<'a> {
    pub(crate) matches: Match,
    single: Weighted,
    group: Option<&'a [Weighted]>,
    pub(crate) options: DivertOptions,
}

impl<'a> Divert<'a> {
    /// A rule for the packets that `matches` selects, with the target [`Target::Same`].
    #[must_use]
    pub fn new(matches: impl Into<Match>) -> Self {
        Self {
            matches: matches.into(),
            single: Weighted { target: Target::Same, weight: 1 },
            group: None,
            options: DivertOptions::NONE,
        }
    }

    /// Parses a rule as a person writes it, on a command line or in a file. If it has several servers they are written
    /// into `group`, which is not needed for one.
    ///
    /// An equals sign may stand instead of `to`, and spaces instead of commas. Whether the rule makes sense is checked
    /// by [`Translator::divert`](crate::Translator::divert).
    ///
    /// # Errors
    /// [`ParseError`] says which part of the text is wrong, and what is expected there.
    ///
    /// ```
    /// use byway::{Divert, Target, Weighted};
    /// use core::net::{Ipv4Addr, SocketAddrV4};
    ///
    /// let mut room = [Weighted { target: Target::Same, weight: 0 }; 4];
    /// let rule = Divert::parse("100.100.100.100:80=123.45.67.89:8080", &mut room)?;
    /// let [original, server] = [[100, 100, 100, 100], [123, 45, 67, 89]].map(Ipv4Addr::from);
    /// assert_eq!(rule, Divert::new(SocketAddrV4::new(original, 80)).to(SocketAddrV4::new(server, 8080)));
    ///
    /// for text in [
    ///     "0.0.0.0/0 from 192.168.0.0/16 to same",          // masquerades
    ///     "203.0.113.1:443 tcp to 192.168.7.8 keep-source", // forwards a port
    ///     "192.0.2.0/24:69 udp to 20.0.0.1*2, 20.0.0.2:6969 any-port", // shares clients among servers
    ///     "100.100.100.100 to 20.0.0.3 midstream drop",
    ///     "100.100.100.100:80 tcp to 20.0.0.3 resumable",
    ///     "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2 least-loaded",
    ///     "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2 least-loaded eject",
    /// ] {
    ///     assert_eq!(Divert::parse(text, &mut room)?.to_string(), text);
    /// }
    ///
    /// let wrong = Divert::parse("100.100.100.100:80 to 20.0.0.1:http", &mut room).unwrap_err();
    /// assert_eq!((wrong.field(), wrong.text(), wrong.expected()), ("port", "http", "a number from 0 to 65535"));
    /// # Ok::<(), byway::ParseError>(())
    /// ```
    pub fn parse(text: &str, group: &'a mut [Weighted]) -> Result<Self, ParseError> {
        const MORE: &str =
            "keep-source, any-port, resumable, least-loaded, eject, or midstream and pass, adopt or drop";
        let (matches, rest) = split_rule(text).ok_or_else(|| ParseError::new("rule", text, "MATCH to TARGET"))?;
        let mut divert = Self::new(matches.parse::<Match>()?);
        let mut words = rest.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let mut count = 0;
        // No servers follow after the first option.
        let mut is_server_due = true;
        while let Some(word) = words.next() {
            match word {
                "keep-source" => divert.options.keep_source = true,
                "any-port" => divert.options.any_port_replies = true,
                "resumable" => divert.options.resumable = true,
                "least-loaded" => divert.options.least_loaded = true,
                "eject" => divert.options.ejecting = true,
                "midstream" => divert.options.midstream = Some(words.next().unwrap_or_default().parse()?),
                _ if !is_server_due => return Err(ParseError::new("rule", word, MORE)),
                server => {
                    let server: Weighted = server.parse()?;
                    if count == 0 {
                        divert.single = server;
                    }
                    match group.get_mut(count) {
                        Some(place) => *place = server,
                        None if count == 0 => {}
                        None => return Err(ParseError::new("target", word, "left out: there is no room for so many")),
                    }
                    count += 1;
                    continue;
                }
            }
            is_server_due = false;
        }
        if count == 0 {
            return Err(ParseError::new("target", rest, "\"same\" or an IPv4 address"));
        }
        if count > 1 {
            divert.group = group.get(..count);
        }
        Ok(divert)
    }

    /// Diverts to one server, with the weight one.
    #[must_use]
    pub fn to(mut self, target: impl Into<Target>) -> Self {
        self.single = Weighted { target: target.into(), weight: 1 };
        self.group = None;
        self
    }

    /// Distributes clients among servers by weight. A client keeps to its server as long as that is in the group, and a
    /// change of the group moves only the clients that it must (weighted rendezvous hashing of the client's address).
    /// On a 64-bit machine a group of more than 32 servers does so in two steps, and a change moves about twice as
    /// many; it has at most 4095 ([`DivertError::GroupTooLarge`]).
    #[must_use]
    pub const fn to_group(mut self, group: &'a [Weighted]) -> Self {
        self.group = Some(group);
        self
    }

    /// Limits the rule to one protocol.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.matches = self.matches.protocol(protocol);
        self
    }

    /// Limits the rule to clients within `prefix`.
    #[must_use]
    pub const fn clients(mut self, prefix: Prefix) -> Self {
        self.matches = self.matches.clients(prefix);
        self
    }

    /// Keeps the source: the server sees the client's own address. Its replies must still come back through this
    /// translator.
    ///
    /// A rule that keeps the source and has no target either lets the packets that it matches pass: an exception from a
    /// wider rule (RFC 6888, REQ-6). If its group contains the original destination, clients of that server pass and
    /// have no connection: a change of the group moves their UDP flows at once, and TCP connections stay unless the rule
    /// adopts them ([`midstream`](Self::midstream)). Nothing counts them, so [`least_loaded`](Self::least_loaded) and
    /// [`ejecting`](Self::ejecting) refuse such a group ([`DivertError::ToItself`]); do not re-divert one of their
    /// servers to the original either.
    ///
    /// **With a port forward** (the original is one of the translator's own addresses) the server's own address is
    /// private. A packet that the server sends to a client without a connection, because the connection has expired or
    /// the translator was restarted, would reveal that address, so it is dropped ([`DropReason::NoConnection`]). Hosts
    /// that talk to the server directly, through this translator but not to the forwarded address, need an exception
    /// for their prefix (`Divert::new(prefix).keep_source()`), or the rule needs [`midstream`](Self::midstream) with
    /// [`Midstream::Pass`].
    ///
    /// [`DropReason::NoConnection`]: crate::DropReason::NoConnection
    #[must_use]
    pub const fn keep_source(mut self) -> Self {
        self.options.keep_source = true;
        self
    }

    /// Accepts replies to the client from other ports of the server, too: a TFTP server answers from a new port (RFC
    /// 1350). Each such port becomes a connection of its own, with the original address and that port on the client's
    /// side. This applies to UDP only.
    ///
    /// Until the client has sent to such a port, its connection is [`Unanswered`](crate::State::Unanswered): packets of
    /// the server alone do not keep it alive, it may be evicted, and beside each connection of the client there are at
    /// most four of them, so that a server cannot fill the table or use up
    /// [`Config::client_limit`](crate::Config::client_limit). A fifth one evicts the oldest.
    #[must_use]
    pub const fn replies_from_any_port(mut self) -> Self {
        self.options.any_port_replies = true;
        self
    }

    /// Asks that another server can take over the TCP connections of this rule without their clients' noticing: a
    /// [`HandOvers`](crate::HandOvers) does that. For this the translator remembers what was agreed in each handshake
    /// and what the client has seen last, which costs such a connection some 250 instructions a packet; UDP is not
    /// affected. Multipath TCP (RFC 8684) is removed from the clients' offers, since a second path would bypass the
    /// translator.
    ///
    /// The storage needs room for it, 32 bytes a connection: see [`DivertError::NotResumable`].
    #[must_use]
    pub const fn resumable(mut self) -> Self {
        self.options.resumable = true;
        self
    }

    /// Sends each new connection to the server of the group with the fewest connections for its weight, (open + 1) / weight,
    /// instead of always sending a client to the same one. Of a group of more than 32 servers (64-bit machines) two are
    /// drawn by a hash of the client, and the less loaded of the two is taken. A weight of zero takes no new connections.
    ///
    /// Weights are then what the servers can carry, in any unit. Adding the rule again with other weights leaves existing
    /// connections, and their counts, as they are. It only balances by what it sees: a server that fails fast has few
    /// connections and gets more of them, so failures must be noticed and such a server given the weight zero (module
    /// `monitor`, with the feature of that name).
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// let [large, small] = [[20, 0, 0, 1], [20, 0, 0, 2]].map(Ipv4Addr::from);
    /// let group = [Weighted::new(large, 3), Weighted::new(small, 1)];
    /// byway.divert(Divert::new(original).to_group(&group).least_loaded())?;
    ///
    /// for port in 1..=8 {
    ///     let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), port);
    ///     byway.translate(Instant::ZERO, &mut udp(client, original));
    /// }
    /// assert_eq!((byway.connections_on(large), byway.connections_on(small)), (6, 2));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn least_loaded(mut self) -> Self {
        self.options.least_loaded = true;
        self
    }

    /// Ejects servers of the group that fail: passive health checking, or outlier detection, based on what the
    /// translator sees of the clients' own connections. It works with [`least_loaded`](Self::least_loaded) and without,
    /// and needs no monitor.
    ///
    /// A server is ejected as soon as five connections in a row have failed and most of its clients failed at their
    /// last attempt. It is also ejected when at least three connections have sent something since its last sign of
    /// life, and it has answered none of them for 1 s, or for eight times its mean response time if that is longer (5 s
    /// until that is known). New connections then go to the other servers, as if its weight were zero; open connections
    /// stay. After 2 s, and twice as long after each failure, it gets one connection at a time; after three that were
    /// answered its share grows from an eighth to the whole within 10 s. At most half of a group (rounded up) is out,
    /// and never the last server. The guide `docs/measurements.md` says what counts as a failure.
    ///
    /// The storage must measure servers: see [`DivertError::NotMeasured`].
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// // 64 connections and 4 rules; all connections and all servers measured.
    /// let mut byway = Translator::new(config, Fixed::<64, 4, 8, 8, 64, 0, 4>::sized())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
    /// let [one, other] = [[20, 0, 0, 1], [20, 0, 0, 2]].map(Ipv4Addr::from);
    /// let group = [Weighted::new(one, 1), Weighted::new(other, 1)];
    /// byway.divert(Divert::new(original).to_group(&group).ejecting())?;
    ///
    /// assert!(byway.diverts().all(|rule| rule.is_ejecting()));
    /// assert!(byway.measurements().all(|server| !server.ejected));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn ejecting(mut self) -> Self {
        self.options.ejecting = true;
        self
    }

    /// What happens to a TCP segment in the middle of an unknown connection. Without this setting, a rule that leads to
    /// another server passes such a segment, and one that only masquerades adopts it ([`Midstream`]).
    /// [`Config::midstream`](crate::Config::midstream) overrides it.
    ///
    /// **A masquerading rule** (the source is replaced, the target is [`Target::Same`]) never passes a packet, so that
    /// none leaves with its private source: a packet that cannot be translated is dropped. That is a segment that
    /// cannot be adopted ([`DropReason::Midstream`]), an unsolicited echo reply, another ICMP message or a protocol
    /// without ports ([`DropReason::Untranslatable`]), and an ICMP error about no connection
    /// ([`DropReason::IcmpUnrelated`]). Only [`Midstream::Pass`] lets TCP segments through. Packets that a rule for a
    /// prefix does not match pass all the same: multicast, broadcast, the translator's own addresses.
    ///
    /// ```
    /// use byway::{Divert, Midstream, Prefix};
    ///
    /// let private = Prefix::new([192, 168, 0, 0].into(), 16).unwrap();
    /// // Adopts what it does not know, as any masquerade does; hosts inside still reach each other directly.
    /// let masquerade = Divert::new(Prefix::ALL).clients(private);
    /// let inside = Divert::new(private).clients(private).keep_source();
    /// // Stricter: a connection is known from its SYN, or not at all.
    /// let strict = masquerade.midstream(Midstream::Drop);
    /// # let _ = (inside, strict);
    /// ```
    ///
    /// [`DropReason::Midstream`]: crate::DropReason::Midstream
    /// [`DropReason::Untranslatable`]: crate::DropReason::Untranslatable
    /// [`DropReason::IcmpUnrelated`]: crate::DropReason::IcmpUnrelated
    #[must_use]
    pub const fn midstream(mut self, midstream: Midstream) -> Self {
        self.options.midstream = Some(midstream);
        self
    }

    /// Sets all options at once, for example those of a rule that this one replaces.
    #[must_use]
    pub const fn with_options(mut self, options: DivertOptions) -> Self {
        self.options = options;
        self
    }

    /// The rule's options: everything but its match and its servers.
    #[must_use]
    pub const fn options(&self) -> DivertOptions {
        self.options
    }

    /// What the rule matches.
    #[must_use]
    pub const fn matches(&self) -> Match {
        self.matches
    }

    /// Whether it replaces the source and nothing else.
    pub(crate) fn masquerades(&self) -> bool {
        !self.options.keep_source && self.targets().iter().all(|t| t.target == Target::Same)
    }

    pub(crate) fn targets(&self) -> &[Weighted] {
        self.group.unwrap_or(core::slice::from_ref(&self.single))
    }
}

impl PartialEq for Divert<'_> {
    /// Whether the rules mean the same. A group of one server equals that server.
    fn eq(&self, other: &Self) -> bool {
        (self.matches, self.options) == (other.matches, other.options) && self.targets() == other.targets()
    }
}

impl Eq for Divert<'_> {}

impl fmt::Display for Divert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rule(f, &self.matches, self.targets().iter().copied(), self.options)
    }
}

/// Writes a rule in the form that [`Divert::parse`] reads.
pub(crate) fn write_rule(
    f: &mut fmt::Formatter<'_>,
    matches: &Match,
    servers: impl Iterator<Item = Weighted>,
    options: DivertOptions,
) -> fmt::Result {
    write!(f, "{matches} to ")?;
    for (number, server) in servers.enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(f, "{comma}{server}")?;
    }
    fmt::Display::fmt(&options, f)
}

/// Splits the text of a rule into its match and the part after the `to` or the equals sign.
fn split_rule(text: &str) -> Option<(&str, &str)> {
    let is_space = |c: char| c.is_ascii_whitespace();
    let mut places =
        text.match_indices("to").filter_map(|(at, to)| Some((text.get(..at)?, text.get(at + to.len()..)?)));
    let word =
        places.find(|(before, after)| before.ends_with(is_space) && (after.is_empty() || after.starts_with(is_space)));
    // The separator that comes first.
    let separators = [word, text.split_once('=')];
    separators.into_iter().flatten().min_by_key(|(before, _)| before.len())
}
