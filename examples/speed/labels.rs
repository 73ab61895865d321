//! The words of the report: what a row measures, and which limit it is held against.

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// One of the limits of the machine.
    Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// One packet a call.
    Single,
    /// Many packets a call.
    Burst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

/// A limit of the machine: the least that any translator has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Touch the packet only.
    L1,
    /// One line of state, dirtied, prefetched in bursts of 32.
    L3w,
    /// Two dependent lines, the second dirtied, one packet after the other.
    L4w,
    /// Two dependent lines, the second dirtied, prefetched in two stages in bursts of 32.
    L5w,
}

/// The name of one row. What does not apply to it is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) measure: Measure,
    pub(crate) call: Option<Call>,
    pub(crate) direction: Option<Direction>,
    pub(crate) protocol: Protocol,
    /// Which limit this row is, if it is one.
    pub(crate) limit: Option<Limit>,
}

impl Label {
    /// The limit that a row of byway is held against.
    pub(crate) fn yardstick(&self, _connections: u32) -> Option<Limit> {
        match self.measure {
            Measure::Limit => None,
        }
    }
}

impl Measure {
    pub(crate) const ALL: &[Self] = &[Self::Limit];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
        }
    }
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Burst => "burst",
        }
    }
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ToServer => "to_server",
            Self::ToClient => "to_client",
        }
    }
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl Limit {
    pub(crate) const ALL: &[Self] = &[Self::L1, Self::L3w, Self::L4w, Self::L5w];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L3w => "L3w",
            Self::L4w => "L4w",
            Self::L5w => "L5w",
        }
    }
}
