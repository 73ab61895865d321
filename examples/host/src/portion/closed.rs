//! Connections that were closed here: the other portion may not have heard of it while the stream was cut.

use std::collections::{HashSet, VecDeque};

use byway::Connection;

use super::frame::Gone;

/// How many are remembered.
const MOST: usize = 16_384;

/// The latest that were closed. Until such a connection is opened again, a record of it is an old one.
#[derive(Debug, Default)]
pub(super) struct ClosedLog {
    order: VecDeque<Gone>,
    /// The same without the reason for the end.
    known: HashSet<Gone>,
}

/// A connection, regardless of how it has ended.
const fn ends(gone: Gone) -> Gone {
    Gone { is_reset: false, ..gone }
}

impl ClosedLog {
    pub(super) fn add(&mut self, gone: Gone) {
        if !self.known.insert(ends(gone)) {
            return;
        }
        self.order.push_back(gone);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&ends(oldest));
        }
    }

    /// The connection is open again.
    pub(super) fn remove(&mut self, connection: &Connection) {
        let gone = Gone::of(connection, false);
        if self.known.remove(&gone) {
            self.order.retain(|other| ends(*other) != gone);
        }
    }

    pub(super) fn contains(&self, connection: &Connection) -> bool {
        self.known.contains(&Gone::of(connection, false))
    }

    /// All of them, in their order.
    pub(super) fn all(&self) -> Vec<Gone> {
        self.order.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portion::early::tests::connection;

    #[test]
    fn what_is_opened_again_is_not_closed() {
        let (mut log, connection) = (ClosedLog::default(), connection(true));
        for is_reset in [false, true] {
            let gone = Gone::of(&connection, is_reset);
            log.add(gone);
            log.add(gone);
            assert!(log.contains(&connection));
            assert_eq!(log.all(), [gone]);
            log.remove(&connection);
            assert!(!log.contains(&connection) && log.all().is_empty());
        }
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let (mut log, connection) = (ClosedLog::default(), connection(true));
        let numbered = |number: usize| {
            let mut gone = Gone::of(&connection, false);
            gone.client.set_port(number as u16);
            gone.original.set_port((number >> 16) as u16);
            gone
        };
        (0..MOST + 3).for_each(|number| log.add(numbered(number)));
        assert_eq!((log.all().len(), log.known.len(), log.all()[0]), (MOST, MOST, numbered(3)));
    }
}
