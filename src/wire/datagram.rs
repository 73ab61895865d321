//! Identifies the datagram that a fragment is part of.

use core::net::Ipv4Addr;

use crate::wire::ipv4::{self, HEADER, Header};

/// Identifies a datagram: common to all of its fragments, and different from those of any other datagram in transit
/// (RFC 791, section 3.2; RFC 6864). A caller that holds fragments uses it to find those that it should offer again.
///
/// A later fragment that gets [`Verdict::Hold`](crate::Verdict::Hold) waits for the first fragment of its datagram.
/// Store it under this identity. When a fragment with the same identity gets any other verdict, offer the stored ones
/// again. Discard those that are held past [`Translator::hold_until`](crate::Translator::hold_until). A handful of
/// places is enough for the reordering of real networks. Limit their number, since anyone can send fragments whose
/// first one never comes.
///
/// Take the identity before the packet is translated: translation changes the addresses.
///
/// ```
/// # use byway::*;
/// struct Held {
///     datagram: DatagramId,
///     until: Instant,
///     packet: Vec<u8>,
/// }
///
/// /// Translates a packet, sends what can be sent, and keeps what has to be held.
/// fn forward<S: Storage>(
///     byway: &mut Translator<S>,
///     now: Instant,
///     mut packet: Vec<u8>,
///     held: &mut Vec<Held>,
///     send: &mut dyn FnMut(&[u8]),
/// ) {
///     held.retain(|h| h.until > now);
///     let datagram = DatagramId::of_fragment(&packet);
///     match (byway.translate(now, &mut packet), datagram) {
///         (Verdict::ToServer | Verdict::ToClient | Verdict::Pass, _) => send(&packet),
///         (Verdict::Hold, Some(datagram)) if held.len() < 16 => {
///             held.push(Held { datagram, until: byway.hold_until(now), packet });
///             return;
///         }
///         (Verdict::Hold | Verdict::Drop(_), _) => {}
///     }
///     // The first fragment may have come, and the others that came before it can follow.
///     while let Some(place) = held.iter().position(|h| Some(h.datagram) == datagram) {
///         let mut packet = held.remove(place).packet;
///         if matches!(byway.translate(now, &mut packet), Verdict::ToServer | Verdict::ToClient | Verdict::Pass) {
///             send(&packet);
///         }
///     }
/// }
/// # let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
/// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
/// # let [original, server] = [[100, 100, 100, 100], [123, 45, 67, 89]].map(core::net::Ipv4Addr::from);
/// # byway.divert(Divert::new(original).to(server))?;
/// # let part = |offset: u8, more| {
/// #     let mut packet = vec![0x45, 0, 0, 36, 0, 77, more, offset, 64, 17, 0, 0, 1, 2, 3, 4, 100, 100, 100, 100];
/// #     packet.extend([0, 99, 0, 53, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
/// #     packet
/// # };
/// # let mut sent = Vec::new();
/// # let mut held = Vec::new();
/// # for packet in [part(4, 0), part(2, 0x20), part(0, 0x20)] {
/// #     forward(&mut byway, Instant::ZERO, packet, &mut held, &mut |packet| sent.push(packet[7]));
/// # }
/// # assert_eq!(sent, [0, 4, 2]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DatagramId {
    /// The sender.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub source: Ipv4Addr,
    /// The receiver: the packet's destination before translation.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub destination: Ipv4Addr,
    /// The protocol number: 6 is TCP, 17 UDP, 1 ICMP.
    pub protocol: u8,
    /// The identification that the sender gave the datagram.
    pub identification: u16,
}

impl DatagramId {
    /// The datagram that `packet`, which begins with the IPv4 header, is a fragment of. `None` if it is a whole
    /// datagram, or not an IPv4 packet.
    #[must_use]
    pub fn of_fragment(packet: &[u8]) -> Option<Self> {
        let header = Header(packet.first_chunk::<HEADER>()?);
        let is_one = header.0[0] >> 4 == 4 && ipv4::is_fragment(header.fragmentation());
        is_one.then(|| Self {
            source: Ipv4Addr::from_bits(header.source()),
            destination: Ipv4Addr::from_bits(header.destination()),
            protocol: header.protocol(),
            identification: header.identification(),
        })
    }
}
