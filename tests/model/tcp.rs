//! TCP as seen from the middle: a second implementation of `docs/tcp.md`, written from that page and from RFCs 9293,
//! 5961, 7323 and 7413. It is made to be read beside the page, and has no care for speed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use byway::State;

use super::packet::{ACK, FIN, RST, SYN, long};

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

    /// A FIN with a SYN is none that anybody sends.
    fn has_fin(self) -> bool {
        self.has(FIN) && !self.has(SYN)
    }

    /// The number behind its SYN, its data, and its FIN.
    fn end(self) -> u32 {
        let control = u32::from(self.has(SYN) || self.has(FIN));
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
pub const RULES: [&str; 64] = [
    "repeated after the end",
    "something else after the end",
    "SYN repeated",
    "more data with a SYN",
    "SYN after an answer",
    "SYN before an answer",
    "other attempt answered",
    "unrelated SYN+ACK remembered",
    "unrelated SYN+ACK after an answer",
    "SYN+ACK for a SYN without data",
    "SYN+ACK for none of the data",
    "SYN+ACK for some of the data",
    "SYN+ACK for all of the data",
    "SYN of the server after its SYN+ACK",
    "both open",
    "second SYN+ACK",
    "challenge before the handshake",
    "too much early data",
    "early FIN",
    "early data",
    "SYN+ACK of the client",
    "both have acknowledged the other's SYN",
    "completes nothing",
    "completes",
    "completes and acknowledges early data",
    "completes what the server said of an unknown attempt",
    "completes with the SYN+ACK before",
    "completes the other attempt",
    "handshake: exact RST of the client",
    "handshake: RST of the client in flight",
    "handshake: RST of the client elsewhere",
    "handshake: inexact RST of the client",
    "handshake: exact RST of the server",
    "handshake: RST of the server in flight",
    "handshake: RST of the server elsewhere",
    "handshake: inexact RST of the server",
    "exact RST of the client",
    "RST of the client in flight",
    "RST of the client elsewhere",
    "inexact RST of the client",
    "exact RST of the server",
    "RST of the server in flight",
    "inexact RST of the server",
    "attempt",
    "accepted by nobody",
    "attempt completed",
    "SYN+ACK that fits",
    "attempt answered",
    "SYN+ACK that does not fit",
    "late copies of a handshake",
    "fits",
    "talk after a RST in flight",
    "FIN forgotten",
    "FIN in order",
    "FIN sent",
    "FIN of no use",
    "FIN acknowledged",
    "misfit of the server with an attempt",
    "attempt forgotten",
    "agreement",
    "third agreement",
    "no agreement yet",
    "disagreement",
    "number claimed",
];

/// W: as far from a known number as a number is believed.
const WINDOW: i64 = 1 << 24;
/// How much more than a claimed number may be acknowledged in agreement.
const AGREEMENT: i64 = 1 << 20;
/// How much data a server may send before the handshake is complete.
const EARLY: i64 = 16 << 10;

/// A number that is not known. A number that happens to be zero is taken for one of these.
const UNKNOWN: u32 = 0;

fn known(number: u32) -> Option<u32> {
    (number != UNKNOWN).then_some(number)
}

/// How far `a` lies behind (positive) or before (negative) `b`.
fn distance(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

/// What is known of a connection.
#[derive(Clone, Debug)]
enum Life {
    Handshake(Handshake),
    Conversation(Conversation),
    /// It is over. Of each side, the number behind its FIN, if that was acknowledged.
    Over {
        client: Option<u32>,
        server: Option<u32>,
    },
}

/// A handshake that is not complete.
#[derive(Clone, Debug)]
struct Handshake {
    /// The number behind the SYN that counts.
    attempt: u32,
    other: Option<Other>,
    /// The most data that came with a SYN.
    data: u32,
    answer: Option<Answer>,
    /// The number behind the SYN of the SYN+ACK before that acknowledged an attempt.
    before: Option<u32>,
    /// Both open at once, and the client has acknowledged the server's SYN by a SYN+ACK.
    client_agreed: bool,
}

/// Another attempt of the client.
#[derive(Clone, Copy, Debug)]
struct Other {
    number: u32,
    /// It came after the one that was answered.
    pending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// It acknowledges the attempt.
    Accepts,
    /// A SYN without ACK.
    OpensToo,
    /// It acknowledges something else.
    Unrelated,
}

/// What the server said.
#[derive(Clone, Copy, Debug)]
struct Answer {
    meaning: Meaning,
    /// The number behind its SYN.
    start: u32,
    /// The number behind its early data.
    end: u32,
    acknowledged: u32,
    fin: Fin,
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
    /// The client has sent a SYN, or the server has answered one.
    attempt: Option<Attempt>,
    doubtful: bool,
    /// Taken up in the middle by a segment of the client; both sides together were not heard yet.
    adopted: bool,
    /// Both sides were heard before one of them sent a fragment, or a record says that they were heard elsewhere.
    vouched: bool,
}

/// A new attempt within a conversation. Its number is the client's claimed one.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// How much data came with the SYN.
    data: u32,
    /// The server's claimed number is that of its SYN+ACK.
    answered: bool,
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
    InFlight,
    Elsewhere,
    Inexact,
}

/// A TCP connection.
#[derive(Clone, Debug)]
pub struct Tcp {
    life: Life,
}

fn side(sent: u32, expected: u32, heard: bool) -> Side {
    Side { sent, expected, heard, fin: Fin::None, claimed: None, agreements: 0 }
}

impl Tcp {
    /// As its first segment finds it. That is then followed like any other.
    pub fn new(segment: Segment) -> Self {
        let life = if segment.has(SYN) {
            Life::Handshake(Handshake {
                attempt: segment.behind_syn(),
                other: None,
                data: 0,
                answer: None,
                before: None,
                client_agreed: false,
            })
        } else {
            // Taken up in the middle. What lies before its first segment may be on its way still.
            let mut conversation = Conversation::new(
                side(segment.end(), segment.acknowledgment, true),
                side(segment.acknowledgment, segment.sequence, false),
            );
            conversation.adopted = true;
            Life::Conversation(conversation)
        };
        Self { life }
    }

    pub fn state(&self) -> State {
        match &self.life {
            Life::Handshake(handshake) => handshake.state(),
            Life::Conversation(conversation) => conversation.state(),
            Life::Over { .. } => State::TimeWait,
        }
    }

    /// Taken up in the middle, and the server was not heard yet.
    pub fn is_adopted(&self) -> bool {
        matches!(&self.life, Life::Conversation(c) if c.adopted && c.state() == State::Established)
    }

    /// A record of this very connection was taken over.
    pub fn hear_of_itself(&mut self) {
        let Life::Conversation(conversation) = &mut self.life else {
            return;
        };
        for way in [Way::There, Way::Back] {
            let (me, peer) = conversation.sides(way);
            if peer.expected == UNKNOWN {
                peer.expected = me.sent;
            }
        }
        if !conversation.doubtful {
            conversation.note_acknowledged_fins();
        }
    }

    /// The number behind the last that was sent this way; 0 if nothing is known.
    pub fn sent(&self, way: Way) -> u32 {
        match (&self.life, way) {
            (Life::Handshake(h), Way::There) => h.answer.map_or(h.attempt, |answer| match answer.meaning {
                Meaning::Accepts => answer.acknowledged,
                _ => h.attempt,
            }),
            (Life::Handshake(h), Way::Back) => h.answer.map_or(0, |answer| answer.end),
            (Life::Conversation(c), Way::There) => c.client.sent,
            (Life::Conversation(c), Way::Back) => c.server.sent,
            (Life::Over { client, .. }, Way::There) => client.unwrap_or(UNKNOWN),
            (Life::Over { server, .. }, Way::Back) => server.unwrap_or(UNKNOWN),
        }
    }

    /// What the side that sends this way has acknowledged; 0 if nothing.
    pub fn expected(&self, way: Way) -> u32 {
        match (&self.life, way) {
            (Life::Handshake(_), Way::There) => 0,
            (Life::Handshake(h), Way::Back) => h.answer.map_or(0, |answer| answer.acknowledged),
            (Life::Over { .. }, _) => UNKNOWN,
            (Life::Conversation(c), Way::There) => c.client.expected,
            (Life::Conversation(c), Way::Back) => c.server.expected,
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
        match (&self.life, way) {
            (Life::Handshake(h), Way::There) => h.other.map(|other| other.number),
            (Life::Handshake(h), Way::Back) => h.before,
            (Life::Over { .. }, _) => None,
            (Life::Conversation(c), Way::There) => c.client.claimed,
            (Life::Conversation(c), Way::Back) => c.server.claimed,
        }
    }

    /// Whether ends in order could send this segment here, neither attacked nor restarted. Of other segments this
    /// implementation does not know all that `docs/tcp.md` says, so nothing is held against it with them.
    pub fn is_in_order(&self, way: Way, segment: Segment) -> bool {
        if !segment.whole || !segment.has(ACK) && !segment.has(SYN) || segment.has(SYN) && segment.has(FIN) {
            return false;
        }
        match &self.life {
            Life::Handshake(handshake) => handshake.is_in_order(way, segment),
            Life::Conversation(conversation) => conversation.is_in_order(way, segment),
            Life::Over { .. } => !segment.has(RST) && (!segment.has(SYN) || way == Way::There && !segment.has(ACK)),
        }
    }

    /// Follows a segment that is no RST.
    pub fn follow(&mut self, way: Way, segment: Segment) -> Sign {
        let (sign, next) = match &mut self.life {
            Life::Handshake(handshake) => handshake.follow(way, segment),
            Life::Conversation(conversation) => (conversation.follow(way, segment), None),
            Life::Over { client, server } => {
                // A FIN that is repeated, or the ACK in answer to one.
                let behind_fin = if way == Way::There { *client } else { *server };
                let repeated = segment.has(ACK) && !segment.has(SYN) && Some(segment.end()) == behind_fin;
                met(if repeated { "repeated after the end" } else { "something else after the end" });
                (if repeated { Sign::OfLife } else { Sign::None }, None)
            }
        };
        if let Some(conversation) = next {
            self.life = Life::Conversation(conversation);
        }
        if let Life::Conversation(conversation) = &self.life
            && conversation.state() == State::TimeWait
        {
            self.life = conversation.ended();
        }
        sign
    }

    /// Judges a RST, and ends the connection if it does.
    pub fn reset(&mut self, way: Way, segment: Segment) -> Reset {
        let (judged, handshake) = match &self.life {
            Life::Handshake(handshake) => (handshake.judge_reset(way, segment), true),
            Life::Conversation(conversation) => (conversation.judge_reset(way, segment), false),
            Life::Over { .. } => unreachable!("nobody judges a RST after the end"),
        };
        met(match (handshake, way, judged) {
            (true, Way::There, Reset::Exact) => "handshake: exact RST of the client",
            (true, Way::There, Reset::InFlight) => "handshake: RST of the client in flight",
            (true, Way::There, Reset::Elsewhere) => "handshake: RST of the client elsewhere",
            (true, Way::There, Reset::Inexact) => "handshake: inexact RST of the client",
            (true, Way::Back, Reset::Exact) => "handshake: exact RST of the server",
            (true, Way::Back, Reset::InFlight) => "handshake: RST of the server in flight",
            (true, Way::Back, Reset::Elsewhere) => "handshake: RST of the server elsewhere",
            (true, Way::Back, Reset::Inexact) => "handshake: inexact RST of the server",
            (false, Way::There, Reset::Exact) => "exact RST of the client",
            (false, Way::There, Reset::InFlight) => "RST of the client in flight",
            (false, Way::There, Reset::Elsewhere) => "RST of the client elsewhere",
            (false, Way::There, Reset::Inexact) => "inexact RST of the client",
            (false, Way::Back, Reset::Exact) => "exact RST of the server",
            (false, Way::Back, Reset::InFlight) => "RST of the server in flight",
            (false, Way::Back, Reset::Elsewhere) => unreachable!("a server refuses nothing"),
            (false, Way::Back, Reset::Inexact) => "inexact RST of the server",
        });
        match (&mut self.life, judged) {
            (Life::Handshake(_), Reset::Exact) => self.life = Life::Over { client: None, server: None },
            (Life::Conversation(c), Reset::Exact) => self.life = c.ended(),
            (Life::Conversation(c), Reset::InFlight) if !c.adopted && c.state() != State::Closing => c.doubtful = true,
            _ => {}
        }
        judged
    }
}

impl Handshake {
    fn is_in_order(&self, way: Way, segment: Segment) -> bool {
        let acknowledged = segment.acknowledgment;
        match (way, segment.has(SYN), segment.has(ACK), self.accepted()) {
            (Way::There, true, false, _) => !segment.has(RST) && segment.behind_syn() == self.attempt,
            (Way::There, false, true, Some(answer)) => {
                let early = 0..=distance(answer.end, answer.start);
                !segment.has(RST)
                    && segment.sequence == answer.acknowledged
                    && early.contains(&distance(acknowledged, answer.start))
            }
            (Way::Back, _, true, None) if segment.has(RST) => acknowledged == self.attempt,
            (Way::Back, true, true, None) => !segment.has(RST) && self.covers(self.attempt, acknowledged),
            (Way::Back, true, true, Some(answer)) => {
                !segment.has(RST) && segment.behind_syn() == answer.start && acknowledged == answer.acknowledged
            }
            (Way::Back, false, true, Some(answer)) => {
                !segment.has(RST) && segment.sequence == answer.end && acknowledged == answer.acknowledged
            }
            _ => false,
        }
    }

    fn state(&self) -> State {
        match self.answer {
            Some(Answer { meaning: Meaning::Accepts | Meaning::OpensToo, .. }) => State::Opened,
            _ => State::Opening,
        }
    }

    /// The server's answer, if it acknowledges the attempt.
    fn accepted(&self) -> Option<Answer> {
        self.answer.filter(|answer| answer.meaning == Meaning::Accepts)
    }

    /// Whether a number acknowledges an attempt and all, some or none of the data that came with it.
    fn covers(&self, attempt: u32, acknowledged: u32) -> bool {
        (0..=i64::from(self.data)).contains(&distance(acknowledged, attempt))
    }

    fn follow(&mut self, way: Way, segment: Segment) -> (Sign, Option<Conversation>) {
        match (way, segment.has(SYN), segment.has(ACK)) {
            (Way::There, true, false) => {
                self.attempt_again(segment);
                (Sign::OfLife, None)
            }
            (Way::There, true, true) => self.agree(segment),
            (Way::There, false, true) => self.complete(segment),
            (Way::Back, true, true) => self.answered(segment),
            (Way::Back, true, false) => self.open_too(segment),
            (Way::Back, false, true) => (self.early(segment), None),
            (_, false, false) => (Sign::None, None),
        }
    }

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
        if self.state() == State::Opened {
            met("SYN after an answer");
            self.other = Some(Other { number, pending: true });
        } else {
            met("SYN before an answer");
            self.other = Some(Other { number: self.attempt, pending: false });
            self.attempt = number;
        }
    }

    /// A SYN+ACK of the server.
    fn answered(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        if !self.covers(self.attempt, segment.acknowledgment) {
            match self.other {
                Some(other) if self.covers(other.number, segment.acknowledgment) => {
                    met("other attempt answered");
                    self.other = Some(Other { number: self.attempt, pending: false });
                    self.attempt = other.number;
                }
                _ => {
                    if self.state() == State::Opening {
                        met("unrelated SYN+ACK remembered");
                        self.remember(Meaning::Unrelated, segment);
                    } else {
                        met("unrelated SYN+ACK after an answer");
                    }
                    return (Sign::None, None);
                }
            }
        }
        let beyond = distance(segment.acknowledgment, self.attempt);
        met(match beyond {
            0 if self.data == 0 => "SYN+ACK for a SYN without data",
            0 => "SYN+ACK for none of the data",
            some if some < i64::from(self.data) => "SYN+ACK for some of the data",
            _ => "SYN+ACK for all of the data",
        });
        self.remember(Meaning::Accepts, segment);
        (Sign::OfLife, self.both_agreed())
    }

    /// A SYN of the server without ACK.
    fn open_too(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        if self.accepted().is_some() {
            met("SYN of the server after its SYN+ACK");
            return (Sign::None, None);
        }
        met("both open");
        self.remember(Meaning::OpensToo, segment);
        (Sign::OfLife, None)
    }

    fn remember(&mut self, meaning: Meaning, segment: Segment) {
        let start = segment.sequence.wrapping_add(u32::from(segment.has(SYN)));
        // A FIN with a SYN is no FIN.
        let fin = u32::from(segment.has_fin());
        let end = start.wrapping_add(segment.data).wrapping_add(fin);
        let mut answer = Answer { meaning, start, end, acknowledged: segment.acknowledgment, fin: Fin::None };
        if let Some(old) = self.answer {
            if meaning == Meaning::OpensToo {
                answer.acknowledged = old.acknowledged;
            }
            if old.start == start && segment.has(SYN) {
                // It is repeated.
                if distance(old.end, end) >= 0 {
                    (answer.end, answer.fin) = (old.end, old.fin);
                }
            } else {
                if old.meaning == Meaning::Accepts {
                    met("second SYN+ACK");
                    self.before = known(old.start);
                }
                self.client_agreed = false;
            }
        } else if meaning == Meaning::OpensToo {
            answer.acknowledged = UNKNOWN;
        }
        self.answer = Some(answer);
    }

    /// A segment of the server without SYN.
    fn early(&mut self, segment: Segment) -> Sign {
        if self.state() == State::Opening {
            met("challenge before the handshake");
            self.remember(Meaning::Unrelated, segment);
            return Sign::None;
        }
        let covered = self.covers(self.attempt, segment.acknowledgment);
        let Some(answer) = self.answer.as_mut().filter(|answer| answer.meaning == Meaning::Accepts && covered) else {
            return Sign::None;
        };
        let end = segment.end();
        if !(0..=EARLY).contains(&distance(end, answer.start)) {
            met("too much early data");
            return Sign::None;
        }
        if distance(end, answer.end) > 0 {
            met("early data");
            answer.end = end;
            answer.fin = Fin::None;
        }
        if segment.has_fin() && end == answer.end && end != answer.start {
            met("early FIN");
            answer.fin = Fin::Sent;
        }
        Sign::OfLife
    }

    /// A SYN+ACK of the client: both open at once.
    fn agree(&mut self, segment: Segment) -> (Sign, Option<Conversation>) {
        let known = self.answer.filter(|answer| answer.meaning != Meaning::Unrelated);
        if segment.behind_syn() != self.attempt || known.is_none_or(|a| a.start != segment.acknowledgment) {
            return (Sign::None, None);
        }
        met("SYN+ACK of the client");
        self.client_agreed = true;
        (Sign::OfLife, self.both_agreed())
    }

    /// Both SYNs are acknowledged, the client's by the server's answer.
    fn both_agreed(&self) -> Option<Conversation> {
        let answer = self.accepted().filter(|_| self.client_agreed)?;
        met("both have acknowledged the other's SYN");
        let client = side(answer.acknowledged, answer.start, true);
        Some(Conversation::after(answer, client))
    }

    /// A segment of the client that may complete the handshake.
    fn complete(&self, segment: Segment) -> (Sign, Option<Conversation>) {
        let nothing = (Sign::None, None);
        let Some(answer) = self.answer else {
            return nothing;
        };
        let (sequence, acknowledged) = (segment.sequence, segment.acknowledgment);
        let latest = (0..=distance(answer.end, answer.start)).contains(&distance(acknowledged, answer.start));
        let before = self.before == Some(acknowledged);
        let beyond = distance(sequence, answer.acknowledged);
        // What acknowledges no attempt has to be confirmed to the byte.
        let begins = match answer.meaning {
            Meaning::Accepts => (0..WINDOW).contains(&beyond),
            _ => beyond == 0 && answer.acknowledged != UNKNOWN,
        };
        let at_other = !latest && self.other.is_some_and(|other| other.number == sequence);
        if !(latest || before) || !(begins || at_other) {
            met("completes nothing");
            return nothing;
        }
        met(match (latest, begins, answer.meaning) {
            (true, _, Meaning::Accepts) if acknowledged == answer.start => "completes",
            (true, _, Meaning::Accepts) => "completes and acknowledges early data",
            (true, ..) => "completes what the server said of an unknown attempt",
            (false, true, _) => "completes with the SYN+ACK before",
            (false, false, _) => "completes the other attempt",
        });
        let mut answer = answer;
        if !latest {
            answer = Answer { start: acknowledged, end: acknowledged, fin: Fin::None, ..answer };
        }
        if !begins {
            answer.acknowledged = sequence;
        }
        let mut conversation = Conversation::after(answer, side(segment.end(), acknowledged, true));
        conversation.note_fin(Way::There, segment);
        conversation.note_acknowledged_fins();
        (Sign::OfLife, Some(conversation))
    }

    fn judge_reset(&self, way: Way, segment: Segment) -> Reset {
        match way {
            Way::Back => {
                if segment.has(ACK) {
                    if self.covers(self.attempt, segment.acknowledgment) {
                        return Reset::Exact;
                    }
                    match self.other {
                        Some(other) if self.covers(other.number, segment.acknowledgment) => {
                            return if other.pending { Reset::Exact } else { Reset::Elsewhere };
                        }
                        _ => {}
                    }
                }
                let Some(answer) = self.answer.filter(|answer| answer.meaning != Meaning::Unrelated) else {
                    return Reset::Inexact;
                };
                if answer.start == UNKNOWN && answer.end == UNKNOWN {
                    return Reset::Inexact;
                }
                if segment.sequence == answer.start {
                    return Reset::Exact;
                }
                within(segment.sequence, answer.start, answer.end)
            }
            Way::There => {
                let other = self.other.is_some_and(|other| self.covers(other.number, segment.sequence));
                let answered = self.answer.map_or(UNKNOWN, |answer| answer.acknowledged);
                let Some(answer) = self.accepted() else {
                    return if self.covers(self.attempt, segment.sequence) {
                        Reset::Exact
                    } else if segment.sequence == answered || other {
                        Reset::Elsewhere
                    } else {
                        Reset::Inexact
                    };
                };
                if segment.sequence == answer.acknowledged {
                    return Reset::Exact;
                }
                // It has sent a SYN, and refuses whatever answers something else.
                match within(segment.sequence, answer.acknowledged, self.attempt.wrapping_add(self.data)) {
                    Reset::Inexact => Reset::Elsewhere,
                    judged => judged,
                }
            }
        }
    }
}

/// A RST with a number behind what its receiver expects, up to what was sent to it, arrives after the data before it.
fn within(number: u32, expected: u32, sent: u32) -> Reset {
    let under_way = distance(sent, expected);
    if (1..=under_way).contains(&distance(number, expected)) { Reset::InFlight } else { Reset::Inexact }
}

impl Conversation {
    fn new(client: Side, server: Side) -> Self {
        Self { client, server, attempt: None, doubtful: false, adopted: false, vouched: false }
    }

    fn is_in_order(&self, way: Way, segment: Segment) -> bool {
        let (me, peer) = self.seen_from(way);
        if segment.has(RST) {
            return segment.sequence == peer.expected && !self.is_one_sided() && !segment.has(SYN);
        }
        let acknowledges = [me.expected, peer.sent].contains(&segment.acknowledgment);
        let goes_on = [me.sent, peer.expected].contains(&segment.sequence);
        let past_fin = me.fin != Fin::None && distance(segment.end(), me.sent) > 0;
        // What a FIN means before both sides were heard, `tests/half_closed.rs` holds against two ends.
        if segment.has(FIN) && self.is_one_sided() {
            return false;
        }
        segment.has(ACK) && !segment.has(SYN) && acknowledges && goes_on && !past_fin
    }

    /// After a handshake. A server that has acknowledged no attempt has not been heard.
    fn after(answer: Answer, client: Side) -> Self {
        let mut server = side(answer.end, answer.acknowledged, answer.meaning != Meaning::Unrelated);
        server.fin = answer.fin;
        Self::new(client, server)
    }

    /// What is left when it is over.
    fn ended(&self) -> Life {
        let behind = |side: Side| (side.fin == Fin::Acknowledged).then_some(side.sent);
        Life::Over { client: behind(self.client), server: behind(self.server) }
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

    /// A side is not heard: its segments go another way.
    fn is_one_sided(&self) -> bool {
        !(self.client.heard && self.server.heard || self.vouched)
    }

    fn state(&self) -> State {
        if self.doubtful {
            return State::Doubtful;
        }
        if self.adopted {
            return State::Established;
        }
        let (client, server) = (self.client.fin, self.server.fin);
        let closed = if self.is_one_sided() { Fin::Sent } else { Fin::Acknowledged };
        if client == Fin::Acknowledged && server == Fin::Acknowledged {
            State::TimeWait
        } else if client >= closed.min(Fin::InOrder) && server >= closed.min(Fin::InOrder) {
            State::Closing
        } else if client >= closed {
            State::ClientClosed
        } else if server >= closed {
            State::ServerClosed
        } else {
            State::Established
        }
    }

    fn follow(&mut self, way: Way, segment: Segment) -> Sign {
        match (segment.has(SYN), segment.has(ACK)) {
            (true, false) if way == Way::There => {
                met("attempt");
                self.begin_attempt(segment.behind_syn(), None, segment.data);
                Sign::None
            }
            (true, true) if way == Way::Back => self.answer_attempt(segment),
            (true, _) | (false, false) => {
                met("accepted by nobody");
                Sign::None
            }
            (false, true) if way == Way::There && self.completes_attempt(segment) => {
                met("attempt completed");
                self.begin_anew(segment);
                Sign::OfLife
            }
            (false, true) => {
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

    fn begin_attempt(&mut self, client: u32, server: Option<u32>, data: u32) {
        self.forget_claims();
        self.client.claimed = known(client);
        self.server.claimed = server.and_then(known);
        self.attempt = Some(Attempt { data, answered: server.is_some() });
    }

    fn forget_claims(&mut self) {
        for side in [&mut self.client, &mut self.server] {
            (side.claimed, side.agreements) = (None, 0);
        }
        self.attempt = None;
    }

    /// Whether a number acknowledges the attempt, and all, some or none of its data.
    fn acknowledges_attempt(&self, number: u32) -> bool {
        self.attempt.is_some_and(|attempt| {
            let behind_syn = self.client.claimed.unwrap_or(UNKNOWN);
            (0..=i64::from(attempt.data)).contains(&distance(number, behind_syn))
        })
    }

    /// A SYN+ACK of the server.
    fn answer_attempt(&mut self, segment: Segment) -> Sign {
        let number = segment.acknowledgment;
        let answers = self.acknowledges_attempt(number);
        if !answers && self.may_acknowledge(Way::Back, number) {
            // A late copy.
            met("SYN+ACK that fits");
            return Sign::None;
        }
        self.begin_attempt(number, Some(segment.behind_syn()), 0);
        met(if answers { "attempt answered" } else { "SYN+ACK that does not fit" });
        if answers { Sign::OfLife } else { Sign::None }
    }

    fn completes_attempt(&self, segment: Segment) -> bool {
        let (client, server) = (self.client.claimed.unwrap_or(UNKNOWN), self.server.claimed.unwrap_or(UNKNOWN));
        let goes_on = (0..WINDOW).contains(&distance(segment.sequence.wrapping_add(segment.data), self.client.sent))
            && distance(segment.acknowledgment, self.client.expected) >= 0
            && distance(segment.acknowledgment, self.server.sent) <= 0;
        self.attempt.is_some_and(|attempt| attempt.answered)
            && (0..AGREEMENT).contains(&distance(segment.sequence, client))
            && (0..=EARLY).contains(&distance(segment.acknowledgment, server))
            && !(goes_on && {
                met("late copies of a handshake");
                true
            })
    }

    fn begin_anew(&mut self, segment: Segment) {
        let begins = self.client.claimed.unwrap_or(UNKNOWN);
        *self =
            Self::new(side(segment.end(), segment.acknowledgment, true), side(segment.acknowledgment, begins, true));
        self.note_fin(Way::There, segment);
    }

    /// Takes the first numbers of a side that was not heard and of which nothing is known.
    fn believe_first(&mut self, way: Way, segment: Segment) {
        let (me, peer) = self.sides(way);
        if !me.heard && me.sent == UNKNOWN && peer.expected == UNKNOWN {
            me.sent = segment.end();
            peer.expected = segment.sequence;
        }
        if !peer.heard && peer.sent == UNKNOWN && me.expected == UNKNOWN {
            peer.sent = segment.acknowledgment;
            me.expected = segment.acknowledgment;
        }
    }

    fn may_acknowledge(&self, way: Way, number: u32) -> bool {
        let (me, peer) = self.seen_from(way);
        // Upwards from the one to the other, however far that is.
        let oldest = me.expected.wrapping_sub(WINDOW as u32);
        number.wrapping_sub(oldest) <= peer.sent.wrapping_sub(oldest)
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
        let both = self.client.heard && self.server.heard;
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
        if distance(segment.acknowledgment, me.expected) > 0 {
            me.expected = segment.acknowledgment;
        }
        if distance(me.expected, peer.sent) > 0 {
            peer.sent = me.expected;
        }
        self.vouched |= both && !segment.whole;
        self.note_fin(way, segment);
        self.note_acknowledged_fins();
        self.settle();
    }

    fn settle(&mut self) {
        self.adopted &= !(self.client.heard && self.server.heard);
        self.doubtful = false;
    }

    fn note_fin(&mut self, way: Way, segment: Segment) {
        let (me, peer) = self.sides(way);
        if !segment.has_fin() || me.fin == Fin::Acknowledged {
            return;
        }
        if segment.sequence == peer.expected {
            met("FIN in order");
            me.sent = segment.end();
            me.fin = Fin::InOrder;
        } else if segment.end() == me.sent {
            met("FIN sent");
            me.fin = me.fin.max(Fin::Sent);
        } else {
            met("FIN of no use");
        }
    }

    fn note_acknowledged_fins(&mut self) {
        for way in [Way::There, Way::Back] {
            let (me, peer) = self.sides(way);
            if ![Fin::None, Fin::Acknowledged].contains(&me.fin) && peer.expected == me.sent {
                met("FIN acknowledged");
                me.fin = Fin::Acknowledged;
            }
        }
    }

    /// A segment that its receiver would not accept.
    fn misfit(&mut self, way: Way, segment: Segment) -> Sign {
        if self.attempt.is_some() && way == Way::Back {
            met("misfit of the server with an attempt");
            return Sign::None;
        }
        if self.attempt.is_some() {
            met("attempt forgotten");
            self.forget_claims();
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
        if way == Way::Back && segment.has(ACK) && self.acknowledges_attempt(segment.acknowledgment) {
            return Reset::Exact;
        }
        let (sent, expected) = match way {
            Way::There => (self.client.sent, self.server.expected),
            Way::Back => (self.server.sent, self.client.expected),
        };
        if sent != UNKNOWN || expected != UNKNOWN {
            // Of an adopted connection it is a guess what its server expects.
            if segment.sequence == expected {
                return if self.adopted && way == Way::There { Reset::InFlight } else { Reset::Exact };
            }
            if within(segment.sequence, expected, sent) == Reset::InFlight {
                return Reset::InFlight;
            }
        }
        match self.attempt.filter(|_| way == Way::There) {
            Some(attempt) if matches!(self.state(), State::ClientClosed | State::ServerClosed) => {
                // It gives up the attempt, and before that it has lost its state: what is half closed is of no use to it.
                let beyond = distance(segment.sequence, self.client.claimed.unwrap_or(UNKNOWN));
                if (-1..=i64::from(attempt.data)).contains(&beyond) { Reset::InFlight } else { Reset::Elsewhere }
            }
            Some(_) => Reset::Elsewhere,
            None => Reset::Inexact,
        }
    }
}
