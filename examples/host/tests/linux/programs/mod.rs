//! Traffic of programs that nobody here wrote.

mod hand_over;
mod nfs;
mod nftables;
mod tcp;
mod udp;
mod web;
