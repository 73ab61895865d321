//! Many packets at once: their cache lines are fetched together.

use super::Translator;
use super::fast::Plain;
use crate::connection::Direction;
use crate::prefetch::prefetch;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::verdict::Verdict;

/// How many packets' lines are asked for before the first is touched. More than the processor can have under way at
/// once gains nothing.
const WIDTH: usize = 32;

/// What is known of a plain packet before it is translated.
#[derive(Clone, Copy)]
struct Ahead {
    plain: Plain,
    direction: Direction,
    hash: u64,
    slot: Option<u32>,
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
            let mut ahead = [None; WIDTH];
            for (packet, ahead) in packets.iter_mut().zip(&mut ahead) {
                *ahead = self.look_ahead(packet.as_mut());
            }
            for ahead in ahead.iter_mut().flatten() {
                self.guess(ahead);
            }
            for ((packet, verdict), ahead) in packets.iter_mut().zip(verdicts).zip(ahead) {
                let packet = packet.as_mut();
                let fast = match ahead {
                    Some(Ahead { plain, direction: Direction::ToServer, slot, .. }) => {
                        self.fast_along(Direction::ToServer, &plain, packet, slot)
                    }
                    Some(Ahead { plain, direction: Direction::ToClient, slot, .. }) => {
                        self.fast_along(Direction::ToClient, &plain, packet, slot)
                    }
                    None => self.fast(packet),
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
    fn look_ahead(&mut self, packet: &[u8]) -> Option<Ahead> {
        let plain = Plain::read(packet)?;
        let direction = self.way(plain.destination())?;
        let hash = self.state.keys.hash(&plain.key(direction));
        let memory = self.storage.parts();
        prefetch(memory.index, self.state.layout.position(direction, hash));
        Some(Ahead { plain, direction, hash, slot: None })
    }

    /// Guesses a packet's slot by its bucket, and asks for it.
    #[inline(always)]
    fn guess(&mut self, ahead: &mut Ahead) {
        let memory = self.storage.parts();
        ahead.slot = self.state.layout.guess(memory.index, ahead.direction, ahead.hash);
        if let Some(slot) = ahead.slot {
            prefetch(memory.connections, slot as usize);
        }
    }
}
