//! Packets of the translator's own.

use core::net::SocketAddrV4;

use byway::{Pair, State};
use byway_testing::packet::{self, ICMP, RST, TCP, address, layout, long, word};

use super::{Conn, Ended, Model};

impl Model {
    /// A packet of the translator's own.
    pub fn said(&mut self, packet: &[u8], to_client: bool) {
        let at = layout(packet).expect("it says what no host would read");
        let sums = packet::sums(packet, at);
        assert_eq!((sums.header, sums.transport), (0xffff, Some(0xffff)), "a wrong checksum of our own");
        match packet[9] {
            TCP => {
                let segment = &packet[at.header..at.total];
                assert_eq!(segment[13] & RST, RST, "it says nothing but RSTs over TCP");
                let source = SocketAddrV4::new(address(packet, 12), word(segment, 0));
                let destination = SocketAddrV4::new(address(packet, 16), word(segment, 2));
                let seen = |c: &Conn| {
                    if to_client { Pair { source: c.near.destination, destination: c.near.source } } else { c.far }
                };
                for conn in self.connections.iter_mut().filter(|c| c.state == State::Resetting) {
                    conn.told[usize::from(to_client)] |= seen(conn) == Pair { source, destination };
                }
                let mut about = self.ended_here.iter().filter(|e| seen(&e.conn) == Pair { source, destination });
                let numbers = (long(segment, 4), long(segment, 8));
                // Behind what was sent, and, after a silence, also what the other end has acknowledged of it. What it
                // acknowledges matters to a client that has only sent a SYN.
                let due = |[client, server]: [u32; 2]| if to_client { (server, client) } else { (client, server) };
                let said = |e: &Ended| e.sent.iter().any(|sent| due(*sent) == numbers);
                let exact = about.any(said) || self.asked.contains(&(Pair { source, destination }, numbers));
                assert!(exact, "a RST with numbers that nobody expects: {numbers:?}, {source} -> {destination}");
            }
            ICMP => assert!(to_client && packet[at.header] == 3 && packet[at.header + 1] == 13),
            other => panic!("it says something over protocol {other}"),
        }
    }
}
