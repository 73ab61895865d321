//! TCP as a state table (RFC 9293, section 3.3.2, seen from the middle).
//!
//! What is tracked: the phase, and of each side the highest sequence number that it has used up and the highest that
//! it has acknowledged (see `sequence`): 17 octets a connection, all in the line that a packet touches anyway. That is
//! what a RST is measured by. Windows are not tracked: a translator is no firewall, and the ends judge data for
//! themselves.
//!
//! The table has a row for each phase and a column for each kind of segment and side that sends it. A RST is not in
//! it: whether it counts depends on its sequence number, see [`judge_reset`].

use super::phase::Phase;
use super::sequence::Sequences;
use crate::connection::Direction;
use crate::wire::tcp::{ACK, FIN, SYN, Segment};

/// A segment by what it means to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Syn = 0,
    SynAck,
    Fin,
    Other,
}

impl Kind {
    pub(crate) const fn of(segment: &Segment) -> Self {
        if segment.has(SYN) {
            if segment.has(ACK) { Self::SynAck } else { Self::Syn }
        } else if segment.has(FIN) {
            Self::Fin
        } else {
            Self::Other
        }
    }
}

use Phase::{
    ClientClosed as CC, Closing as Cl, Doubtful as Do, Established as Es, Opened as Od, Opening as Og, Resetting as Re,
    ServerClosed as SC, TimeWait as TW,
};

/// `NEXT[row][side][kind]`: the phase after a segment; rows as in [`row`], sides as [`Direction`], kinds as [`Kind`].
#[rustfmt::skip]
const NEXT: [[[Phase; 4]; 2]; 9] = [
    // the client's:  SYN SYN+ACK FIN other   the server's: SYN SYN+ACK FIN other
    /* Opening      */ [[Og, Og, Og, Og],                  [Od, Od, Og, Og]],
    //  A server's SYN without ACK is a simultaneous open (RFC 9293, section 3.5). Its bare ACK may be a challenge
    //  (RFC 5961) about an older connection: it opens nothing. A client that gives up (FIN) before any answer leaves
    //  the entry to its short time-out.
    /* Opened       */ [[Od, Od, CC, Es],                  [Od, Od, SC, Od]],
    //  The client's ACK completes the handshake. A server says nothing but SYN+ACK before that; when both opened at
    //  once, the client's SYN+ACK is followed by its first other segment.
    /* Established  */ [[Es, Es, CC, Es],                  [Es, Es, SC, Es]],
    //  A SYN in the middle is the business of the ends: the server challenges it (RFC 5961, section 4), and if the
    //  client really began anew it answers with a RST that ends this connection.
    /* ClientClosed */ [[CC, CC, CC, CC],                  [CC, CC, Cl, CC]],
    //  Half-closed for as long as the server likes (RFC 5382, REQ-2): the established time-out goes on.
    /* ServerClosed */ [[SC, SC, Cl, SC],                  [SC, SC, SC, SC]],
    /* Closing      */ [[Cl, Cl, Cl, Cl],                  [Cl, Cl, Cl, Cl]],
    //  It leaves for TimeWait when both FINs are acknowledged, which the sequence numbers tell.
    /* TimeWait     */ [[TW, TW, TW, TW],                  [TW, TW, TW, TW]],
    //  A client's SYN here opens a new connection (RFC 9293, section 3.6.1); that is done before the table is asked.
    /* Doubtful     */ [[Es, Es, CC, Es],                  [Es, Es, SC, Es]],
    //  Somebody goes on talking, so the RST was not obeyed: it was forged, or old.
    /* Resetting    */ [[Re, Re, Re, Re],                  [Re, Re, Re, Re]],
];

const fn row(phase: Phase) -> usize {
    match phase {
        Og => 0,
        Od => 1,
        Es => 2,
        CC => 3,
        SC => 4,
        Cl => 5,
        TW => 6,
        Do => 7,
        _ => 8,
    }
}

/// The phase after a segment that is no RST. `sequences` already knows of the segment.
pub(crate) fn advance(phase: Phase, direction: Direction, segment: &Segment, sequences: &Sequences) -> Phase {
    let next = NEXT
        .get(row(phase))
        .and_then(|sides| sides.get(direction as usize))
        .and_then(|kinds| kinds.get(Kind::of(segment) as usize))
        .copied()
        .unwrap_or(phase);
    if next == Phase::Closing && sequences.both_acknowledged() { Phase::TimeWait } else { next }
}

/// What a RST means to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// Its receiver obeys it at once: the connection is over.
    Exact,
    /// It lies within what is sent and not acknowledged yet: its receiver will obey it if all of that has arrived.
    InFlight,
    /// Its receiver will not obey it; at best it asks back (RFC 5961, section 3.2).
    Inexact,
}

/// Judges a RST: it is exact if its number is what the other side has last acknowledged, which is what that side
/// expects next, and which only that side can change. In answer to a SYN there is nothing acknowledged yet; there the
/// RST must acknowledge the SYN (RFC 9293, section 3.10.7.3).
///
/// A RST behind data that is still unacknowledged ends nothing at once, although its receiver will obey it if the data
/// arrived: the connection becomes [`Phase::Doubtful`], with a shorter time-out (RFC 7857, section 2.2). Counting
/// unacknowledged data as expected would let a stranger who can forge data forge the RST too.
pub(crate) fn judge_reset(phase: Phase, direction: Direction, segment: &Segment, sequences: &Sequences) -> Reset {
    let exact = match (phase, direction) {
        (Phase::Opening, Direction::ToClient) => {
            segment.has(ACK) && sequences.sent(Direction::ToServer) == Some(segment.acknowledgment)
        }
        (Phase::Opening, Direction::ToServer) => sequences.sent(Direction::ToServer) == Some(segment.sequence),
        (_, direction) => sequences.acknowledged(direction.opposite()) == Some(segment.sequence),
    };
    match exact {
        true => Reset::Exact,
        false if sequences.in_flight(direction, segment.sequence) => Reset::InFlight,
        false => Reset::Inexact,
    }
}

