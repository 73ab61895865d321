//! What a hand-over needs from the protocol above TCP, and the reasons why a connection is not handed over.

use core::fmt;
use core::net::SocketAddrV4;
use core::time::Duration;

use crate::connection::Direction;
use crate::endpoint::Pair;

/// The state of a connection that is to be handed over. Sequence numbers are those that the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Position {
    /// The client, and the original destination.
    pub client_side: Pair,
    /// The server that is to take over.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub to: SocketAddrV4,
    /// The sequence number of the next byte that the client will send.
    pub client_next: u32,
    /// The sequence number of the first byte of the server that the client has not acknowledged: the new server continues
    /// here.
    pub server_next: u32,
    /// Whether each side has acknowledged everything that the other has sent.
    pub all_acknowledged: bool,
    /// Whether the last bytes were the client's: it waits for an answer.
    pub awaits_answer: bool,
    /// Whether the client has acknowledged bytes beyond a hole. They will not be sent again, so they must be the same on
    /// both servers.
    pub has_hole: bool,
    /// The window that the client has offered last, in bytes.
    pub client_window: u32,
    /// The maximum segment size that the client has announced, in bytes.
    pub client_mss: u16,
    /// How long nothing has come from either side, to within 65 ms.
    pub silence: Duration,
}

/// A segment with data. Sequence numbers are those that the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Observed<'a> {
    /// The client, and the original destination.
    pub client_side: Pair,
    /// The direction of the segment.
    pub direction: Direction,
    /// The sequence number of its first byte.
    pub sequence: u32,
    /// The number that its sender expects next.
    pub acknowledgment: u32,
    /// The bytes.
    pub data: &'a [u8],
}

impl Position {
    /// Whether the client's window is so small that a server with more to send may be silent: zero, or less than a
    /// segment (RFC 9293, section 3.8.6.2.1).
    #[must_use]
    pub const fn is_window_closed(&self) -> bool {
        self.client_window == 0 || self.client_window < self.client_mss as u32
    }
}

impl<'a> Observed<'a> {
    /// A segment as it is shown to a [`Resumption`], for testing one.
    #[must_use]
    pub const fn new(
        client_side: Pair,
        direction: Direction,
        sequence: u32,
        acknowledgment: u32,
        data: &'a [u8],
    ) -> Self {
        Self { client_side, direction, sequence, acknowledgment, data }
    }
}

/// What the new server is to be sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Resumed {
    /// This many bytes from the start of the buffer, possibly none.
    Write(usize),
    /// No bytes would bring the new server to this position, or not now.
    Refuse,
}

/// The result of checking the new server's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Checked {
    /// More bytes are needed. None of those received is for the client: they are acknowledged, and cannot be accepted
    /// for it later.
    More,
    /// More bytes are needed. Those received may be for the client, so that they are not acknowledged yet. The new
    /// server sends no more than fits into its first window.
    Undecided,
    /// The client gets all but the first `dropped` bytes.
    Accept {
        /// How many bytes at the start are not for the client.
        dropped: usize,
    },
    /// The bytes are not what the old server would have sent.
    Refuse,
}

/// Brings a new server to the position of a connection: the part of a hand-over that knows the protocol above TCP.
///
/// [`AtRest`] and [`Greeted`] are for protocols where the new server need not be sent anything, `HttpGet` (feature
/// `http`) for downloads.
pub trait Resumption {
    /// Whether [`observe`](Self::observe) is to be called.
    const OBSERVES: bool = false;

    /// Whether a new server is sent bytes before it takes over, or sends bytes that are not for the client. If not, it
    /// takes over as soon as it has accepted the connection: [`resume`](Self::resume) has no buffer,
    /// [`check`](Self::check) is not called, and the code that replays is not linked.
    const REPLAYS: bool = true;

    /// Called with data of a TCP connection as it passes. Data may come in any order, twice, or not at all.
    fn observe(&mut self, observed: &Observed<'_>) {
        let _ = observed;
    }

    /// Writes into `buffer` what the new server is to receive, so that its answer continues at the position. It is
    /// called twice: before the new server is contacted, and when it has accepted the connection.
    fn resume(&mut self, position: &Position, buffer: &mut [u8]) -> Resumed;

    /// Checks what the new server has sent so far. It is called once without any bytes before the first have arrived. To
    /// accept fewer dropped bytes than [`Checked::More`] was said of is a wrong answer ([`Kept::WrongAnswer`]).
    fn check(&mut self, position: &Position, received: &[u8]) -> Checked;
}

