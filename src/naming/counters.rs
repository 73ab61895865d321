//! Counts of what became of queries.

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Outcome {
    /// Answered with an address.
    Address,
    /// Answered that the name has no records of this type (RFC 2308, section 2.2).
    NoData,
    /// The name's own SOA record was asked for and given.
    Authority,
    /// Not for a name in the table: passed.
    Passed,
    /// For a name whose rule is gone: passed.
    Suspended,
    /// FORMERR: the question has a compression pointer or a label of an unknown type.
    QuestionLabel,
    /// FORMERR: the question's name is longer than 255 bytes.
    QuestionLength,
    /// FORMERR: more than one question (RFC 9619).
    Questions,
    /// FORMERR: a query with answers in it.
    Answers,
    /// FORMERR: a record behind the question ends behind the message, or has an impossible name.
    Record,
    /// FORMERR: bytes behind the last record.
    Trailing,
    /// FORMERR: two OPT records, one that is not the root's, or broken options (RFC 6891, section 6.1.1).
    Edns,
    /// FORMERR: a cookie of an impossible length (RFC 7873, section 5.2.2).
    CookieLength,
    /// FORMERR: a signed query (RFC 8945, section 5.1).
    Signed,
    /// BADVERS: a later version of EDNS (RFC 6891, section 6.1.3).
    BadVersion,
    /// NOTIMP: not a query, but another operation on a name in the table.
    NotImplemented,
    /// REFUSED: another class than IN, or a zone transfer.
    Refused,
    /// Answered with TC, because the client can take no more (RFC 2181, section 9).
    Truncated,
    /// Over the rate limit: answered with TC, so that a client who exists asks again over TCP.
    LimitedTruncated,
    /// Over the rate limit: answered with BADCOOKIE and a cookie (RFC 7873, section 5.2.3).
    LimitedCookie,
    /// Over the rate limit: not answered.
    LimitedDropped,
    /// A response, which is never answered.
    Response,
    /// Too short for a header.
    NoHeader,
    /// The buffer for the answer had no room for the question.
    NoRoom,
}

impl Outcome {
    const COUNT: usize = Self::NoRoom as usize + 1;
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

    /// How many queries this became of.
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
