//! TCP as seen from the middle: a second implementation of `docs/tcp.md`, written from that page and from RFCs 9293,
//! 5961, 7323 and 7413. It judges every segment, in any order, forged or not. It is made to be read beside the page, and
//! has no care for speed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use byway::State;

use super::packet::{ACK, FIN, SYN, long};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    There,
    Back,
}

#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    /// How many bytes of data it carries, as far as they are in this packet.
    pub data: u32,
    /// Whether all of the segment is in this packet.
    pub whole: bool,
}

/// Reads a segment from its header on. `whole` says that the packet is no fragment.
pub fn segment(bytes: &[u8], whole: bool) -> Segment {
    let data = bytes.len() as u32 - u32::from(bytes[12] >> 4) * 4;
    Segment { sequence: long(bytes, 4), acknowledgment: long(bytes, 8), flags: bytes[13], data, whole }
}

impl Segment {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number behind its SYN.
    fn behind_syn(self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// The number behind its SYN, its data, and its FIN.
    pub fn end(self) -> u32 {
        let control = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.sequence.wrapping_add(self.data).wrapping_add(control)
    }
}

thread_local! {
    static MET: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts that a rule of the page was met.
fn met(rule: &'static str) {
    debug_assert!(RULES.contains(&rule), "{rule}");
    MET.with_borrow_mut(|counts| *counts.entry(rule).or_default() += 1);
}

/// How often each rule was met since this was last asked in this thread.
pub fn take_met() -> BTreeMap<&'static str, u64> {
    let mut counts = MET.take();
    for rule in RULES {
        counts.entry(rule).or_default();
    }
    counts
}

/// The rules, each by what happens.
pub const RULES: [&str; 86] = [
    "answered attempt forgotten",
    "behind a FIN after the end, and no repetition",
    "reset in silence",
    "reset in silence that may be of one side",
    "reset",
    "handshake: exact RST of the client",
    "handshake: RST of the client, another attempt goes on",
    "handshake: RST of the client in flight",
    "handshake: RST of the client refuses an answer",
    "handshake: RST of the client elsewhere",
    "handshake: inexact RST of the client",
    "handshake: exact RST of the server",
    "handshake: RST of the server, another attempt goes on",
    "handshake: RST of the server in flight",
    "handshake: RST of the server elsewhere",
    "exact RST of the client",
    "RST of the client, an attempt goes on",
    "RST of the client in flight",
    "RST of the client elsewhere",
    "inexact RST of the client",
    "exact RST of the server",
    "RST of the server, an attempt goes on",
    "RST of the server in flight",
    "RST of the server elsewhere",
    "inexact RST of the server",
    "handshake: accepted by nobody",
    "more data with a SYN",
    "SYN repeated",
    "SYN after an answer",
    "SYN before an answer",
    "other attempt answered",
    "SYN+ACK for a SYN without data",
    "SYN+ACK for none of the data",
    "SYN+ACK for some of the data",
    "SYN+ACK for all of the data",
    "SYN of the server after its SYN+ACK",
    "both open",
    "unrelated answer after a better one",
    "unrelated answer remembered",
    "second SYN+ACK",
    "challenge before the handshake",
    "early data for another attempt",
    "too much early data",
    "early data",
    "early FIN",
    "SYN+ACK of the client for nothing",
    "SYN+ACK of the client",
    "both have acknowledged the other's SYN",
    "completes nothing",
    "completes",
    "completes and acknowledges early data",
    "completes what the server said of an unknown attempt",
    "completes with the SYN+ACK before",
    "completes the other attempt",
    "accepted by nobody",
    "attempt completed",
    "late copy of the SYN",
    "attempt repeated",
    "attempt",
    "late copy of the SYN+ACK",
    "attempt answered",
    "SYN+ACK for another attempt",
    "SYN+ACK that fits",
    "SYN+ACK that does not fit",
    "late copies of a handshake",
    "fits",
    "talk after a RST in flight",
    "FIN forgotten",
    "acknowledges what went past us",
    "FIN of no use",
    "second FIN of a connection that is seen one way",
    "FIN of a connection that is seen one way",
    "FIN in order",
    "FIN sent",
    "FIN acknowledged",
    "misfit of the server with an attempt",
    "misfit of the client with an answered attempt",
    "attempt forgotten",
    "agreement",
    "third agreement",
    "no agreement yet",
    "disagreement",
    "number claimed",
    "opened again",
    "repeated after the end",
    "something else after the end",
];

/// W: as far from a known number as a number is believed.
const WINDOW: i64 = 1 << 24;
/// How much more than a claimed number may be acknowledged in agreement.
const AGREEMENT: i64 = 1 << 20;
/// How far behind the highest acknowledgement another one may be that was overtaken.
const OVERTAKEN: u32 = 1 << 20;
/// How much data a server may send before the handshake is complete.
const EARLY: i64 = 16 << 10;
/// How many segments of the client that do not fit an answered attempt survives.
const FORGED: u8 = 3;

/// A number that is not known. A number that happens to be zero is taken for one of these.
const UNKNOWN: u32 = 0;

fn known(number: u32) -> Option<u32> {
    (number != UNKNOWN).then_some(number)
}

/// How far `a` lies behind (positive) or before (negative) `b`.
fn distance(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

/// Whether a number lies between two others, both included, upwards from the first however far that is.
fn between(number: u32, first: u32, last: u32) -> bool {
    number.wrapping_sub(first) <= last.wrapping_sub(first)
}

/// Whether a number acknowledges a SYN with this number behind it, and all, some or none of the data that came with it
/// (RFC 7413).
fn covers(number: u32, behind_syn: u32, data: u32) -> bool {
    (0..=i64::from(data)).contains(&distance(number, behind_syn))
}

/// Whether a number lies behind what its receiver expects, but not behind what was sent to it.
fn is_in_flight(number: u32, expected: u32, sent: u32) -> bool {
    (1..=distance(sent, expected)).contains(&distance(number, expected))
}

/// What is known of a connection.
#[derive(Clone, Debug)]
enum Life {
    Handshake(Handshake),
    Conversation(Conversation),
    Over(Over),
}

/// A handshake that is not complete.
#[derive(Clone, Debug)]
struct Handshake {
    /// `Opened`, rather than `Opening`.
    opened: bool,
    /// The number behind the SYN that counts.
    attempt: u32,
    /// The same of another attempt of the client.
    other: Option<u32>,
    /// The most data that came with a SYN.
    data: u32,
    /// The number behind the server's SYN, which the client will acknowledge.
    start: u32,
    /// The number behind the server's early data.
    end: u32,
    fin: Fin,
    /// The number behind the SYN of a SYN+ACK before.
    before: Option<u32>,
    /// What the server has acknowledged, be it an attempt or not.
    acknowledged: u32,
    /// The server has acknowledged the client's SYN.
    is_client_acknowledged: bool,
    /// The client has acknowledged the server's SYN by a SYN+ACK.
    is_server_acknowledged: bool,
    is_server_heard: bool,
}

/// What is known of a side's FIN. The order is that of how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fin {
    None,
    Sent,
    InOrder,
    Acknowledged,
}

/// A side of a conversation.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// The number behind the last that it has used.
    sent: u32,
    /// The highest number of the other side that it has acknowledged.
    expected: u32,
    heard: bool,
    fin: Fin,
    /// A number that it uses and that does not fit.
    claimed: Option<u32>,
    /// How often in a row the other side has agreed.
    agreements: u8,
}

