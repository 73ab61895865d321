//! The Constrained Application Protocol, a client's side of it: RFC 7252, RFC 7641 (observe) and RFC 7959 (blocks).

pub mod block;
mod congestion;
pub mod exchange;
pub mod message;
pub mod transfer;
