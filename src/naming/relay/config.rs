//! The settings of the relay, and why they may not be usable.

use core::fmt;
use core::net::SocketAddrV4;
use core::time::Duration;

use crate::config::List;
use crate::endpoint::Prefix;
use crate::limits::MAX_ALTERNATIVES;
use crate::naming::question::PAYLOAD;
use crate::wire::ipv4;

/// How many DNS servers a relay asks at most, and how many client prefixes it is limited to.
pub const MAX_RELAY_SERVERS: usize = MAX_ALTERNATIVES;

/// No server: an unused place in the list.
const NONE: SocketAddrV4 = SocketAddrV4::new(core::net::Ipv4Addr::UNSPECIFIED, 0);

/// The settings of a [`Relay`](super::Relay).
///
/// ```
/// use byway::naming::RelayConfig;
/// let secret = [0x5a; 32]; // from the machine's source of randomness, new each time
/// let config = RelayConfig::new(secret, "192.0.2.53:53".parse()?)
///     .server("198.51.100.53:53".parse()?)
///     .clients("192.168.0.0/16".parse()?);
/// assert_eq!(config.check(), Ok(()));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RelayConfig {
    pub(super) secret: [u8; 32],
    pub(super) servers: List<SocketAddrV4>,
    pub(super) clients: List<Prefix>,
    pub(super) ports: (u16, u16),
    pub(super) patience: Duration,
    pub(super) attempts: u8,
    pub(super) payload: u16,
    pub(super) client_limit: u32,
    pub(super) mixes_case: bool,
    /// A server or a prefix that there was no room for.
    unusable: Option<RelayError>,
}

impl RelayConfig {
    /// How long each server has to answer, unless it is set.
    pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);
    /// How often a query is sent to a server, unless it is set. With the default patience, the client is told before it
    /// gives up, which most do after five seconds (`resolv.conf(5)`).
    pub const DEFAULT_ATTEMPTS: u8 = 4;
    /// The longest patience.
    pub const MAX_PATIENCE: Duration = Duration::from_secs(60);

    /// The usual settings, with one server.
    ///
    /// Identifiers, ports and letters are drawn with the secret, as a pseudo-random function of a counter that begins
    /// at zero. So it must come from the machine's source of randomness **each time that a relay is made**: the same
    /// secret yields the same values again.
    #[must_use]
    pub const fn new(secret: [u8; 32], server: SocketAddrV4) -> Self {
        Self {
            secret,
            servers: List::new(NONE),
            clients: List::new(Prefix::ALL),
            ports: (1024, u16::MAX),
            patience: Self::DEFAULT_PATIENCE,
            attempts: Self::DEFAULT_ATTEMPTS,
            payload: PAYLOAD,
            client_limit: 0,
            mixes_case: true,
            unusable: None,
        }
        .server(server)
    }

    /// Adds a server, which is asked when those before it do not answer; at most [`MAX_RELAY_SERVERS`].
    #[must_use]
    pub const fn server(mut self, server: SocketAddrV4) -> Self {
        if !self.servers.push(server) {
            self.unusable = Some(RelayError::TooManyServers { server });
        }
        self
    }

    /// Adds a prefix of clients whose queries are relayed; at most [`MAX_RELAY_SERVERS`] prefixes. Without any,
    /// everybody's queries are relayed: then anybody who reaches the relay can make it send large answers to a forged
    /// source.
    #[must_use]
    pub const fn clients(mut self, clients: Prefix) -> Self {
        if !self.clients.push(clients) {
            self.unusable = Some(RelayError::TooManyClients { clients });
        }
        self
    }

    /// The range of ports that queries come from: 1024 to 65535 unless set. No two queries come from one port at the
    /// same time, and a port is drawn at most 16 times: so the range should have several times as many ports as there
    /// are queries at a time.
    #[must_use]
    pub const fn ports(mut self, first: u16, last: u16) -> Self {
        self.ports = (first, last);
        self
    }

    /// How long a server has to answer before the next one is asked: [`RelayConfig::DEFAULT_PATIENCE`] unless set.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How often a query is sent to a server at most, the servers taking turns, before the client gets SERVFAIL:
    /// [`RelayConfig::DEFAULT_ATTEMPTS`] unless set.
    #[must_use]
    pub const fn attempts(mut self, attempts: u8) -> Self {
        self.attempts = attempts;
        self
    }

    /// The longest answer, in bytes, that a query with EDNS asks for, if its client would take longer ones: 1232 unless
    /// set, so that no answer is sent in fragments (RFC 9715, section 3.2), which are easier to forge. A client that
    /// could have taken more is answered with TC, and asks again over TCP.
    #[must_use]
    pub const fn payload(mut self, bytes: u16) -> Self {
        self.payload = bytes;
        self
    }

    /// How many queries of one client can wait for an answer at a time; zero (the default) means no limit. Without a
    /// limit, one client that asks for names whose servers do not answer can fill the table, so that other clients'
    /// queries find no room (for sessions of NATs: RFC 6888, section 3, REQ-4). Clients are counted by a keyed hash of
    /// their address, in as many places as there is room for queries: with many clients, some share a place, and with
    /// it the limit.
    #[must_use]
    pub const fn queries_per_client(mut self, queries: u32) -> Self {
        self.client_limit = queries;
        self
    }

    /// Whether the letters of a question are sent in random case (draft-vixie-dnsext-dns0x20): true unless set. A
    /// server that does not preserve the case is detected.
    #[must_use]
    pub const fn mix_case(mut self, mixes: bool) -> Self {
        self.mixes_case = mixes;
        self
    }

    /// Whether a relay can be made with it.
    ///
    /// # Errors
    /// [`RelayError`] names what is wrong.
    pub fn check(&self) -> Result<(), RelayError> {
        if let Some(unusable) = self.unusable {
            return Err(unusable);
        }
        for (number, server) in self.servers.iter().enumerate() {
            if !ipv4::is_unicast(server.ip().to_bits()) || server.port() == 0 {
                return Err(RelayError::MartianServer { server: *server });
            }
            if self.servers.iter().take(number).any(|other| other == server) {
                return Err(RelayError::DuplicateServer { server: *server });
            }
        }
        let (first, last) = self.ports;
        if first == 0 || first > last {
            return Err(RelayError::EmptyPorts { first, last });
        }
        if self.patience.is_zero() || self.patience > Self::MAX_PATIENCE {
            return Err(RelayError::Patience { value: self.patience });
        }
        if self.attempts == 0 {
            return Err(RelayError::NoAttempt);
        }
        if self.payload < 512 {
            return Err(RelayError::Payload { value: self.payload });
        }
        Ok(())
    }
}

