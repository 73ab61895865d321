//! What is known of the DNS servers: whether they answer, and whether they keep the case of a question.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

use super::config::MAX_RELAY_SERVERS;
use crate::config::List;
use crate::time::Instant;

/// After so many attempts in a row without an answer a server is asked last.
const SILENT: u8 = 3;
/// How long such a server is then not asked, unless no other is left. The first query after that time tries it.
const REST: Duration = Duration::from_secs(10);
/// After so many queries in a row whose case a server has not kept, it is no longer sent random case.
const CASELESS: u8 = 8;
/// An answer to a name with so many letters shows that a server keeps their case; with fewer, the case may be right by
/// chance.
pub(super) const LETTERS: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Server {
    endpoint: SocketAddrV4,
    /// Attempts in a row without an answer.
    silent: u8,
    /// Queries in a row whose case it has not kept.
    caseless: u8,
    rests_until: Instant,
}

impl Server {
    const fn new(endpoint: SocketAddrV4) -> Self {
        Self { endpoint, silent: 0, caseless: 0, rests_until: Instant::ZERO }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Servers {
    all: [Server; MAX_RELAY_SERVERS],
    count: u8,
}

impl Servers {
    pub(super) fn new(list: &List<SocketAddrV4>) -> Self {
        let mut all = [Server::new(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); MAX_RELAY_SERVERS];
        for (server, endpoint) in all.iter_mut().zip(list.iter()) {
            *server = Server::new(*endpoint);
        }
        Self { all, count: list.len() as u8 }
    }

    pub(super) fn endpoint(&self, number: u8) -> Option<SocketAddrV4> {
        self.all.get(usize::from(number)).map(|server| server.endpoint)
    }

    pub(super) fn number_of(&self, endpoint: SocketAddrV4) -> Option<u8> {
        (0..self.count).find(|number| self.endpoint(*number) == Some(endpoint))
    }

    fn choose(&self, now: Instant) -> u8 {
        (0..self.count).find(|number| self.get(*number).is_some_and(|s| s.rests_until <= now)).unwrap_or(0)
    }

    fn get(&self, number: u8) -> Option<&Server> {
        self.all.get(usize::from(number))
    }

    fn get_mut(&mut self, number: u8) -> Option<&mut Server> {
        self.all.get_mut(usize::from(number))
    }

    pub(super) fn preferred(&self, now: Instant) -> SocketAddrV4 {
        self.endpoint(self.choose(now)).unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    }

    /// The server that a new query is sent to.
    pub(super) fn take(&mut self, now: Instant) -> u8 {
        let number = self.choose(now);
        // A server that was silent is tried with a single query.
        if let Some(server) = self.get_mut(number).filter(|server| server.silent >= SILENT) {
            server.rests_until = now + REST;
        }
        number
    }

    /// The server to ask when this one has not answered: the next one that does not rest, or simply the next one if all
    /// rest.
    pub(super) fn after(&self, number: u8, now: Instant) -> u8 {
        let next = |number: u8| if number + 1 < self.count { number + 1 } else { 0 };
        let in_turn = core::iter::successors(Some(next(number)), |number| Some(next(*number)));
        let is_awake = |number: &u8| self.get(*number).is_some_and(|server| server.rests_until <= now);
        in_turn.take(self.count.into()).find(is_awake).unwrap_or(next(number))
    }

    pub(super) fn was_silent(&mut self, number: u8, now: Instant) {
        if let Some(server) = self.get_mut(number) {
            server.silent = server.silent.saturating_add(1);
            if server.silent >= SILENT {
                server.rests_until = now + REST;
            }
        }
    }

    pub(super) fn has_answered(&mut self, number: u8) {
        if let Some(server) = self.get_mut(number) {
            (server.silent, server.rests_until) = (0, Instant::ZERO);
        }
    }

    pub(super) fn is_caseless(&self, number: u8) -> bool {
        self.get(number).is_none_or(|server| server.caseless >= CASELESS)
    }

    pub(super) fn has_lost_case(&mut self, number: u8) {
        if let Some(server) = self.get_mut(number) {
            server.caseless = server.caseless.saturating_add(1);
        }
    }

    pub(super) fn has_kept_case(&mut self, number: u8) {
        if let Some(server) = self.get_mut(number).filter(|server| server.caseless < CASELESS) {
            server.caseless = 0;
        }
    }
}