#[derive(Clone, Debug)]
struct Conversation {
    client: Side,
    server: Side,
    attempt: Option<Attempt>,
    doubtful: bool,
    /// Taken up in the middle by a segment of the client; both sides together were not heard yet.
    adopted: bool,
    /// Both sides were heard before one of them sent a fragment.
    vouched: bool,
}

/// A new attempt within a conversation. While there is one, no other numbers are claimed.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    is: Is,
    /// The number behind the client's SYN; of what nobody has asked for, what the server has acknowledged.
    client: u32,
    /// How much data came with the SYN, or, as soon as the server has answered, how much of it that acknowledged.
    data: u32,
    /// The number behind the server's SYN.
    server: u32,
    /// How many segments of the client have come that fit neither this nor the conversation.
    misfits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// The client has sent a SYN.
    Asked,
    /// The server has answered with SYN+ACK.
    Answered,
    /// There was a SYN+ACK that answers no SYN that is known.
    Unasked,
}

impl Attempt {
    /// Whether a number acknowledges the client's SYN. Of what nobody has asked for, nothing does.
    fn is_acknowledged_by(&self, number: u32) -> bool {
        self.is != Is::Unasked && covers(number, self.client, self.data)
    }

    /// What the server has acknowledged, which is where the client goes on.
    fn acknowledged(&self) -> u32 {
        self.client.wrapping_add(self.data)
    }
}

/// What is left of a connection that is over.
#[derive(Clone, Debug)]
struct Over {
    client: Side,
    server: Side,
    vouched: bool,
    /// It was waiting.
    attempt: Option<Attempt>,
}

/// What a segment does to the life of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    OfLife,
    None,
}

/// What a RST is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    Exact,
    Replaced,
    InFlight,
    Refused,
    Elsewhere,
    Inexact,
}

/// A TCP connection.
#[derive(Clone, Debug)]
pub struct Tcp {
    life: Life,
}

/// A side that is heard, or not, and of which no more is known than these numbers.
fn side(sent: u32, expected: u32, heard: bool) -> Side {
    Side { sent, expected, heard, fin: Fin::None, claimed: None, agreements: 0 }
}

/// What a side has sent and its peer has acknowledged, as a record of that is understood.
fn mend(me: &mut Side, peer: &mut Side, doubtful: bool) {
    if peer.expected == UNKNOWN || distance(me.sent, peer.expected) < 0 {
        peer.expected = me.sent;
    }
    if !doubtful {
        me.note_acknowledged_fin(peer);
    }
}

impl Side {
    fn note_acknowledged_fin(&mut self, peer: &Self) {
        if ![Fin::None, Fin::Acknowledged].contains(&self.fin) && peer.expected == self.sent {
            met("FIN acknowledged");
            self.fin = Fin::Acknowledged;
        }
    }
}

impl Tcp {
    /// As its first segment finds it. That is then followed like any other.
    pub fn new(segment: Segment) -> Self {
        let life = if segment.has(SYN) {
            Life::Handshake(Handshake::new(segment.behind_syn()))
        } else {
            let nothing = side(UNKNOWN, UNKNOWN, false);
            Life::Conversation(Conversation { adopted: true, ..Conversation::new(nothing, nothing) })
        };
        Self { life }
    }

    pub fn state(&self) -> State {
        match &self.life {
            Life::Handshake(handshake) if handshake.opened => State::Opened,
            Life::Handshake(_) => State::Opening,
            Life::Conversation(conversation) => conversation.state(),
            Life::Over(_) => State::TimeWait,
        }
    }

    /// Taken up in the middle, and the server was not heard yet.
    pub fn is_adopted(&self) -> bool {
        matches!(&self.life, Life::Conversation(c) if c.adopted)
    }

