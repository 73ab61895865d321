//! Why a datagram gets no answer.

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a datagram got no answer. Each reason has a counter of its own ([`Agent::refused`](super::Agent::refused)).
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
    /// It is none of this protocol's datagrams: too short, too long, or with other first bytes.
    Foreign = "foreign",
    /// It is of a version that is not spoken here.
    Version = "version",
    /// It is of a kind that a monitor does not send: somebody sends us what we sent him.
    Kind = "kind",
    /// There is no key with its number.
    UnknownKey = "unknown_key",
    /// There is no session with its number: it is over, or was never there.
    UnknownSession = "unknown_session",
    /// Its tag is wrong: it was forged, changed on its way, or made with another key.
    BadTag = "bad_tag",
    /// It is older than the newest request of its session: delayed, repeated, or replayed.
    Old = "old",
    /// It bears the number of the newest request of its session, and is another.
    Conflicting = "conflicting",
    /// It would open a session with a challenge that is used up or is from before the last start.
    Stale = "stale",
    /// It comes from another address than its session.
    Peer = "peer",
    /// It is authentic, and its head makes no sense.
    Malformed = "malformed_request",
    /// It would cost a hash, and as many as are allowed in a second were in vain already ([`Agent::hashes_per_second`]).
    ///
    /// [`Agent::hashes_per_second`]: super::Agent::hashes_per_second
    Flooded = "flooded",
}
