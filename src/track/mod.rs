//! What a connection is doing.

pub(crate) mod claims;
pub(crate) mod ejection;
pub(crate) mod fragments;
pub(crate) mod measure;
pub(crate) mod measure_server;
pub(crate) mod phase;
pub(crate) mod resume;
pub(crate) mod sequence;
pub(crate) mod tcp;
pub(crate) mod timers;
