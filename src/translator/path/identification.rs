//! Identifications of IPv4 that a translator gives out (RFC 6864).

use crate::table::hash::Label;
use crate::translator::state::State;
use crate::wire::ipv4::{self, Header, Parts};
use crate::wire::rewrite;

/// How many identifications make a series, and a quarter of all.
const SERIES: u32 = 1 << 14;

/// The longest run of identifications. Wherever a series begins in its quarter, a run of this length fits before the
/// quarter's end or after its start.
const MOST: u32 = SERIES / 2;

impl State {
    /// Gives a translated packet a new identification, where the configuration asks for it.
    pub(super) fn identify(&mut self, parts: &mut Parts<'_>) {
        // A packet that must not be fragmented needs none (RFC 6864, section 4.1).
        let fragmentation = Header(parts.header).fragmentation();
        let atomic = fragmentation & ipv4::DONT_FRAGMENT != 0 && !ipv4::is_fragment(fragmentation);
        if self.config.rewrite_identification && !atomic {
            let new = self.next_identification();
            rewrite::identification(parts.header, new, self.config.checksums);
        }
    }

    /// An identification that no other recent datagram has had.
    ///
    /// A counter goes through series of 2^14. Each series uses a quarter of all identifications, in its own order: a
    /// keyed permutation. Each series has new keys, so past values do not reveal future ones; and since the quarters
    /// take turns, an identification is used again after three other series at the earliest. Runs are taken
    /// from the opposite quarter.
    fn next_identification(&mut self) -> u16 {
        let count = self.identification;
        self.identification = count.wrapping_add(1);
        let series = count >> 14;
        // Four rounds of a Feistel network over two halves of 7 bits.
        let (mut left, mut right) = (count >> 7 & 0x7f, count & 0x7f);
        for round in 0..4_u32 {
            let words = [u64::from(series), u64::from(round << 8 | right)];
            let mixed = self.keys.choose(Label::Identification, words) as u32 & 0x7f;
            (left, right) = (right, left ^ mixed);
        }
        (series << 14 | left << 7 | right) as u16
    }

    /// Reserves `count` consecutive identifications that no other recent datagram has had, and returns the first.
    ///
    /// They are taken from the quarter opposite the one that single identifications come from. Between a quarter's use
    /// for runs and its use for single identifications lies one whole series; between two uses of the same kind lie
    /// three. So an identification is used again after at least 16 384 others, less the few that are skipped at the end
    /// of a series or a quarter. Both kinds share one counter, so a run uses up as many of the series as it is long.
    pub(super) fn reserve_identifications(&mut self, count: u16) -> u16 {
        let count = u32::from(count).min(MOST);
        loop {
            let (series, position) = (self.identification / SERIES, self.identification % SERIES);
            // The start of the series is unpredictable; from there it counts up, as the parts of a packet do.
            let start = self.keys.choose(Label::Identification, [u64::from(series), 1 << 16]) as u32;
            let place = start.wrapping_add(position) % SERIES;
            let room = SERIES - position.max(place);
            if count <= room {
                self.identification = self.identification.wrapping_add(count);
                return (series.wrapping_add(2) << 14 | place) as u16;
            }
            // Skip to the end of the series or of the quarter. One of the two parts of a series is long enough, so the
            // run fits at the fourth attempt at the latest.
            self.identification = self.identification.wrapping_add(room);
        }
    }
}
