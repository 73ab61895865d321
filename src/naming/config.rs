//! The settings.

use core::fmt;

use super::entry::MAX_TTL;
use crate::endpoint::Prefix;

/// The settings of [`Names`](super::Names).
///
/// ```
/// let secret = [0x5a; 32]; // from the machine's source of randomness
/// let config = byway::naming::NamesConfig::new(secret).servers("192.0.2.53".parse()?).answers_per_second(500);
/// # let _ = config;
/// # Ok::<(), byway::ParseError>(())
/// ```
#[derive(Clone)]
pub struct NamesConfig {
    pub(super) secret: [u8; 32],
    pub(super) cookie_secret: Option<[u8; 16]>,
    pub(super) servers: Prefix,
    pub(super) recursion: bool,
    pub(super) negative_ttl: u32,
    pub(super) rate: u32,
}

impl NamesConfig {
    /// The answers per second that a network of clients gets, unless it is set.
    pub const DEFAULT_RATE: u32 = 200;

    /// The usual settings. The secret keys the hashes and, unless they have their own, the cookies.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            cookie_secret: None,
            servers: Prefix::ALL,
            recursion: true,
            negative_ttl: 60,
            rate: Self::DEFAULT_RATE,
        }
    }

    /// The DNS servers whose queries [`Names::intercept`](super::Names::intercept) looks at; all of them without this.
    #[must_use]
    pub const fn servers(mut self, servers: Prefix) -> Self {
        self.servers = servers;
        self
    }

    /// The secret of the cookies, where several servers behind one address share it (RFC 9018, section 5). Their
    /// [`Instant::ZERO`](crate::Instant::ZERO) must then be the start of 1970.
    #[must_use]
    pub const fn cookie_secret(mut self, secret: [u8; 16]) -> Self {
        self.cookie_secret = Some(secret);
        self
    }

    /// Whether answers say that recursion is available, as those of the DNS server behind this one do: true unless set,
    /// since it is usually a resolver.
    #[must_use]
    pub const fn recursion_available(mut self, available: bool) -> Self {
        self.recursion = available;
        self
    }

    /// How long clients may remember that a name has no records of a type (RFC 2308, section 5), in seconds: 60 unless
    /// set, at most [`MAX_TTL`].
    #[must_use]
    pub const fn negative_ttl(mut self, seconds: u32) -> Self {
        self.negative_ttl = if seconds > MAX_TTL { MAX_TTL } else { seconds };
        self
    }

    /// How many answers per second clients of the same 24 bits get over UDP without a valid cookie, on average and in a
    /// burst; [`NamesConfig::DEFAULT_RATE`] unless set; zero means no limit. Above it every second query gets a short
    /// answer that makes a real client come back over TCP or with its cookie, and the others get none, so that a forged
    /// source is not flooded.
    #[must_use]
    pub const fn answers_per_second(mut self, answers: u32) -> Self {
        self.rate = answers;
        self
    }
}

impl fmt::Debug for NamesConfig {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamesConfig")
            .field("servers", &self.servers)
            .field("recursion", &self.recursion)
            .field("negative_ttl", &self.negative_ttl)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for NamesConfig {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "NamesConfig {{ servers: {}, rate: {} }}", self.servers, self.rate);
    }
}
