//! What records look like: their fields, in order.

use super::element::{DataType, Own, REVERSE, VARIABLE, iana};
use super::message::Writer;

/// One field of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    number: u16,
    length: u16,
    owner: Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Iana,
    Reverse,
    Own,
}

const fn of(number: u16, data_type: DataType) -> Field {
    Field { number, length: data_type.length(), owner: Owner::Iana }
}

const fn reverse(number: u16, data_type: DataType) -> Field {
    Field { owner: Owner::Reverse, ..of(number, data_type) }
}

const fn own(element: Own) -> Field {
    Field { number: element.number(), length: element.data_type().length(), owner: Owner::Own }
}

/// The numbers of the templates, from 256 on (RFC 7011, section 3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    Connection = 256,
    Session,
    Move,
    Server,
    Drop,
    TableFull,
    ClientLimit,
    NoPort,
    Counters,
    Statistics,
    Type,
}

/// A template and how many of its fields are its scope; zero if it is not an options template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    pub(super) kind: Kind,
    pub(super) scope: u16,
    pub(super) fields: &'static [Field],
}

impl Template {
    /// Bytes of its template record.
    pub(super) fn record(&self) -> usize {
        let fields = self.fields.iter().map(|field| if field.owner == Owner::Iana { 4 } else { 8 });
        4 + if self.scope == 0 { 0 } else { 2 } + fields.sum::<usize>()
    }

    /// Writes its template record.
    pub(super) fn write(&self, enterprise: u32, out: &mut Writer<'_>) {
        out.u16(self.kind as u16);
        out.u16(self.fields.len() as u16);
        if self.scope != 0 {
            out.u16(self.scope);
        }
        for field in self.fields {
            let owner = match field.owner {
                Owner::Iana => None,
                Owner::Reverse => Some(REVERSE),
                Owner::Own => Some(enterprise),
            };
            out.u16(field.number | if owner.is_some() { 0x8000 } else { 0 });
            out.u16(field.length);
            if let Some(owner) = owner {
                out.u32(owner);
            }
        }
    }

    /// Bytes of a data record, without what fields of variable length hold.
    pub(super) fn data(&self) -> usize {
        self.fields.iter().map(|field| if field.length == VARIABLE { 1 } else { usize::from(field.length) }).sum()
    }
}

/// The address pair of the client's side, then that of the server's side.
macro_rules! with_pairs {
    ($($before:expr,)*; $($after:expr,)*) => {
        &[
            $($before,)*
            of(iana::SOURCE_IPV4_ADDRESS, DataType::Address),
            of(iana::DESTINATION_IPV4_ADDRESS, DataType::Address),
            of(iana::SOURCE_TRANSPORT_PORT, DataType::U16),
            of(iana::DESTINATION_TRANSPORT_PORT, DataType::U16),
            of(iana::POST_NAT_SOURCE_IPV4_ADDRESS, DataType::Address),
            of(iana::POST_NAT_DESTINATION_IPV4_ADDRESS, DataType::Address),
            of(iana::POST_NAPT_SOURCE_TRANSPORT_PORT, DataType::U16),
            of(iana::POST_NAPT_DESTINATION_TRANSPORT_PORT, DataType::U16),
            of(iana::PROTOCOL_IDENTIFIER, DataType::U8),
            $($after,)*
        ]
    };
}

/// One connection, when it has ended: a biflow (RFC 5103).
pub(super) const CONNECTION: Template = Template {
    kind: Kind::Connection,
    scope: 0,
    fields: with_pairs![
        of(iana::FLOW_START_MILLISECONDS, DataType::U64),
        of(iana::FLOW_END_MILLISECONDS, DataType::U64),
        ;
        of(iana::BIFLOW_DIRECTION, DataType::U8),
        of(iana::OCTET_DELTA_COUNT, DataType::U64),
        of(iana::PACKET_DELTA_COUNT, DataType::U64),
        reverse(iana::OCTET_DELTA_COUNT, DataType::U64),
        reverse(iana::PACKET_DELTA_COUNT, DataType::U64),
        // Two bytes are enough for the length of an IPv4 packet (RFC 7011, section 6.2).
        of(iana::MINIMUM_IP_TOTAL_LENGTH, DataType::U16),
        of(iana::MAXIMUM_IP_TOTAL_LENGTH, DataType::U16),
        reverse(iana::MINIMUM_IP_TOTAL_LENGTH, DataType::U16),
        reverse(iana::MAXIMUM_IP_TOTAL_LENGTH, DataType::U16),
        of(iana::FLOW_END_REASON, DataType::U8),
        own(Own::EndCause),
        own(Own::ServerHandshake),
        own(Own::ClientHandshake),
        own(Own::HandshakeRoundTrip),
        own(Own::ServerRoundTrip),
        own(Own::Retransmissions),
        own(Own::Resets),
        own(Own::IcmpErrors),
    ],
};

