//! Counts of what has happened, one number per kind of event.

use core::iter::Sum;

use crate::verdict::{DropReason, Verdict};

/// Counts since the translator was created. They are never reset, and in practice never wrap (64 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Counters {
    /// Packets translated in the forward direction.
    pub to_server: u64,
    /// Packets restored in the reply direction.
    pub to_client: u64,
    /// Packets that belong to no connection and match no rule, and passed untouched.
    pub passed: u64,
    /// Later fragments whose first fragment had not been seen.
    pub held: u64,
    dropped: [u64; DropReason::COUNT],
    /// Connections opened by a packet.
    pub opened: u64,
    /// Connections imported from a record.
    pub imported: u64,
    /// Connections moved to another server by a re-divert.
    pub moved: u64,
    /// TCP connections that both sides closed.
    pub closed: u64,
    /// Connections ended by a RST with the expected sequence number, or by a re-divert that resets.
    pub reset: u64,
    /// Connections ended by their time-out.
    pub expired: u64,
    /// Connections evicted to make room for another.
    pub evicted: u64,
    /// Connections closed because no port was free for them towards the server that they were moved to, or because the
    /// index had no room.
    pub stranded: u64,
    /// Connections closed by [`Translator::forget`](crate::Translator::forget).
    pub forgotten: u64,
    /// ICMP errors and RSTs that the translator originated and the caller fetched.
    pub transmitted: u64,
    /// ICMP errors and RSTs that were not sent: the rate limit was reached, or the caller did not fetch them.
    pub transmit_lost: u64,
    /// Events lost because the queue was full.
    pub events_lost: u64,
    /// Datagrams whose fragments were forgotten early, to make room for another's.
    pub fragments_evicted: u64,
}

impl Counters {
    pub(crate) const ZERO: Self = Self {
        to_server: 0,
        to_client: 0,
        passed: 0,
        held: 0,
        dropped: [0; DropReason::COUNT],
        opened: 0,
        imported: 0,
        moved: 0,
        closed: 0,
        reset: 0,
        expired: 0,
        evicted: 0,
        stranded: 0,
        forgotten: 0,
        transmitted: 0,
        transmit_lost: 0,
        events_lost: 0,
        fragments_evicted: 0,
    };

    /// Packets dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// Packets dropped, by reason.
    #[cfg(feature = "control")]
    pub(crate) const fn dropped_by_reason(&self) -> &[u64; DropReason::COUNT] {
        &self.dropped
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Counts a packet by its verdict.
    pub(crate) fn count(&mut self, verdict: Verdict) {
        let count = match verdict {
            Verdict::ToServer => Some(&mut self.to_server),
            Verdict::ToClient => Some(&mut self.to_client),
            Verdict::Pass => Some(&mut self.passed),
            Verdict::Hold => Some(&mut self.held),
            Verdict::Drop(reason) => self.dropped.get_mut(reason as usize),
        };
        if let Some(count) = count {
            *count = count.wrapping_add(1);
        }
    }
}

impl<'a> Sum<&'a Self> for Counters {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.fold(Self::ZERO, |mut sum, one| {
            let Self {
                to_server,
                to_client,
                passed,
                held,
                dropped,
                opened,
                imported,
                moved,
                closed,
                reset,
                expired,
                evicted,
                stranded,
                forgotten,
                transmitted,
                transmit_lost,
                events_lost,
                fragments_evicted,
            } = one;
            for (total, more) in [
                (&mut sum.to_server, to_server),
                (&mut sum.to_client, to_client),
                (&mut sum.passed, passed),
                (&mut sum.held, held),
                (&mut sum.opened, opened),
                (&mut sum.imported, imported),
                (&mut sum.moved, moved),
                (&mut sum.closed, closed),
                (&mut sum.reset, reset),
                (&mut sum.expired, expired),
                (&mut sum.evicted, evicted),
                (&mut sum.stranded, stranded),
                (&mut sum.forgotten, forgotten),
                (&mut sum.transmitted, transmitted),
                (&mut sum.transmit_lost, transmit_lost),
                (&mut sum.events_lost, events_lost),
                (&mut sum.fragments_evicted, fragments_evicted),
            ]
            .into_iter()
            .chain(sum.dropped.iter_mut().zip(dropped))
            {
                *total = total.wrapping_add(*more);
            }
            sum
        })
    }
}
