//! The phases of a connection's life, and what each means to the tables.

use crate::connection::State;

/// What a connection is doing; also the content of a slot that holds none. Ordered so that frequent tests of a phase
/// are comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub(crate) enum Phase {
    /// No connection.
    Free = 0,
    /// The connection is over, but its alternative endpoint must not be used again yet. It is found from the server's
    /// side only.
    Quarantined,
    TimeWait,
    Resetting,
    /// Opened by a datagram from another port of a server; the client has not sent to that port yet.
    UdpUnconfirmed,
    Closing,
    Opening,
    Opened,
    /// Adopted from a segment of the client; its server has not answered yet.
    Adopted,
    Established,
    /// Established, and each segment is examined: its rule asks that another server can take it over.
    EstablishedResumable,
    /// Established, and something is pending: a FIN that is not acknowledged, a side that has not been heard here, or
    /// an answered attempt to start again.
    EstablishedPending,
    ClientClosed,
    ServerClosed,
    Doubtful,
    UdpUnanswered,
    UdpAnswered,
    IcmpUnanswered,
    IcmpAnswered,
}

/// The age lists, one for each class of time-out. When the table is full, a dead connection is looked for at the heads
/// of the lists, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// Over, but holding its alternative endpoint.
    Quarantined = 0,
    /// TCP half-open or closing.
    TcpTransitory,
    /// UDP of which only one end has been heard.
    UdpUnanswered,
    /// ICMP echo.
    Icmp,
    /// UDP, answered.
    Udp,
    /// TCP established.
    TcpEstablished,
}

impl Class {
    pub(crate) const COUNT: usize = 6;

    /// All, in their order.
    #[inline]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self::of)
    }

    /// The classes whose live connections are evicted to make room for a new one. An answered UDP or an established TCP
    /// connection never is.
    #[inline]
    pub(crate) fn cheap() -> impl Iterator<Item = Self> {
        (Self::TcpTransitory as u8..=Self::Icmp as u8).map(Self::of)
    }

    /// The class with this number. It compiles to nothing, where an array would take flash.
    #[inline(always)]
    pub(crate) const fn of(number: u8) -> Self {
        match number {
            1 => Self::TcpTransitory,
            2 => Self::UdpUnanswered,
            3 => Self::Icmp,
            4 => Self::Udp,
            5 => Self::TcpEstablished,
            _ => Self::Quarantined,
        }
    }
}

impl Phase {
    /// A power of two, at least the number of phases.
    pub(super) const COUNT: usize = 32;

    /// All, by their numbers.
    pub(super) const ALL: [Self; 19] = [
        Self::Free,
        Self::Quarantined,
        Self::TimeWait,
        Self::Resetting,
        Self::UdpUnconfirmed,
        Self::Closing,
        Self::Opening,
        Self::Opened,
        Self::Adopted,
        Self::Established,
        Self::EstablishedResumable,
        Self::EstablishedPending,
        Self::ClientClosed,
        Self::ServerClosed,
        Self::Doubtful,
        Self::UdpUnanswered,
        Self::UdpAnswered,
        Self::IcmpUnanswered,
        Self::IcmpAnswered,
    ];

    pub(crate) const fn class(self) -> Class {
        const CLASSES: [Class; Phase::COUNT] = {
            let mut classes = [Class::Quarantined; Phase::COUNT];
            let mut place = 0;
            while place < Phase::ALL.len() {
                classes[Phase::ALL[place] as usize] = Phase::ALL[place].classed();
                place += 1;
            }
            classes
        };
        CLASSES[self as usize & (Self::COUNT - 1)]
    }

    const fn classed(self) -> Class {
        match self {
            Self::Free | Self::Quarantined | Self::TimeWait | Self::Resetting => Class::Quarantined,
            // Anyone who can send a segment can have a connection adopted.
            Self::Opening | Self::Opened | Self::Adopted | Self::Closing => Class::TcpTransitory,
            // Doubtful is classed with the established ones: a forged RST must not make a connection cheap to evict.
            Self::Established
            | Self::EstablishedResumable
            | Self::EstablishedPending
            | Self::ClientClosed
            | Self::ServerClosed
            | Self::Doubtful => Class::TcpEstablished,
            // Its server can open any number of them.
            Self::UdpUnanswered | Self::UdpUnconfirmed => Class::UdpUnanswered,
            Self::UdpAnswered => Class::Udp,
            Self::IcmpUnanswered | Self::IcmpAnswered => Class::Icmp,
        }
    }

    /// Whether the connection has ended, so that only its late packets are still handled.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Free | Self::Quarantined | Self::TimeWait | Self::Resetting)
    }

    /// Whether it is over, but its packets are still handled.
    pub(crate) const fn is_lingering(self) -> bool {
        matches!(self, Self::TimeWait | Self::Resetting)
    }

    /// Whether packets of it are still translated.
    #[inline]
    pub(crate) const fn is_listed(self) -> bool {
        !matches!(self, Self::Free | Self::Quarantined)
    }

    /// Whether a plain UDP packet of the client changes nothing but the time.
    #[inline(always)]
    pub(crate) const fn is_plain_forward(self) -> bool {
        // No UDP connection is in one of the phases between.
        self as u8 > Self::UdpUnconfirmed as u8
    }

    /// Whether each segment of it is followed and translated, except that a SYN may begin a new connection while it is
    /// [`Closing`](Self::Closing).
    #[cfg(target_pointer_width = "64")]
    #[inline]
    pub(crate) const fn is_followed(self) -> bool {
        (self as u8) >= Self::Closing as u8 && (self as u8) <= Self::Doubtful as u8
    }

    /// The phase as the tracker of TCP knows it.
    #[inline]
    pub(crate) const fn tracked(self) -> Self {
        match self {
            Self::EstablishedResumable => Self::Established,
            phase => phase,
        }
    }

    /// Its public state; `None` for a slot without a connection.
    pub(crate) fn state(self) -> Option<State> {
        const STATES: [Option<State>; Phase::COUNT] = {
            let mut states = [None; Phase::COUNT];
            let mut place = 0;
            while place < Phase::ALL.len() {
                states[Phase::ALL[place] as usize] = Phase::ALL[place].named();
                place += 1;
            }
            states
        };
        STATES[self as usize & (Self::COUNT - 1)]
    }

    const fn named(self) -> Option<State> {
        Some(match self {
            Self::Free | Self::Quarantined => return None,
            Self::Opening => State::Opening,
            Self::Opened => State::Opened,
            Self::Adopted | Self::Established | Self::EstablishedResumable | Self::EstablishedPending => {
                State::Established
            }
            Self::ClientClosed => State::ClientClosed,
            Self::ServerClosed => State::ServerClosed,
            Self::Closing => State::Closing,
            Self::TimeWait => State::TimeWait,
            Self::Doubtful => State::Doubtful,
            Self::Resetting => State::Resetting,
            Self::UdpUnanswered | Self::UdpUnconfirmed | Self::IcmpUnanswered => State::Unanswered,
            Self::UdpAnswered | Self::IcmpAnswered => State::Answered,
        })
    }
}
