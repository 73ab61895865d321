//! The machine between the clients and everything else: a naming server, and a translator behind it. These are the lines that
//! a user of the library writes.

use core::error::Error;
use core::net::Ipv4Addr;

use byway::naming::{Answered, HeapNames, MAX_ANSWER_PACKET, Names, NamesConfig};
use byway::{Config, Heap, Instant, TRANSMIT_BUFFER, Translator, Verdict};

pub(crate) struct Machine {
    pub(crate) names: Names<HeapNames>,
    pub(crate) translator: Translator<Heap>,
}

impl Machine {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        // Real machines take 32 bytes from their source of randomness; this one is to be the same each time.
        let secret = *b"a secret that everybody may know";
        let config = Config::new(secret).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
        let translator = Translator::new(config, Heap::new(64, 8))?;
        Ok(Self { names: Names::new(NamesConfig::new(secret), HeapNames::new(16, 64)), translator })
    }

    /// Takes a packet, and gives what is to be sent instead, each to its own destination.
    pub(crate) fn forward(&mut self, now: Instant, mut packet: Vec<u8>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut answer = [0; MAX_ANSWER_PACKET];
        match self.names.intercept(now, &packet, &mut answer) {
            Answered::Answer { length } => out.push(answer[..length].to_vec()),
            Answered::Drop(_) => {}
            Answered::Pass => match self.translator.translate(now, &mut packet) {
                Verdict::ToServer | Verdict::ToClient | Verdict::Pass => out.push(packet),
                Verdict::Hold | Verdict::Drop(_) => {}
            },
        }
        self.translator.poll(now);
        let mut buffer = [0; TRANSMIT_BUFFER];
        while let Some(own) = self.translator.poll_transmit(now, &mut buffer) {
            out.push(buffer[..own.length].to_vec());
        }
        out
    }
}
