//! What a re-divert does with connections.

use core::fmt;
use core::str::FromStr;

use crate::error::ParseError;
use crate::table::redivert_log::Treatment;

/// How a re-divert treats the connections that stand on the old server. Which these are:
/// [`Translator::redivert`](crate::Translator::redivert).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Redivert {
    /// They go to the new server from their next packet on: the document's exchange of the address. For UDP and for
    /// servers that share their state.
    Switch,
    /// They stay until they end; only new connections go to the new server.
    Drain,
    /// As `Switch`, but each TCP connection is ended: both of its ends get a RST with the sequence number
    /// that they expect, which the caller fetches with
    /// [`poll_transmit`](crate::Translator::poll_transmit). A client that would wait in silence for the old server
    /// connects again at once, and gets the new one.
    Reset,
    /// Each TCP connection of a rule that asks for it ([`Divert::resumable`](crate::Divert::resumable)) is handed over
    /// by [`HandOvers`](crate::HandOvers), and its client notices nothing. It goes to the server that its rule chooses
    /// for its client at that time. Until it is handed over it stays on the old server; all other connections stay there
    /// until they end.
    HandOver,
    /// Like [`HandOver`](Self::HandOver), but TCP connections that cannot be handed over are ended as by
    /// [`Reset`](Self::Reset). Connections of other protocols stay until they end.
    HandOverOrReset,
}

impl Redivert {
    /// The variant with this number in the control protocol.
    #[cfg(feature = "control")]
    pub(crate) const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Switch,
            1 => Self::Drain,
            2 => Self::Reset,
            3 => Self::HandOver,
            4 => Self::HandOverOrReset,
            _ => return None,
        })
    }

    /// What is done with connections; `None` if nothing is.
    pub(super) const fn treatment(self) -> Option<Treatment> {
        match self {
            Self::Switch => Some(Treatment::Switch),
            Self::Drain => None,
            Self::Reset => Some(Treatment::Reset),
            Self::HandOver => Some(Treatment::HandOver),
            Self::HandOverOrReset => Some(Treatment::HandOverOrReset),
        }
    }

    /// Whether connections stay on the entries of their old server.
    pub(in crate::translator) const fn drains(self) -> bool {
        !matches!(self, Self::Switch | Self::Reset)
    }

    /// Whether it is added to the redivert log, for connections to follow.
    pub(in crate::translator) const fn is_followed(self) -> bool {
        self.treatment().is_some()
    }

    /// Whether it needs room for resumable connections.
    pub(in crate::translator) const fn hands_over(self) -> bool {
        matches!(self, Self::HandOver | Self::HandOverOrReset)
    }
}

impl fmt::Display for Redivert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch => "switch",
            Self::Drain => "drain",
            Self::Reset => "reset",
            Self::HandOver => "hand-over",
            Self::HandOverOrReset => "hand-over-or-reset",
        })
    }
}

impl FromStr for Redivert {
    type Err = ParseError;

    /// Reads `switch`, `drain`, `reset`, `hand-over` or `hand-over-or-reset`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "switch" => Ok(Self::Switch),
            "drain" => Ok(Self::Drain),
            "reset" => Ok(Self::Reset),
            "hand-over" => Ok(Self::HandOver),
            "hand-over-or-reset" => Ok(Self::HandOverOrReset),
            _ => Err(ParseError::new("how", text, "switch, drain, reset, hand-over or hand-over-or-reset")),
        }
    }
}
