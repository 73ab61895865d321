//! What can be known of a TCP connection without asking a translator: from the states of both ends (RFC 9293, section
//! 3.3.2), and from the segments that pass a point between them. None of it is taken from the library.

use core::fmt;

use byway::State;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// The TCP header of a packet, as far as tracking is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub window: u16,
    /// Bytes of data.
    pub length: u32,
}

impl Segment {
    /// Reads an IPv4 packet. `None` unless it carries a whole TCP header and is no later fragment.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        if packet.first()? >> 4 != 4 || *packet.get(9)? != 6 || half(6)? & 0x1fff != 0 {
            return None;
        }
        let header = usize::from(packet[0] & 15) * 4;
        let offset = usize::from(*packet.get(header + 12)? >> 4) * 4;
        Some(Self {
            flags: *packet.get(header + 13)? & 0x1f,
            sequence: word(header + 4)?,
            acknowledgment: word(header + 8)?,
            window: half(header + 14)?,
            length: u32::from(half(2)?).checked_sub((header + offset) as u32)?,
        })
    }

    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence number behind it: SYN and FIN take one each (RFC 9293, section 3.4).
    pub const fn end(&self) -> u32 {
        let control = self.has(SYN) as u32 + self.has(FIN) as u32;
        self.sequence.wrapping_add(self.length).wrapping_add(control)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (flag, name) in [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, '.')] {
            if self.has(flag) {
                write!(f, "{name}")?;
            }
        }
        write!(f, " {:08x}+{}", self.sequence, self.length)?;
        if self.has(ACK) { write!(f, " ack {:08x}", self.acknowledgment) } else { Ok(()) }
    }
}

/// Whether `value` lies between `low` and `high`, both included, modulo 2^32.
pub const fn between(low: u32, value: u32, high: u32) -> bool {
    value.wrapping_sub(low) <= high.wrapping_sub(low)
}

/// The later of two sequence numbers that are less than 2^31 apart.
pub const fn later(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one) < 1 << 31 { other } else { one }
}

/// One end's numbers, as its own segments tell them: what a capture beside this end shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// ISS: its SYN's number.
    pub start: u32,
    /// SND.NXT: the number behind everything that it has sent.
    pub next: u32,
    /// RCV.NXT, as it has last said it.
    pub acknowledged: Option<u32>,
}

impl Numbers {
    /// Takes notice of a segment that the end sends. A RST says nothing: a stack without any state sends them too.
    pub fn note(slot: &mut Option<Self>, segment: &Segment) {
        if segment.has(RST) {
            return;
        }
        let acknowledged = segment.has(ACK).then_some(segment.acknowledgment);
        if segment.has(SYN) && slot.is_none_or(|n| n.start != segment.sequence) {
            *slot = Some(Self { start: segment.sequence, next: segment.end(), acknowledged });
        }
        if let Some(numbers) = slot {
            // Bytes that a SYN carries may have to be sent again without it (RFC 7413), and count all the same.
            numbers.next = later(numbers.next, segment.end());
            numbers.acknowledged = acknowledged.or(numbers.acknowledged);
        }
    }

    /// Whether the peer's last acknowledgement is for something of this incarnation.
    fn is_acknowledged_by(&self, peer: &Self) -> bool {
        peer.acknowledged.is_some_and(|n| between(self.start.wrapping_add(1), n, self.next))
    }
}

/// Whether two ends talk with each other, and not each with an older incarnation of the other.
pub fn are_paired(one: &Numbers, other: &Numbers) -> bool {
    one.is_acknowledged_by(other) && other.is_acknowledged_by(one)
}

/// The states of RFC 9293, section 3.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl End {
    /// From the number that Linux gives it (`include/net/tcp_states.h`).
    pub fn of_linux(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => Self::Closed,
        }
    }

    /// It has sent a SYN and had it acknowledged.
    pub fn is_synchronized(self) -> bool {
        self >= Self::Established
    }

    /// There is nothing left to lose.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Closed | Self::Listen | Self::TimeWait)
    }

    /// It has sent a FIN, or is about to.
    fn closes(self) -> bool {
        matches!(self, Self::FinWait1 | Self::FinWait2 | Self::Closing | Self::LastAck | Self::TimeWait)
    }

    /// Its FIN was acknowledged, and it knows it.
    pub fn knows_its_fin_acknowledged(self) -> bool {
        matches!(self, Self::FinWait2 | Self::TimeWait)
    }

    /// It has received the other's FIN.
    pub fn has_fin(self) -> bool {
        matches!(self, Self::CloseWait | Self::Closing | Self::LastAck | Self::TimeWait)
    }

    /// Its own FIN is out, and it waits for the acknowledgement.
    pub fn waits_for_its_fin(self) -> bool {
        matches!(self, Self::FinWait1 | Self::Closing | Self::LastAck)
    }
}

