//! Rules, groups of servers and re-diverts: which packets they concern, and what becomes of their connections.

mod bursts;
mod diverts;
mod ejection;
mod figure_3;
mod large_groups;
mod least_loaded;
mod many_forwards;
mod many_rules;
mod masquerade;
mod moved_while_renewed;
mod other_ports;
mod plan;
mod rediverting;
mod shares;
mod transit;
mod ways;
