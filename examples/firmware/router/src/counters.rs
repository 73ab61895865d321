//! What has happened so far, one number for each thing that can happen.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why the router dropped a packet. What the translator drops is counted by reason in the translator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A short name in lower case with underscores.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header, or longer than the longest frame.
    Frame = "frame",
    /// For another link address.
    OtherStation = "other_station",
    /// Neither IPv4 nor ARP.
    EtherType = "ether_type",
    /// ARP that is cut short, of another hardware or protocol, or from an impossible sender.
    Arp = "arp",
    /// ARP from a host that claims an address of ours.
    ArpConflict = "arp_conflict",
    /// An IPv4 header that is cut short or contradicts itself, or whose checksum is wrong.
    Ipv4 = "ipv4",
    /// A source that no packet may come from (RFC 1812, section 5.3.7).
    MartianSource = "martian_source",
    /// A destination that is not forwarded: broadcast, multicast, loopback, reserved.
    MartianDestination = "martian_destination",
    /// The TTL ran out.
    Ttl = "ttl",
    /// No route, and no gateway.
    NoRoute = "no_route",
    /// Longer than the next link takes, and not to be fragmented.
    TooBig = "too_big",
    /// Longer than the next link takes, and with IP options, which we do not fragment.
    Options = "options",
    /// The next hop did not answer.
    NoNextHop = "no_next_hop",
    /// A newer packet took its place while the next hop was asked for.
    Displaced = "displaced",
    /// Too many next hops are being asked for.
    ArpBusy = "arp_busy",
    /// The translator dropped it, and counted why.
    Translator = "translator",
    /// The translator wants to see it again later, and we keep nothing.
    Held = "held",
    /// A query for a name of the table that got no answer, and was not forwarded either.
    Name = "name",
    /// DNS over TCP, which we could not answer in the server's place.
    DnsOverTcp = "dns_over_tcp",
    /// The transmit queue had no room.
    QueueFull = "queue_full",
    /// An ICMP error that the rate limit swallowed (RFC 1812, section 4.3.2.8).
    IcmpLimited = "icmp_limited",
}

/// Counts since the start. They wrap.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Frames received.
    pub received: u32,
    /// Frames sent.
    pub sent: u32,
    /// Packets that went on to a wire, or to the cache of next hops, because they were to be forwarded.
    pub forwarded: u32,
    /// Of these, those that the translator rewrote.
    pub translated: u32,
    /// Packets for the router's own address.
    pub local: u32,
    /// Queries for names of the table that were answered.
    pub named: u32,
    /// ICMP errors that the router sent.
    pub icmp_errors: u32,
    dropped: [u32; Reason::ALL.len()],
}

impl Counters {
    pub(crate) const ZERO: Self = Self {
        received: 0,
        sent: 0,
        forwarded: 0,
        translated: 0,
        local: 0,
        named: 0,
        icmp_errors: 0,
        dropped: [0; Reason::ALL.len()],
    };

    /// Packets dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u32 {
        self.dropped[reason as usize]
    }

    pub(crate) fn count(&mut self, reason: Reason) {
        let count = &mut self.dropped[reason as usize];
        *count = count.wrapping_add(1);
    }
}

/// One more; a counter on the packet's path is no reason to stop.
pub(crate) fn bump(count: &mut u32) {
    *count = count.wrapping_add(1);
}

/// The watchdog line: every total, and of the reasons those that have been met.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, sent, forwarded, translated, local, named, icmp_errors, dropped: _ } = self;
        write!(
            f,
            "received={received} sent={sent} forwarded={forwarded} translated={translated} local={local} \
             named={named} icmp_errors={icmp_errors} dropped:"
        )?;
        for &reason in Reason::ALL {
            let count = self.dropped(reason);
            if count != 0 {
                write!(f, " {}={count}", reason.name())?;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Counters {
    fn format(&self, f: defmt::Formatter<'_>) {
        let Self { received, sent, forwarded, translated, local, named, icmp_errors, dropped: _ } = self;
        defmt::write!(
            f,
            "received={=u32} sent={=u32} forwarded={=u32} translated={=u32} local={=u32} named={=u32} icmp_errors={=u32} dropped:",
            received,
            sent,
            forwarded,
            translated,
            local,
            named,
            icmp_errors
        );
        for &reason in Reason::ALL {
            let count = self.dropped(reason);
            if count != 0 {
                defmt::write!(f, " {=str}={=u32}", reason.name(), count);
            }
        }
    }
}