    /// A record of this very connection was taken over. What is not known in it, or cannot be, is taken for acknowledged.
    pub fn hear_of_itself(&mut self) {
        let (client, server, doubtful) = match &mut self.life {
            Life::Handshake(_) => return,
            Life::Conversation(c) => (&mut c.client, &mut c.server, c.doubtful),
            Life::Over(over) => (&mut over.client, &mut over.server, false),
        };
        mend(client, server, doubtful);
        mend(server, client, doubtful);
    }

    /// There was a re-divert since it was over, which it has not followed: nobody knows any more what it was about.
    pub fn stay_behind(&mut self) {
        if let Life::Over(over) = &mut self.life {
            let forgotten = |s: Side| side(s.sent, s.expected, false);
            *over = Over::new(forgotten(over.client), forgotten(over.server));
        }
    }

    /// What its record says: the state, the flags of TCP, and the four numbers.
    pub fn record(&self) -> (u8, u8, [u32; 4]) {
        let (client, server, heard) = match &self.life {
            // The other side of a handshake is to be heard yet.
            Life::Handshake(h) => (h.client(), h.server(), true),
            Life::Conversation(c) => (c.client, c.server, !c.is_one_sided()),
            Life::Over(over) => (over.client, over.server, over.vouched || over.client.heard && over.server.heard),
        };
        let (state, implied) = match self.state() {
            State::Opening => (1, [Fin::None; 2]),
            State::Opened => (2, [Fin::None; 2]),
            State::Established if self.is_adopted() => (13, [Fin::None; 2]),
            State::Established => (3, [Fin::None; 2]),
            State::ClientClosed => (4, [Fin::Acknowledged, Fin::None]),
            State::ServerClosed => (5, [Fin::None, Fin::Acknowledged]),
            State::Closing => (6, [Fin::InOrder; 2]),
            State::TimeWait => (7, [Fin::None; 2]),
            State::Doubtful => (8, [Fin::None; 2]),
            other => panic!("{other:?} is no state of TCP that is followed"),
        };
        let fin = |side: Side, implied| if side.fin > implied { side.fin as u8 } else { 0 };
        let flags = fin(client, implied[0]) << 2 | fin(server, implied[1]) << 4 | if heard { 0 } else { 64 };
        (state, flags, [client.sent, server.sent, client.expected, server.expected])
    }

    /// The number behind the last that was sent this way; 0 if nothing is known.
    pub fn sent(&self, way: Way) -> u32 {
        match (&self.life, way) {
            (Life::Handshake(h), Way::There) if h.is_client_acknowledged => h.acknowledged,
            (Life::Handshake(h), Way::There) => h.attempt,
            (Life::Handshake(h), Way::Back) => h.end,
            (Life::Conversation(c), Way::There) => c.client.sent,
            (Life::Conversation(c), Way::Back) => c.server.sent,
            (Life::Over(over), Way::There) => over.client.sent,
            (Life::Over(over), Way::Back) => over.server.sent,
        }
    }

    /// What the side that sends this way has acknowledged; 0 if nothing.
    pub fn expected(&self, way: Way) -> u32 {
        match (&self.life, way) {
            (Life::Handshake(h), Way::There) => h.start,
            (Life::Handshake(h), Way::Back) => h.acknowledged,
            (Life::Conversation(c), Way::There) => c.client.expected,
            (Life::Conversation(c), Way::Back) => c.server.expected,
            (Life::Over(over), Way::There) => over.client.expected,
            (Life::Over(over), Way::Back) => over.server.expected,
        }
    }

    /// In a handshake, the number behind the data that came with the client's SYN; else behind the last that was sent.
    pub fn behind_data(&self, way: Way) -> u32 {
        match (&self.life, way) {
            (Life::Handshake(h), Way::There) => h.attempt.wrapping_add(h.data),
            _ => self.sent(way),
        }
    }

    /// A number that the side which sends this way has used, and that is not confirmed.
    pub fn tried(&self, way: Way) -> Option<u32> {
        let of_attempt = |attempt: Attempt| if way == Way::There { attempt.client } else { attempt.server };
        match &self.life {
            Life::Handshake(h) => {
                if way == Way::There {
                    h.other
                } else {
                    h.before
                }
            }
            Life::Conversation(c) => c.attempt.map(of_attempt).or(c.seen_from(way).0.claimed),
            Life::Over(over) => over.attempt.map(of_attempt),
        }
    }

    /// The numbers that both sides, the client first, will seem to have used when the translator itself resets the
    /// connection. `silent` says that nothing has been on its way for a while.
    pub fn sent_before_reset(&self, silent: bool) -> [u32; 2] {
        match &self.life {
            Life::Handshake(h) => [
                match (h.opened, h.is_client_acknowledged) {
                    (false, _) => h.attempt,
                    (true, true) => h.acknowledged,
                    (true, false) => h.attempt.wrapping_add(h.data),
                },
                h.end,
            ],
            Life::Conversation(c) if silent && c.are_both_heard() => {
                met("reset in silence");
                [c.server.expected, c.client.expected]
            }
            Life::Conversation(c) => {
                met(if silent { "reset in silence that may be of one side" } else { "reset" });
                [c.client.sent, c.server.sent]
            }
            Life::Over(_) => [UNKNOWN; 2],
        }
    }

