//! Counts of what became of relayed queries and their answers.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What became of a query, of one attempt to have it answered, or of an answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum RelayOutcome {
            $($(#[$doc])* $variant,)*
        }

        impl RelayOutcome {
            /// Every outcome, in the order of their counters.
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

outcomes! {
    /// A query that was sent to a server. Each ends in one of the next two outcomes.
    Asked = "asked",
    /// Its answer went to the client.
    Answered = "answered",
    /// No server answered: the client got SERVFAIL.
    Unanswered = "unanswered",
    /// A client's repetition of a query that already waits for its answer: nothing is done.
    Repeated = "repeated",
    /// A query that found no room: nothing is done, and the client may repeat it.
    Full = "full",
    /// A query of a client that already has as many queries waiting as it may: as above.
    ClientLimit = "client_limit",
    /// A query for which no free port was found: as above.
    NoPort = "no_port",
    /// A query above [`MAX_RELAY_QUERY`](super::MAX_RELAY_QUERY) bytes: answered with TC, so that it comes over TCP.
    TooLong = "too_long",
    /// A query of a client that may not ask: REFUSED.
    NotAllowed = "not_allowed",
    /// A query for a zone's transfer: REFUSED, since a server would see this machine ask.
    Transfer = "transfer",
    /// Another operation than a query: NOTIMP.
    NotImplemented = "not_implemented",
    /// A malformed query: FORMERR. It does not have exactly one complete question, or it has an answer, a broken record
    /// after the question, or trailing bytes.
    Malformed = "malformed",
    /// Not a query: a response, too short for a header, or from an address or port that no client can have. Nothing is
    /// done.
    NoQuery = "no_query",
    /// An attempt that got no answer in time.
    TimedOut = "timed_out",
    /// An attempt whose answer had the letters in another case: the query is sent again as the client wrote it.
    CaseLost = "case_lost",
    /// A record of a query, or of its next attempt, that another relay has asked: see [`Relay::import`](super::Relay::import).
    Imported = "imported",
    /// A query that was taken over from such a record, and whose answer has not come here in time, or has come with the
    /// letters in another case, so that the other relay asks again.
    ImportExpired = "import_expired",
    /// Not an answer: a query, another operation, or too short for a header.
    NoAnswer = "no_answer",
    /// An answer from another endpoint than the server that was asked.
    WrongServer = "wrong_server",
    /// An answer to a port that no query waits at.
    WrongPort = "wrong_port",
    /// An answer with another identifier.
    WrongId = "wrong_id",
    /// An answer to another question, or to none.
    WrongQuestion = "wrong_question",
    /// An answer to the question in another case.
    WrongCase = "wrong_case",
}

impl RelayOutcome {
    const COUNT: usize = Self::ALL.len();
}

/// Counts since the relay was made. They are never reset, and in practice never wrap (64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RelayCounters {
    counts: [u64; RelayOutcome::COUNT],
}

impl RelayCounters {
    pub(super) const ZERO: Self = Self { counts: [0; RelayOutcome::COUNT] };

    /// How often this was the outcome.
    #[must_use]
    pub fn of(&self, outcome: RelayOutcome) -> u64 {
        self.counts.get(outcome as usize).copied().unwrap_or(0)
    }

    pub(super) fn count(&mut self, outcome: RelayOutcome) {
        if let Some(count) = self.counts.get_mut(outcome as usize) {
            *count = count.wrapping_add(1);
        }
    }
}
