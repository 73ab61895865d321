//! Connections and what both ends know of them: TCP by its RFCs and by real stacks, time-outs, silence.

mod attempts;
mod captured_connections;
mod fast_open;
mod forged;
mod half_closed;
mod handshakes;
mod lifecycle;
mod over;
mod segments;
mod silence;
mod stacks;
mod tables;
mod timeouts;
mod two_ends;
mod two_stacks;
