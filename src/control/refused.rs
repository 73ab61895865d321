//! Why a datagram gets no answer.

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a datagram got no answer. Each reason has its own counter ([`Agent::refused`](super::Agent::refused)).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum Refused {
            $($(#[$doc])* $variant,)*
        }

        impl Refused {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A short name in lower case with underscores, stable across versions.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

refusals! {
    /// It is not a datagram of this protocol: too short, too long, or with other first bytes.
    Foreign = "foreign",
    /// It has a version that is not supported here.
    Version = "version",
    /// It is of a kind that a monitor does not send: a datagram of an agent was sent back to it.
    Kind = "kind",
    /// There is no key with its number.
    UnknownKey = "unknown_key",
    /// There is no session with its number: it is over, or never existed.
    UnknownSession = "unknown_session",
    /// Its tag is wrong: it was forged, changed in transit, or made with another key.
    BadTag = "bad_tag",
    /// It is older than the newest request of its session: delayed, repeated, or replayed.
    Old = "old",
    /// It has the number of the newest request of its session, but differs from it.
    Conflicting = "conflicting",
    /// It would open a session with a challenge that is used up or from before the last start.
    Stale = "stale",
    /// It comes from another address than its session.
    Peer = "peer",
    /// It is authentic, but its head is invalid.
    Malformed = "malformed_request",
    /// It would cost a hash, and the allowed number of hashes per second has already been spent in vain
    /// ([`Agent::hashes_per_second`]).
    ///
    /// [`Agent::hashes_per_second`]: super::Agent::hashes_per_second
    Flooded = "flooded",
}
