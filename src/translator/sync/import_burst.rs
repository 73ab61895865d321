//! Many records at once.

use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::Translator;
use crate::translator::sync::import::Imported;
use crate::translator::sync::record::{Record, RecordError};

impl<S: Storage> Translator<S> {
    /// Imports records one after the other, exactly as [`import`](Self::import) would, and writes a result for each.
    /// Returns how many were imported or refused: the shorter of the two lengths.
    ///
    /// It is faster than single calls once the connections no longer fit into the processor's caches, since the cache
    /// lines for 16 records are fetched at the same time. On a 32-bit processor it is a plain loop.
    ///
    /// ```
    /// # use byway::*;
    /// # let config = Config::new([7; 32]);
    /// # let before = Translator::new(config.clone(), Fixed::<64, 4>::new())?;
    /// # let mut after = Translator::new(config, Fixed::<64, 4>::new())?;
    /// let snapshot: Vec<Record> = before.records().collect();
    /// let mut results = [Ok(Imported::New); 256];
    /// for records in snapshot.chunks(256) {
    ///     let count = after.import_burst(Instant::ZERO, records, &mut results);
    ///     for (record, refused) in records.iter().zip(&results[..count]).filter(|(_, result)| result.is_err()) {
    ///         println!("{record:?}: {refused:?}");
    ///     }
    /// }
    /// # Ok::<(), ConfigError>(())
    /// ```
    pub fn import_burst(
        &mut self,
        now: Instant,
        records: &[Record],
        results: &mut [Result<Imported, RecordError>],
    ) -> usize {
        let count = records.len().min(results.len());
        let records = records.get(..count).unwrap_or_default();
        #[cfg(target_pointer_width = "64")]
        self.import_groups(now, records, results);
        #[cfg(not(target_pointer_width = "64"))]
        for (record, result) in records.iter().zip(results) {
            *result = self.import(now, record);
        }
        count
    }
}

/// For large processors, which have caches to wait for.
#[cfg(target_pointer_width = "64")]
mod groups {
    use super::{Imported, Instant, Record, RecordError, Storage, Translator};
    use crate::connection::Direction;
    use crate::intrinsics::prefetch;

    /// Records whose buckets are fetched together. With fewer, memory does not have the time to answer.
    const LENGTH: usize = 16;

    impl<S: Storage> Translator<S> {
        /// Fetches the buckets of one group, and meanwhile imports the group before it.
        pub(super) fn import_groups(
            &mut self,
            now: Instant,
            records: &[Record],
            results: &mut [Result<Imported, RecordError>],
        ) {
            let mut groups = records.chunks(LENGTH);
            let mut next = groups.next().unwrap_or_default();
            self.prefetch_buckets(next);
            for results in results.chunks_mut(LENGTH) {
                let group = core::mem::replace(&mut next, groups.next().unwrap_or_default());
                self.prefetch_buckets(next);
                for (record, result) in group.iter().zip(results) {
                    *result = self.import(now, record);
                }
            }
        }

        /// Prefetches the buckets of these records' connections, for both directions.
        fn prefetch_buckets(&mut self, records: &[Record]) {
            for record in records {
                for (direction, key) in [Direction::ToServer, Direction::ToClient].into_iter().zip(record.keys()) {
                    let position = self.state.layout.position(direction, self.state.keys.hash(&key));
                    prefetch(self.storage.parts().index, position as usize);
                }
            }
        }
    }
}
