//! What is left of a connection that is over.

use byway_testing::packet::{ACK, SYN};

use super::attempt::Attempt;
use super::rules::met;
use super::side::{Fin, Side};
use super::{Segment, Sign, Way};

/// What is left of a connection that is over.
#[derive(Clone, Debug)]
pub(super) struct Over {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) vouched: bool,
    /// It was waiting.
    pub(super) attempt: Option<Attempt>,
}

impl Over {
    pub(super) fn new(client: Side, server: Side) -> Self {
        Self { client, server, vouched: false, attempt: None }
    }

    /// A segment that does not open the connection again.
    pub(super) fn follow(&self, way: Way, segment: Segment) -> Sign {
        // A FIN that is repeated, or the ACK behind it.
        let me = if way == Way::There { self.client } else { self.server };
        let behind_fin = me.fin == Fin::Acknowledged && segment.end() == me.sent;
        let repeated = segment.has(ACK) && !segment.has(SYN) && behind_fin;
        met(match (repeated, behind_fin) {
            (true, _) => "repeated after the end",
            (false, true) => "behind a FIN after the end, and no repetition",
            (false, false) => "something else after the end",
        });
        if repeated { Sign::OfLife } else { Sign::None }
    }
}