/// The states that a translator between two ends which talk with each other may have.
///
/// Every segment that one end receives has passed the translator, so whatever an end has learnt from the other, the
/// translator must know. What an end has sent may have been lost on the way to the translator, so that this it need not
/// know. And what no end has sent or accepted must not count.
pub fn permitted(client: End, server: End) -> Vec<State> {
    use End::{Established, SynReceived, SynSent};
    match (client, server) {
        (SynSent, SynReceived) => vec![State::Opening, State::Opened],
        (SynReceived, SynReceived) => vec![State::Opened, State::Established],
        // The ACK that completes the handshake, and a FIN behind it, may have been lost behind the translator.
        (c, SynReceived) if c.is_synchronized() => [vec![State::Opened], permitted(c, Established)].concat(),
        (SynReceived, s) if s.is_synchronized() => [vec![State::Opened], permitted(Established, s)].concat(),
        (c, s) if c.is_synchronized() && s.is_synchronized() => {
            let mut states = Vec::new();
            for client_closed in counts(c, s) {
                for server_closed in counts(s, c) {
                    states.push(match (client_closed, server_closed) {
                        (false, false) => State::Established,
                        (true, false) => State::ClientClosed,
                        (false, true) => State::ServerClosed,
                        (true, true) => State::TimeWait,
                    });
                    if c.closes() && s.closes() && !(client_closed && server_closed) {
                        states.push(State::Closing);
                    }
                }
            }
            states
        }
        _ => Vec::new(),
    }
}

/// Whether the sender's FIN may count as acknowledged, and whether it may not.
fn counts(sender: End, receiver: End) -> Vec<bool> {
    match (sender.knows_its_fin_acknowledged(), receiver.has_fin()) {
        (true, _) => vec![true],
        (false, true) => vec![false, true],
        (false, false) => vec![false],
    }
}

/// States that live for two hours, and that no other connection may push out.
pub const fn is_long_lived(state: State) -> bool {
    matches!(state, State::Established | State::ClientClosed | State::ServerClosed)
}

/// What has passed a point between two ends, of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub client: Side,
    pub server: Side,
    /// The last segment was a RST that its receiver obeys, unless a segment was lost on the way from here, or that it
    /// obeys once the segments before it have arrived; or it refused the last SYN.
    pub reset: bool,
    /// The last SYN+ACK or SYN of the server that has passed belongs to the client's last SYN.
    pub answered: bool,
    /// The client has acknowledged a SYN of the server since its last new SYN: it waits for an answer no more.
    pub accepted: bool,
    /// The number of the client's SYN before its last one, if that has another.
    pub before: Option<u32>,
    /// The number behind the SYN with which the server answered before the client's last new SYN.
    pub earlier: Option<u32>,
    /// There was a RST since the client's last new SYN. If it is lost behind here, the client goes on trying.
    pub was_reset: bool,
    /// The client's last SYN came while an older connection seemed to be alive. It may be forged, so that the
    /// translator need not believe it before its handshake is complete.
    pub over_another: bool,
}

/// What one end has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    pub start: Option<u32>,
    /// The number behind everything that has passed.
    pub next: u32,
    /// The highest number that the other end has acknowledged.
    pub acknowledged: u32,
    /// The number behind its FIN.
    pub fin: Option<u32>,
}

/// No end sends as much in these tests: a number farther away belongs to another incarnation, or is forged.
const FAR: u32 = 1 << 26;

impl Side {
    fn knows(&self, number: u32) -> bool {
        self.start.is_some_and(|start| number.wrapping_sub(start) < FAR)
    }

    /// Whether this number acknowledges something of what has passed.
    fn has_sent(&self, number: u32) -> bool {
        self.start.is_some_and(|start| between(start.wrapping_add(1), number, self.next))
    }

    pub fn is_closed(&self) -> bool {
        self.fin.is_some_and(|fin| between(fin, self.acknowledged, self.next))
    }

    /// Whether a RST with this number is one that the other end obeys, now or when what is in flight has arrived.
    pub fn may_reset(&self, sequence: u32) -> bool {
        self.start.is_some() && between(self.acknowledged, sequence, self.next)
    }
}

