//! `byway monitor` over real sockets.

mod decisions;
mod late;
mod loads;
mod locations;
mod page;
mod several;
mod traffic;
mod translators;
