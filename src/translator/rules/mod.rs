//! Rules: instructions about them, what instructions would do, the rule for a packet, and the filter of their addresses.

pub(super) mod filter;
pub(super) mod find;
pub(super) mod instruction;
pub(super) mod plan;
