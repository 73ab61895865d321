//! What has happened to servers since they were reported last.

use std::collections::HashMap;

use byway::{Instant, Measurements, Target};

/// The readings of all shards that were reported last, entry by entry: entries begin to count at different times, so their
/// sums cannot be compared.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    before: HashMap<Entry, Measurements>,
}

/// A shard, a place in its list of servers, and the server there.
type Entry = (usize, usize, Target);

impl Readings {
    /// What has happened since the last readings, at time `from`, to each server of these entries, and since when that was
    /// counted. A server can have several entries, in the groups of several rules.
    pub(crate) fn changes(
        &self,
        shard: usize,
        entries: &[(usize, Measurements)],
        from: Instant,
    ) -> HashMap<Target, (Instant, Measurements)> {
        let mut changes = HashMap::new();
        for (place, measured) in entries {
            let before = self.before.get(&(shard, *place, measured.server));
            let change = before.map_or(*measured, |before| measured.between(before));
            let since = from.max(measured.since);
            changes
                .entry(measured.server)
                .and_modify(|(first, sum): &mut (Instant, Measurements)| {
                    *first = since.min(*first);
                    sum.merge(&change);
                })
                .or_insert((since, change));
        }
        changes
    }

    /// Adds the readings of a shard, for the next comparison.
    pub(crate) fn note(&mut self, shard: usize, entries: Vec<(usize, Measurements)>) {
        self.before.extend(entries.into_iter().map(|(place, measured)| ((shard, place, measured.server), measured)));
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddrV4;

    use super::*;

    /// What is measured of a server that nothing has happened to.
    fn nothing(since: u64) -> Measurements {
        let config = byway::Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = byway::Translator::new(config, byway::Heap::new(16, 4).measured()).unwrap();
        let at = |last: u8| SocketAddrV4::new([20, 0, 0, last].into(), 80);
        translator.divert(byway::Divert::new(at(9)).to(at(1))).unwrap();
        let mut measured = translator.measurements().next().unwrap();
        measured.since = Instant::from_secs(since);
        measured
    }

    fn counted(since: u64, started: u32) -> Measurements {
        let mut measured = nothing(since);
        measured.started = started;
        measured
    }

    /// One server in two rules, of which one begins to count later, or not at all, or ends.
    #[test]
    fn entries_of_one_server_are_compared_one_by_one() {
        let server = nothing(0).server;
        let mut readings = Readings::default();
        let first = vec![(1, counted(1, 10)), (2, nothing(100))];
        let change = readings.changes(0, &first, Instant::from_secs(50))[&server];
        assert_eq!((change.0, change.1.started), (Instant::from_secs(50), 10));
        readings.note(0, first);
        // The unused entry begins to count at each reading.
        let second = vec![(1, counted(1, 13)), (2, nothing(110))];
        let change = readings.changes(0, &second, Instant::from_secs(100))[&server];
        assert_eq!((change.0, change.1.started), (Instant::from_secs(100), 3));
        readings = Readings::default();
        readings.note(0, second);
        // The first one's rule is removed.
        let third = vec![(2, counted(115, 2))];
        let change = readings.changes(0, &third, Instant::from_secs(110))[&server];
        assert_eq!((change.0, change.1.started), (Instant::from_secs(115), 2));
        // Another shard's entry is another.
        let change = readings.changes(1, &[(1, counted(1, 13))], Instant::from_secs(110))[&server];
        assert_eq!(change.1.started, 13);
    }
}
