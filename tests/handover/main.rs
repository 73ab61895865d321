//! TCP hand-over: the connection of a client that moves between servers.

mod again;
mod answers;
#[cfg(feature = "smoltcp")]
mod device;
mod forged;
mod moves;
mod records;
mod redivert;
mod rest;
mod segments;
mod windows;
mod world;
