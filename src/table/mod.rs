//! The address table (207 in the document): diverted addresses (209) and current connections (211).

pub(crate) mod ages;
pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod event_queue;
pub(crate) mod filter;
#[cfg(target_pointer_width = "64")]
pub(crate) mod groups;
pub(crate) mod hash;
pub(crate) mod index;
pub(crate) mod outbox;
pub(crate) mod ports;
pub(crate) mod rebuilding;
pub(crate) mod recent;
pub(crate) mod redivert_log;
pub(crate) mod rule;
#[cfg(target_pointer_width = "64")]
pub(crate) mod rule_index;
pub(crate) mod server;
#[cfg(target_pointer_width = "64")]
pub(crate) mod shared_servers;
pub(crate) mod storage;
pub(crate) mod tags;
