//! An exporter's settings.

use core::fmt;
use core::time::Duration;

use super::element::REVERSE;

/// The shortest buffer for messages, in bytes: what RFC 7011, section 10.3.3, allows where the path MTU is not known.
pub const MIN_MESSAGE: usize = 512;

/// Settings of an [`Exporter`](super::Exporter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Settings {
    pub(super) enterprise: u32,
    pub(super) domain: u32,
    pub(super) zero: Duration,
    pub(super) templates: Option<Duration>,
    pub(super) patience: Duration,
    pub(super) nat_events: bool,
}

impl Settings {
    /// Settings with this private enterprise number for our own elements: 32473 is for examples (RFC 5612), use your
    /// own. The defaults are observation domain 1, templates every minute, records that wait half a second at most, and
    /// NAT events.
    #[must_use]
    pub const fn new(enterprise: u32) -> Self {
        Self {
            enterprise,
            domain: 1,
            zero: Duration::ZERO,
            templates: Some(Duration::from_secs(60)),
            patience: Duration::from_millis(500),
            nat_events: true,
        }
    }

    /// The observation domain, which is the NAT instance too: one for each shard. Zero stands for the whole process (RFC
    /// 7011, section 3.1), so that shards are best numbered from 1.
    #[must_use]
    pub const fn domain(mut self, domain: u32) -> Self {
        self.domain = domain;
        self
    }

    /// The time from the start of 1970 to [`Instant::ZERO`](crate::Instant::ZERO).
    #[must_use]
    pub const fn zero(mut self, since_1970: Duration) -> Self {
        self.zero = since_1970;
        self
    }

    /// How often templates and types are sent again: over UDP a collector may have missed them, or may have been
    /// restarted (RFC 7011, section 8.4). Once a second at most. `None`, for TCP: once in a session.
    #[must_use]
    pub const fn templates(mut self, interval: Option<Duration>) -> Self {
        self.templates = interval;
        self
    }

    /// How long a record waits at most for others that share its message.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether the beginning and the end of sessions are reported as NAT events (RFC 8158), beside the records of
    /// connections.
    #[must_use]
    pub const fn nat_events(mut self, yes: bool) -> Self {
        self.nat_events = yes;
        self
    }

    pub(super) const fn check(&self, buffer: usize) -> Result<(), SettingsError> {
        if self.enterprise == 0 || self.enterprise == REVERSE {
            return Err(SettingsError::Enterprise { value: self.enterprise });
        }
        if buffer < MIN_MESSAGE {
            return Err(SettingsError::Buffer { length: buffer });
        }
        Ok(())
    }
}

/// Why an [`Exporter`](super::Exporter) cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SettingsError {
    /// The enterprise number is zero, or the one that stands for the reverse direction (RFC 5103).
    Enterprise {
        /// The number.
        value: u32,
    },
    /// The buffer is shorter than [`MIN_MESSAGE`].
    Buffer {
        /// Its length in bytes.
        length: usize,
    },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enterprise { value } => {
                write!(f, "enterprise number {value}: it must be a private one, neither 0 nor {REVERSE}")
            }
            Self::Buffer { length } => {
                write!(f, "buffer of {length} bytes: a message needs room for {MIN_MESSAGE}")
            }
        }
    }
}

impl core::error::Error for SettingsError {}