impl fmt::Debug for RelayConfig {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayConfig")
            .field("servers", &self.servers)
            .field("clients", &self.clients)
            .field("ports", &self.ports)
            .field("patience", &self.patience)
            .field("attempts", &self.attempts)
            .field("payload", &self.payload)
            .field("client_limit", &self.client_limit)
            .field("mixes_case", &self.mixes_case)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for RelayConfig {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "RelayConfig {{ ports: {}, attempts: {} }}", self.ports, self.attempts);
    }
}

/// Why a relay cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RelayError {
    /// More servers than [`MAX_RELAY_SERVERS`].
    TooManyServers {
        /// The last one.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        server: SocketAddrV4,
    },
    /// More client prefixes than [`MAX_RELAY_SERVERS`].
    TooManyClients {
        /// The last one.
        clients: Prefix,
    },
    /// No host can have this address, or it is port zero.
    MartianServer {
        /// The server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        server: SocketAddrV4,
    },
    /// A server that is listed twice.
    DuplicateServer {
        /// The server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        server: SocketAddrV4,
    },
    /// A range without ports, or with port zero.
    EmptyPorts {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// A patience of zero, or above [`RelayConfig::MAX_PATIENCE`].
    Patience {
        /// The requested value.
        value: Duration,
    },
    /// The number of attempts is zero.
    NoAttempt,
    /// Answers shorter than every server may send (RFC 6891, section 6.2.3).
    Payload {
        /// The requested value in bytes.
        value: u16,
    },
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyServers { server } => write!(f, "server {server}: there are more than {MAX_RELAY_SERVERS}"),
            Self::TooManyClients { clients } => {
                write!(f, "clients {clients}: there are more than {MAX_RELAY_SERVERS} prefixes")
            }
            Self::MartianServer { server } => write!(f, "server {server}: no host can have this address and port"),
            Self::DuplicateServer { server } => write!(f, "server {server}: it is there twice"),
            Self::EmptyPorts { first, last } => write!(f, "ports {first} to {last}: the range is empty or has port 0"),
            Self::Patience { value } => {
                write!(f, "patience of {value:?}: expected more than none and at most {:?}", RelayConfig::MAX_PATIENCE)
            }
            Self::NoAttempt => f.write_str("no attempt: expected 1 to 255"),
            Self::Payload { value } => write!(f, "payload of {value} bytes: expected at least 512"),
        }
    }
}

impl core::error::Error for RelayError {}