/// For protocols with independent requests, at the boundary between two of them: HTTP/1.1 with persistent connections,
/// memcached, RESP without `MULTI` and `SELECT`, DNS over TCP.
///
/// A connection is at rest when each side has acknowledged all that the other sent, the last bytes were the server's,
/// the client has room for more ([`Position::is_window_closed`]), and nothing has arrived for `quiet`. Only the protocol
/// knows whether the server has really finished its answer: `quiet` should be longer than any pause of a server within
/// an answer. For a server that greets its clients see [`Greeted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AtRest {
    /// How long the silence has to be.
    pub quiet: Duration,
}

impl AtRest {
    /// At rest after this silence.
    #[must_use]
    pub const fn after(quiet: Duration) -> Self {
        Self { quiet }
    }
}

impl Resumption for AtRest {
    const REPLAYS: bool = false;

    fn resume(&mut self, position: &Position, _: &mut [u8]) -> Resumed {
        let has_answer = position.all_acknowledged && !position.awaits_answer && !position.is_window_closed();
        if has_answer && position.silence >= self.quiet { Resumed::Write(0) } else { Resumed::Refuse }
    }

    fn check(&mut self, _: &Position, _: &[u8]) -> Checked {
        Checked::Accept { dropped: 0 }
    }
}

/// Like [`AtRest`], for servers that send a greeting first, which the client has already received from the old server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Greeted {
    /// When a connection is at rest.
    pub at_rest: AtRest,
    /// The length of the greeting in bytes.
    pub greeting: usize,
}

impl Resumption for Greeted {
    fn resume(&mut self, position: &Position, buffer: &mut [u8]) -> Resumed {
        self.at_rest.resume(position, buffer)
    }

    fn check(&mut self, _: &Position, received: &[u8]) -> Checked {
        if received.len() < self.greeting { Checked::More } else { Checked::Accept { dropped: self.greeting } }
    }
}

/// Why a connection was not handed over. It continues with its server as before, unless the reason says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
#[repr(u8)]
pub enum Kept {
    /// There is no such connection, or it has ended.
    NoConnection,
    /// Its rule does not ask for it ([`Divert::resumable`](crate::Divert::resumable)), its handshake was not seen, or it
    /// has something that no other server can take over: data in the SYN (RFC 7413), signatures (RFC 2385, RFC 5925), or
    /// a simultaneous open.
    NotResumable,
    /// It is being opened or closed.
    NotEstablished,
    /// It is already on that server.
    SameServer,
    /// All hand-overs that there is room for are under way.
    Busy,
    /// No alternative port is free towards the new server.
    NoPort,
    /// There is no room in the table for the second leg.
    TableFull,
    /// The client has sent bytes that its server has not acknowledged.
    Unacknowledged,
    /// The [`Resumption`] refused: the connection is not at rest, or the client's request is not known.
    NotNow,
    /// The new server answered with a RST.
    Refused,
    /// The new server did not answer in time, neither to the SYN nor to what followed.
    Silent,
    /// The new server does not agree to timestamps, which the client uses.
    NoTimestamps,
    /// The [`Resumption`] did not accept the new server's answer.
    WrongAnswer,
    /// The new server's answer was longer than the buffer before it could be judged.
    LongAnswer,
    /// An end closed or reset the connection in the meantime.
    Closing,
    /// A re-divert wants it handed over, but no rule says any more where it should go.
    NoRule,
}

impl Kept {
    /// How many reasons there are.
    pub const COUNT: usize = 16;

    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::NoConnection,
        Self::NotResumable,
        Self::NotEstablished,
        Self::SameServer,
        Self::Busy,
        Self::NoPort,
        Self::TableFull,
        Self::Unacknowledged,
        Self::NotNow,
        Self::Refused,
        Self::Silent,
        Self::NoTimestamps,
        Self::WrongAnswer,
        Self::LongAnswer,
        Self::Closing,
        Self::NoRule,
    ];

    /// A short name in lower case, stable across versions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::NotResumable => "not_resumable",
            Self::NotEstablished => "not_established",
            Self::SameServer => "same_server",
            Self::Busy => "busy",
            Self::NoPort => "no_port",
            Self::TableFull => "table_full",
            Self::Unacknowledged => "unacknowledged",
            Self::NotNow => "not_now",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::NoTimestamps => "no_timestamps",
            Self::WrongAnswer => "wrong_answer",
            Self::LongAnswer => "long_answer",
            Self::Closing => "closing",
            Self::NoRule => "no_rule",
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Kept {}
