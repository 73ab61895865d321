//! How long connections live without a packet.

use core::time::Duration;

use crate::error::ConfigError;
use crate::limits::MAX_TIMEOUT;

/// How long a connection lives without a packet, by its state.
///
/// They are stored in units of 65.536 ms, rounded up: nothing expires early, and nothing lives more than one unit too
/// long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timeouts {
    /// TCP, handshake complete and not closed by both sides.
    pub tcp_established: Duration,
    /// TCP, opening or closing.
    pub tcp_transitory: Duration,
    /// UDP.
    pub udp: Duration,
    /// ICMP echo.
    pub icmp: Duration,
    /// Between two fragments of one datagram.
    pub fragment: Duration,
    /// How long an alternative port stays in quarantine, unusable towards the same server, after its connection ended.
    pub hold: Duration,
}

impl Timeouts {
    /// The values that the RFCs recommend, and the default:
    ///
    /// - TCP established 2 h 4 min (RFC 5382, REQ-5: not less, since hosts send keep-alives after 2 h)
    /// - TCP transitory 4 min (RFC 5382, REQ-5; RFC 7857, section 2.1)
    /// - UDP 5 min (RFC 4787, REQ-5: recommended)
    /// - ICMP 60 s (RFC 5508, REQ-2)
    /// - fragments 30 s (RFC 791, section 3.2 says 15 s and up; other implementations use 30 s)
    /// - hold 120 s (RFC 6888, REQ-8; and the TIME-WAIT of common hosts)
    pub const RECOMMENDED: Self = Self::recommended();

    /// The least that the RFCs allow: as recommended, but 2 min for UDP (RFC 4787, REQ-5) and 2 s for fragments (no RFC
    /// names a value).
    pub const FLOORS: Self =
        Self { udp: Duration::from_secs(2 * 60), fragment: Duration::from_secs(2), ..Self::RECOMMENDED };

    /// The longest time-out that can be represented: five days.
    pub const MAX: Duration = MAX_TIMEOUT;

    /// [`RECOMMENDED`](Self::RECOMMENDED), computed rather than copied from a constant of 96 bytes.
    pub(crate) const fn recommended() -> Self {
        Self {
            tcp_established: Duration::from_secs(2 * 3600 + 4 * 60),
            tcp_transitory: Duration::from_secs(4 * 60),
            udp: Duration::from_secs(5 * 60),
            icmp: Duration::from_secs(60),
            fragment: Duration::from_secs(30),
            hold: Duration::from_secs(120),
        }
    }

    #[inline]
    pub(crate) fn check(&self, short: bool) -> Result<(), ConfigError> {
        let Some((place, too_short)) = self.fault(short) else {
            return Ok(());
        };
        let value = self.all().get(place).map_or(Duration::ZERO, |value| **value);
        let name = NAMES.get(place).copied().unwrap_or_default();
        let floor = FLOORS.get(place).copied().unwrap_or_default();
        let floor = if short { Duration::from_millis(1) } else { Duration::from_secs(u64::from(floor)) };
        Err(if too_short {
            ConfigError::TimeoutTooShort { name, value, floor }
        } else {
            ConfigError::TimeoutTooLong { name, value }
        })
    }

    /// The index of the first one that is invalid, and whether it is too short rather than too long.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn fault(&self, short: bool) -> Option<(usize, bool)> {
        for (place, (value, floor)) in self.all().iter().zip(&FLOORS).enumerate() {
            // In 32 bits, which take less flash than a comparison of durations.
            let seconds = u32::try_from(value.as_secs()).unwrap_or(u32::MAX);
            let too_short = if short { **value < Duration::from_millis(1) } else { seconds < u32::from(*floor) };
            let most = Self::MAX.as_secs() as u32;
            if too_short || seconds > most || (seconds == most && value.subsec_nanos() != 0) {
                return Some((place, too_short));
            }
        }
        None
    }

    /// All of them, in the order of their names.
    pub(crate) const fn all(&self) -> [&Duration; 6] {
        [&self.tcp_established, &self.tcp_transitory, &self.udp, &self.icmp, &self.fragment, &self.hold]
    }
}

/// The names of the fields.
static NAMES: [&str; 6] = ["tcp_established", "tcp_transitory", "udp", "icmp", "fragment", "hold"];

/// Their floors in seconds.
static FLOORS: [u16; 6] = [
    Timeouts::FLOORS.tcp_established.as_secs() as u16,
    Timeouts::FLOORS.tcp_transitory.as_secs() as u16,
    Timeouts::FLOORS.udp.as_secs() as u16,
    Timeouts::FLOORS.icmp.as_secs() as u16,
    Timeouts::FLOORS.fragment.as_secs() as u16,
    Timeouts::FLOORS.hold.as_secs() as u16,
];

impl Default for Timeouts {
    fn default() -> Self {
        Self::RECOMMENDED
    }
}
