//! The numbers of states, reasons and counters in an answer. They are those of `docs/control-protocol.md`.

use super::refused::Refused;

use crate::connection::State;
use crate::counters::Counters;
use crate::event::Closed;
use crate::verdict::DropReason;

const STATES: [State; 11] = [
    State::Opening,
    State::Opened,
    State::Established,
    State::ClientClosed,
    State::ServerClosed,
    State::Closing,
    State::TimeWait,
    State::Doubtful,
    State::Resetting,
    State::Unanswered,
    State::Answered,
];

const REASONS_OF_CLOSING: [Closed; 7] = [
    Closed::Finished,
    Closed::Reset,
    Closed::Rediverted,
    Closed::Expired,
    Closed::Evicted,
    Closed::Stranded,
    Closed::Forgotten,
];

/// Numbered from [`FIRST_DROP`].
pub(super) const DROPS: [DropReason; 19] = [
    DropReason::MalformedIpv4,
    DropReason::MalformedTransport,
    DropReason::MartianSource,
    DropReason::OwnSource,
    DropReason::NoConnection,
    DropReason::OldServer,
    DropReason::Midstream,
    DropReason::InexactReset,
    DropReason::Resetting,
    DropReason::TableFull,
    DropReason::ClientLimit,
    DropReason::NoPort,
    DropReason::TinyFragment,
    DropReason::OverlappingFragment,
    DropReason::ScatteredFragment,
    DropReason::IcmpChecksum,
    DropReason::IcmpUnrelated,
    DropReason::Untranslatable,
    DropReason::HandingOver,
];

pub(super) const FIRST_DROP: u16 = 256;

/// The refusals of datagrams are numbered from here.
pub(super) const FIRST_REFUSED: u16 = 512;

/// The outcomes of queries for names are numbered from here; the number after them counts queries with a valid cookie.
#[cfg(feature = "naming")]
pub(super) const FIRST_NAMES: u16 = 768;

pub(super) const FIRST_COUNTER: u16 = 1;

/// Numbered from [`FIRST_COUNTER`].
const COUNTERS: [&str; 17] = [
    "to_server",
    "to_client",
    "passed",
    "held",
    "opened",
    "imported",
    "moved",
    "closed",
    "reset",
    "expired",
    "evicted",
    "stranded",
    "transmitted",
    "transmit_lost",
    "events_lost",
    "fragments_evicted",
    "forgotten",
];

/// In the order of their names.
pub(super) const fn values(c: &Counters) -> [&u64; COUNTERS.len()] {
    [
        &c.to_server,
        &c.to_client,
        &c.passed,
        &c.held,
        &c.opened,
        &c.imported,
        &c.moved,
        &c.closed,
        &c.reset,
        &c.expired,
        &c.evicted,
        &c.stranded,
        &c.transmitted,
        &c.transmit_lost,
        &c.events_lost,
        &c.fragments_evicted,
        &c.forgotten,
    ]
}

// A number is the position in the list, counted from 1. The code is short because the library's own lists have the same
// order, which is checked here.
const _: () = {
    let mut at = 0;
    while at < STATES.len() {
        assert!(STATES[at] as usize == at, "the numbers of states stay as they are");
        at += 1;
    }
    let mut at = 0;
    while at < REASONS_OF_CLOSING.len() {
        assert!(REASONS_OF_CLOSING[at] as usize == at, "the numbers of reasons stay as they are");
        at += 1;
    }
    let mut at = 0;
    while at < DROPS.len() {
        assert!(DROPS[at] as usize == at, "the numbers of dropped packets stay as they are");
        at += 1;
    }
};

pub(super) const fn state_number(state: State) -> u8 {
    state as u8 + 1
}

pub(super) fn state_from(number: u8) -> Option<State> {
    STATES.get(usize::from(number).checked_sub(1)?).copied()
}

pub(super) const fn closed_number(why: Closed) -> u8 {
    why as u8 + 1
}

pub(super) fn closed_from(number: u8) -> Option<Closed> {
    REASONS_OF_CLOSING.get(usize::from(number).checked_sub(1)?).copied()
}

/// The name of the counter that has this number in an [`Answer`](super::Answer): that of a field of [`Counters`], of a
/// [`DropReason`], of a [`Refused`], or of an outcome of queries for names. `None` if it is not known here.
#[must_use]
pub fn counter_name(number: u16) -> Option<&'static str> {
    let at = |first: u16| number.checked_sub(first).map(usize::from);
    let refused = || Refused::ALL.get(at(FIRST_REFUSED)?).map(|r| r.name());
    let dropped = || DROPS.get(at(FIRST_DROP)?).map(|r| r.name());
    #[cfg(feature = "naming")]
    if let Some(place) = at(FIRST_NAMES) {
        use crate::naming::Outcome;
        let proven = (place == Outcome::ALL.len()).then_some("names_proven");
        return Outcome::ALL.get(place).map(|outcome| outcome.counter_name()).or(proven);
    }
    refused().or_else(dropped).or_else(|| COUNTERS.get(at(FIRST_COUNTER)?).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_without_a_number() {
        for reason in DropReason::ALL {
            assert!(DROPS.contains(reason), "{reason} has no number");
        }
        for (index, state) in STATES.into_iter().enumerate() {
            assert_eq!(state_number(state), index as u8 + 1);
            assert_eq!(state_from(index as u8 + 1), Some(state));
        }
        for (index, why) in REASONS_OF_CLOSING.into_iter().enumerate() {
            assert_eq!(closed_from(closed_number(why)), Some(why), "{index}");
        }
        assert_eq!((state_from(0), state_from(12), closed_from(0), closed_from(8)), (None, None, None, None));
    }

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let lists = [(FIRST_COUNTER, COUNTERS.len()), (FIRST_DROP, DROPS.len()), (FIRST_REFUSED, Refused::ALL.len())];
        let numbers: Vec<_> = lists.into_iter().flat_map(|(first, count)| (first..).take(count)).collect();
        let mut names: Vec<_> = numbers.iter().map(|n| counter_name(*n).unwrap()).collect();
        names.sort_unstable();
        names.dedup();
        // `table_full`, `client_limit` and the like are counted once each.
        assert_eq!(names.len(), numbers.len());
        assert_eq!((counter_name(0), counter_name(18), counter_name(255), counter_name(600)), (None, None, None, None));
    }
}
