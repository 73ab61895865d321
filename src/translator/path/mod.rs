//! The way of a packet through the translator.
//!
//! Nearly every packet is [`plain`]: whole, without options, of a connection that it does not change, or of none. The
//! fast path ([`fast`]) carries it over with one look into the index; where that look misses, [`second_look`] finds its
//! connection, or opens one, and [`stale`] takes it along after a re-divert. Packets that come in bursts ([`burst_groups`]) have
//! their memory fetched together. On a processor of less than 64 bits `fast_small` stands for all that. Whatever is not plain
//! goes the slow way ([`slow`]), and fragments ([`fragment`]), ICMP errors ([`icmp`]) and TCP ([`track`]) branch off from there.
//!
//! A fast path must give the same result as `Table::translate`, or leave the packet to it with nothing changed and nothing
//! counted.

pub(super) mod burst;
#[cfg(target_pointer_width = "64")]
pub(super) mod burst_groups;
#[cfg(target_pointer_width = "64")]
pub(super) mod fast;
#[cfg(not(target_pointer_width = "64"))]
pub(super) mod fast_small;
pub(super) mod fragment;
pub(super) mod icmp;
pub(super) mod offload;
pub(super) mod plain;
#[cfg(target_pointer_width = "64")]
pub(super) mod second_look;
pub(super) mod slow;
#[cfg(target_pointer_width = "64")]
pub(super) mod stale;
pub(super) mod track;