    /// Follows a segment that is no RST.
    pub fn follow(&mut self, way: Way, segment: Segment) -> Sign {
        let (sign, next) = match &mut self.life {
            Life::Handshake(handshake) => {
                let (sign, completed) = handshake.follow(way, segment);
                (sign, completed.map(Life::Conversation))
            }
            Life::Conversation(conversation) => (conversation.follow(way, segment), None),
            Life::Over(over) => {
                let (sign, opened) = over.follow(way, segment);
                (sign, opened.map(Life::Handshake))
            }
        };
        if let Some(next) = next {
            self.life = next;
        }
        if let Life::Conversation(conversation) = &self.life
            && conversation.state() == State::TimeWait
        {
            self.life = Life::Over(conversation.ended());
        }
        sign
    }

    /// Judges a RST, and does what it does.
    pub fn reset(&mut self, way: Way, segment: Segment) -> Reset {
        match &mut self.life {
            Life::Handshake(handshake) => {
                let judged = handshake.judge_reset(way, segment);
                met(rule_in_handshake(way, judged));
                match judged {
                    Reset::Exact => self.life = Life::Over(Over::new(handshake.client(), handshake.server())),
                    Reset::Replaced => *handshake = handshake.replaced(),
                    Reset::Refused => handshake.forget_answer(),
                    // A handshake is short-lived as it is.
                    Reset::InFlight | Reset::Elsewhere | Reset::Inexact => {}
                }
                judged
            }
            Life::Conversation(conversation) => {
                let judged = conversation.judge_reset(way, segment);
                met(rule_in_conversation(way, judged));
                match judged {
                    Reset::Exact => self.life = Life::Over(conversation.ended()),
                    Reset::Replaced => {
                        let attempt = conversation.attempt.expect("it goes on");
                        self.life = Life::Handshake(Handshake::answered(attempt.acknowledged(), attempt.server));
                    }
                    // Both of these are short-lived as they are.
                    Reset::InFlight if conversation.adopted || conversation.state() == State::Closing => {}
                    Reset::InFlight => conversation.doubtful = true,
                    Reset::Refused | Reset::Elsewhere | Reset::Inexact => {}
                }
                judged
            }
            Life::Over(_) => unreachable!("nobody judges a RST after the end"),
        }
    }
}

fn rule_in_handshake(way: Way, judged: Reset) -> &'static str {
    match (way, judged) {
        (Way::There, Reset::Exact) => "handshake: exact RST of the client",
        (Way::There, Reset::Replaced) => "handshake: RST of the client, another attempt goes on",
        (Way::There, Reset::InFlight) => "handshake: RST of the client in flight",
        (Way::There, Reset::Refused) => "handshake: RST of the client refuses an answer",
        (Way::There, Reset::Elsewhere) => "handshake: RST of the client elsewhere",
        (Way::There, Reset::Inexact) => "handshake: inexact RST of the client",
        (Way::Back, Reset::Exact) => "handshake: exact RST of the server",
        (Way::Back, Reset::Replaced) => "handshake: RST of the server, another attempt goes on",
        (Way::Back, Reset::InFlight) => "handshake: RST of the server in flight",
        (Way::Back, Reset::Elsewhere) => "handshake: RST of the server elsewhere",
        (Way::Back, Reset::Refused | Reset::Inexact) => unreachable!("it could be for an attempt that is not known"),
    }
}

fn rule_in_conversation(way: Way, judged: Reset) -> &'static str {
    match (way, judged) {
        (Way::There, Reset::Exact) => "exact RST of the client",
        (Way::There, Reset::Replaced) => "RST of the client, an attempt goes on",
        (Way::There, Reset::InFlight) => "RST of the client in flight",
        (Way::There, Reset::Elsewhere) => "RST of the client elsewhere",
        (Way::There, Reset::Inexact) => "inexact RST of the client",
        (Way::Back, Reset::Exact) => "exact RST of the server",
        (Way::Back, Reset::Replaced) => "RST of the server, an attempt goes on",
        (Way::Back, Reset::InFlight) => "RST of the server in flight",
        (Way::Back, Reset::Elsewhere) => "RST of the server elsewhere",
        (Way::Back, Reset::Inexact) => "inexact RST of the server",
        (_, Reset::Refused) => unreachable!("there is no answer to refuse"),
    }
}

impl Handshake {
    /// A client has sent a SYN, or, if that is still to come, it will.
    fn new(attempt: u32) -> Self {
        Self {
            opened: false,
            attempt,
            other: None,
            data: 0,
            start: UNKNOWN,
            end: UNKNOWN,
            fin: Fin::None,
            before: None,
            acknowledged: UNKNOWN,
            is_client_acknowledged: false,
            is_server_acknowledged: false,
            is_server_heard: false,
        }
    }

    /// The server has answered a SYN, so that these are the numbers to go on with.
    fn answered(client: u32, server: u32) -> Self {
        Self {
            opened: true,
            acknowledged: client,
            start: server,
            end: server,
            is_client_acknowledged: true,
            is_server_heard: true,
            ..Self::new(client)
        }
    }

    /// The other attempt goes on, and nobody has answered it. The RST may come again.
    fn replaced(&self) -> Self {
        let attempt = self.other.expect("it goes on");
        Self { other: known(self.attempt), data: self.data, is_server_heard: true, ..Self::new(attempt) }
    }

    /// The client refuses what the server has answered to something else. It may do so again.
    fn forget_answer(&mut self) {
        self.opened = false;
        (self.start, self.end, self.before) = (UNKNOWN, UNKNOWN, None);
        self.is_client_acknowledged = false;
    }

    /// What is known of the client's side.
    fn client(&self) -> Side {
        side(self.attempt.wrapping_add(self.data), self.start, true)
    }

