//! The path of a packet through the translator.
//!
//! Nearly every packet is [`plain`]: whole, without options, and part of a connection that it does not change, or of
//! none. The fast path ([`fast`]) translates it with one index lookup. When that lookup misses, [`second_look`] finds
//! the connection or opens one, and [`stale`] makes a connection follow a re-divert first. For packets that arrive in
//! bursts, [`burst_groups`] prefetches their memory together. [`fast_measured`] also measures connections;
//! [`fast_resumable`] is for those that another server could take over. On a processor of less than 64 bits,
//! `fast_small` replaces all of these. A packet that is not plain takes the slow path ([`slow`]), from which fragments
//! ([`fragment`]), ICMP errors ([`icmp`]) and TCP ([`track`]) branch off.
//!
//! A fast path must give the same result as `Table::translate`, or leave the packet to it with nothing changed and
//! nothing counted.

pub(super) mod burst;
#[cfg(target_pointer_width = "64")]
pub(super) mod burst_groups;
pub(super) mod ejection;
#[cfg(target_pointer_width = "64")]
pub(super) mod fast;
#[cfg(target_pointer_width = "64")]
pub(super) mod fast_measured;
#[cfg(target_pointer_width = "64")]
pub(super) mod fast_resumable;
#[cfg(not(target_pointer_width = "64"))]
pub(super) mod fast_small;
pub(super) mod fragment;
pub(super) mod icmp;
pub(super) mod identification;
pub(super) mod measured;
pub(super) mod measuring;
pub(super) mod offload;
pub(super) mod plain;
pub(super) mod resumable;
#[cfg(target_pointer_width = "64")]
pub(super) mod second_look;
pub(super) mod slow;
#[cfg(target_pointer_width = "64")]
pub(super) mod stale;
pub(super) mod track;
