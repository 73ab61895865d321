//! What is offered to clients: services, and the servers that each may have.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::servers::SERVERS;
use crate::world::N;

/// A service, or the part of one that the clients of some location ask for.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Its share of all requests.
    pub share: f64,
    /// Its servers.
    pub servers: [bool; N],
    /// How long a packet takes from its clients' translator to each server and back, in seconds.
    pub floors: [f64; N],
    /// Which monitor decides about it.
    pub monitor: usize,
}

impl Offer {
    /// The only one: all servers for everybody.
    pub(crate) fn everything() -> Self {
        Self { share: 1.0, servers: [true; N], floors: SERVERS.map(|(_, floor)| floor), monitor: 0 }
    }

    /// These weights, without those of servers that it does not have.
    pub(crate) fn mask(&self, weights: &[u16; N]) -> [u16; N] {
        core::array::from_fn(|server| if self.servers[server] { weights[server] } else { 0 })
    }
}

/// Servers, and what is offered on them.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub name: &'static str,
    /// How fast each server is; zero: there is none.
    pub speeds: [f64; N],
    pub offers: Vec<Offer>,
}

impl Scene {
    /// One service on all servers; `equal`: all of them are as fast.
    pub(crate) fn usual(equal: bool) -> Self {
        let speeds = SERVERS.map(|(speed, _)| if equal { 1.0 } else { speed });
        Self { name: "one service", speeds, offers: vec![Offer::everything()] }
    }
}

/// The address of a service.
pub(crate) fn address_of(service: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100 + service as u8), 80)
}
