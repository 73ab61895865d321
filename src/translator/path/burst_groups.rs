//! The cache lines of many packets are fetched together: their buckets, then their connections, then the packets are
//! translated. For large processors, which have caches to wait for.

use crate::connection::Direction;
use crate::intrinsics::prefetch;
use crate::table::connection::NONE;
use crate::table::index::{self, Layout};
use crate::table::redivert_log::DONE;
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::translator::path::plain::Plain;
use crate::verdict::Verdict;

/// How many packets make a group. With fewer the memory has not the time to answer; more than the processor can have under
/// way gain nothing.
const LENGTH: usize = 32;

/// What is known of a packet before it is translated.
#[derive(Clone, Copy)]
struct Ahead {
    plain: Plain,
    /// Where its bucket lies in the index; once that has come, the slot of its connection, most likely. Or [`NONE`].
    at: u32,
    tag: u8,
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
    // All zeros, which is fastest to write.
    const NOTHING: Self = Self { plain: Plain::NOTHING, at: 0, tag: 0, way: Way::Unknown };
}

/// Packets that are looked at together.
struct Group {
    packets: [Ahead; LENGTH],
    /// How many of them are to be looked up, from the first on: none if all of them pass.
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
    /// Three groups are under way at a time: while the packets of one are read, those of the one before have their
    /// buckets, and those of the one before that their connections, so that nobody waits for what he has just asked for.
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
            if let Some(done) = step.checked_sub(2).map(group)
                && let (Some(packets), Some(verdicts)) = (packets.get_mut(done.clone()), verdicts.get_mut(done))
            {
                // Where all pass, none of them opens a connection that another might belong to.
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

    /// Fetches what the connections of packets need that have yet to follow a re-divert.
    #[cold]
    #[inline(never)]
    fn prefetch_moves(&mut self, packets: &[Ahead; LENGTH]) {
        let table = self.table();
        let guessed = packets.iter().filter(|ahead| matches!(ahead.way, Way::ToServer | Way::ToClient));
        guessed.for_each(|ahead| table.prefetch_move(ahead.at));
    }

    /// Translates a packet of which this is known.
    #[inline(always)]
    fn translate_read(&mut self, packet: &mut [u8], ahead: &Ahead) -> Verdict {
        if ahead.way == Way::ToServer {
            self.fast_at(Direction::ToServer, &ahead.plain, packet, ahead.at)
        } else if ahead.way == Way::ToClient {
            self.fast_at(Direction::ToClient, &ahead.plain, packet, ahead.at)
        } else if ahead.way == Way::Pass && self.state.kept == 0 {
            // Unless a packet before it has opened a connection that keeps its source, of which it may be.
            self.state.pass()
        } else {
            self.fast(packet)
        }
    }

    /// Reads a packet's key and asks for its bucket.
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

    /// Guesses a packet's slot by its bucket, and asks for it.
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