impl Direction {
    /// The other way.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ToClient, ToServer};

    fn segment(flags: u8) -> Segment {
        Segment { flags, ..Segment::default() }
    }

    /// Every cell, written down once more as a person would say it.
    #[test]
    fn every_cell() {
        const ALL: [Phase; 9] = [Og, Od, Es, CC, SC, Cl, TW, Do, Re];
        for phase in ALL {
            for direction in [ToServer, ToClient] {
                for flags in [SYN, SYN | ACK, FIN, FIN | ACK, ACK, 0] {
                    let kind = Kind::of(&segment(flags));
                    let expected = match (phase, direction, kind) {
                        (Og, ToClient, Kind::Syn | Kind::SynAck) => Od,
                        (Og, ..) => Og,
                        (Od, ToServer, Kind::Other) => Es,
                        (Od | Es | Do, ToServer, Kind::Fin) => CC,
                        (Od | Es | Do, ToClient, Kind::Fin) => SC,
                        (Do, ..) => Es,
                        (CC, ToClient, Kind::Fin) | (SC, ToServer, Kind::Fin) => Cl,
                        (other, ..) => other,
                    };
                    let next = advance(phase, direction, &segment(flags), &Sequences::default());
                    assert_eq!(next, expected, "{phase:?} {direction:?} {kind:?}");
                }
            }
        }
    }

    fn walk(steps: &[(Direction, u8, u32, u32, u32)]) -> (Phase, Sequences) {
        let mut sequences = Sequences::default();
        let mut phase = Phase::Opening;
        for &(direction, flags, sequence, acknowledgment, data) in steps {
            let segment = Segment { sequence, acknowledgment, data, flags };
            sequences.note(direction, &segment);
            phase = advance(phase, direction, &segment, &sequences);
        }
        (phase, sequences)
    }

    #[test]
    fn a_life_from_handshake_to_time_wait() {
        let open = [(ToServer, SYN, 100, 0, 0), (ToClient, SYN | ACK, 500, 101, 0), (ToServer, ACK, 101, 501, 0)];
        assert_eq!(walk(&open).0, Phase::Established);
        let mut life = open.to_vec();
        life.extend([
            (ToServer, ACK, 101, 501, 10),
            (ToClient, ACK, 501, 111, 20),
            (ToServer, FIN | ACK, 111, 521, 0),
            (ToClient, ACK, 521, 112, 5),
        ]);
        assert_eq!(walk(&life).0, Phase::ClientClosed);
        life.push((ToClient, FIN | ACK, 526, 112, 0));
        assert_eq!(walk(&life).0, Phase::Closing);
        life.push((ToServer, ACK, 112, 526, 0));
        assert_eq!(walk(&life).0, Phase::Closing, "the FIN itself is not acknowledged yet");
        life.push((ToServer, ACK, 112, 527, 0));
        assert_eq!(walk(&life).0, Phase::TimeWait);
    }

    #[test]
    fn a_simultaneous_open() {
        let (phase, _) = walk(&[
            (ToServer, SYN, 100, 0, 0),
            (ToClient, SYN, 500, 0, 0),
            (ToServer, SYN | ACK, 100, 501, 0),
            (ToClient, SYN | ACK, 500, 101, 0),
            (ToServer, ACK, 101, 501, 0),
        ]);
        assert_eq!(phase, Phase::Established);
    }

    /// Linux's "invalid RST" case: at 0, far away, near, and one short of the mark nothing ends; at the mark it does.
    #[test]
    fn only_the_exact_reset_counts() {
        let (phase, sequences) =
            walk(&[(ToServer, SYN, 100, 0, 0), (ToClient, SYN | ACK, 500, 101, 0), (ToServer, ACK, 101, 501, 0)]);
        for (sequence, verdict) in [
            (0, Reset::Inexact),
            (1_000_000, Reset::Inexact),
            (542, Reset::Inexact),
            (500, Reset::Inexact),
            (501, Reset::Exact),
        ] {
            let rst = Segment { sequence, flags: crate::wire::tcp::RST, ..Segment::default() };
            assert_eq!(judge_reset(phase, ToClient, &rst, &sequences), verdict, "{sequence}");
        }
    }

    #[test]
    fn a_refusal_must_acknowledge_the_syn() {
        let (phase, sequences) = walk(&[(ToServer, SYN, 100, 0, 0)]);
        let refusal = |acknowledgment, flags| Segment { acknowledgment, flags, ..Segment::default() };
        let rst = crate::wire::tcp::RST;
        assert_eq!(judge_reset(phase, ToClient, &refusal(101, rst | ACK), &sequences), Reset::Exact);
        assert_eq!(judge_reset(phase, ToClient, &refusal(100, rst | ACK), &sequences), Reset::Inexact);
        assert_eq!(judge_reset(phase, ToClient, &refusal(101, rst), &sequences), Reset::Inexact);
    }
}
