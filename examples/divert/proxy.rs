//! The proxy: a translator, and what is around it. These are the lines that a user of the library writes.

use core::net::Ipv4Addr;

use byway::{Config, ConfigError, Direction, Heap, Instant, TRANSMIT_BUFFER, Translator, Verdict};

use crate::capture::Captures;
use crate::observer::{Observer, Place};

/// One of the two sides of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Network,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Network,
            Self::Network => Self::Client,
        }
    }

    fn place(self) -> Place {
        match self {
            Self::Client => Place::ClientSide,
            Self::Network => Place::NetworkSide,
        }
    }
}

pub(crate) struct Proxy {
    pub(crate) translator: Translator<Heap>,
    captures: Captures,
}

impl Proxy {
    pub(crate) fn new(address: Ipv4Addr, captures: Captures) -> Result<Self, ConfigError> {
        // Real proxies take 32 bytes from the machine's source of randomness; this one is to be the same each time.
        let secret = *b"a secret that everybody may know";
        // Figure 3's output port, 513, and some more.
        let config = Config::new(secret).alternative(address, 513..=1023);
        let translator = Translator::new(config, Heap::new(64, 8).measured().events(64))?;
        Ok(Self { translator, captures })
    }

    /// Takes a packet that came on one side, and returns it if it is to go out on the other.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        from: Side,
        mut packet: Vec<u8>,
        observer: &mut Observer,
    ) -> Option<Vec<u8>> {
        observer.receives(from.place(), &packet);
        self.captures.write(now, from, &packet);
        match self.translator.translate(now, &mut packet) {
            Verdict::ToServer | Verdict::ToClient | Verdict::Pass => {}
            Verdict::Hold | Verdict::Drop(_) => return None,
        }
        observer.sends(from.other().place(), &packet);
        self.captures.write(now, from.other(), &packet);
        Some(packet)
    }

    /// Does what time brings, and returns what the translator itself has to say, and where.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<(Side, Vec<u8>)> {
        self.translator.poll(now);
        let mut said = Vec::new();
        let mut buffer = [0; TRANSMIT_BUFFER];
        while let Some(transmit) = self.translator.poll_transmit(now, &mut buffer) {
            let side = match transmit.direction {
                Direction::ToClient => Side::Client,
                Direction::ToServer => Side::Network,
            };
            let packet = &buffer[..transmit.length];
            self.captures.write(now, side, packet);
            said.push((side, packet.to_vec()));
        }
        said
    }

    /// Ends the captures. Says what went wrong with them, if anything did.
    pub(crate) fn finish(self) -> Result<(), String> {
        self.captures.finish()
    }
}
