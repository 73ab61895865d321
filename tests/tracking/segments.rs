//! A connection whose every segment a test chooses.

use core::net::SocketAddrV4;

use byway::{Config, Heap, Protocol, State, Translator};
use byway_testing::talk::*;
use byway_testing::*;

/// The numbers behind the SYNs, and those of an attempt within the conversation.
pub(super) const C: u32 = CLIENT_START + 1;
pub(super) const V: u32 = SERVER_START + 1;
pub(super) const C2: u32 = 0x4000_0001;
pub(super) const V2: u32 = 0x7000_0001;

pub(super) struct Talk {
    pub(super) t: Translator<Heap>,
    pub(super) alternative: SocketAddrV4,
    pub(super) server: SocketAddrV4,
}

impl Talk {
    /// Nothing but the client's SYN.
    pub(super) fn opening() -> Self {
        Self::opening_with(config())
    }

    pub(super) fn opening_with(config: Config) -> Self {
        let mut t = diverting(config);
        let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, b"")));
        Self { t, alternative, server }
    }

    pub(super) fn established() -> Self {
        let mut t = diverting(config());
        let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        Self { t, alternative, server }
    }

    /// Established, and the client has lost its state and sends a SYN.
    pub(super) fn attempted() -> Self {
        let mut talk = Self::established();
        talk.client(SYN, C2 - 1, 0, b"");
        let _ = events(&mut talk.t);
        talk
    }

    #[track_caller]
    pub(super) fn client(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) {
        there(&mut self.t, s(1), &client(flags, sequence, acknowledgment, data));
    }

    #[track_caller]
    pub(super) fn server(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) {
        back(&mut self.t, s(1), &tcp(self.server, self.alternative, (flags, sequence, acknowledgment), data));
    }

    #[track_caller]
    pub(super) fn is(&self, state: State) {
        assert_eq!(tcp_state(&self.t), Some(state));
    }

    /// The client acknowledges the server's SYN, and with these numbers both go on.
    #[track_caller]
    pub(super) fn is_completed_with(&mut self, client: u32, server: u32) {
        self.client(ACK, client, server, b"");
        self.is(State::Established);
        assert_eq!(self.numbers(), [client, server, server, client]);
    }

    /// Sent by client and server, acknowledged by client and server.
    pub(super) fn numbers(&self) -> [u32; 4] {
        let record = self.t.record(&connection(&self.t, Protocol::Tcp)).unwrap();
        [36, 40, 44, 48].map(|at| u32::from_be_bytes(record.as_bytes()[at..at + 4].try_into().unwrap()))
    }
}

pub(super) fn client(flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) -> Vec<u8> {
    tcp(at(CLIENT), at(ORIGINAL), (flags, sequence, acknowledgment), data)
}
