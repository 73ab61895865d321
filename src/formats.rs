//! Every public type that has `Debug` also has `defmt::Format`. The compiler checks this list, and `tests/formats.rs`
//! checks that it is complete.

use defmt::Format;

const fn has_format<T: Format>() {}

const _: () = {
    use crate::{
        AtRest, Borrowed, Checked, ChecksumState, Checksums, Closed, Config, ConfigError, Connection, Connections,
        Counters, DatagramId, Direction, Divert, DivertEntry, DivertError, DivertOptions, Diverted, DropReason, Ends,
        Event, Fixed, Forgotten, Greeted, HandOvers, Histogram, Imported, InexactReset, Instant, Kept, Match, Measured,
        MeasuredServers, Measurements, Midstream, Observed, Outcome, Owner, PacketMeta, Pair, ParseError, Plan,
        PortChoice, Position, Prefix, Protocol, Record, RecordError, Redivert, RedivertError, Rediverted, Removed,
        Resumed, Sharding, ShardingError, State, Target, Timeouts, Total, Traffic, Translator, Transmit, Verdict,
        Volume, Weighted,
    };
    has_format::<Borrowed<'_>>();
    has_format::<ChecksumState>();
    has_format::<Checksums>();
    has_format::<Closed>();
    has_format::<Config>();
    has_format::<ConfigError>();
    has_format::<Connection>();
    has_format::<Connections<'_>>();
    has_format::<Counters>();
    has_format::<DatagramId>();
    has_format::<Direction>();
    has_format::<Divert<'_>>();
    has_format::<DivertEntry<'_>>();
    has_format::<DivertError>();
    has_format::<DivertOptions>();
    has_format::<Diverted>();
    has_format::<DropReason>();
    has_format::<Ends>();
    has_format::<Event>();
    has_format::<Histogram>();
    has_format::<MeasuredServers<'_>>();
    has_format::<Measurements>();
    has_format::<Total>();
    has_format::<Traffic>();
    has_format::<Fixed<8, 1>>();
    has_format::<Imported>();
    has_format::<InexactReset>();
    has_format::<Instant>();
    has_format::<Match>();
    has_format::<Measured>();
    has_format::<Midstream>();
    has_format::<Owner>();
    has_format::<PacketMeta>();
    has_format::<Pair>();
    has_format::<ParseError>();
    has_format::<Plan<'_>>();
    has_format::<PortChoice>();
    has_format::<Prefix>();
    has_format::<Protocol>();
    has_format::<Record>();
    has_format::<RecordError>();
    has_format::<Redivert>();
    has_format::<RedivertError>();
    has_format::<Forgotten>();
    has_format::<Rediverted>();
    has_format::<Removed>();
    has_format::<Sharding>();
    has_format::<ShardingError>();
    has_format::<State>();
    has_format::<Target>();
    has_format::<Timeouts>();
    has_format::<Translator<Fixed<8, 1>>>();
    has_format::<Transmit>();
    has_format::<Verdict>();
    has_format::<Volume>();
    has_format::<Weighted>();
    has_format::<AtRest>();
    has_format::<Greeted>();
    has_format::<Checked>();
    has_format::<HandOvers<'_, AtRest, 1>>();
    has_format::<Kept>();
    has_format::<Observed<'_>>();
    has_format::<Outcome>();
    has_format::<Position>();
    has_format::<Resumed>();
};

#[cfg(feature = "http")]
const _: () = has_format::<crate::HttpGet<1>>();

#[cfg(feature = "alloc")]
const _: () = {
    has_format::<crate::Heap>();
    has_format::<crate::Sharded<crate::Heap>>();
};

const _: () = {
    use crate::slots;
    has_format::<slots::Connection>();
    has_format::<slots::Divert>();
    has_format::<slots::MeasuredServer>();
    has_format::<slots::Event>();
    has_format::<slots::Fragment>();
    has_format::<slots::Measure>();
    has_format::<slots::Move>();
    has_format::<slots::Resume>();
    has_format::<slots::Server>();
};

#[cfg(feature = "report")]
const _: () = {
    use crate::report::{Exporter, Full, Settings, SettingsError, Statistics, Totals};
    use crate::{Moved, Moving, Report};
    has_format::<Exporter<&mut [u8]>>();
    has_format::<Full>();
    has_format::<Moved>();
    has_format::<Moving>();
    has_format::<Report>();
    has_format::<Settings>();
    has_format::<SettingsError>();
    has_format::<Statistics>();
    has_format::<Totals>();
};

