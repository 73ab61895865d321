//! What is known of one side of a connection.

use super::rules::met;
use super::{UNKNOWN, WINDOW, distance};

/// What is known of a side's FIN. The order is that of how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fin {
    None,
    Sent,
    InOrder,
    Acknowledged,
}

/// A side of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    /// The number behind the last that it has used.
    pub(super) sent: u32,
    /// The highest number of the other side that it has acknowledged.
    pub(super) expected: u32,
    pub(super) heard: bool,
    pub(super) fin: Fin,
    /// A number that it uses and that does not fit.
    pub(super) claimed: Option<u32>,
    /// How often in a row the other side has agreed.
    pub(super) agreements: u8,
}

/// A side, heard or not, of which only these numbers are known.
pub(super) fn side(sent: u32, expected: u32, heard: bool) -> Side {
    Side { sent, expected, heard, fin: Fin::None, claimed: None, agreements: 0 }
}

/// What a side has sent and its peer has acknowledged, as a record of that is understood.
pub(super) fn mend(me: &mut Side, peer: &mut Side, all_known: bool, doubtful: bool) {
    let unknown = peer.expected == UNKNOWN && !(all_known && i64::from(me.sent) < WINDOW);
    if unknown || distance(me.sent, peer.expected) < 0 {
        peer.expected = me.sent;
    }
    if !doubtful {
        me.note_acknowledged_fin(peer);
    }
}

impl Side {
    pub(super) fn note_acknowledged_fin(&mut self, peer: &Self) {
        if ![Fin::None, Fin::Acknowledged].contains(&self.fin) && peer.expected == self.sent {
            met("FIN acknowledged");
            self.fin = Fin::Acknowledged;
        }
    }
}
