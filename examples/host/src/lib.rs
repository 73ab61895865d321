//! byway as a Linux router process. The program is `byway`; this is what it is made of, for its tests.
//!
//! ```text
//!   run       the process: signals, reloads, a thread for each shard; start, handover, privileges
//!   shard     a thread: a queue of the device, and a router, which the threads of other queues use too
//!   control   a thread for instructions; all_routers: the routers of all shards at once
//!   report    a thread that reports to a collector, as IPFIX
//!   portion   the other process, where each translates one direction only
//!   router    a packet's way: checked, translated, sent on, or answered
//!   names     the naming server: one table for all shards, and the TCP stack that relays other queries
//!   device    the TUN device and what leads to it; vnet: what is left to be done to a packet
//!   config    the operator's file; reload, snapshot: changes, and connections over a restart
//!   ctl       the operator's command line
//!   monitor   the document's network monitor: what translators report, a model, rules, decisions, and a page
//!   lab       a network of namespaces, and the document's figure 3 in it
//! ```
//!
//! Only `ctl` runs elsewhere than on Linux.
#![forbid(unsafe_code)]

pub mod ctl;
pub mod units;

macro_rules! linux {
    ($($visible:vis mod $name:ident;)*) => {
        $(#[cfg(target_os = "linux")] $visible mod $name;)*
    };
}

linux! {
    pub mod all_routers;
    pub mod cli;
    pub mod clock;
    pub mod config;
    pub mod control;
    pub mod counters;
    pub mod device;
    pub mod firsts;
    pub mod handover;
    pub mod held;
    pub mod http;
    pub mod icmp;
    pub mod lab;
    pub mod limiter;
    mod listen;
    pub mod listeners;
    pub mod metrics;
    pub mod monitor;
    pub mod names;
    pub mod packet;
    pub mod policy;
    pub mod portion;
    pub mod privileges;
    pub mod reload;
    pub mod report;
    mod report_changes;
    pub mod resumable;
    pub mod router;
    pub mod run;
    pub mod segment;
    pub mod shard;
    pub mod snapshot;
    mod start;
    pub mod strays;
    pub mod tap;
    mod thread;
    pub mod vnet;
    pub mod waker;
}
