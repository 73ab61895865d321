//! Re-diverts: the instruction, and how each connection follows it later.

pub(super) mod follow;
pub(super) mod how;
pub(super) mod instruction;
pub(super) mod survey;
