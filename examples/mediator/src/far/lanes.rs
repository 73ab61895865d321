//! Lanes: the stack's UDP sockets, each with its port.
//!
//! To byway a lane and an HTTP client's address are one client endpoint, so they are one connection for each origin.
//! Two things make a lane unusable for new transfers:
//!
//! - **The rules have changed.** byway leaves connections on their server when a rule changes or is drained, and a lane
//!   that is never idle would stay there for ever. New transfers therefore take a lane whose port is younger than the
//!   last instruction.
//! - **The [identifiers](super::identifiers) of its connection's alternative endpoint are used up.**

/// How many lanes there are at most, and so the connections that one client has to one origin at once.
pub const MAX_LANES: usize = 64;

/// The number of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub(super) usize);
