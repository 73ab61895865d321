//! Results in an answer: a code for the whole request, and an outcome for each instruction.

use core::fmt;

use crate::table::rule::DivertError;
use crate::timeouts::Timeouts;
use crate::translator::RedivertError;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// Why a request was refused. Nothing has changed then.
        ///
        /// The numbers are those of `docs/control-protocol.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its number in an answer.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// A short description.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub(super) const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// The translator supports no version that the request offers; the detail is the lowest it supports times 256 plus
    /// the highest.
    UnknownVersion = 1, "the translator does not speak this version";
    /// An instruction has a number that does not exist in this version; the detail is that number.
    UnknownInstruction = 2, "unknown instruction";
    /// An instruction is too short, too long, or has an invalid value.
    Malformed = 3, "malformed instruction";
    /// The key does not have the right.
    NotPermitted = 4, "the key does not permit it";
    /// The table's generation is not the one demanded.
    Generation = 5, "the table has changed since";
    /// These instructions cannot be combined: reads and instructions about the session must be alone, re-diverts must
    /// come last, and each match may be named only once.
    BadTransaction = 6, "these instructions cannot be one transaction";
    /// There are more than [`MAX_INSTRUCTIONS`](super::MAX_INSTRUCTIONS) instructions, or none; the detail is the
    /// number.
    InstructionCount = 7, "no instruction, or too many";
    /// Every session is in use, each by a different key.
    NoSession = 8, "all sessions are in use";
    /// The server has, or is about to get, connections that this key has no right to: connections of removed rules, or,
    /// on any server, imported ones that no rule here covers.
    OthersStandThere = 9, "that server has connections that the key has no right to";
    /// [`DivertError::TableFull`]; the detail is the capacity.
    TableFull = 16, "the divert table is full";
    /// [`DivertError::ServersFull`], [`RedivertError::ServersFull`]; the detail is the capacity.
    ServersFull = 17, "no room for another server";
    /// [`DivertError::EmptyGroup`].
    EmptyGroup = 18, "the group has no server with a weight above zero";
    /// [`DivertError::DuplicateServer`].
    DuplicateServer = 19, "the group names a server twice";
    /// [`DivertError::NoAlternative`].
    NoAlternative = 20, "no alternative address to replace the source with";
    /// [`DivertError::MartianTarget`], [`RedivertError::MartianTarget`].
    MartianTarget = 21, "no host can have the target's address";
    /// [`DivertError::OwnTarget`], [`RedivertError::OwnTarget`].
    OwnTarget = 22, "the target is an address of the translator itself";
    /// [`DivertError::ToItself`].
    ToItself = 23, "the target is the original destination itself";
    /// [`DivertError::MatchesPortZero`], [`DivertError::TargetPortZero`], [`RedivertError::TargetPortZero`], or a
    /// re-divert from port zero.
    PortZero = 24, "port zero";
    /// [`DivertError::NotResumable`].
    NotResumable = 25, "no room for connections that can be handed over";
    /// Other rules would divert packets to the target back to the original destination.
    Loop = 26, "other rules lead from the target back to the original destination";
    /// The rule would divert the control port, or divert to it.
    ControlPort = 27, "this is the port that instructions come to";
    /// [`ShardingError::KeptSource`](crate::ShardingError::KeptSource).
    KeptSource = 28, "a rule of several shards cannot keep the source";
    /// [`Translators::comes_here`](super::Translators::comes_here): what the rule is about does not come to the
    /// translator, and would leave untranslated.
    NotRouted = 29, "what the rule is about is not routed to the translator";
    /// [`RedivertError::NoServer`].
    NoServer = 32, "\"the same\" names no server";
    /// [`RedivertError::SameServer`].
    SameServer = 33, "old and new server are the same";
    /// [`RedivertError::Busy`]; the detail is the capacity.
    Busy = 34, "too many re-diverts are still being followed";
    /// [`ConfigError::TimeoutTooShort`](crate::ConfigError::TimeoutTooShort); the detail is its place, from zero.
    TimeoutTooShort = 48, "the time-out is below the floor of the RFCs";
    /// [`ConfigError::TimeoutTooLong`](crate::ConfigError::TimeoutTooLong); the detail is its place, from zero.
    TimeoutTooLong = 49, "the time-out is too long";
    /// [`ConfigError::ClientLimit`](crate::ConfigError::ClientLimit).
    ClientLimit = 50, "the limit per client is above 65534";
    /// `naming::EntryError::TableFull`; the detail is the capacity.
    NamesFull = 64, "the table of names is full";
    /// `naming::EntryError::TooManyClientPrefixes`; the detail is how many
    /// a name can have.
    TooManyClientPrefixes = 65, "the name has entries for too many other client prefixes";
    /// `naming::EntryError::NoAddress`.
    NoAddress = 66, "the entry has no address with a weight above zero";
    /// `naming::EntryError::DuplicateAddress`.
    DuplicateAddress = 67, "the entry has an address twice";
    /// `naming::EntryError::MartianAddress`; the detail is the address.
    MartianAddress = 68, "no host can have the entry's address";
    /// `naming::EntryError::TtlTooLong`.
    TtlTooLong = 69, "the time to live is above 2147483647 s";
    /// After the request there would be no rule with the match that the entry is tied to.
    NoRule = 70, "there is no rule with the match that the entry is tied to";
    /// `naming::TieError::ManyOriginals`; the detail is the prefix length.
    ManyOriginals = 71, "the rule is for several addresses, and a name is answered with one";
    /// `naming::TieError::OtherClients`.
    OtherClients = 72, "the rule is not for all clients of the entry";
    /// Entries would stay tied to a rule that is removed; the detail is how many.
    EntriesTied = 73, "entries of names are tied to the rule";
    /// The translator has no room for measurements of servers.
    NotMeasured = 80, "the translator does not measure servers";
    /// As many monitors get reports of measurements as the agent has room for; the detail is that number.
    NoReport = 81, "no room for another monitor that gets reports";
    /// Any other refusal of the translator, or one of several translators is not available.
    Other = 255, "refused";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Code {}

