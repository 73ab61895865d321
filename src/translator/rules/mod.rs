//! Rules: instructions about them, what instructions would do, the rule for a packet, and the filter of their addresses.

mod cost;
mod ejecting;
pub(super) mod filter;
pub(super) mod find;
#[cfg(target_pointer_width = "64")]
pub(super) mod indexed;
pub(super) mod instruction;
#[cfg(target_pointer_width = "64")]
mod large_group;
pub(super) mod plan;
#[cfg(target_pointer_width = "64")]
mod share;