/// A NAT44 session was created or deleted (RFC 8158).
pub(super) const SESSION: Template = Template {
    kind: Kind::Session,
    scope: 0,
    fields: with_pairs![
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        of(iana::NAT_EVENT, DataType::U8),
        of(iana::NAT_INSTANCE_ID, DataType::U32),
        ;
        own(Own::EndCause),
    ],
};

/// A connection was moved to another server.
pub(super) const MOVE: Template = Template {
    kind: Kind::Move,
    scope: 0,
    fields: with_pairs![
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        ;
        own(Own::PreviousAlternative),
        own(Own::PreviousAlternativePort),
        own(Own::PreviousAddress),
        own(Own::PreviousPort),
        own(Own::Generation),
        own(Own::Cause),
    ],
};

/// What was measured of a server in an interval. Its traffic has elements of our own: a collector that adds up IANA's would
/// count it twice, since records of connections have it too.
pub(super) const SERVER: Template = Template {
    kind: Kind::Server,
    scope: 0,
    fields: &[
        of(iana::FLOW_START_MILLISECONDS, DataType::U64),
        of(iana::FLOW_END_MILLISECONDS, DataType::U64),
        of(iana::DESTINATION_IPV4_ADDRESS, DataType::Address),
        of(iana::DESTINATION_TRANSPORT_PORT, DataType::U16),
        own(Own::ServerOctets),
        own(Own::ServerPackets),
        own(Own::ClientOctets),
        own(Own::ClientPackets),
        own(Own::Connections),
        own(Own::Started),
        own(Own::Established),
        own(Own::Finished),
        own(Own::Refused),
        own(Own::ResetBeforeData),
        own(Own::ResetAfterData),
        own(Own::Aborted),
        own(Own::HandshakeTimeouts),
        own(Own::Expired),
        own(Own::Withdrawn),
        own(Own::Unreachable),
        own(Own::ServerRetransmissions),
        own(Own::ServerHandshakes),
        own(Own::ServerHandshakeMean),
        own(Own::ClientHandshakes),
        own(Own::ClientHandshakeMean),
        own(Own::Connecting),
        own(Own::ConnectingMean),
        own(Own::Responses),
        own(Own::ResponseMean),
        own(Own::ResponseMedian),
        own(Own::Response90),
        own(Own::Response99),
        own(Own::Waiting),
        own(Own::WaitingMean),
        own(Own::Unanswered),
        own(Own::UnansweredMean),
        own(Own::Silent),
        own(Own::ResponseHistogram),
    ],
};

/// Packets dropped for one reason.
pub(super) const DROP: Template = Template {
    kind: Kind::Drop,
    scope: 1,
    fields: &[
        own(Own::DropReason),
        own(Own::DropReasonName),
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        of(iana::DROPPED_PACKET_DELTA_COUNT, DataType::U64),
        of(iana::DROPPED_PACKET_TOTAL_COUNT, DataType::U64),
    ],
};

/// No room for another connection (RFC 8158: maximum session entries). How many packets were dropped for that has an
/// element of our own, here and below: a collector that adds up IANA's would count them twice, since the records of
/// reasons have it too.
pub(super) const TABLE_FULL: Template = Template {
    kind: Kind::TableFull,
    scope: 0,
    fields: &[
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        of(iana::NAT_EVENT, DataType::U8),
        of(iana::NAT_INSTANCE_ID, DataType::U32),
        of(iana::NAT_QUOTA_EXCEEDED_EVENT, DataType::U32),
        of(iana::MAX_SESSION_ENTRIES, DataType::U32),
        own(Own::Unserved),
    ],
};

