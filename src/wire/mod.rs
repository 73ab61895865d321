//! Bytes and nothing else: parsing and rewriting packets.

pub(crate) mod checksum;
pub(crate) mod datagram;
pub(crate) mod flow;
pub(crate) mod icmp;
pub(crate) mod ipv4;
pub(crate) mod options;
pub(crate) mod originate;
pub(crate) mod quote;
pub(crate) mod rewrite;
pub(crate) mod tcp;
