//! HTTP in terms of CoAP and back (RFC 8075).

pub mod code;
pub mod format;
pub mod uri;
