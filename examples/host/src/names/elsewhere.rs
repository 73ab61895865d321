//! A relay whose two directions run in two processes: one portion asks the DNS servers, and their answers come to the
//! other.

use core::time::Duration;
use std::collections::VecDeque;

use byway::Instant;
use byway::naming::{HeapRelay, Relay};

use crate::portion::{Direction, RecordSender};

/// How long an answer waits for the record of its query, and how many do at most.
const PATIENCE: Duration = Duration::from_millis(250);
const MOST: usize = 256;

/// The way to the other portion, and answers that were faster than the record of their query.
#[derive(Debug)]
pub(super) struct Elsewhere {
    sender: RecordSender,
    direction: Direction,
    early: VecDeque<Early>,
    /// How many were kept, and how many of them had to make room for others.
    pub(super) kept: u64,
    pub(super) displaced: u64,
}

/// An answer, until when it waits, and the port that it has come to.
#[derive(Debug)]
struct Early {
    until: Instant,
    port: u16,
    packet: Vec<u8>,
}

impl Elsewhere {
    pub(super) const fn new(sender: RecordSender, direction: Direction) -> Self {
        Self { sender, direction, early: VecDeque::new(), kept: 0, displaced: 0 }
    }

    /// Whether answers come here to queries that the other portion has asked.
    pub(super) fn takes_answers(&self) -> bool {
        self.direction == Direction::ToClient
    }

    /// Tells the other portion of the query that waits at this port: before it is sent.
    pub(super) fn tell(&self, relay: &Relay<HeapRelay>, port: u16) {
        if !self.takes_answers()
            && let Some(record) = relay.record(port)
        {
            self.sender.query(record);
        }
    }

    /// Tells the other portion what the last answer was.
    pub(super) fn notice(&self, relay: &mut Relay<HeapRelay>) {
        if let Some(notice) = relay.take_notice() {
            self.sender.notice(notice);
        }
    }

    /// Keeps an answer for whose port there is no record yet. The oldest makes room for it: records are mostly later by
    /// much less than they wait for, and so a forger has to send many more packets to displace them.
    pub(super) fn keep(&mut self, now: Instant, port: u16, packet: &[u8]) {
        if self.early.len() >= MOST {
            self.early.pop_front();
            self.displaced += 1;
        }
        self.early.push_back(Early { until: now + PATIENCE, port, packet: packet.to_vec() });
        self.kept += 1;
    }

    /// What has come to this port.
    pub(super) fn come_to(&mut self, port: u16) -> Vec<Vec<u8>> {
        self.take(|early| early.port == port)
    }

    /// What has waited in vain.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.take(|early| early.until <= now)
    }

    fn take(&mut self, is_due: impl Fn(&Early) -> bool) -> Vec<Vec<u8>> {
        let (due, left): (VecDeque<Early>, _) = core::mem::take(&mut self.early).into_iter().partition(is_due);
        self.early = left;
        due.into_iter().map(|early| early.packet).collect()
    }

    /// When the first has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.early.front().map(|early| early.until)
    }
}
