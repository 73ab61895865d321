//! Fragments: the first is translated by the table, later ones follow what was done with the first.

use crate::connection::Direction;
#[cfg(target_pointer_width = "64")]
use crate::table::hash::Key;
#[cfg(target_pointer_width = "64")]
use crate::track::fragments::set_of;
use crate::track::fragments::{Action, Clock, Follow, Fragment, FragmentSlot};
use crate::translator::path::plain::Left;
use crate::translator::state::Table;
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::{Checksums, Delta};
use crate::wire::flow::{Flow, Shape};
use crate::wire::ipv4::{self, Header, Parts, TCP};
use crate::wire::rewrite;

impl Table<'_> {
    /// Whether a packet with these addresses can belong to a connection.
    pub(super) fn concerns(&self, header: Header<'_>) -> bool {
        let (source, destination) = (header.source(), header.destination());
        // The filter's near addresses are those of clients that keep their source and of servers that must not show
        // theirs.
        let filter = &self.state.filter;
        let near = self.state.kept != 0 && (filter.may_be_near(destination) || filter.may_be_near(source));
        near || self.state.is_alternative(destination) || filter.may_hold(destination)
    }

    /// Handles any fragment.
    #[inline(never)]
    pub(super) fn fragment(&mut self, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        let concerned = self.concerns(Header(parts.header));
        // Fragment offsets count units of 8 bytes: the second unit of a TCP segment is still in its header (RFC 3128,
        // section 4.1).
        let tiny = flow.protocol == TCP && ipv4::offset(Header(parts.header).fragmentation()) == 1;
        if concerned && tiny {
            return Verdict::Drop(DropReason::OverlappingFragment);
        }
        if !concerned && self.state.kept == 0 {
            return Verdict::Pass;
        }
        let later = flow.shape == Shape::LaterFragment;
        let fragment = match Fragment::read(Header(parts.header), parts.payload.len()) {
            Ok(fragment) => fragment,
            Err(_) if later && !concerned => return Verdict::Pass,
            Err(reason) => return Verdict::Drop(reason),
        };
        if later {
            return self.later_fragment(parts, &fragment, concerned);
        }
        let now = self.state.tick;
        if self.entry(&fragment).is_some_and(|entry| entry.is_copied(now)) {
            return Verdict::Drop(DropReason::OverlappingFragment);
        }
        let verdict = match flow.shape {
            Shape::FirstFragment => self.whole(parts, flow, Left::NotPlain),
            _ => self.pass_or_drop(flow, DropReason::Untranslatable),
        };
        self.insert(&fragment, Header(parts.header), verdict, concerned);
        verdict
    }

    /// Handles a fragment after the first: it follows the entry that the first one left.
    fn later_fragment(&mut self, parts: &mut Parts<'_>, fragment: &Fragment, concerned: bool) -> Verdict {
        let now = self.state.tick;
        match self.entry(fragment).map(|entry| entry.follow(fragment, now)) {
            Some(Ok(follow)) => self.follow_first(parts, &follow),
            _ if !concerned => Verdict::Pass,
            None => Verdict::Hold,
            Some(Err(reason)) => Verdict::Drop(reason),
        }
    }

    fn follow_first(&mut self, parts: &mut Parts<'_>, follow: &Follow) -> Verdict {
        let direction = match follow.action {
            Action::Free | Action::Passed => return Verdict::Pass,
            Action::ToServer => Direction::ToServer,
            Action::ToClient => Direction::ToClient,
        };
        rewrite::network(parts.header, follow.source, follow.destination, follow.network);
        if Header(parts.header).identification() != follow.identification {
            rewrite::identification(parts.header, follow.identification, self.state.config.checksums);
        }
        Verdict::carried(direction)
    }

    const fn clock(&self) -> Clock {
        Clock { now: self.state.tick, timeout: self.state.timers.fragment }
    }

    /// The entries among which that of a fragment's datagram may be. A small processor has few, and searches all of
    /// them.
    fn entries(&mut self, fragment: &Fragment) -> &mut [FragmentSlot] {
        #[cfg(target_pointer_width = "64")]
        {
            let (addresses, ports) = fragment.datagram();
            set_of(self.memory.fragments, self.state.keys.hash(&Key { addresses, ports }))
        }
        #[cfg(not(target_pointer_width = "64"))]
        {
            let _ = fragment;
            self.memory.fragments
        }
    }

    /// The entry of a fragment's datagram.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn entry(&mut self, fragment: &Fragment) -> Option<&mut FragmentSlot> {
        let clock = self.clock();
        FragmentSlot::find(self.entries(fragment), fragment, clock)
    }

    /// Records what became of a first fragment.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn insert(&mut self, fragment: &Fragment, becomes: Header<'_>, verdict: Verdict, concerned: bool) {
        let action = match verdict {
            Verdict::ToServer => Action::ToServer,
            Verdict::ToClient => Action::ToClient,
            Verdict::Pass if concerned => Action::Passed,
            // Later fragments must not follow an entry of an old datagram with the same identification.
            Verdict::Pass | Verdict::Hold | Verdict::Drop(_) => {
                if let Some(entry) = self.entry(fragment) {
                    entry.forget();
                }
                return;
            }
        };
        let network = match self.state.config.checksums {
            Checksums::Software => {
                Delta::of([fragment.source, fragment.destination], [becomes.source(), becomes.destination()])
            }
            Checksums::Hardware => Delta(0),
        };
        let clock = self.clock();
        if let Some((entry, evicts)) = FragmentSlot::place(self.entries(fragment), fragment, clock) {
            entry.set(fragment, becomes, action, network, clock.now);
            let counters = &mut self.state.counters;
            counters.fragments_evicted = counters.fragments_evicted.wrapping_add(evicts.into());
        }
    }
}
