//! Instructions, and their form in a datagram.

#[cfg(feature = "naming")]
use super::entry::{NamedEntry, read_key, write_key};
use super::forms::{match_bytes, read_match, read_server, write_server};
use super::rule::{NOWHERE, Rule};
use super::standing::Note;
use super::wire::{Reader, Writer};
use core::time::Duration;

use crate::divert::DivertOptions;
#[cfg(feature = "naming")]
use crate::endpoint::Prefix;
#[cfg(feature = "naming")]
use crate::naming::Pattern;
use crate::table::rule::{Match, Target, Weighted, midstream_from, midstream_number};
use crate::timeouts::Timeouts;
use crate::translator::Redivert;

/// One instruction. Those of the first kind change the translator; several of them can form one [`Request`], which
/// takes effect at once or not at all. Those of the second kind read; those of the third are about the session.
///
/// [`Request`]: super::Request
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Instruction {
    /// Inserts a rule, or updates the one with the same match.
    Divert(Rule),
    /// Removes the rule with exactly this match.
    Remove(Match),
    /// Moves the rules and connections of one server to another.
    Redivert {
        /// The old server: [`Target::Address`] means all of its ports.
        from: Target,
        /// The new server.
        to: Target,
        /// What happens to its connections.
        how: Redivert,
    },
    /// Sets all time-outs. Values are rounded up to whole milliseconds.
    SetTimeouts(Timeouts),
    /// Sets how many connections a client may have; zero means no limit.
    SetClientLimit(u32),
    /// Ends every connection; the rules stay ([`Translator::forget`](crate::Translator::forget)).
    Forget,
    /// Inserts an entry of the naming server, or updates the one with the same pattern and clients.
    #[cfg(feature = "naming")]
    Name(NamedEntry),
    /// Removes the entry with exactly this pattern and these clients. A rule that it is tied to stays.
    #[cfg(feature = "naming")]
    RemoveName {
        /// The names.
        pattern: Pattern,
        /// The clients.
        clients: Prefix,
    },
    /// Reads a page of rules, starting at this position.
    ListRules(u32),
    /// Reads a page of connections, starting at this position.
    ListConnections(u32),
    /// Reads the counters of the translator and of the agent.
    Counters,
    /// Reads time-outs, limits, sizes and the key's own rights.
    Settings,
    /// Reads a page of the naming server's entries, starting at this position.
    #[cfg(feature = "naming")]
    ListNames(u32),
    /// Subscribes to events for some time; subscribing again restarts that time. Zero seconds end the subscription.
    Subscribe {
        /// For how long, at most [`MAX_SUBSCRIPTION`] seconds.
        seconds: u16,
        /// The kinds of events.
        kinds: Kinds,
    },
    /// Ends the session.
    Close,
    /// Reads a page of what was measured of servers, starting at this position. Refused with
    /// [`Code::NotMeasured`](super::Code::NotMeasured), or as unknown, by a translator that does not measure servers.
    Measurements(u32),
    /// Subscribes to measurements of servers, sent at an interval, for some time; subscribing again restarts that time.
    /// Zero seconds end the subscription.
    Report {
        /// For how long, at most [`MAX_SUBSCRIPTION`] seconds.
        seconds: u16,
        /// How often, in milliseconds: [`MIN_INTERVAL`] to [`MAX_INTERVAL`].
        interval: u16,
    },
    /// Stands for the lead among the monitors that have the same key, for some time; each further LEAD restarts that
    /// time. The answer says who leads ([`Answer::lead`](super::Answer::lead)). A monitor that does not lead is
    /// expected to change nothing, which the translator does not check. Takes one of the places for reports. Refused as
    /// unknown by a translator that has no such places, or whose version does not have this instruction.
    Lead {
        /// The monitor's number, any but `u64::MAX`; the lowest one leads. Each monitor must have a different one.
        number: u64,
        /// For how long, in milliseconds: [`MIN_LEASE`](super::MIN_LEASE) to [`MAX_LEASE`](super::MAX_LEASE), or zero
        /// to stand no longer.
        lease: u16,
        /// A note for the other monitors, which they get while it leads.
        note: Note,
    },
}

/// The shortest interval between two reports of measurements, in milliseconds.
pub const MIN_INTERVAL: u16 = 100;

/// The longest such interval, in milliseconds.
pub const MAX_INTERVAL: u16 = 60_000;

/// The longest time that one subscription lasts, in seconds.
pub const MAX_SUBSCRIPTION: u16 = 3600;

/// A set of kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Kinds(u8);

impl Kinds {
    /// [`Event::Opened`](crate::Event::Opened).
    pub const OPENED: Self = Self(1);
    /// [`Event::Changed`](crate::Event::Changed), if the translator's configuration reports it.
    pub const CHANGED: Self = Self(2);
    /// [`Event::Moved`](crate::Event::Moved).
    pub const MOVED: Self = Self(4);
    /// [`Event::Closed`](crate::Event::Closed).
    pub const CLOSED: Self = Self(8);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// The union of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const NONE: Self = Self(0);