    fn server(&self) -> Side {
        Side { fin: self.fin, ..side(self.end, self.acknowledged, self.is_server_heard) }
    }

    fn acknowledges_attempt(&self, number: u32) -> bool {
        covers(number, self.attempt, self.data)
    }

    fn acknowledges_other(&self, number: u32) -> bool {
        self.other.is_some_and(|other| covers(number, other, self.data))
    }

    fn follow(&mut self, way: Way, segment: Segment) -> (Sign, Option<Conversation>) {
        match (way, segment.has(SYN), segment.has(ACK)) {
            (Way::There, true, false) => {
                self.attempt_again(segment);
                (Sign::OfLife, None)
            }
            (Way::There, true, true) => self.open_as_client(segment),
            (Way::There, false, true) => self.complete(segment),
            (Way::Back, true, true) => self.answer(segment),
            (Way::Back, true, false) => (self.open_too(segment), None),
            (Way::Back, false, true) => self.speak_early(segment),
            (_, false, false) => {
                met("handshake: accepted by nobody");
                (Sign::None, None)
            }
        }
    }

    /// A SYN of the client.
    fn attempt_again(&mut self, syn: Segment) {
        let number = syn.behind_syn();
        if syn.data > self.data {
            met("more data with a SYN");
            self.data = syn.data;
        }
        if number == self.attempt {
            met("SYN repeated");
            return;
        }
        met(if self.is_client_acknowledged { "SYN after an answer" } else { "SYN before an answer" });
        self.other = known(self.attempt);
        self.attempt = number;
        self.opened = false;
    }

    /// A SYN+ACK of the server.
    fn answer(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        let number = segment.acknowledgment;
        if !self.acknowledges_attempt(number) && self.acknowledges_other(number) {
            met("other attempt answered");
            let answered = self.other.expect("it is answered");
            self.other = known(self.attempt);
            self.attempt = answered;
        }
        if !self.acknowledges_attempt(number) {
            self.remember_if_nothing_is_better(segment);
            return (Sign::None, None);
        }
        met(match distance(number, self.attempt) {
            0 if self.data == 0 => "SYN+ACK for a SYN without data",
            0 => "SYN+ACK for none of the data",
            some if some < i64::from(self.data) => "SYN+ACK for some of the data",
            _ => "SYN+ACK for all of the data",
        });
        self.take_servers_numbers(segment);
        (self.opened, self.is_server_heard) = (true, true);
        self.acknowledged = number;
        self.is_client_acknowledged = true;
        (Sign::OfLife, self.both_acknowledged())
    }

    /// A SYN of the server without ACK: both open at once.
    fn open_too(&mut self, segment: Segment) -> Sign {
        if self.is_client_acknowledged {
            met("SYN of the server after its SYN+ACK");
            return Sign::None;
        }
        met("both open");
        self.take_servers_numbers(segment);
        (self.opened, self.is_server_heard) = (true, true);
        Sign::OfLife
    }

    /// A segment of the server that acknowledges no attempt, or has no SYN where one is due.
    fn remember_if_nothing_is_better(&mut self, segment: Segment) {
        if self.opened || self.is_client_acknowledged {
            met("unrelated answer after a better one");
            return;
        }
        met("unrelated answer remembered");
        self.take_servers_numbers(segment);
        self.acknowledged = segment.acknowledgment;
    }

    /// What the client may acknowledge from now on.
    fn take_servers_numbers(&mut self, segment: Segment) {
        let start = if segment.has(SYN) { segment.behind_syn() } else { segment.sequence };
        let end = segment.end();
        let another = start != self.start;
        if another {
            if self.opened || self.is_client_acknowledged {
                met("second SYN+ACK");
                self.before = known(self.start);
            }
            self.start = start;
            self.is_server_acknowledged = false;
        }
        if another || distance(end, self.end) > 0 {
            self.end = end;
            self.fin = Fin::None;
        }
    }

    /// A segment of the server without SYN.
    fn speak_early(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        if !self.opened {
            met("challenge before the handshake");
            self.remember_if_nothing_is_better(segment);
            return (Sign::None, None);
        }
        let end = segment.end();
        if !self.acknowledges_attempt(segment.acknowledgment) {
            met("early data for another attempt");
            return (Sign::None, None);
        }
        if !(0..=EARLY).contains(&distance(end, self.start)) {
            met("too much early data");
            return (Sign::None, None);
        }
        if distance(end, self.end) > 0 {
            met("early data");
            self.end = end;
            self.fin = Fin::None;
        }
        // One that ends behind the SYN would stand in its place.
        if segment.has(FIN) && end == self.end && end != self.start {
            met("early FIN");
            self.fin = Fin::Sent;
        }
        self.acknowledged = segment.acknowledgment;
        self.is_client_acknowledged = true;
        (Sign::OfLife, self.both_acknowledged())
    }

    /// A SYN+ACK of the client: both open at once.
    fn open_as_client(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        if segment.acknowledgment != self.start || self.start == UNKNOWN {
            met("SYN+ACK of the client for nothing");
            return (Sign::None, None);
        }
        met("SYN+ACK of the client");
        self.opened = true;
        self.is_server_acknowledged = true;
        if !self.is_client_acknowledged {
            self.attempt = segment.behind_syn();
            self.acknowledged = segment.behind_syn();
        }
        (Sign::OfLife, self.both_acknowledged())
    }

    /// Whether both SYNs are acknowledged, each by an end that has sent one itself.
    fn both_acknowledged(&self) -> Option<Conversation> {
        if !(self.is_client_acknowledged && self.is_server_acknowledged) {
            return None;
        }
        met("both have acknowledged the other's SYN");
        Some(self.completed(side(self.acknowledged, self.start, true)))
    }

