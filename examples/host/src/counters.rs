//! What a router has done besides translating.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counts since the start. The translator has its own.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl Counters {
            /// Each with its name and what it means.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name),)*]
            }

            /// Adds those of another router.
            pub const fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Packets read from the device; a super-packet is one.
    received,
    /// Bytes in them.
    received_bytes,
    /// Packets written to the device.
    sent,
    /// Packets that stand for several (TSO, USO).
    super_packets,
    /// Packets of another protocol than IPv4, which are not routed.
    not_ipv4,
    /// Packets whose IPv4 header is wrong.
    malformed,
    /// Packets from an address that is never a source, or to one that is never routed.
    martian,
    /// Packets whose TTL had run out.
    ttl_exceeded,
    /// Packets that were too long, and must not be fragmented.
    too_long,
    /// Packets for this machine itself.
    local,
    /// Packets that a rule matches and that cannot be translated: dropped.
    failed_closed,
    /// Packets that a rule matches and that cannot be translated, but leave as they are, since the rule says so.
    failed_open,
    /// Segments of servers of rules that keep the source, of connections that are not known after a start without those of
    /// the process before: dropped.
    strays_dropped,
    /// Fragments that were kept until the first of their datagram came.
    fragments_kept,
    /// Fragments that there was no room to keep at all.
    fragments_refused,
    /// Fragments and copies that were kept, and made way for newer ones.
    fragments_displaced,
    /// Fragments that waited for the first of their datagram in vain.
    fragments_expired,
    /// Later fragments that every shard got a copy of, since it was not known which one had their first.
    fragments_copied,
    /// Such copies that were kept until the first fragment of their datagram came.
    copies_kept,
    /// Such copies that waited in vain: all but one of each fragment do.
    copies_expired,
    /// Packets that were kept until the other portion's record of their connection came.
    early_kept,
    /// Replies that waited for the other portion's record in vain.
    early_expired,
    /// ICMP errors about packets that were not routed.
    icmp_errors,
    /// ICMP errors that the rate limit kept back.
    icmp_errors_limited,
    /// Echo requests replied to.
    echo_replies,
    /// Packets that the device did not take.
    send_failed,
    /// Super-packets and unfinished checksums that the device refused, and that were finished here.
    offload_refused,
    /// Packets that came out of another queue than that of the shard that owns their connection.
    other_queue,
    /// Packets whose shard has ended: dropped.
    owner_ended,
    /// Events that subscribers at the port for instructions did not get, since they did not fetch them fast enough.
    control_events_lost,
    /// TCP connections that another server has taken over while their clients kept them.
    hand_overs_moved,
    /// Hand-overs that failed: the connection stayed, or was reset as the instruction said.
    hand_overs_kept,
}
