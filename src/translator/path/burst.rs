//! Many packets at once.

use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::Translator;
use crate::verdict::Verdict;

impl<S: Storage> Translator<S> {
    /// Translates packets one after the other, exactly as [`translate`](Self::translate) would, and writes a verdict
    /// for each. Returns how many were translated: the shorter of the two lengths.
    ///
    /// It is faster than single calls once the connections no longer fit into the processor's caches, since the cache
    /// lines for 32 packets are fetched at the same time. On a 32-bit processor it is a plain loop.
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
        self.begin(now);
        #[cfg(target_pointer_width = "64")]
        self.translate_groups(packets, verdicts);
        #[cfg(not(target_pointer_width = "64"))]
        for (packet, verdict) in packets.iter_mut().zip(verdicts.iter_mut()) {
            *verdict = self.translate(now, packet.as_mut());
        }
        packets.len().min(verdicts.len())
    }
}