    /// The kind that has this number in a datagram: 1 to 4, in the order above.
    pub(super) const fn numbered(number: u8) -> Self {
        Self(1 << (number & 7) >> 1)
    }

    pub(super) const fn overlap(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The numbers of the instructions.
pub(crate) mod code {
    pub(crate) const DIVERT: u8 = 1;
    pub(crate) const REMOVE: u8 = 2;
    pub(crate) const REDIVERT: u8 = 3;
    pub(super) const SET_TIMEOUTS: u8 = 4;
    pub(super) const SET_CLIENT_LIMIT: u8 = 5;
    pub(super) const FORGET: u8 = 6;
    #[cfg(feature = "naming")]
    pub(crate) const NAME: u8 = 7;
    #[cfg(feature = "naming")]
    pub(crate) const REMOVE_NAME: u8 = 8;
    #[cfg(feature = "naming")]
    pub(crate) const LIST_NAMES: u8 = 21;
    pub(super) const LIST_RULES: u8 = 16;
    pub(super) const LIST_CONNECTIONS: u8 = 17;
    pub(super) const COUNTERS: u8 = 18;
    pub(super) const SETTINGS: u8 = 19;
    pub(crate) const MEASUREMENTS: u8 = 20;
    pub(super) const SUBSCRIBE: u8 = 32;
    pub(super) const CLOSE: u8 = 33;
    pub(crate) const REPORT: u8 = 34;
    pub(crate) const LEAD: u8 = 35;

    pub(crate) const fn is_change(code: u8) -> bool {
        #[cfg(feature = "naming")]
        if matches!(code, NAME | REMOVE_NAME) {
            return true;
        }
        matches!(code, DIVERT..=FORGET)
    }

    pub(crate) const fn is_known(code: u8) -> bool {
        #[cfg(feature = "naming")]
        if code == LIST_NAMES {
            return true;
        }
        is_change(code) || matches!(code, LIST_RULES..=SETTINGS | SUBSCRIBE | CLOSE)
    }
}

impl Instruction {
    /// Whether it changes the translator.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        // Not through its number: then every agent would link the table of numbers.
        #[cfg(feature = "naming")]
        if matches!(self, Self::Name(_) | Self::RemoveName { .. }) {
            return true;
        }
        matches!(
            self,
            Self::Divert(_)
                | Self::Remove(_)
                | Self::Redivert { .. }
                | Self::SetTimeouts(_)
                | Self::SetClientLimit(_)
                | Self::Forget
        )
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Divert(_) => code::DIVERT,
            Self::Remove(_) => code::REMOVE,
            Self::Redivert { .. } => code::REDIVERT,
            Self::SetTimeouts(_) => code::SET_TIMEOUTS,
            Self::SetClientLimit(_) => code::SET_CLIENT_LIMIT,
            Self::Forget => code::FORGET,
            #[cfg(feature = "naming")]
            Self::Name(_) => code::NAME,
            #[cfg(feature = "naming")]
            Self::RemoveName { .. } => code::REMOVE_NAME,
            #[cfg(feature = "naming")]
            Self::ListNames(_) => code::LIST_NAMES,
            Self::ListRules(_) => code::LIST_RULES,
            Self::ListConnections(_) => code::LIST_CONNECTIONS,
            Self::Counters => code::COUNTERS,
            Self::Settings => code::SETTINGS,
            Self::Subscribe { .. } => code::SUBSCRIBE,
            Self::Measurements(_) => code::MEASUREMENTS,
            Self::Report { .. } => code::REPORT,
            Self::Lead { .. } => code::LEAD,
            Self::Close => code::CLOSE,
        }
    }

