//! The rules and connections of a server, found in one pass over the entries for servers.

use crate::table::server::{Holder, Kind, Place, ServerSlot};
use crate::translator::redivert::how::Redivert;
use crate::translator::state::Table;

/// What a re-divert from a server would find.
#[derive(Clone, Copy, Debug)]
pub(in crate::translator) struct Survey {
    /// Connections that are counted on the server, including dead ones that are not swept yet.
    pub(in crate::translator) counted: u32,
    /// Servers of rules that lie within it.
    pub(in crate::translator) rules: usize,
    /// Entries of such servers that have connections: to drain the server, each of them needs another entry.
    pub(in crate::translator) occupied: usize,
    /// Whether connections may be on it whose entries name other servers too: once they are moved, those entries no
    /// longer describe them.
    pub(in crate::translator) overlaps: bool,
    /// The first of the entries that lie within it, and the one after the last.
    pub(in crate::translator) first: u16,
    pub(in crate::translator) end: u16,
}

impl Survey {
    /// Surveys the entries in use.
    #[inline(never)]
    pub(super) fn new(used: &[ServerSlot], old: Place) -> Self {
        let mut survey = Self { counted: 0, rules: 0, occupied: 0, overlaps: false, first: 0, end: 0 };
        for (entry, slot) in used.iter().enumerate() {
            // There may be many entries, most of them with other addresses.
            if slot.address != old.address && slot.kind != Kind::Same {
                continue;
            }
            let (rules, connections) = (slot.rules(), slot.connections);
            // An outstanding re-divert's entry has connections once they follow.
            survey.overlaps |= (connections != 0 || slot.holder == Holder::Redivert) && slot.may_overlap(old);
            if slot.lies_within(old) {
                survey.counted += connections;
                survey.rules += rules as usize;
                survey.occupied += usize::from(rules != 0 && connections != 0);
                if survey.end == 0 {
                    survey.first = entry as u16;
                }
                survey.end = entry as u16 + 1;
            }
        }
        survey
    }

    /// Whether there is anything to move.
    pub(in crate::translator) const fn finds_something(&self) -> bool {
        self.end != 0 || self.overlaps
    }
}

impl Table<'_> {
    pub(in crate::translator) fn survey(&self, old: Place) -> Survey {
        Survey::new(self.used_servers(), old)
    }

    /// Like [`survey`](Self::survey), for a move. If connections are handed over to the server's own address, with its
    /// port kept, no rule has to follow.
    pub(in crate::translator) fn survey_move(&self, old: Place, new: Place, how: Redivert) -> Survey {
        let survey = self.survey(old);
        let hands_over = matches!(how, Redivert::HandOver | Redivert::HandOverOrReset);
        if hands_over && old.address == new.address && new.port.is_none() {
            return Survey { rules: 0, occupied: 0, ..survey };
        }
        survey
    }
}