/// A client has reached its limit (maximum entries per user).
pub(super) const CLIENT_LIMIT: Template = Template {
    kind: Kind::ClientLimit,
    scope: 0,
    fields: &[
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        of(iana::NAT_EVENT, DataType::U8),
        of(iana::NAT_INSTANCE_ID, DataType::U32),
        of(iana::NAT_QUOTA_EXCEEDED_EVENT, DataType::U32),
        of(iana::MAX_ENTRIES_PER_USER, DataType::U32),
        own(Own::Unserved),
    ],
};

/// No alternative port was free.
pub(super) const NO_PORT: Template = Template {
    kind: Kind::NoPort,
    scope: 0,
    fields: &[
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        of(iana::NAT_EVENT, DataType::U8),
        of(iana::NAT_INSTANCE_ID, DataType::U32),
        own(Own::Unserved),
    ],
};

/// The translator's counters.
pub(super) const COUNTERS: Template = Template {
    kind: Kind::Counters,
    scope: 1,
    fields: &[
        of(iana::OBSERVATION_DOMAIN_ID, DataType::U32),
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        own(Own::Capacity),
        own(Own::ToServer),
        own(Own::ToClient),
        own(Own::Passed),
        own(Own::Held),
        own(Own::Opened),
        own(Own::Imported),
        own(Own::Rediverted),
        own(Own::ClosedTotal),
        own(Own::ResetTotal),
        own(Own::ExpiredTotal),
        own(Own::EvictedTotal),
        own(Own::StrandedTotal),
        own(Own::ForgottenTotal),
        own(Own::Transmitted),
        own(Own::TransmitLost),
        own(Own::EventsLost),
        own(Own::FragmentsEvicted),
        of(iana::DROPPED_PACKET_TOTAL_COUNT, DataType::U64),
    ],
};

/// What the exporter itself has sent, and what it could not send (RFC 7011, section 4.3).
pub(super) const STATISTICS: Template = Template {
    kind: Kind::Statistics,
    scope: 1,
    fields: &[
        of(iana::EXPORTING_PROCESS_ID, DataType::U32),
        of(iana::OBSERVATION_TIME_MILLISECONDS, DataType::U64),
        of(iana::NOT_SENT_FLOW_TOTAL_COUNT, DataType::U64),
        of(iana::EXPORTED_MESSAGE_TOTAL_COUNT, DataType::U64),
        of(iana::EXPORTED_FLOW_RECORD_TOTAL_COUNT, DataType::U64),
        of(iana::EXPORTED_OCTET_TOTAL_COUNT, DataType::U64),
    ],
};

/// What one of our own elements is (RFC 5610, section 3.9). Collectors take the description before the name.
pub(super) const TYPE: Template = Template {
    kind: Kind::Type,
    scope: 2,
    fields: &[
        of(iana::PRIVATE_ENTERPRISE_NUMBER, DataType::U32),
        of(iana::INFORMATION_ELEMENT_ID, DataType::U16),
        of(iana::INFORMATION_ELEMENT_DATA_TYPE, DataType::U8),
        of(iana::INFORMATION_ELEMENT_SEMANTICS, DataType::U8),
        of(iana::INFORMATION_ELEMENT_UNITS, DataType::U16),
        of(iana::INFORMATION_ELEMENT_RANGE_BEGIN, DataType::U64),
        of(iana::INFORMATION_ELEMENT_RANGE_END, DataType::U64),
        of(iana::INFORMATION_ELEMENT_DESCRIPTION, DataType::Text),
        of(iana::INFORMATION_ELEMENT_NAME, DataType::Text),
    ],
};

/// Every template, in the order in which they are sent: type records come last and need their own, and those of
/// options follow each other, so that they share a set.
pub(super) const TEMPLATES: &[Template] =
    &[CONNECTION, SESSION, MOVE, SERVER, TABLE_FULL, CLIENT_LIMIT, NO_PORT, DROP, COUNTERS, STATISTICS, TYPE];
