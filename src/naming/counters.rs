//! Counts of what became of queries.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What became of a query.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum Outcome {
            $($(#[$doc])* $variant,)*
        }

        impl Outcome {
            /// Every outcome, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name of its counter among those of a translator.
            #[cfg(feature = "control")]
            pub(crate) const fn counter_name(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("names_", $name),)*
                }
            }

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
    /// Answered with an address.
    Address = "address",
    /// Answered that the name has no records of this type (RFC 2308, section 2.2).
    NoData = "no_data",
    /// The name's own SOA record was asked for and given.
    Authority = "authority",
    /// Not for a name in the table: passed.
    Passed = "passed",
    /// For a name whose rule is gone: passed.
    Suspended = "suspended",
    /// FORMERR: the question has a compression pointer or a label of an unknown type.
    QuestionLabel = "question_label",
    /// FORMERR: the question's name is longer than 255 bytes.
    QuestionLength = "question_length",
    /// FORMERR: more than one question (RFC 9619).
    Questions = "questions",
    /// FORMERR: a query with answers in it.
    Answers = "answers",
    /// FORMERR: a record after the question extends beyond the message, or has an impossible name.
    Record = "record",
    /// FORMERR: bytes after the last record.
    Trailing = "trailing",
    /// FORMERR: two OPT records, one that is not the root's, or broken options (RFC 6891, section 6.1.1).
    Edns = "edns",
    /// FORMERR: a cookie of an impossible length (RFC 7873, section 5.2.2).
    CookieLength = "cookie_length",
    /// FORMERR: a signed query (RFC 8945, section 5.1).
    Signed = "signed",
    /// BADVERS: a later version of EDNS (RFC 6891, section 6.1.3).
    BadVersion = "bad_version",
    /// NOTIMP: not a query, but another operation on a name in the table.
    NotImplemented = "not_implemented",
    /// REFUSED: another class than IN, or a zone transfer.
    Refused = "refused",
    /// Answered with TC, because the client can take no more (RFC 2181, section 9).
    Truncated = "truncated",
    /// Over the rate limit: answered with TC, so that a real client asks again over TCP.
    LimitedTruncated = "limited_truncated",
    /// Over the rate limit: answered with BADCOOKIE and a cookie (RFC 7873, section 5.2.3).
    LimitedCookie = "limited_cookie",
    /// Over the rate limit: not answered.
    LimitedDropped = "limited_dropped",
    /// A response, which is never answered.
    Response = "response",
    /// Too short for a header.
    NoHeader = "no_header",
    /// The buffer for the answer had no room for the question.
    NoRoom = "no_room",
}

impl Outcome {
    const COUNT: usize = Self::ALL.len();
}

/// Counts since the table was created. They are never reset, and in practice never wrap (64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NameCounters {
    counts: [u64; Outcome::COUNT],
    /// UDP queries with a valid server cookie, which the rate limit spares.
    pub proven: u64,
}

impl NameCounters {
    pub(super) const ZERO: Self = Self { counts: [0; Outcome::COUNT], proven: 0 };

    /// How many queries had this outcome.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.counts.get(outcome as usize).copied().unwrap_or(0)
    }

    /// All queries: the sum of all outcomes.
    #[must_use]
    pub fn in_all(&self) -> u64 {
        self.counts.iter().sum()
    }

    #[inline]
    pub(super) fn count(&mut self, outcome: Outcome) {
        if let Some(count) = self.counts.get_mut(outcome as usize) {
            *count = count.wrapping_add(1);
        }
    }
}
