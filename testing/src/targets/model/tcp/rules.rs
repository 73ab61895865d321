//! The rules of `docs/tcp.md` by name, and how often each was met.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Reset, Way};

thread_local! {
    static MET: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts that a rule of the page was met.
pub(super) fn met(rule: &'static str) {
    debug_assert!(RULES.contains(&rule), "{rule}");
    MET.with_borrow_mut(|counts| *counts.entry(rule).or_default() += 1);
}

/// How often each rule was met since this was last asked in this thread.
pub fn take_met() -> BTreeMap<&'static str, u64> {
    let mut counts = MET.take();
    for rule in RULES {
        counts.entry(rule).or_default();
    }
    counts
}

/// The rules, each by what happens.
pub const RULES: [&str; 97] = [
    "answered attempt forgotten",
    "accepted by nobody after the end",
    "after the end of what was not heard of both sides",
    "both ends go on after the end",
    "late after the end",
    "reset of an answered attempt",
    "reset",
    "reset of what may be one side",
    "handshake: exact RST of the client",
    "handshake: RST of the client, another attempt goes on",
    "handshake: RST of the client in flight",
    "handshake: RST of the client refuses an answer",
    "handshake: RST of the client elsewhere",
    "handshake: exact RST of the server",
    "handshake: RST of the server, another attempt goes on",
    "handshake: RST of the server in flight",
    "handshake: RST of the server elsewhere",
    "exact RST of the client",
    "RST of the client, an attempt goes on",
    "RST of the client in flight",
    "RST of the client elsewhere",
    "inexact RST of the client",
    "exact RST of the server",
    "RST of the server, an attempt goes on",
    "RST of the server in flight",
    "RST of the server elsewhere",
    "inexact RST of the server",
    "handshake: accepted by nobody",
    "more data with a SYN",
    "SYN repeated",
    "SYN after an answer",
    "SYN before an answer",
    "other attempt answered",
    "SYN+ACK for a SYN without data",
    "SYN+ACK for none of the data",
    "SYN+ACK for some of the data",
    "SYN+ACK for all of the data",
    "SYN of the server after its SYN+ACK",
    "both open after an answer to the other attempt",
    "both open, with the other attempt",
    "SYN of the server after the client has acknowledged one",
    "completes with a later SYN under way",
    "both open",
    "unrelated answer after a better one",
    "unrelated answer remembered",
    "second SYN+ACK",
    "challenge before the handshake",
    "challenge about the other attempt",
    "early data for another attempt",
    "too much early data",
    "early data",
    "early FIN",
    "SYN+ACK of the client for nothing",
    "SYN+ACK of the client",
    "both have acknowledged the other's SYN",
    "completes nothing",
    "completes",
    "completes and acknowledges early data",
    "completes what the server said of an unknown attempt",
    "completes with the SYN+ACK before",
    "completes the other attempt",
    "completes the other attempt, which is near",
    "accepted by nobody",
    "attempt completed",
    "the attempt before completed",
    "late copy of the SYN",
    "attempt repeated",
    "attempt",
    "late copy of the SYN+ACK",
    "attempt answered",
    "SYN+ACK for another attempt",
    "SYN+ACK that fits",
    "SYN+ACK that does not fit",
    "late copies of a handshake",
    "fits",
    "talk after a RST in flight",
    "FIN forgotten",
    "acknowledges what went past us",
    "FIN of no use",
    "second FIN of a connection that is seen one way",
    "FIN of a connection that is seen one way",
    "FIN in order",
    "FIN sent",
    "FIN acknowledged",
    "misfit of the server with an attempt",
    "misfit of the client with an answered attempt",
    "misfit of the client with an attempt",
    "attempt forgotten",
    "agreement",
    "third agreement",
    "no agreement yet",
    "disagreement",
    "number claimed",
    "fits what was just agreed on",
    "opened again",
    "repeated after the end",
    "something else after the end",
];

pub(super) fn rule_in_handshake(way: Way, judged: Reset) -> &'static str {
    match (way, judged) {
        (Way::There, Reset::Exact) => "handshake: exact RST of the client",
        (Way::There, Reset::Replaced) => "handshake: RST of the client, another attempt goes on",
        (Way::There, Reset::InFlight) => "handshake: RST of the client in flight",
        (Way::There, Reset::Refused) => "handshake: RST of the client refuses an answer",
        (Way::There, Reset::Elsewhere) => "handshake: RST of the client elsewhere",
        (Way::Back, Reset::Exact) => "handshake: exact RST of the server",
        (Way::Back, Reset::Replaced) => "handshake: RST of the server, another attempt goes on",
        (Way::Back, Reset::InFlight) => "handshake: RST of the server in flight",
        (Way::Back, Reset::Elsewhere) => "handshake: RST of the server elsewhere",
        (_, Reset::Inexact) | (Way::Back, Reset::Refused) => {
            unreachable!("it could be for an attempt that is not known")
        }
    }
}

pub(super) fn rule_in_conversation(way: Way, judged: Reset) -> &'static str {
    match (way, judged) {
        (Way::There, Reset::Exact) => "exact RST of the client",
        (Way::There, Reset::Replaced) => "RST of the client, an attempt goes on",
        (Way::There, Reset::InFlight) => "RST of the client in flight",
        (Way::There, Reset::Elsewhere) => "RST of the client elsewhere",
        (Way::There, Reset::Inexact) => "inexact RST of the client",
        (Way::Back, Reset::Exact) => "exact RST of the server",
        (Way::Back, Reset::Replaced) => "RST of the server, an attempt goes on",
        (Way::Back, Reset::InFlight) => "RST of the server in flight",
        (Way::Back, Reset::Elsewhere) => "RST of the server elsewhere",
        (Way::Back, Reset::Inexact) => "inexact RST of the server",
        (_, Reset::Refused) => unreachable!("there is no answer to refuse"),
    }
}
