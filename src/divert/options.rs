//! The options of a rule.

use core::fmt;

use crate::config::Midstream;

/// The options of a rule: everything but its [match](crate::Match) and its servers. They are one value, so that a rule
/// that replaces another can take over all of them. Each option is also a method of [`Divert`](crate::Divert), whose
/// documentation says what it does.
///
/// ```
/// use byway::{Divert, DivertOptions, Target};
///
/// let mut room = [byway::Weighted { target: Target::Same, weight: 0 }; 4];
/// let rule = Divert::parse("100.100.100.100:80 to 20.0.0.1 keep-source midstream drop", &mut room)?;
/// assert!(rule.options().keep_source && !rule.options().resumable);
///
/// // The same rule with another server.
/// let moved = Divert::new(rule.matches()).to("20.0.0.2".parse::<Target>()?).with_options(rule.options());
/// assert_eq!(moved.to_string(), "100.100.100.100:80 to 20.0.0.2 keep-source midstream drop");
///
/// assert_eq!(DivertOptions::default().to_string(), "");
/// # Ok::<(), byway::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct DivertOptions {
    /// The server sees the client's own address: [`Divert::keep_source`](crate::Divert::keep_source).
    pub keep_source: bool,
    /// Replies from the server's other ports belong to the client:
    /// [`Divert::replies_from_any_port`](crate::Divert::replies_from_any_port).
    pub any_port_replies: bool,
    /// Another server can take over its TCP connections: [`Divert::resumable`](crate::Divert::resumable).
    pub resumable: bool,
    /// A new connection goes to the server with the fewest for its weight:
    /// [`Divert::least_loaded`](crate::Divert::least_loaded).
    pub least_loaded: bool,
    /// Servers that fail are ejected: [`Divert::ejecting`](crate::Divert::ejecting).
    pub ejecting: bool,
    /// What happens to segments in the middle of unknown connections, if the rule itself says so:
    /// [`Divert::midstream`](crate::Divert::midstream).
    pub midstream: Option<Midstream>,
}

impl DivertOptions {
    /// No options.
    pub const NONE: Self = Self {
        keep_source: false,
        any_port_replies: false,
        resumable: false,
        least_loaded: false,
        ejecting: false,
        midstream: None,
    };
}

impl fmt::Display for DivertOptions {
    /// In the form that [`Divert::parse`](crate::Divert::parse) reads after the servers, each with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keep_source {
            f.write_str(" keep-source")?;
        }
        if self.any_port_replies {
            f.write_str(" any-port")?;
        }
        if self.resumable {
            f.write_str(" resumable")?;
        }
        if self.least_loaded {
            f.write_str(" least-loaded")?;
        }
        if self.ejecting {
            f.write_str(" eject")?;
        }
        match self.midstream {
            Some(midstream) => write!(f, " midstream {midstream}"),
            None => Ok(()),
        }
    }
}
