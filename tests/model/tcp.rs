//! TCP seen from the middle, as the documentation of `State` and RFC 5961 tell it.

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
    /// What it takes of the sequence space.
    pub span: u32,
}

/// Reads a segment from its header on.
pub fn segment(bytes: &[u8]) -> Segment {
    let flags = bytes[13];
    let data = bytes.len() as u32 - u32::from(bytes[12] >> 4) * 4;
    let span = data + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    Segment { sequence: long(bytes, 4), acknowledgment: long(bytes, 8), flags, span }
}

/// What each side has sent and acknowledged. Zero stands for "not known", as documented.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    client: End,
    server: End,
    /// The client has sent a SYN in the middle, and the server has not answered it.
    anew: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct End {
    sent: u32,
    acknowledged: u32,
}

/// What a segment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    Ordinary,
    /// Both sides have said good-bye and know it.
    Finished,
    /// A RST with the expected number.
    Reset,
    /// A RST with another.
    InexactReset,
    /// A RST within what is sent and not acknowledged.
    InFlight,
    /// An answer to another SYN.
    Foreign,
    /// The server answers the client's SYN in the middle.
    Anew,
    /// A RST of a connection that is over.
    Ignored,
}

/// Whether `new` comes after `old`, as sequence numbers do.
fn ahead(new: u32, old: u32) -> bool {
    old == 0 || new.wrapping_sub(old) < 1 << 31
}

impl Ends {
    /// The number behind the last that was sent this way.
    pub fn sent(&self, way: Way) -> Option<u32> {
        let end = if way == Way::There { self.client } else { self.server };
        (end.sent != 0).then_some(end.sent)
    }

    pub fn next(&self, way: Way) -> (u32, u32) {
        let (me, peer) = if way == Way::There { (self.client, self.server) } else { (self.server, self.client) };
        (me.sent, peer.sent)
    }

    /// What the side that sends this way has acknowledged.
    pub fn acknowledged(&self, way: Way) -> u32 {
        if way == Way::There { self.client.acknowledged } else { self.server.acknowledged }
    }

    fn sides(&mut self, way: Way) -> (&mut End, &mut End) {
        match way {
            Way::There => (&mut self.client, &mut self.server),
            Way::Back => (&mut self.server, &mut self.client),
        }
    }

    pub fn follow(&mut self, state: &mut State, way: Way, segment: Segment) -> Judged {
        let over = matches!(state, State::TimeWait | State::Resetting);
        if segment.flags & RST != 0 {
            let opening = *state == State::Opening;
            let (me, peer) = self.sides(way);
            let exact = match way {
                _ if over => return Judged::Ignored,
                // A refusal acknowledges the SYN.
                Way::Back if opening => {
                    segment.flags & ACK != 0 && peer.sent != 0 && segment.acknowledgment == peer.sent
                }
                Way::There if opening => me.sent != 0 && segment.sequence == me.sent,
                _ => peer.acknowledged != 0 && segment.sequence == peer.acknowledged,
            };
            if !exact {
                let under_way = me.sent.wrapping_sub(peer.acknowledged);
                let within = segment.sequence.wrapping_sub(peer.acknowledged) <= under_way && under_way < 1 << 31;
                let known = me.sent != 0 && peer.acknowledged != 0;
                return if known && within { Judged::InFlight } else { Judged::InexactReset };
            }
            *state = State::TimeWait;
            return Judged::Reset;
        }
        let answer = segment.flags & (SYN | ACK) == SYN | ACK && way == Way::Back;
        let settled = matches!(state, State::Established | State::Doubtful | State::ClientClosed | State::ServerClosed);
        if answer && *state == State::Opening && ![0, segment.acknowledgment].contains(&self.client.sent) {
            return Judged::Foreign;
        }
        if settled && way == Way::There && segment.flags & (SYN | ACK) == SYN {
            self.anew = true;
            return Judged::Ordinary;
        }
        let again = answer && self.anew && !over;
        if again {
            *self = Self::default();
        }
        let (me, peer) = self.sides(way);
        let end = segment.sequence.wrapping_add(segment.span);
        // More than 16 MiB ahead is not believed.
        if me.sent == 0 || end.wrapping_sub(me.sent) < 1 << 24 {
            me.sent = end;
        }
        let beyond = i64::from(segment.acknowledgment.wrapping_sub(peer.sent).cast_signed());
        let unknown = peer.sent == 0 && me.acknowledged == 0;
        if segment.flags & ACK != 0 && (unknown || beyond < 1 << 24) {
            if ahead(segment.acknowledgment, me.acknowledged) {
                me.acknowledged = segment.acknowledgment;
            }
            if unknown || (0..1 << 24).contains(&beyond) {
                peer.sent = segment.acknowledgment;
            }
        }
        if again {
            *state = State::Opened;
            return Judged::Anew;
        }
        let all = me.sent != 0 && peer.sent != 0 && me.acknowledged == peer.sent && peer.acknowledged == me.sent;
        let (syn, fin) = (segment.flags & SYN != 0, segment.flags & FIN != 0 && segment.flags & SYN == 0);
        *state = match (*state, way) {
            (State::Opening, Way::Back) if syn => State::Opened,
            (State::Opened | State::Established | State::Doubtful, Way::There) if fin => State::ClientClosed,
            (State::Opened | State::Established | State::Doubtful, Way::Back) if fin => State::ServerClosed,
            (State::Opened, Way::There) if !syn => State::Established,
            (State::Doubtful, _) => State::Established,
            (State::ClientClosed, Way::Back) | (State::ServerClosed, Way::There) if fin => State::Closing,
            (other, _) => other,
        };
        if *state == State::Closing && all {
            *state = State::TimeWait;
            return Judged::Finished;
        }
        Judged::Ordinary
    }
}
