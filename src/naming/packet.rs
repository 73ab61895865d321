//! Queries in IPv4 packets, at the same place in the loop as the translator.

use core::net::Ipv4Addr;

use super::counters::Outcome;
use super::respond::{Answered, MAX_ANSWER, Query, Transport};
use super::storage::NameStorage;
use super::table::Names;
use crate::endpoint::Endpoint;
use crate::time::Instant;
use crate::wire::checksum::{finish, sum};
use crate::wire::ipv4::{self, Header, UDP};
use crate::wire::originate::{transport_checksum, write_ipv4};

/// The longest packet with an answer, in bytes.
pub const MAX_ANSWER_PACKET: usize = ipv4::HEADER + UDP_HEADER + MAX_ANSWER;

const UDP_HEADER: usize = 8;

/// Where DNS servers listen (RFC 1035, section 4.2).
const DNS: u16 = 53;

/// A datagram that may be a query, and the addresses and ports that its answer goes between.
#[derive(Clone, Copy)]
pub(super) struct Datagram<'a> {
    client: Endpoint,
    server: u32,
    /// The IPv4 header, options included.
    head: &'a [u8],
    /// From the UDP header on.
    datagram: &'a [u8],
    pub(super) message: &'a [u8],
    has_checksum: bool,
}

#[inline(always)]
pub(super) fn is_udp(packet: &[u8]) -> bool {
    packet.get(ipv4::PROTOCOL).is_some_and(|protocol| *protocol == UDP)
}

impl Datagram<'_> {
    pub(super) const fn client(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.client.address)
    }

    /// Whether its checksums are right, as far as it has them.
    fn is_intact(&self) -> bool {
        let Endpoint { address: client, .. } = self.client;
        finish(sum(0, self.head)) == 0
            && (!self.has_checksum || transport_checksum(UDP, client, self.server, self.datagram) == 0)
    }
}

impl<N: NameStorage> Names<N> {
    /// Answers a query in a packet that a machine forwards, which starts at its IPv4 header: a UDP datagram to port 53
    /// of a [server](super::NamesConfig::servers). The answer in `out` goes back to the client, as if from the server
    /// that it asked: [`MAX_ANSWER_PACKET`] bytes are always enough. Call it before
    /// [`Translator::translate`](crate::Translator::translate).
    ///
    /// Every other packet gets [`Answered::Pass`], and so do queries in fragments, queries with a wrong checksum, and
    /// what is not DNS at all. Queries over TCP pass too: divert port 53 of TCP to a socket of the machine and answer
    /// there ([`answer_stream`](Self::answer_stream)), so that clients get the same answers over TCP as over UDP.
    ///
    /// ```
    /// # use byway::naming::{Answered, FixedNames, MAX_ANSWER_PACKET, NameEntry, Names, NamesConfig, Pattern};
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # fn forward<S: Storage>(
    /// #     names: &mut Names<FixedNames<4>>, byway: &mut Translator<S>, now: Instant, packet: &mut [u8], mut send: impl FnMut(&[u8]),
    /// # ) {
    /// let mut out = [0; MAX_ANSWER_PACKET];
    /// match names.intercept(now, packet, &mut out) {
    ///     Answered::Answer { length } => send(&out[..length]),
    ///     Answered::Drop(_reason) => {} // counted
    ///     Answered::Pass => match byway.translate(now, packet) {
    ///         Verdict::ToServer | Verdict::ToClient | Verdict::Pass => send(packet),
    ///         Verdict::Hold | Verdict::Drop(_) => {}
    ///     },
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn intercept(&mut self, now: Instant, packet: &[u8], out: &mut [u8]) -> Answered {
        // Most packets are not UDP.
        if is_udp(packet)
            && let Some(datagram) = self.datagram(packet)
        {
            return self.answer_packet(now, &datagram, out);
        }
        Answered::Pass
    }

    /// The datagram in a packet, if it is for port 53 of a server whose queries are intercepted.
    pub(super) fn datagram<'a>(&self, packet: &'a [u8]) -> Option<Datagram<'a>> {
        let header = Header(packet.first_chunk()?);
        let (length, total) = (header.header_length(), header.total_length());
        if header.0[0] >> 4 != 4 || length < ipv4::HEADER || ipv4::is_fragment(header.fragmentation()) {
            return None;
        }
        let (head, datagram) = packet.get(..total)?.split_at_checked(length)?;
        let [s0, s1, d0, d1, l0, l1, c0, c1] = *datagram.first_chunk::<UDP_HEADER>()?;
        let [source, destination, length] = [[s0, s1], [d0, d1], [l0, l1]].map(u16::from_be_bytes);
        if destination != DNS || source == 0 {
            return None;
        }
        let datagram = datagram.get(..usize::from(length))?;
        let message = datagram.get(UDP_HEADER..)?;
        let (client, server) = (header.source(), header.destination());
        if ipv4::is_martian(client) || !self.state.config.servers.contains(Ipv4Addr::from_bits(server)) {
            return None;
        }
        let (client, has_checksum) = (Endpoint::new(client, source), [c0, c1] != [0, 0]);
        Some(Datagram { client, server, head, datagram, message, has_checksum })
    }

    fn answer_packet(&mut self, now: Instant, datagram: &Datagram<'_>, out: &mut [u8]) -> Answered {
        let query = self.examine(datagram.client(), Transport::Udp, datagram.message);
        self.answer_datagram(now, datagram, &query, out)
    }

    /// Answers a query that was examined.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn answer_datagram(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        query: &Query<'_>,
        out: &mut [u8],
    ) -> Answered {
        const START: usize = ipv4::HEADER + UDP_HEADER;
        let Datagram { client: Endpoint { address: client, port }, server, .. } = *datagram;
        // Computes the checksums while the entry is fetched from memory. A damaged query passes, and its receiver drops
        // it.
        if !datagram.is_intact() {
            return Answered::Pass;
        }
        let room = out.get_mut(START..).unwrap_or_default();
        // What is not a query passes, as if it had not been examined.
        let answered = match self.respond(now, query, room) {
            Answered::Answer { length } => length,
            Answered::Drop(Outcome::Response | Outcome::NoHeader) => return Answered::Pass,
            other => return other,
        };
        let total = START + answered;
        let Some((header, datagram)) = out.get_mut(..total).and_then(|out| out.split_first_chunk_mut()) else {
            return Answered::Drop(Outcome::NoRoom);
        };
        write_ipv4(header, total as u16, UDP, server, client);
        let length = (total - ipv4::HEADER) as u16;
        if let Some(udp) = datagram.first_chunk_mut::<UDP_HEADER>() {
            udp[0..2].copy_from_slice(&DNS.to_be_bytes());
            udp[2..4].copy_from_slice(&port.to_be_bytes());
            udp[4..6].copy_from_slice(&length.to_be_bytes());
            udp[6..8].fill(0);
        }
        let sum = transport_checksum(UDP, server, client, datagram);
        if let Some(udp) = datagram.first_chunk_mut::<UDP_HEADER>() {
            // Zero would say that there is none (RFC 768).
            udp[6..8].copy_from_slice(&if sum == 0 { u16::MAX } else { sum }.to_be_bytes());
        }
        Answered::Answer { length: total }
    }
}
