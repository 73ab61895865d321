//! Information elements: those of IANA that are used, and our own.

/// The enterprise number that marks the reverse direction (RFC 5103, section 6.1).
pub(super) const REVERSE: u32 = 29_305;

/// Numbers of IANA's information elements, by their names there.
pub(super) mod iana {
    pub(in crate::report) const OCTET_DELTA_COUNT: u16 = 1;
    pub(in crate::report) const PACKET_DELTA_COUNT: u16 = 2;
    pub(in crate::report) const PROTOCOL_IDENTIFIER: u16 = 4;
    pub(in crate::report) const SOURCE_TRANSPORT_PORT: u16 = 7;
    pub(in crate::report) const SOURCE_IPV4_ADDRESS: u16 = 8;
    pub(in crate::report) const DESTINATION_TRANSPORT_PORT: u16 = 11;
    pub(in crate::report) const DESTINATION_IPV4_ADDRESS: u16 = 12;
    pub(in crate::report) const MINIMUM_IP_TOTAL_LENGTH: u16 = 25;
    pub(in crate::report) const MAXIMUM_IP_TOTAL_LENGTH: u16 = 26;
    pub(in crate::report) const EXPORTED_OCTET_TOTAL_COUNT: u16 = 40;
    pub(in crate::report) const EXPORTED_MESSAGE_TOTAL_COUNT: u16 = 41;
    pub(in crate::report) const EXPORTED_FLOW_RECORD_TOTAL_COUNT: u16 = 42;
    pub(in crate::report) const DROPPED_PACKET_DELTA_COUNT: u16 = 133;
    pub(in crate::report) const DROPPED_PACKET_TOTAL_COUNT: u16 = 135;
    pub(in crate::report) const FLOW_END_REASON: u16 = 136;
    pub(in crate::report) const EXPORTING_PROCESS_ID: u16 = 144;
    pub(in crate::report) const OBSERVATION_DOMAIN_ID: u16 = 149;
    pub(in crate::report) const FLOW_START_MILLISECONDS: u16 = 152;
    pub(in crate::report) const FLOW_END_MILLISECONDS: u16 = 153;
    pub(in crate::report) const NOT_SENT_FLOW_TOTAL_COUNT: u16 = 166;
    pub(in crate::report) const POST_NAT_SOURCE_IPV4_ADDRESS: u16 = 225;
    pub(in crate::report) const POST_NAT_DESTINATION_IPV4_ADDRESS: u16 = 226;
    pub(in crate::report) const POST_NAPT_SOURCE_TRANSPORT_PORT: u16 = 227;
    pub(in crate::report) const POST_NAPT_DESTINATION_TRANSPORT_PORT: u16 = 228;
    pub(in crate::report) const NAT_EVENT: u16 = 230;
    pub(in crate::report) const BIFLOW_DIRECTION: u16 = 239;
    pub(in crate::report) const INFORMATION_ELEMENT_ID: u16 = 303;
    pub(in crate::report) const OBSERVATION_TIME_MILLISECONDS: u16 = 323;
    pub(in crate::report) const INFORMATION_ELEMENT_DATA_TYPE: u16 = 339;
    pub(in crate::report) const INFORMATION_ELEMENT_DESCRIPTION: u16 = 340;
    pub(in crate::report) const INFORMATION_ELEMENT_NAME: u16 = 341;
    pub(in crate::report) const INFORMATION_ELEMENT_RANGE_BEGIN: u16 = 342;
    pub(in crate::report) const INFORMATION_ELEMENT_RANGE_END: u16 = 343;
    pub(in crate::report) const INFORMATION_ELEMENT_SEMANTICS: u16 = 344;
    pub(in crate::report) const INFORMATION_ELEMENT_UNITS: u16 = 345;
    pub(in crate::report) const PRIVATE_ENTERPRISE_NUMBER: u16 = 346;
    pub(in crate::report) const NAT_INSTANCE_ID: u16 = 463;
    pub(in crate::report) const NAT_QUOTA_EXCEEDED_EVENT: u16 = 466;
    pub(in crate::report) const MAX_SESSION_ENTRIES: u16 = 471;
    pub(in crate::report) const MAX_ENTRIES_PER_USER: u16 = 473;
}

