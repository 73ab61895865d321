//! The words of the report: what a row measures, and which limit it is held against.

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// One of the limits of the machine.
    Limit,
    /// Not byway: the loop of L4w with `hashbrown::HashTable` as its index.
    Hashbrown,
    /// A packet of a connection that is there.
    Hit,
    /// The same where all connections and servers are measured.
    HitMeasured,
    /// The same of a rule that asks for hand-overs.
    HitResumable,
    /// A packet that no rule matches.
    Pass,
    /// The first packet of a connection.
    New,
    /// The same by a rule for a prefix.
    NewByPrefix,
    /// The same where the source alone is replaced.
    NewMasqueraded,
    /// The same in a translator with another address of its own.
    NewWithOwn,
    /// The same in a translator with a limit for each client.
    NewWithLimit,
    /// The same in a translator with several ranges of alternative addresses.
    NewWithRanges,
    /// The first answer to a connection's first packet.
    Answer,
    /// The end of a connection whose time-out has passed.
    Expire,
    /// Without a call, the instruction that moves every connection; with one, the next packet of each.
    Redivert,
    /// A call of `poll` after that instruction.
    Sweep,
    /// A SYN into a table that is full of established and of half-open connections.
    Flood,
    /// A connection as a record, made or taken over.
    Snapshot,
    /// The question whose a packet is, of several cores.
    Owner,
    /// A query for a name of the naming server's table, which is answered.
    NameAnswered,
    /// A query for another name, which passes.
    NameOther,
    /// A packet that is no query, at the naming server.
    NameUnrelated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// One packet a call.
    Single,
    /// Many packets a call.
    Burst,
    /// Of a snapshot: connections become records.
    Export,
    /// Of a snapshot: records become connections.
    Import,
    /// The same, with many records a call.
    ImportBurst,
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
    ///
    /// A packet of a connection needs two lines of state at the least, and one that passes needs none. What several packets
    /// need can be fetched together, in bursts and where connections begin.
    pub(crate) fn yardstick(&self) -> Option<Limit> {
        match (self.measure, self.call) {
            (Measure::NameAnswered | Measure::NameOther | Measure::NameUnrelated, _) => None,
            (Measure::Limit | Measure::Expire | Measure::Snapshot | Measure::Owner | Measure::Sweep, _)
            | (Measure::Redivert, None) => None,
            (Measure::Pass, _) => Some(Limit::L1),
            (measure, _) if measure.opens() => Some(Limit::L5w),
            (Measure::Flood, _) | (_, Some(Call::Burst)) => Some(Limit::L5w),
            _ => Some(Limit::L4w),
        }
    }

    /// The row of byway that this one is held against as well.
    pub(crate) fn beside(&self) -> Option<Self> {
        let single = Self { call: Some(Call::Single), direction: Some(Direction::ToServer), ..*self };
        match (self.measure, self.call) {
            (Measure::Redivert, Some(_)) | (Measure::Answer | Measure::HitMeasured | Measure::HitResumable, _) => {
                Some(Self { measure: Measure::Hit, ..*self })
            }
            (Measure::Flood, _) => Some(Self { measure: Measure::New, ..single }),
            (measure, call) if measure.opens() && measure != Measure::New => {
                Some(Self { measure: Measure::New, call, ..single })
            }
            _ => None,
        }
    }
}

impl Measure {
    pub(crate) const ALL: &[Self] = &[
        Self::Limit,
        Self::Hashbrown,
        Self::Hit,
        Self::HitMeasured,
        Self::HitResumable,
        Self::Pass,
        Self::New,
        Self::NewByPrefix,
        Self::NewMasqueraded,
        Self::NewWithOwn,
        Self::NewWithLimit,
        Self::NewWithRanges,
        Self::Answer,
        Self::Expire,
        Self::Redivert,
        Self::Sweep,
        Self::Flood,
        Self::Snapshot,
        Self::NameAnswered,
        Self::NameOther,
        Self::NameUnrelated,
    ];

    /// Whether connections begin.
    fn opens(self) -> bool {
        self.name().starts_with("new")
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Hashbrown => "hashbrown",
            Self::Hit => "hit",
            Self::HitMeasured => "hit_measured",
            Self::HitResumable => "hit_resumable",
            Self::Pass => "pass",
            Self::New => "new",
            Self::NewByPrefix => "new_by_prefix",
            Self::NewMasqueraded => "new_masqueraded",
            Self::NewWithOwn => "new_with_own",
            Self::NewWithLimit => "new_with_limit",
            Self::NewWithRanges => "new_with_ranges",
            Self::Answer => "answer",
            Self::Expire => "expire",
            Self::Redivert => "redivert",
            Self::Sweep => "sweep",
            Self::Flood => "flood",
            Self::Snapshot => "snapshot",
            Self::Owner => "owner",
            Self::NameAnswered => "name_answered",
            Self::NameOther => "name_other",
            Self::NameUnrelated => "name_unrelated",
        }
    }
}

impl Call {
    pub(crate) const ALL: &[Self] = &[Self::Single, Self::Burst, Self::Export, Self::Import, Self::ImportBurst];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Burst => "burst",
            Self::Export => "export",
            Self::Import => "import",
            Self::ImportBurst => "import_burst",
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
