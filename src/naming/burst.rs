//! Queries in many packets at once.

use super::respond::Answered;
use super::storage::NameStorage;
use super::table::Names;
use crate::time::Instant;

impl<N: NameStorage> Names<N> {
    /// Answers queries in packets one after the other, exactly as [`intercept`](Self::intercept) would, each into the
    /// buffer in the same place of `out`. Returns how many packets it has looked at: the shortest of the three lengths.
    ///
    /// It is faster than single calls once the table no longer fits into the processor's caches, since the cache lines
    /// for 16 queries are fetched at the same time. On a 32-bit processor it is a plain loop.
    ///
    /// ```
    /// # use byway::Instant;
    /// # use byway::naming::{Answered, FixedNames, MAX_ANSWER_PACKET, Names, NamesConfig};
    /// # let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<4>::new());
    /// let packets = [[0x45_u8; 20], [0x60; 20]];
    /// let mut out = [[0; MAX_ANSWER_PACKET]; 2];
    /// let mut answered = [Answered::Pass; 2];
    /// assert_eq!(names.intercept_burst(Instant::ZERO, &packets, &mut out, &mut answered), 2);
    /// ```
    pub fn intercept_burst<P: AsRef<[u8]>, O: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        packets: &[P],
        out: &mut [O],
        answered: &mut [Answered],
    ) -> usize {
        let count = packets.len().min(out.len()).min(answered.len());
        let packets = packets.get(..count).unwrap_or_default();
        let (out, answered) = (out.get_mut(..count), answered.get_mut(..count));
        let (out, answered) = (out.unwrap_or_default(), answered.unwrap_or_default());
        #[cfg(target_pointer_width = "64")]
        self.intercept_groups(now, packets, out, answered);
        #[cfg(not(target_pointer_width = "64"))]
        for ((packet, out), answered) in packets.iter().zip(out).zip(answered) {
            *answered = self.intercept(now, packet.as_ref(), out.as_mut());
        }
        count
    }
}

/// For large processors, which have caches to wait for.
#[cfg(target_pointer_width = "64")]
mod groups {
    use super::{Answered, Instant, NameStorage, Names};
    use crate::naming::index;
    use crate::naming::packet::{Datagram, is_udp};
    use crate::naming::respond::{Query, Transport};

    /// Packets that are looked at together. With fewer, memory does not have the time to answer.
    const LENGTH: usize = 16;

    /// A query that was read.
    #[derive(Clone, Copy)]
    struct Ahead<'a> {
        datagram: Datagram<'a>,
        query: Query<'a>,
        /// The hash of its name.
        hash: u64,
        /// Which packet of its group it is.
        place: usize,
    }

    impl<N: NameStorage> Names<N> {
        /// Reads the packets of a group and fetches the buckets of its queries; then the entries, which the buckets
        /// name; then answers. What an answer changes (counters and rates) changes no answer's entry.
        #[inline(always)]
        pub(super) fn intercept_groups<P: AsRef<[u8]>, O: AsMut<[u8]>>(
            &mut self,
            now: Instant,
            packets: &[P],
            out: &mut [O],
            answered: &mut [Answered],
        ) {
            answered.fill(Answered::Pass);
            let mut queries = [None; LENGTH];
            let groups = packets.chunks(LENGTH).zip(out.chunks_mut(LENGTH)).zip(answered.chunks_mut(LENGTH));
            for ((packets, out), answered) in groups {
                let mut unused = queries.iter_mut();
                for (place, packet) in packets.iter().enumerate() {
                    if let Some(datagram) = is_udp(packet.as_ref()).then(|| self.datagram(packet.as_ref())).flatten()
                        && let Some(query) = unused.next()
                    {
                        *query = Some(self.read_ahead(datagram, place));
                    }
                }
                let count = LENGTH - unused.len();
                let queries = queries.get_mut(..count).unwrap_or_default();
                for ahead in queries.iter_mut().flatten() {
                    if ahead.query.asked.is_ok() {
                        ahead.query.candidates = self.candidates(ahead.hash);
                    }
                }
                for Ahead { datagram, query, place, .. } in queries.iter().flatten() {
                    if let (Some(out), Some(answered)) = (out.get_mut(*place), answered.get_mut(*place)) {
                        *answered = self.answer_datagram(now, datagram, query, out.as_mut());
                    }
                }
            }
        }

        #[inline]
        fn read_ahead<'a>(&self, datagram: Datagram<'a>, place: usize) -> Ahead<'a> {
            let query = Query::read(datagram.client(), Transport::Udp, datagram.message);
            let hash = query.asked.map_or(0, |asked| self.hash_of(datagram.message, asked));
            index::prefetch(self.storage.view().index, hash);
            Ahead { datagram, query, hash, place }
        }
    }
}
