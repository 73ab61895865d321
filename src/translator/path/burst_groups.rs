//! Fetches the cache lines of many packets together: first their buckets, then their connections; then the packets are
//! translated. For large processors, which have caches to wait for.

use crate::connection::Direction;
use crate::intrinsics::prefetch;
use crate::table::connection::NONE;
use crate::table::index::{self, Layout};
use crate::table::redivert_log::DONE;
use crate::table::storage::{Parts, Storage};
use crate::translator::Translator;
use crate::translator::path::plain::Plain;
use crate::verdict::Verdict;

/// Packets per group. With fewer, memory does not have the time to answer; more than the processor can have in flight
/// gain nothing.
const LENGTH: usize = 32;

/// What is known of a packet before it is translated.
#[derive(Clone, Copy)]
struct Ahead {
    plain: Plain,
    /// The position of its bucket in the index; once the bucket has arrived, the slot that most likely holds its
    /// connection. Or [`NONE`].
    at: u32,
    tag: u8,
    way: Way,
}

/// What the packet most likely needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is not plain.
    Unknown,
    /// It is plain and passes.
    Pass,
    ToServer,
    ToClient,
}

impl Ahead {
    // All zeros, which is fastest to write.
    const NOTHING: Self = Self { plain: Plain::NOTHING, at: 0, tag: 0, way: Way::Unknown };
}

/// Packets that are read and prefetched together.
struct Group {
    packets: [Ahead; LENGTH],
    /// How many of them, from the first on, have to be looked up: none if all of them pass.
    wanted: usize,
}

impl Group {
    const fn new() -> Self {
        Self { packets: [Ahead::NOTHING; LENGTH], wanted: 0 }
    }
}

impl<S: Storage> Translator<S> {
    /// Translates packets one after the other, and writes a verdict for each.
    ///
    /// Three groups are in flight at a time: while the packets of one are read, the buckets of the one before have
    /// arrived, and so have the connections of the one before that. No step waits for what it has just requested.
    #[inline(always)]
    pub(super) fn translate_groups<P: AsMut<[u8]>>(&mut self, packets: &mut [P], verdicts: &mut [Verdict]) {
        let count = packets.len().min(verdicts.len());
        let groups = count.div_ceil(LENGTH);
        let group = |number: usize| number * LENGTH..count.min((number + 1) * LENGTH);
        let (mut read, mut guessed, mut ready) = (&mut Group::new(), &mut Group::new(), &mut Group::new());
        for step in 0..groups + 2 {
            let new = packets.get_mut(group(step)).unwrap_or_default();
            let mut all_pass = true;
            for (packet, ahead) in new.iter_mut().zip(&mut read.packets) {
                self.read_ahead(packet.as_mut(), ahead);
                all_pass &= ahead.way == Way::Pass;
            }
            read.wanted = if all_pass { 0 } else { new.len() };
            guessed.packets.iter_mut().take(guessed.wanted).for_each(|ahead| self.guess(ahead));
            let measures = S::MEASURES && self.state.for_measured.is_some();
            if measures || S::RESUMES && self.state.for_resumable.is_some() {
                self.prefetch_beside(guessed.packets.get(..guessed.wanted).unwrap_or_default());
            }
            if let Some(done) = step.checked_sub(2).map(group)
                && let (Some(packets), Some(verdicts)) = (packets.get_mut(done.clone()), verdicts.get_mut(done))
            {
                // If all of them pass, none opens a connection that another one might belong to.
                if ready.wanted == 0 && self.state.kept == 0 {
                    self.state.pass_all(verdicts);
                } else {
                    if self.state.redivert_log.cursor != DONE {
                        self.prefetch_moves(&ready.packets);
                    }
                    for ((packet, verdict), ahead) in packets.iter_mut().zip(verdicts).zip(&ready.packets) {
                        *verdict = self.translate_read(packet.as_mut(), ahead);
                    }
                }
            }
            (read, guessed, ready) = (ready, read, guessed);
        }
    }

    /// Prefetches what lies beside the guessed slots: the measurements of connections, and what is needed to hand them
    /// over.
    #[cold]
    #[inline(never)]
    fn prefetch_beside(&mut self, packets: &[Ahead]) {
        let Parts { measured, resumable, .. } = self.storage.parts();
        let guessed = packets.iter().filter(|ahead| matches!(ahead.way, Way::ToServer | Way::ToClient));
        for slot in guessed.map(|ahead| ahead.at as usize) {
            // It may extend into the next cache line.
            prefetch(measured, slot);
            prefetch(measured, slot + 1);
            prefetch(resumable, slot);
        }
    }

    /// Prefetches what stale connections need to follow a re-divert.
    #[cold]
    #[inline(never)]
    fn prefetch_moves(&mut self, packets: &[Ahead; LENGTH]) {
        let table = self.table();
        let guessed = packets.iter().filter(|ahead| matches!(ahead.way, Way::ToServer | Way::ToClient));
        guessed.for_each(|ahead| table.prefetch_move(ahead.at));
    }

    /// Translates a packet that `read_ahead` and `guess` have looked at.
    #[inline(always)]
    fn translate_read(&mut self, packet: &mut [u8], ahead: &Ahead) -> Verdict {
        if ahead.way == Way::ToServer {
            self.fast_at(Direction::ToServer, &ahead.plain, packet, ahead.at)
        } else if ahead.way == Way::ToClient {
            self.fast_at(Direction::ToClient, &ahead.plain, packet, ahead.at)
        } else if ahead.way == Way::Pass && self.state.kept == 0 {
            // Only while no connection keeps its source: an earlier packet may have opened one that this packet is a
            // reply of.
            self.state.pass()
        } else {
            self.fast(packet)
        }
    }

    /// Reads a packet's key and prefetches its bucket.
    #[inline(always)]
    fn read_ahead(&mut self, packet: &[u8], ahead: &mut Ahead) {
        (ahead.at, ahead.way) = (NONE, Way::Unknown);
        let Some(plain) = Plain::read(packet) else {
            return;
        };
        let Some(direction) = self.state.likely_direction(plain.destination()) else {
            ahead.way = Way::Pass;
            return;
        };
        let hash = self.state.keys.hash(&plain.key(direction));
        let at = self.state.layout.position(direction, hash);
        prefetch(self.storage.parts().index, at as usize);
        let way = if direction == Direction::ToServer { Way::ToServer } else { Way::ToClient };
        *ahead = Ahead { plain, at, tag: index::tag(hash), way };
    }

    /// Guesses a packet's slot from its bucket, and prefetches it.
    #[inline(always)]
    fn guess(&mut self, ahead: &mut Ahead) {
        let memory = self.storage.parts();
        let ask = |slot: u32| prefetch(memory.connections, slot as usize);
        if let Some(mut guesses) = Layout::guesses(memory.index, ahead.at, ahead.tag)
            && let Some(slot) = guesses.next()
        {
            ask(slot);
            ahead.at = slot;
            return guesses.for_each(ask);
        }
        let direction = match ahead.way {
            Way::ToServer => Direction::ToServer,
            Way::ToClient => Direction::ToClient,
            Way::Unknown | Way::Pass => return,
        };
        if let Some(second) = self.state.layout.second_position(memory.index, direction, ahead.at, ahead.tag) {
            prefetch(memory.index, second);
        }
        ahead.at = NONE;
    }
}