    /// The conversation that begins with this client.
    fn completed(&self, client: Side) -> Conversation {
        let mut conversation = Conversation::new(client, self.server());
        conversation.note_acknowledged_fins();
        conversation
    }

    /// A segment of the client that may complete the handshake.
    fn complete(&self, segment: Segment) -> (Sign, Option<Conversation>) {
        let (sequence, number) = (segment.sequence, segment.acknowledgment);
        let latest = between(number, self.start, self.end);
        let before = !latest && self.before == Some(number);
        // What acknowledges no attempt has to be confirmed to the byte.
        let begins = if self.is_client_acknowledged {
            (0..WINDOW).contains(&distance(sequence, self.acknowledged))
        } else {
            self.start != UNKNOWN && self.acknowledged != UNKNOWN && sequence == self.acknowledged
        };
        let at_other = before && self.other == Some(sequence);
        if !(latest || before) || !(begins || at_other) {
            met("completes nothing");
            return (Sign::None, None);
        }
        met(match (latest, begins, self.is_client_acknowledged) {
            (true, _, true) if number == self.start => "completes",
            (true, _, true) => "completes and acknowledges early data",
            (true, _, false) => "completes what the server said of an unknown attempt",
            (false, true, _) => "completes with the SYN+ACK before",
            (false, false, _) => "completes the other attempt",
        });
        let mut complete = self.clone();
        if before {
            (complete.end, complete.fin) = (number, Fin::None);
        }
        if !begins {
            complete.acknowledged = sequence;
        }
        let mut conversation = complete.completed(side(segment.end(), number, true));
        conversation.note_fin(Way::There, segment);
        conversation.note_acknowledged_fins();
        (Sign::OfLife, Some(conversation))
    }

    fn judge_reset(&self, way: Way, segment: Segment) -> Reset {
        let over = if self.opened && self.other.is_some() { Reset::Replaced } else { Reset::Exact };
        let number = segment.sequence;
        match way {
            Way::Back if segment.has(ACK) && self.acknowledges_attempt(segment.acknowledgment) => over,
            Way::Back if segment.has(ACK) && self.acknowledges_other(segment.acknowledgment) => Reset::Elsewhere,
            // A client that has got no answer obeys nothing else.
            Way::Back if !self.opened => Reset::Elsewhere,
            Way::Back if number == self.start => over,
            Way::Back if is_in_flight(number, self.start, self.end) => Reset::InFlight,
            Way::Back => Reset::Elsewhere,
            Way::There if !self.opened || !self.is_client_acknowledged => {
                if self.acknowledges_attempt(number) {
                    Reset::Exact
                } else if number == self.acknowledged {
                    Reset::Refused
                } else if self.acknowledges_other(number) {
                    Reset::Elsewhere
                } else {
                    Reset::Inexact
                }
            }
            Way::There if number == self.acknowledged => over,
            Way::There if is_in_flight(number, self.acknowledged, self.attempt.wrapping_add(self.data)) => {
                Reset::InFlight
            }
            // It has sent a SYN, and refuses whatever answers something else.
            Way::There => Reset::Elsewhere,
        }
    }
}

impl Conversation {
    fn new(client: Side, server: Side) -> Self {
        Self { client, server, attempt: None, doubtful: false, adopted: false, vouched: false }
    }

    /// What is left when it is over.
    fn ended(&self) -> Over {
        Over { client: self.client, server: self.server, vouched: self.vouched, attempt: self.attempt }
    }

    /// The side that sends this way, and the other.
    const fn seen_from(&self, way: Way) -> (Side, Side) {
        match way {
            Way::There => (self.client, self.server),
            Way::Back => (self.server, self.client),
        }
    }

    /// The same, to be changed.
    fn sides(&mut self, way: Way) -> (&mut Side, &mut Side) {
        match way {
            Way::There => (&mut self.client, &mut self.server),
            Way::Back => (&mut self.server, &mut self.client),
        }
    }

    fn are_both_heard(&self) -> bool {
        self.client.heard && self.server.heard
    }

    /// A side is not heard: its segments go another way.
    fn is_one_sided(&self) -> bool {
        !(self.are_both_heard() || self.vouched)
    }

    fn state(&self) -> State {
        if self.doubtful {
            return State::Doubtful;
        }
        if self.adopted {
            return State::Established;
        }
        match (self.client.fin, self.server.fin) {
            (Fin::Acknowledged, Fin::Acknowledged) => State::TimeWait,
            (client, server) if client >= Fin::InOrder && server >= Fin::InOrder => State::Closing,
            (Fin::Acknowledged, _) => State::ClientClosed,
            (_, Fin::Acknowledged) => State::ServerClosed,
            _ => State::Established,
        }
    }

    fn follow(&mut self, way: Way, segment: Segment) -> Sign {
        match (way, segment.has(SYN), segment.has(ACK)) {
            (Way::There, true, false) => self.begin_attempt(segment),
            (Way::Back, true, true) => self.answer_attempt(segment),
            (_, true, _) | (_, false, false) => {
                met("accepted by nobody");
                Sign::None
            }
            (Way::There, false, true) if self.completes_attempt(segment) => {
                met("attempt completed");
                self.begin_anew(segment);
                Sign::OfLife
            }
            (_, false, true) => {
                self.believe_first(way, segment);
                if self.fits(way, segment) {
                    self.take(way, segment);
                    Sign::OfLife
                } else {
                    self.misfit(way, segment)
                }
            }
        }
    }