#[cfg(feature = "monitor")]
const _: () = {
    use crate::monitor::{
        Action, Carries, Decision, Distrust, Estimate, Inputs, Load, LoadDistrust, LoadKind, LoadReading, LoadSample,
        Monitor, Observation, Outcome, Reading, Reported, Settings,
    };
    has_format::<Action>();
    has_format::<Carries>();
    has_format::<Decision<1>>();
    has_format::<Distrust>();
    has_format::<Estimate>();
    has_format::<Inputs<1>>();
    has_format::<Load>();
    has_format::<LoadDistrust>();
    has_format::<LoadKind>();
    has_format::<LoadReading>();
    has_format::<LoadSample>();
    has_format::<Reported>();
    has_format::<Monitor<1>>();
    has_format::<Observation>();
    has_format::<Outcome<1>>();
    has_format::<Reading>();
    has_format::<Settings>();
};

#[cfg(feature = "control")]
const _: () = {
    use crate::control::{
        Agent, Answer, Client, Code, Effect, Events, GaveUp, Ignored, Incoming, Instruction, Key, KeyError, Kinds,
        Lead, ListedRule, MeasuredServer, Note, Outcome, Refused, RefusedBy, Report, Request, Rights, Rule, SendError,
        ServerPage, Settings, TooLong,
    };
    has_format::<Agent<1, 1>>();
    has_format::<Answer<'_>>();
    has_format::<Client>();
    has_format::<Code>();
    has_format::<Effect>();
    has_format::<Events<'_>>();
    has_format::<GaveUp>();
    has_format::<Ignored>();
    has_format::<Incoming<'_>>();
    has_format::<Instruction>();
    has_format::<Key>();
    has_format::<KeyError>();
    has_format::<Kinds>();
    has_format::<Lead>();
    has_format::<ListedRule<'_>>();
    has_format::<MeasuredServer>();
    has_format::<Note>();
    has_format::<Outcome>();
    has_format::<Refused>();
    has_format::<RefusedBy>();
    has_format::<Report<'_>>();
    has_format::<Request>();
    has_format::<Rights>();
    has_format::<Rule>();
    has_format::<SendError>();
    has_format::<ServerPage<'_>>();
    has_format::<Settings>();
    has_format::<TooLong>();
};

#[cfg(feature = "naming")]
const _: () = {
    use crate::naming::{
        Answered, BorrowedNames, BorrowedRelay, EntryError, FixedNames, FixedRelay, Inserted, ListedName, Name,
        NameCounters, NameDiverted, NameEntry, NameSlot, Names, NamesConfig, Next, Outcome, Pattern, RateSlot, Relay,
        RelayConfig, RelayCounters, RelayError, RelayNotice, RelayOutcome, RelayRecord, RelayRecordError, RelaySlot,
        Relayed, Streamed, TieError, Transport, WeightedAddress,
    };
    has_format::<Answered>();
    has_format::<BorrowedNames<'_>>();
    has_format::<EntryError>();
    has_format::<FixedNames<1>>();
    has_format::<Inserted>();
    has_format::<ListedName<'_>>();
    has_format::<Name>();
    has_format::<NameCounters>();
    has_format::<NameDiverted>();
    has_format::<NameEntry<'_>>();
    has_format::<NameSlot>();
    has_format::<Names<FixedNames<1>>>();
    has_format::<NamesConfig>();
    has_format::<Next<'_>>();
    has_format::<Outcome>();
    has_format::<Pattern>();
    has_format::<RateSlot>();
    has_format::<BorrowedRelay<'_>>();
    has_format::<FixedRelay<1>>();
    has_format::<Relay<FixedRelay<1>>>();
    has_format::<RelayConfig>();
    has_format::<RelayCounters>();
    has_format::<RelayError>();
    has_format::<RelayNotice>();
    has_format::<RelayOutcome>();
    has_format::<RelayRecord>();
    has_format::<RelayRecordError>();
    has_format::<RelaySlot>();
    has_format::<Relayed>();
    has_format::<Streamed<'_>>();
    has_format::<TieError>();
    has_format::<Transport>();
    has_format::<WeightedAddress>();
};

#[cfg(all(feature = "control", feature = "naming"))]
const _: () = {
    use crate::control::{ListedEntry, NameRights, NameSizes, NamedEntry, WithNames};
    use crate::naming::{FixedNames, Names};
    has_format::<ListedEntry<'_>>();
    has_format::<NameRights>();
    has_format::<NameSizes>();
    has_format::<NamedEntry>();
    has_format::<WithNames<'_, crate::Translator<crate::Fixed<1, 1>>, Names<FixedNames<1>>>>();
};

#[cfg(all(feature = "naming", feature = "alloc"))]
const _: () = {
    has_format::<crate::naming::HeapNames>();
    has_format::<crate::naming::HeapRelay>();
};

#[cfg(feature = "smoltcp")]
const _: () = {
    use crate::Fixed;
    use crate::device::{RxToken, TranslatingDevice, TxToken};
    has_format::<RxToken<'_>>();
    has_format::<TranslatingDevice<(), Fixed<8, 1>, [u8; 1]>>();
    has_format::<TxToken<'_, (), Fixed<8, 1>>>();
};