/// A refusal with its detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) detail: u32,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { code, detail: 0 }
    }
}

pub(super) fn with(code: Code, detail: usize) -> Refusal {
    Refusal { code, detail: u32::try_from(detail).unwrap_or(u32::MAX) }
}

impl From<DivertError> for Refusal {
    fn from(error: DivertError) -> Self {
        match error {
            DivertError::TableFull { capacity } => with(Code::TableFull, capacity),
            // No rule of the protocol has so large a group.
            DivertError::ServersFull { capacity } | DivertError::GroupTooLarge { capacity } => {
                with(Code::ServersFull, capacity)
            }
            DivertError::EmptyGroup { .. } => Code::EmptyGroup.into(),
            DivertError::DuplicateServer { .. } => Code::DuplicateServer.into(),
            DivertError::NoAlternative { .. } => Code::NoAlternative.into(),
            DivertError::MartianTarget { .. } => Code::MartianTarget.into(),
            DivertError::OwnTarget { .. } => Code::OwnTarget.into(),
            DivertError::ToItself { .. } => Code::ToItself.into(),
            DivertError::NotResumable { .. } => Code::NotResumable.into(),
            DivertError::NotMeasured { .. } => Code::NotMeasured.into(),
            DivertError::MatchesPortZero { .. } | DivertError::TargetPortZero { .. } => Code::PortZero.into(),
        }
    }
}

impl From<RedivertError> for Refusal {
    fn from(error: RedivertError) -> Self {
        match error {
            RedivertError::NoServer { .. } => Code::NoServer.into(),
            RedivertError::SameServer { .. } => Code::SameServer.into(),
            RedivertError::MartianTarget { .. } => Code::MartianTarget.into(),
            RedivertError::TargetPortZero { .. } => Code::PortZero.into(),
            RedivertError::OwnTarget { .. } => Code::OwnTarget.into(),
            RedivertError::ServersFull { capacity } => with(Code::ServersFull, capacity),
            RedivertError::Busy { capacity } => with(Code::Busy, capacity),
            RedivertError::NotResumable { .. } => Code::NotResumable.into(),
        }
    }
}

/// Whether time-outs are valid, or why they are refused.
pub(crate) fn check_timeouts(timeouts: &Timeouts, short: bool) -> Result<(), Refusal> {
    let Some((place, too_short)) = timeouts.fault(short) else {
        return Ok(());
    };
    Err(with(if too_short { Code::TimeoutTooShort } else { Code::TimeoutTooLong }, place))
}

/// What an instruction has done, or would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// A rule, or an entry of a name, was inserted.
    Inserted = 1,
    /// A rule or an entry was updated.
    Updated = 2,
    /// Nothing had to be changed.
    Unchanged = 3,
    /// A rule or an entry was removed.
    Removed = 4,
    /// There was no such rule or entry.
    Absent = 5,
    /// Connections and rules were re-diverted.
    Rediverted = 6,
    /// A setting was changed.
    Set = 7,
    /// Every connection was ended.
    Forgotten = 8,
}

impl Outcome {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Inserted,
            2 => Self::Updated,
            3 => Self::Unchanged,
            4 => Self::Removed,
            5 => Self::Absent,
            6 => Self::Rediverted,
            7 => Self::Set,
            8 => Self::Forgotten,
            _ => return None,
        })
    }

    /// A short name in lower case, stable across versions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inserted => "inserted",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
            Self::Absent => "absent",
            Self::Rediverted => "rediverted",
            Self::Set => "set",
            Self::Forgotten => "forgotten",
        }
    }
}

/// The effect of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Effect {
    /// What happened.
    pub outcome: Outcome,
    /// How many servers of rules were changed ([`Rediverted::servers`](crate::Rediverted::servers)); larger numbers are
    /// given as 65 535.
    pub servers: u16,
    /// How many connections it affected: those that a rule had when it was updated or removed, those on the server that
    /// was re-diverted, or those that were forgotten.
    pub connections: u32,
}

impl Effect {
    pub(super) const LENGTH: usize = 8;

    pub(super) const fn new(outcome: Outcome, servers: usize, connections: u32) -> Self {
        let servers = if servers > u16::MAX as usize { u16::MAX } else { servers as u16 };
        Self { outcome, servers, connections }
    }

    /// The combined effect of the same change on two shards. If it had no effect on one of them, because their rules
    /// differed, the outcome is that of the other.
    pub(super) fn and(self, other: Self) -> Self {
        let nothing = matches!(self.outcome, Outcome::Unchanged | Outcome::Absent);
        Self {
            outcome: if nothing { other.outcome } else { self.outcome },
            servers: self.servers.max(other.servers),
            connections: self.connections.saturating_add(other.connections),
        }
    }

    pub(super) const fn bytes(self) -> [u8; Self::LENGTH] {
        let ([s0, s1], [c0, c1, c2, c3]) = (self.servers.to_be_bytes(), self.connections.to_be_bytes());
        [self.outcome as u8, 0, s0, s1, c0, c1, c2, c3]
    }

    pub(super) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        let [outcome, _, s0, s1, c0, c1, c2, c3] = bytes;
        Some(Self {
            outcome: Outcome::from_number(outcome)?,
            servers: u16::from_be_bytes([s0, s1]),
            connections: u32::from_be_bytes([c0, c1, c2, c3]),
        })
    }
}