    /// A SYN of the client.
    fn begin_attempt(&mut self, segment: Segment) -> Sign {
        let client = segment.behind_syn();
        if client == self.server.expected {
            met("late copy of the SYN");
        } else if self.attempt.is_some_and(|attempt| attempt.client == client) {
            met("attempt repeated");
        } else {
            met("attempt");
            let attempt = Attempt { is: Is::Asked, client, data: segment.data, server: UNKNOWN, misfits: 0 };
            self.forget_claims();
            self.attempt = Some(attempt);
        }
        Sign::None
    }

    fn forget_claims(&mut self) {
        for side in [&mut self.client, &mut self.server] {
            (side.claimed, side.agreements) = (None, 0);
        }
        self.attempt = None;
    }

    /// A SYN+ACK of the server.
    fn answer_attempt(&mut self, segment: Segment) -> Sign {
        let (number, server) = (segment.acknowledgment, segment.behind_syn());
        if server == self.client.expected {
            met("late copy of the SYN+ACK");
            return Sign::None;
        }
        match self.attempt {
            Some(attempt) if attempt.is_acknowledged_by(number) => {
                met("attempt answered");
                let data = number.wrapping_sub(attempt.client);
                self.attempt = Some(Attempt { is: Is::Answered, data, server, ..attempt });
                return Sign::OfLife;
            }
            Some(Attempt { is: Is::Asked | Is::Answered, .. }) => met("SYN+ACK for another attempt"),
            _ if self.may_acknowledge(Way::Back, number) => met("SYN+ACK that fits"),
            _ => {
                met("SYN+ACK that does not fit");
                self.forget_claims();
                self.attempt = Some(Attempt { is: Is::Unasked, client: number, data: 0, server, misfits: 0 });
            }
        }
        Sign::None
    }

    fn completes_attempt(&self, segment: Segment) -> bool {
        let Some(attempt) = self.attempt.filter(|attempt| attempt.is != Is::Asked) else {
            return false;
        };
        let begins = (0..AGREEMENT).contains(&distance(segment.sequence, attempt.acknowledged()))
            && (0..=EARLY).contains(&distance(segment.acknowledgment, attempt.server));
        let ahead = distance(segment.sequence.wrapping_add(segment.data), self.client.sent);
        let goes_on =
            (0..WINDOW).contains(&ahead) && between(segment.acknowledgment, self.client.expected, self.server.sent);
        if begins && goes_on {
            met("late copies of a handshake");
        }
        begins && !goes_on
    }

    fn begin_anew(&mut self, segment: Segment) {
        let begins = self.attempt.map_or(UNKNOWN, |attempt| attempt.acknowledged());
        *self =
            Self::new(side(segment.end(), segment.acknowledgment, true), side(segment.acknowledgment, begins, true));
        self.note_fin(Way::There, segment);
        self.note_acknowledged_fins();
    }

    /// Takes the first numbers of a side that was not heard and of which nothing is known.
    fn believe_first(&mut self, way: Way, segment: Segment) {
        let (me, peer) = self.sides(way);
        if !me.heard && me.sent == UNKNOWN && peer.expected == UNKNOWN {
            me.sent = segment.end();
            // At least: what lies before it may be on its way still.
            peer.expected = segment.sequence;
        }
        let behind_fin = me.fin == Fin::Acknowledged && distance(segment.end(), me.sent) > 0;
        if !peer.heard && peer.sent == UNKNOWN && me.expected == UNKNOWN && !behind_fin {
            peer.sent = segment.acknowledgment;
            me.expected = segment.acknowledgment;
        }
    }

    fn may_acknowledge(&self, way: Way, number: u32) -> bool {
        let (me, peer) = self.seen_from(way);
        between(number, me.expected.wrapping_sub(OVERTAKEN), peer.sent)
    }

    fn fits(&self, way: Way, segment: Segment) -> bool {
        let (me, peer) = self.seen_from(way);
        let ahead = distance(segment.end(), me.sent);
        let most = if me.fin == Fin::Acknowledged { 0 } else { WINDOW - 1 };
        // What went past us: whoever acknowledges it has got it.
        let past_us = !peer.heard && (0..WINDOW).contains(&distance(segment.acknowledgment, peer.sent));
        (-WINDOW..=most).contains(&ahead) && (past_us || self.may_acknowledge(way, segment.acknowledgment))
    }

    /// A segment that its receiver would accept.
    fn take(&mut self, way: Way, segment: Segment) {
        met("fits");
        if self.doubtful {
            met("talk after a RST in flight");
        }
        self.vouched |= self.are_both_heard() && !segment.whole;
        let (me, peer) = self.sides(way);
        // Of a fragment nobody knows where its segment ends.
        me.heard = segment.whole;
        let end = segment.end();
        if distance(end, me.sent) > 0 {
            me.sent = end;
            if me.fin != Fin::None {
                met("FIN forgotten");
                me.fin = Fin::None;
            }
        }
        if distance(segment.acknowledgment, peer.sent) > 0 {
            met("acknowledges what went past us");
            peer.sent = segment.acknowledgment;
        }
        self.note_fin(way, segment);
        let (me, _) = self.sides(way);
        if distance(segment.acknowledgment, me.expected) > 0 {
            me.expected = segment.acknowledgment;
        }
        self.note_acknowledged_fins();
        self.settle();
    }

    fn settle(&mut self) {
        self.adopted &= !self.are_both_heard();
        self.doubtful = false;
    }

