//! TCP as seen from the middle: a second implementation of `docs/tcp.md`, written from that page and from RFCs 9293,
//! 5961, 7323 and 7413. It judges every segment, in any order, forged or not. It is made to be read beside the page, and
//! has no care for speed.

mod attempt;
mod conversation;
mod handshake;
mod over;
mod rules;
mod side;

use byway::State;
use byway_testing::packet::{FIN, SYN, long};

use attempt::Attempt;
use conversation::Conversation;
use handshake::Handshake;
pub use rules::{RULES, take_met};
use rules::{met, rule_in_conversation, rule_in_handshake};
use side::{Fin, Side, mend, side};

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

/// W: as far from a known number as a number is believed.
const WINDOW: i64 = 1 << 24;
/// How much more than a claimed number may be acknowledged in agreement.
const AGREEMENT: i64 = 1 << 20;
/// How far behind the highest acknowledgement another one may be that was overtaken.
const OVERTAKEN: u32 = 1 << 20;
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
    Over(Conversation),
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
        let (client, server, confirmed, doubtful) = match &mut self.life {
            Life::Handshake(_) => return,
            Life::Conversation(c) => (&mut c.client, &mut c.server, c.confirmed, c.doubtful),
            Life::Over(over) => (&mut over.client, &mut over.server, over.confirmed, false),
        };
        let all_known = confirmed || client.heard && server.heard;
        mend(client, server, all_known, doubtful);
        mend(server, client, all_known, doubtful);
    }

    /// There was a re-divert since it was over, which it has not followed: nobody knows any more what it was about.
    pub fn stay_behind(&mut self) {
        if let Life::Over(over) = &mut self.life {
            let forgotten = |s: Side| side(s.sent, s.expected, false);
            *over = Conversation::new(forgotten(over.client), forgotten(over.server));
        }
    }

    /// What its record says: the state, the flags of TCP, and the four numbers.
    pub fn record(&self) -> (u8, u8, [u32; 4]) {
        let (client, server, heard) = match &self.life {
            // The other side of a handshake is to be heard yet.
            Life::Handshake(h) => (h.client(), h.server(), true),
            Life::Conversation(c) | Life::Over(c) => (c.client, c.server, !c.is_one_sided()),
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
            (Life::Conversation(c) | Life::Over(c), Way::There) => c.client.sent,
            (Life::Conversation(c) | Life::Over(c), Way::Back) => c.server.sent,
        }
    }

    /// What the side that sends this way has acknowledged; 0 if nothing.
    pub fn expected(&self, way: Way) -> u32 {
        match (&self.life, way) {
            (Life::Handshake(h), Way::There) => h.start,
            (Life::Handshake(h), Way::Back) => h.acknowledged,
            (Life::Conversation(c) | Life::Over(c), Way::There) => c.client.expected,
            (Life::Conversation(c) | Life::Over(c), Way::Back) => c.server.expected,
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
            Life::Conversation(c) | Life::Over(c) => c.attempt.map(of_attempt).or(c.seen_from(way).0.claimed),
        }
    }

    /// The numbers that both sides, the client first, will seem to have used when the translator itself resets the
    /// connection; there may be two of each.
    pub fn sent_before_reset(&self) -> Vec<[u32; 2]> {
        vec![match &self.life {
            Life::Handshake(h) => [
                match (h.opened, h.is_client_acknowledged) {
                    (false, _) => h.attempt,
                    (true, true) => h.acknowledged,
                    (true, false) => h.attempt.wrapping_add(h.data),
                },
                h.end,
            ],
            Life::Conversation(c) => {
                if let Some(attempt) = c.fresh_attempt() {
                    met("reset of an answered attempt");
                    [attempt.acknowledged(), attempt.server]
                } else if c.are_both_heard() {
                    met("reset");
                    // What is not acknowledged may have arrived or not.
                    let server = [c.client.expected, c.server.sent];
                    let clients = [c.server.expected, c.client.sent];
                    return clients.into_iter().flat_map(|client| server.map(|server| [client, server])).collect();
                } else {
                    met("reset of what may be one side");
                    [c.client.sent, c.server.sent]
                }
            }
            Life::Over(_) => [UNKNOWN; 2],
        }]
    }

    /// Follows a segment that is no RST.
    pub fn follow(&mut self, way: Way, segment: Segment) -> Sign {
        let (sign, next) = match &mut self.life {
            Life::Handshake(handshake) => {
                let (sign, completed) = handshake.follow(way, segment);
                (sign, completed.map(Life::Conversation))
            }
            Life::Conversation(conversation) => (conversation.follow(way, segment), None),
            Life::Over(over) => over::follow(over, way, segment),
        };
        if let Some(next) = next {
            self.life = next;
        }
        if let Life::Conversation(conversation) = &self.life
            && conversation.state() == State::TimeWait
        {
            self.life = Life::Over(conversation.clone());
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
                    Reset::Exact => {
                        // The server may have refused one copy of the SYN, and answer the next one otherwise; the client may
                        // have sent its other SYN after the one that it gives up.
                        let waiting = if way == Way::Back { known(handshake.attempt) } else { handshake.other };
                        let otherwise = handshake.answer_beside(segment).unwrap_or(UNKNOWN);
                        let attempt = waiting.map(|at| Attempt { otherwise, ..Attempt::asked(at, handshake.data) });
                        let server = Side { heard: false, fin: Fin::None, ..handshake.server() };
                        let conversation = Conversation::new(handshake.client(), server);
                        self.life = Life::Over(Conversation { attempt, ..conversation });
                    }
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
                    Reset::Exact => self.life = Life::Over(conversation.clone()),
                    Reset::Replaced => {
                        let attempt = conversation.attempt.expect("it goes on");
                        self.life = Life::Handshake(Handshake::answered(attempt));
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