impl Passed {
    /// Takes notice of a segment. Those that an attacker forged are to be left out, except for RSTs, of which only the
    /// number counts.
    pub fn note(&mut self, from_client: bool, segment: &Segment, forged: bool) {
        let (mine, other) =
            if from_client { (&mut self.client, &mut self.server) } else { (&mut self.server, &mut self.client) };
        if segment.has(RST) {
            // A client that waits for an answer looks at the acknowledgement alone (RFC 9293, section 3.10.7.3), whatever
            // the number: a server may refuse what an end of it that it has given up has answered.
            let refuses = !from_client
                && !self.accepted
                && segment.has(ACK)
                && self.client.start.is_some()
                && between(self.client.start.unwrap_or(0).wrapping_add(1), segment.acknowledgment, self.client.next);
            let side = if from_client { &self.client } else { &self.server };
            if side.may_reset(segment.sequence) || refuses {
                self.reset = true;
                self.was_reset = true;
            }
            return;
        }
        if forged {
            return;
        }
        self.reset = false;
        // Also one that comes again once the server has answered another.
        let another_is_answered = from_client && !segment.has(ACK) && other.start.is_some() && !self.answered;
        if segment.has(SYN) && (mine.start != Some(segment.sequence) || another_is_answered) {
            let (start, next) = (Some(segment.sequence), segment.end());
            if from_client && mine.start != start {
                self.before = mine.start;
            }
            *mine = Side { start, next, acknowledged: segment.sequence.wrapping_add(1), fin: None };
            if from_client && !segment.has(ACK) {
                self.earlier = self.server.start.map(|start| start.wrapping_add(1));
                self.server = Side::default();
                (self.answered, self.accepted, self.was_reset) = (false, false, false);
                return;
            }
            // The SYN without ACK before it was lost, or this is no answer to anything.
            self.over_another |= from_client;
        }
        if mine.knows(segment.sequence) {
            mine.next = later(mine.next, segment.end());
            if segment.has(FIN) {
                mine.fin = Some(segment.end());
            }
        }
        if segment.has(ACK) && other.has_sent(segment.acknowledgment) {
            other.acknowledged = later(other.acknowledged, segment.acknowledgment);
            self.accepted |= from_client;
        }
        if !from_client && segment.has(SYN) {
            // Not a late answer to the SYN before.
            self.answered = !segment.has(ACK) || self.client.has_sent(segment.acknowledgment);
        }
    }

    /// Whether this is the number of one of the client's last two SYNs. A translator remembers no more attempts of one
    /// handshake, so another one that these have overtaken goes on with the client's next segment.
    pub fn is_remembered(&self, start: u32) -> bool {
        [self.client.start, self.before].contains(&Some(start))
    }

    /// Whether this segment of the client completes its attempt before the last one. Only the client can know the number, but
    /// not whether the segment or its last SYN is late.
    pub fn completes_earlier(&self, segment: &Segment) -> bool {
        segment.flags & (SYN | RST | ACK) == ACK && !self.accepted && self.earlier == Some(segment.acknowledgment)
    }

    /// Both FINs have been acknowledged.
    pub fn is_over(&self) -> bool {
        self.client.is_closed() && self.server.is_closed()
    }
}

/// What a capture shows of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    pub passed: Passed,
    /// Client's and server's SYN are acknowledged.
    pub acknowledged: (bool, bool),
    /// A RST was obeyed.
    pub reset: bool,
    /// A RST came behind data that is in flight, and nothing since.
    pub doubtful: bool,
}

impl Shown {
    pub fn note(&mut self, from_client: bool, segment: &Segment) {
        if segment.has(RST) {
            let sender = if from_client { self.passed.client } else { self.passed.server };
            // A server without a connection acknowledges the SYN that it refuses; its own number is zero (RFC 9293,
            // section 3.5.2, group 1). The client does not look at it (section 3.10.7.3).
            let refuses = !from_client && !self.passed.accepted && segment.has(ACK);
            let exact = sender.start.is_some() && segment.sequence == sender.acknowledged;
            if exact || refuses && self.passed.client.next == segment.acknowledgment {
                self.reset = true;
            } else if sender.may_reset(segment.sequence) {
                self.doubtful = true;
            }
        } else {
            self.doubtful = false;
        }
        if segment.flags & (SYN | ACK) == SYN && from_client && self.passed.client.start != Some(segment.sequence) {
            *self = Self::default();
        }
        if segment.has(ACK) && !segment.has(RST) {
            let other = if from_client { self.passed.server } else { self.passed.client };
            let is_acknowledged = other.has_sent(segment.acknowledgment);
            let known = if from_client { &mut self.acknowledged.1 } else { &mut self.acknowledged.0 };
            *known |= is_acknowledged;
        }
        self.passed.note(from_client, segment, false);
    }

    pub fn states(&self) -> Vec<State> {
        let Passed { client, server, .. } = self.passed;
        if self.reset || self.passed.is_over() {
            return vec![State::TimeWait];
        }
        if self.doubtful {
            return vec![State::Doubtful];
        }
        if client.start.is_none() {
            return Vec::new();
        }
        if server.start.is_none() {
            return vec![State::Opening];
        }
        if self.acknowledged != (true, true) {
            return vec![State::Opened];
        }
        let (both, one) = (client.fin.is_some() && server.fin.is_some(), (client.is_closed(), server.is_closed()));
        let mut states = vec![match one {
            (true, _) => State::ClientClosed,
            (_, true) => State::ServerClosed,
            _ => State::Established,
        }];
        if both {
            states.push(State::Closing);
        }
        states
    }
}

/// What a `Record` says of the sequence numbers: what client and server have sent, and what client and server have
/// acknowledged (RFC 9293: SND.NXT and RCV.NXT of both). Zero: not known.
pub fn numbers_of(record: &byway::Record) -> [u32; 4] {
    [36, 40, 44, 48].map(|at| u32::from_be_bytes(record.as_bytes()[at..at + 4].try_into().expect("four bytes")))
}