    /// Looks at the FIN of a segment that fits.
    fn note_fin(&mut self, way: Way, segment: Segment) {
        let one_sided = self.is_one_sided();
        let (me, peer) = self.sides(way);
        if !segment.has(FIN) || me.fin == Fin::Acknowledged {
            return;
        }
        let in_order = segment.sequence == peer.expected;
        if !in_order && segment.end() != me.sent {
            met("FIN of no use");
            return;
        }
        me.sent = segment.end();
        let fin = match (one_sided, peer.fin) {
            // Its acknowledgement goes another way.
            (true, Fin::Acknowledged) => {
                met("second FIN of a connection that is seen one way");
                Fin::InOrder
            }
            (true, _) => {
                met("FIN of a connection that is seen one way");
                Fin::Acknowledged
            }
            (false, _) if in_order => {
                met("FIN in order");
                Fin::InOrder
            }
            (false, _) => {
                met("FIN sent");
                Fin::Sent
            }
        };
        me.fin = me.fin.max(fin);
    }

    fn note_acknowledged_fins(&mut self) {
        self.client.note_acknowledged_fin(&self.server);
        self.server.note_acknowledged_fin(&self.client);
    }

    /// A segment that its receiver would not accept.
    fn misfit(&mut self, way: Way, segment: Segment) -> Sign {
        match &mut self.attempt {
            Some(_) if way == Way::Back => {
                met("misfit of the server with an attempt");
                return Sign::None;
            }
            Some(attempt) if attempt.is == Is::Answered && attempt.misfits < FORGED => {
                met("misfit of the client with an answered attempt");
                attempt.misfits += 1;
                return Sign::None;
            }
            Some(attempt) => {
                met(if attempt.is == Is::Answered { "answered attempt forgotten" } else { "attempt forgotten" });
                self.forget_claims();
            }
            None => {}
        }
        let (me, peer) = self.sides(way);
        let (mut sign, mut agreed) = (Sign::None, false);
        if let Some(claimed) = peer.claimed {
            let more = distance(segment.acknowledgment, claimed);
            if (0..AGREEMENT).contains(&more) {
                sign = Sign::OfLife;
                peer.claimed = None;
                peer.agreements += 1;
                met("agreement");
                if peer.agreements == 3 {
                    met("third agreement");
                    peer.agreements = 0;
                    peer.sent = segment.acknowledgment;
                    peer.fin = Fin::None;
                    peer.heard = true;
                    me.expected = segment.acknowledgment;
                    agreed = true;
                }
            } else if (-WINDOW..0).contains(&more) {
                met("no agreement yet");
            } else {
                met("disagreement");
                peer.claimed = None;
                peer.agreements = 0;
            }
        }
        if me.claimed.is_none() {
            met("number claimed");
            me.claimed = known(segment.end());
        }
        if agreed {
            self.note_acknowledged_fins();
            self.settle();
        }
        sign
    }

    fn judge_reset(&self, way: Way, segment: Segment) -> Reset {
        let number = segment.sequence;
        let asked = |attempt: &Attempt| attempt.is_acknowledged_by(segment.acknowledgment);
        if way == Way::Back && segment.has(ACK) && self.attempt.as_ref().is_some_and(asked) {
            return Reset::Exact;
        }
        let answered = self.attempt.filter(|attempt| attempt.is == Is::Answered);
        let (me, peer) = self.seen_from(way);
        if me.heard || me.sent != UNKNOWN || peer.expected != UNKNOWN {
            if number == peer.expected {
                // Of an adopted connection it is a guess what its server expects.
                return match answered {
                    _ if self.adopted && way == Way::There => Reset::InFlight,
                    Some(_) => Reset::Replaced,
                    None => Reset::Exact,
                };
            }
            let of_attempt = |a: Attempt| number == if way == Way::There { a.acknowledged() } else { a.server };
            if answered.is_some_and(of_attempt) {
                return Reset::Exact;
            }
            if is_in_flight(number, peer.expected, me.sent) {
                return Reset::InFlight;
            }
        }
        if way == Way::There
            && let Some(attempt) = self.attempt
        {
            // Who gives up an attempt has lost its state before: what is half closed is of no use to it.
            let gives_up = (-1..=i64::from(attempt.data)).contains(&distance(number, attempt.client));
            let half_closed = matches!(self.state(), State::ClientClosed | State::ServerClosed);
            return if half_closed && gives_up { Reset::InFlight } else { Reset::Elsewhere };
        }
        if self.are_both_heard() { Reset::Inexact } else { Reset::Elsewhere }
    }
}

impl Over {
    fn new(client: Side, server: Side) -> Self {
        Self { client, server, vouched: false, attempt: None }
    }

    fn follow(&self, way: Way, segment: Segment) -> (Sign, Option<Handshake>) {
        let (number, behind_syn) = (segment.acknowledgment, segment.behind_syn());
        let answers = way == Way::Back && segment.has(SYN) && segment.has(ACK) && behind_syn != self.client.expected;
        if answers && self.attempt.is_some_and(|attempt| attempt.is_acknowledged_by(number)) {
            met("opened again");
            return (Sign::OfLife, Some(Handshake::answered(number, behind_syn)));
        }
        // A FIN that is repeated, or the ACK behind it.
        let me = if way == Way::There { self.client } else { self.server };
        let behind_fin = me.fin == Fin::Acknowledged && segment.end() == me.sent;
        let repeated = segment.has(ACK) && !segment.has(SYN) && behind_fin;
        met(match (repeated, behind_fin) {
            (true, _) => "repeated after the end",
            (false, true) => "behind a FIN after the end, and no repetition",
            (false, false) => "something else after the end",
        });
        (if repeated { Sign::OfLife } else { Sign::None }, None)
    }
}
