//! Many packets at once: their cache lines are fetched together.

use super::Translator;
use super::fast::Plain;
use crate::connection::Direction;
use crate::prefetch::prefetch;
use crate::table::connection::NONE;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::verdict::Verdict;

/// How many packets' lines are asked for before the first is touched. More than the processor can have under way at
/// once gains nothing.
const WIDTH: usize = 32;

/// What is known of a packet before it is translated.
#[derive(Clone, Copy)]
struct Ahead {
    plain: Plain,
    hash: u64,
    /// Where its connection most likely is, or [`NONE`].
    slot: u32,
    way: Way,
}

/// What it most likely takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is not plain.
    Unknown,
    /// Plain, and none of ours.
    Pass,
    ToServer,
    ToClient,
}

impl Ahead {
    const NOTHING: Self = Self { plain: Plain::NOTHING, hash: 0, slot: NONE, way: Way::Unknown };

    fn direction(&self) -> Option<Direction> {
        match self.way {
            Way::ToServer => Some(Direction::ToServer),
            Way::ToClient => Some(Direction::ToClient),
            Way::Unknown | Way::Pass => None,
        }
    }
}

impl<S: Storage> Translator<S> {
    /// Translates packets one after the other, exactly as [`translate`](Self::translate) would, and writes a verdict
    /// for each. Returns how many were translated: the shorter of the two lengths.
    ///
    /// It is faster than the calls one by one as soon as the connections do not fit into the processor's caches, since
    /// the lines that 32 packets need are fetched at the same time; on a processor without caches it gains nothing
    /// and need not be linked in.
    ///
    /// ```
    /// # use byway::*;
    /// # let mut byway = Translator::new(Config::new([7; 32]), Fixed::<64, 4>::new())?;
    /// let mut packets = [[0x45_u8; 20], [0x60; 20]];
    /// let mut verdicts = [Verdict::Pass; 2];
    /// assert_eq!(byway.translate_burst(Instant::ZERO, &mut packets, &mut verdicts), 2);
    /// assert_eq!(verdicts, [Verdict::Drop(DropReason::MalformedIpv4), Verdict::Pass]);
    /// # Ok::<(), ConfigError>(())
    /// ```
    pub fn translate_burst<P: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) -> usize {
        self.state.advance(now);
        for (packets, verdicts) in packets.chunks_mut(WIDTH).zip(verdicts.chunks_mut(WIDTH)) {
            let mut ahead = [Ahead::NOTHING; WIDTH];
            for (packet, ahead) in packets.iter_mut().zip(&mut ahead) {
                self.look_ahead(packet.as_mut(), ahead);
            }
            for ahead in ahead.iter_mut().take(packets.len()) {
                self.guess(ahead);
            }
            for ((packet, verdict), ahead) in packets.iter_mut().zip(verdicts).zip(&ahead) {
                let packet = packet.as_mut();
                let fast = match ahead.way {
                    Way::ToServer => self.fast_along(Direction::ToServer, &ahead.plain, packet, Some(ahead.slot)),
                    Way::ToClient => self.fast_along(Direction::ToClient, &ahead.plain, packet, Some(ahead.slot)),
                    // Unless a packet before it has opened a connection that keeps its source, of which it may be.
                    Way::Pass if self.state.kept == 0 => Ok(self.state.pass()),
                    Way::Pass | Way::Unknown => self.fast(packet),
                };
                *verdict = match fast {
                    Ok(verdict) => verdict,
                    Err(left) => self.table().translate(packet, left),
                };
            }
        }
        packets.len().min(verdicts.len())
    }

    /// Reads a packet's key and asks for its bucket.
    #[inline(always)]
    fn look_ahead(&mut self, packet: &[u8], ahead: &mut Ahead) {
        let Some(plain) = Plain::read(packet) else {
            return;
        };
        let Some(direction) = self.likely_way(plain.destination()) else {
            ahead.way = Way::Pass;
            return;
        };
        let hash = self.state.keys.hash(&plain.key(direction));
        let memory = self.storage.parts();
        prefetch(memory.index, self.state.layout.position(direction, hash));
        let way = if direction == Direction::ToServer { Way::ToServer } else { Way::ToClient };
        *ahead = Ahead { plain, hash, slot: NONE, way };
    }

    /// Guesses a packet's slot by its bucket, and asks for it.
    #[inline(always)]
    fn guess(&mut self, ahead: &mut Ahead) {
        if let Some(direction) = ahead.direction() {
            let memory = self.storage.parts();
            let ask = |slot: u32| prefetch(memory.connections, slot as usize);
            match self.state.layout.guess(memory.index, direction, ahead.hash, ask) {
                Some(slot) => {
                    ahead.slot = slot;
                    ask(slot);
                }
                None => prefetch(memory.index, self.state.layout.second_position(direction, ahead.hash)),
            }
        }
    }
}
