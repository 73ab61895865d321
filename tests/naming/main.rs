//! The naming server and the relay of names.

mod answers;
mod packets;
mod pool;
mod relay;
mod rules;
mod support;
mod table;