    /// Writes the number, a zero, the length of the body, and the body.
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.code());
        out.u8(0);
        let length_at = out.go_to(0);
        out.go_to(length_at + 2);
        match self {
            Self::Divert(rule) => {
                out.put(&match_bytes(&rule.matches));
                out.u8(option_bits(rule.options));
                out.u8(rule.count);
                for server in rule.servers() {
                    write_server(out, *server);
                }
            }
            Self::Remove(matches) => out.put(&match_bytes(matches)),
            Self::Redivert { from, to, how } => {
                out.u8(*how as u8);
                out.u8(0);
                for target in [*from, *to] {
                    write_server(out, Weighted { target, weight: 0 });
                }
            }
            Self::SetTimeouts(timeouts) => write_timeouts(out, timeouts),
            Self::SetClientLimit(connections) => out.u32(*connections),
            #[cfg(feature = "naming")]
            Self::Name(entry) => entry.write(out),
            #[cfg(feature = "naming")]
            Self::RemoveName { pattern, clients } => write_key(out, pattern, *clients),
            #[cfg(feature = "naming")]
            Self::ListNames(position) => out.u32(*position),
            Self::ListRules(position) | Self::ListConnections(position) | Self::Measurements(position) => {
                out.u32(*position);
            }
            Self::Report { seconds, interval } => {
                out.u16(*seconds);
                out.u16(*interval);
            }
            Self::Lead { number, lease, note } => {
                out.u64(*number);
                out.u16(*lease);
                note.write(out);
            }
            Self::Subscribe { seconds, kinds } => {
                out.u16(*seconds);
                out.u8(kinds.0);
                out.u8(0);
            }
            Self::Forget | Self::Counters | Self::Settings | Self::Close => {}
        }
        let end = out.go_to(length_at);
        out.u16((end - length_at - 2) as u16);
        out.go_to(end);
    }

    /// Reads the body of an instruction with this number into `self`: a rule is too large to be returned. `None` if the
    /// body is too short, too long, or has an invalid value, or if there is no such instruction.
    ///
    /// Not inlined: it is called in several places, and rarely.
    #[inline(never)]
    pub(super) fn read(&mut self, code: u8, body: &[u8]) -> Option<()> {
        let mut body = Reader(body);
        match code {
            code::DIVERT => {
                let matches = read_match(&mut body)?;
                let [flags @ 0..=127, count] = body.array()? else {
                    return None;
                };
                *self = Self::Divert(Rule { matches, servers: NOWHERE, count, options: options_in(flags) });
                let Self::Divert(rule) = self else {
                    return None;
                };
                for server in rule.servers.get_mut(..usize::from(count))? {
                    *server = read_server(&mut body)?;
                }
            }
            code::REMOVE => *self = Self::Remove(read_match(&mut body)?),
            code::REDIVERT => {
                let [how, 0] = body.array()? else {
                    return None;
                };
                let how = Redivert::of_number(how)?;
                let (from, to) = (read_server(&mut body)?, read_server(&mut body)?);
                if from.weight != 0 || to.weight != 0 {
                    return None;
                }
                *self = Self::Redivert { from: from.target, to: to.target, how };
            }
            code::SET_TIMEOUTS => *self = Self::SetTimeouts(read_timeouts(&mut body)?),
            code::SET_CLIENT_LIMIT => *self = Self::SetClientLimit(body.u32()?),
            code::FORGET => *self = Self::Forget,
            #[cfg(feature = "naming")]
            code::NAME => *self = Self::Name(NamedEntry::read(&mut body)?),
            #[cfg(feature = "naming")]
            code::REMOVE_NAME => {
                let (pattern, clients) = read_key(&mut body)?;
                *self = Self::RemoveName { pattern, clients };
            }
            #[cfg(feature = "naming")]
            code::LIST_NAMES => *self = Self::ListNames(body.u32()?),
            code::LIST_RULES => *self = Self::ListRules(body.u32()?),
            code::LIST_CONNECTIONS => *self = Self::ListConnections(body.u32()?),
            code::COUNTERS => *self = Self::Counters,
            code::SETTINGS => *self = Self::Settings,
            code::SUBSCRIBE => {
                let [s0, s1, kinds, 0] = body.array()? else {
                    return None;
                };
                let seconds = u16::from_be_bytes([s0, s1]);
                if seconds > MAX_SUBSCRIPTION || kinds > Kinds::ALL.0 {
                    return None;
                }
                *self = Self::Subscribe { seconds, kinds: Kinds(kinds) };
            }
            code::CLOSE => *self = Self::Close,
            _ => return None,
        }
        body.is_empty().then_some(())
    }
}

/// The options of a rule, in one byte.
pub(super) const fn option_bits(options: DivertOptions) -> u8 {
    let DivertOptions { keep_source, any_port_replies, resumable, least_loaded, ejecting, midstream } = options;
    let bits = keep_source as u8 | (any_port_replies as u8) << 1 | (resumable as u8) << 4;
    bits | (least_loaded as u8) << 5 | (ejecting as u8) << 6 | midstream_number(midstream) << 2
}

/// The options in that byte; bits that are unknown here are ignored.
pub(super) const fn options_in(bits: u8) -> DivertOptions {
    DivertOptions {
        keep_source: bits & 1 != 0,
        any_port_replies: bits & 2 != 0,
        resumable: bits & 16 != 0,
        least_loaded: bits & 32 != 0,
        ejecting: bits & 64 != 0,
        midstream: midstream_from(bits >> 2),
    }
}

pub(super) fn write_timeouts(out: &mut Writer<'_>, t: &Timeouts) {
    for timeout in t.all() {
        // In 32-bit arithmetic, for small processors.
        let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        out.u32(seconds.saturating_mul(1000).saturating_add(timeout.subsec_nanos().div_ceil(1_000_000)));
    }
}

pub(super) fn read_timeouts(reader: &mut Reader<'_>) -> Option<Timeouts> {
    let mut all = [Duration::ZERO; 6];
    for timeout in &mut all {
        let ms = reader.u32()?;
        *timeout = Duration::new(u64::from(ms / 1000), ms % 1000 * 1_000_000);
    }
    let [tcp_established, tcp_transitory, udp, icmp, fragment, hold] = all;
    Some(Timeouts { tcp_established, tcp_transitory, udp, icmp, fragment, hold })
}