/// Abstract data types (RFC 5610, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum DataType {
    Bytes = 0,
    U8 = 1,
    U16 = 2,
    U32 = 3,
    U64 = 4,
    Text = 13,
    Address = 18,
}

impl DataType {
    /// Bytes of a value in a record; [`VARIABLE`] where the record says it.
    pub(super) const fn length(self) -> u16 {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 | Self::Address => 4,
            Self::U64 => 8,
            Self::Bytes | Self::Text => VARIABLE,
        }
    }
}

/// The length of a field of variable length (RFC 7011, section 7).
pub(super) const VARIABLE: u16 = 65_535;

/// Semantics (RFC 5610, section 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Semantics {
    Default = 0,
    Quantity = 1,
    TotalCounter = 2,
    DeltaCounter = 3,
    Identifier = 4,
}

/// Units (RFC 5610, section 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Units {
    None = 0,
    Octets = 2,
    Packets = 3,
    Flows = 4,
    Microseconds = 7,
    Entries = 12,
}

/// One of our own elements, as its type record describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) name: &'static str,
    pub(super) data_type: DataType,
    pub(super) semantics: Semantics,
    pub(super) units: Units,
    pub(super) description: &'static str,
}

macro_rules! elements {
    ($($variant:ident, $name:literal, $type:ident, $semantics:ident, $units:ident, $description:literal;)*) => {
        /// Our own elements; the number under our enterprise number is the place in this list plus one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(super) enum Own { $($variant,)* }

        /// What type records say of them, in the same order.
        pub(super) const ELEMENTS: &[Element] = &[$(Element {
            name: $name,
            data_type: DataType::$type,
            semantics: Semantics::$semantics,
            units: Units::$units,
            description: $description,
        },)*];

        impl Own {
            pub(super) const fn data_type(self) -> DataType {
                match self { $(Self::$variant => DataType::$type,)* }
            }
        }
    };
}

impl Own {
    /// Its number under our enterprise number.
    pub(super) const fn number(self) -> u16 {
        self as u16 + 1
    }
}

// Numbers never change: new elements go to the end.
elements! {
    EndCause, "connectionEndCause", U8, Identifier, None,
        "0 none, 1 finished, 2 reset, 3 rediverted, 4 expired, 5 evicted, 6 stranded, 7 forgotten";
    ServerHandshake, "serverHandshakeMicroseconds", U32, Quantity, Microseconds,
        "From the client's SYN to the server's SYN, at the translator. 0: not measured";
    ClientHandshake, "clientHandshakeMicroseconds", U32, Quantity, Microseconds,
        "From the server's SYN to the client's ACK, at the translator. 0: not measured";
    HandshakeRoundTrip, "handshakeRoundTripMicroseconds", U32, Quantity, Microseconds,
        "RTDelay_Passive_IP-TCP-HS_RFC8912sec10_Seconds_Singleton, in microseconds. 0: not measured";
    ServerRoundTrip, "serverRoundTripMicroseconds", U32, Quantity, Microseconds,
        "Smoothed round trip from the translator to the server and back (RFC 6298). 0: not measured";
    Retransmissions, "retransmittedSegmentCount", U16, Quantity, Packets,
        "TCP segments that had been sent before, both directions, up to 65535";
    Resets, "resetSegmentCount", U16, Quantity, Packets, "TCP segments with RST, both directions, up to 255";
    IcmpErrors, "icmpErrorCount", U16, Quantity, Packets, "ICMP errors about the connection, up to 255";
    PreviousAddress, "previousServerIPv4Address", Address, Default, None, "The server before a re-divert";
    PreviousPort, "previousServerTransportPort", U16, Identifier, None, "The server's port before a re-divert";
    PreviousAlternative, "previousAlternativeIPv4Address", Address, Default, None,
        "The source that the server saw before a re-divert. 0.0.0.0: not known";
    PreviousAlternativePort, "previousAlternativeTransportPort", U16, Identifier, None,
        "The source port that the server saw before a re-divert. 0: not known";
    Generation, "redivertGeneration", U32, Identifier, None,
        "The generation of the rules that the connection follows since. 0: not known";
    Cause, "redivertCause", U8, Identifier, None,
        "0 not known, 1 instruction, 2 hand-over, 3 record of another portion";
    Connections, "connectionCount", U32, Quantity, Flows, "Connections on the server now";
    Started, "startedConnectionDeltaCount", U32, DeltaCounter, Flows, "Connections opened to the server";
    Established, "establishedConnectionDeltaCount", U32, DeltaCounter, Flows,
        "Connections that became established or were answered";
    Finished, "finishedConnectionDeltaCount", U32, DeltaCounter, Flows, "Ended by the FINs of both sides";
    Refused, "refusedConnectionDeltaCount", U32, DeltaCounter, Flows, "The server answered the SYN with a RST";
    ResetBeforeData, "resetBeforeDataConnectionDeltaCount", U32, DeltaCounter, Flows,
        "Ended by the server's RST before it had sent data";
    ResetAfterData, "resetAfterDataConnectionDeltaCount", U32, DeltaCounter, Flows,
        "Ended by the server's RST after it had sent data";
    Aborted, "abortedConnectionDeltaCount", U32, DeltaCounter, Flows, "Ended by the client's RST";
    HandshakeTimeouts, "handshakeTimeoutConnectionDeltaCount", U32, DeltaCounter, Flows,
        "The server never answered the SYN";
    Expired, "expiredConnectionDeltaCount", U32, DeltaCounter, Flows, "Ended by another time-out";
    Withdrawn, "withdrawnConnectionDeltaCount", U32, DeltaCounter, Flows,
        "Ended by the translator: evicted, stranded, re-diverted or forgotten";
    Unreachable, "unreachableConnectionDeltaCount", U32, DeltaCounter, Flows,
        "The network said of the first packet that the server is unreachable";
    ServerRetransmissions, "retransmittedSegmentDeltaCount", U32, DeltaCounter, Packets,
        "TCP segments that had been sent before, both directions";
    ServerHandshakes, "serverHandshakeDeltaCount", U32, DeltaCounter, None, "Handshakes measured towards the server";
    ServerHandshakeMean, "serverHandshakeMeanMicroseconds", U32, Quantity, Microseconds,
        "Mean time from the client's SYN to the server's";
    ClientHandshakes, "clientHandshakeDeltaCount", U32, DeltaCounter, None, "Handshakes measured towards clients";
    ClientHandshakeMean, "clientHandshakeMeanMicroseconds", U32, Quantity, Microseconds,
        "Mean time from the server's SYN to the client's ACK";
    Connecting, "connectingConnectionCount", U32, Quantity, Flows, "Connections that wait for the server's SYN now";
    ConnectingMean, "connectingMeanMicroseconds", U32, Quantity, Microseconds, "How long they have waited, mean";
    Responses, "responseDeltaCount", U32, DeltaCounter, None, "Responses measured";
    ResponseMean, "responseTimeMeanMicroseconds", U32, Quantity, Microseconds,
        "Mean time from the last byte of a request to the first byte of its response";
    ResponseMedian, "responseTimeP50Microseconds", U32, Quantity, Microseconds, "Median of it, within 9 %";
    Response90, "responseTimeP90Microseconds", U32, Quantity, Microseconds, "90th percentile of it, within 9 %";
    Response99, "responseTimeP99Microseconds", U32, Quantity, Microseconds, "99th percentile of it, within 9 %";
    Waiting, "waitingRequestCount", U32, Quantity, None, "Requests that wait for their response now";
    WaitingMean, "waitingMeanMicroseconds", U32, Quantity, Microseconds, "How long they have waited, mean";
    Unanswered, "unansweredRequestDeltaCount", U32, DeltaCounter, None, "Requests that were left without a response";
    UnansweredMean, "unansweredMeanMicroseconds", U32, Quantity, Microseconds, "How long they had waited, mean";
    Silent, "serverSilenceMicroseconds", U64, Quantity, Microseconds,
        "Time since the last response while requests wait. 0: none waits";
    ResponseHistogram, "responseTimeHistogram", Bytes, Default, None,
        "Response times: pairs of unsigned32, the least microseconds of a bucket and how many";
    ToServer, "packetToServerTotalCount", U64, TotalCounter, Packets, "Packets translated towards servers";
    ToClient, "packetToClientTotalCount", U64, TotalCounter, Packets, "Packets translated towards clients";
    Passed, "passedPacketTotalCount", U64, TotalCounter, Packets, "Packets of no connection and no rule, passed";
    Held, "heldFragmentTotalCount", U64, TotalCounter, Packets, "Fragments that came before their first";
    Opened, "openedConnectionTotalCount", U64, TotalCounter, Flows, "Connections opened by a packet";
    Imported, "importedConnectionTotalCount", U64, TotalCounter, Flows, "Connections taken over from a record";
    Rediverted, "redivertedConnectionTotalCount", U64, TotalCounter, Flows, "Connections moved to another server";
    ClosedTotal, "finishedConnectionTotalCount", U64, TotalCounter, Flows, "Connections that both sides closed";
    ResetTotal, "resetConnectionTotalCount", U64, TotalCounter, Flows, "Connections ended by a RST";
    ExpiredTotal, "expiredConnectionTotalCount", U64, TotalCounter, Flows, "Connections ended by their time-out";
    EvictedTotal, "evictedConnectionTotalCount", U64, TotalCounter, Flows, "Connections that made room for another";
    StrandedTotal, "strandedConnectionTotalCount", U64, TotalCounter, Flows, "Connections without a port after a move";
    ForgottenTotal, "forgottenConnectionTotalCount", U64, TotalCounter, Flows, "Connections ended by an instruction";
    Transmitted, "originatedPacketTotalCount", U64, TotalCounter, Packets, "ICMP errors and RSTs originated";
    TransmitLost, "notOriginatedPacketTotalCount", U64, TotalCounter, Packets, "Those that were due and not sent";
    EventsLost, "lostEventTotalCount", U64, TotalCounter, None, "Events lost because their queue was full";
    FragmentsEvicted, "evictedDatagramTotalCount", U64, TotalCounter, Packets, "Fragmented datagrams forgotten early";
    DropReason, "dropReason", U8, Identifier, None, "The number of a reason for dropping packets";
    DropReasonName, "dropReasonName", Text, Default, None, "Its name";
    Capacity, "connectionCapacity", U32, Quantity, Entries, "How many connections there is room for";
    ServerOctets, "octetToServerDeltaCount", U64, DeltaCounter, Octets, "Bytes sent to the server, IPv4 headers included";
    ServerPackets, "packetToServerDeltaCount", U64, DeltaCounter, Packets, "Packets sent to the server";
    ClientOctets, "octetToClientDeltaCount", U64, DeltaCounter, Octets, "Bytes that the server sent";
    ClientPackets, "packetToClientDeltaCount", U64, DeltaCounter, Packets, "Packets that the server sent";
    Unserved, "unservedPacketDeltaCount", U64, DeltaCounter, Packets,
        "Packets dropped for what has run out, which the record of their reason counts too";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_text_fits_a_short_length() {
        for (place, element) in ELEMENTS.iter().enumerate() {
            assert!(element.name.len() < 255 && element.description.len() < 255, "{}", element.name);
            assert!(ELEMENTS.iter().skip(place + 1).all(|other| other.name != element.name), "{}", element.name);
        }
        assert_eq!(Own::EndCause.number(), 1);
        assert_eq!(usize::from(Own::Unserved.number()), ELEMENTS.len());
    }
}
