//! A rule as an instruction carries it.

use core::fmt;
use core::str::FromStr;

use crate::divert::DivertOptions;
use crate::error::ParseError;
use crate::table::rule::{Divert, Match, Target, Weighted};

/// How many servers one rule can have in an instruction.
pub const MAX_SERVERS: usize = 16;

/// Room for servers.
pub(super) const NOWHERE: [Weighted; MAX_SERVERS] = [Weighted { target: Target::Same, weight: 0 }; MAX_SERVERS];

/// A rule in an instruction: like a [`Divert`], with room for its servers.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rule {
    pub(super) matches: Match,
    pub(super) servers: [Weighted; MAX_SERVERS],
    pub(super) count: u8,
    pub(super) options: DivertOptions,
}

impl Rule {
    /// The same rule as a [`Divert`]. `None` if that has more than [`MAX_SERVERS`] servers, or none.
    #[must_use]
    pub fn new(divert: &Divert<'_>) -> Option<Self> {
        let targets = divert.targets();
        let mut servers = NOWHERE;
        servers.get_mut(..targets.len())?.copy_from_slice(targets);
        let count = u8::try_from(targets.len()).ok().filter(|count| *count != 0)?;
        Some(Self { matches: divert.matches, servers, count, options: divert.options })
    }

    /// What the rule matches.
    #[must_use]
    pub const fn matches(&self) -> Match {
        self.matches
    }

    /// Its servers.
    #[must_use]
    pub fn servers(&self) -> &[Weighted] {
        self.servers.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Its options.
    #[must_use]
    pub const fn options(&self) -> DivertOptions {
        self.options
    }

    /// The rule in the form that [`Translator::divert`](crate::Translator::divert) takes.
    // Called in several places, and longer than a call.
    #[inline(never)]
    #[must_use]
    pub fn divert(&self) -> Divert<'_> {
        Divert::new(self.matches).to_group(self.servers()).with_options(self.options)
    }
}

impl fmt::Display for Rule {
    /// In the text form of [`Divert`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.divert().fmt(f)
    }
}

impl FromStr for Rule {
    type Err = ParseError;

    /// Parses a rule like [`Divert::parse`], with at most [`MAX_SERVERS`] servers.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut group = NOWHERE;
        let divert = Divert::parse(text, &mut group)?;
        Self::new(&divert).ok_or_else(|| ParseError::new("rule", text, "one of 1 to 16 servers"))
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (self.matches, self.options) == (other.matches, other.options) && self.servers() == other.servers()
    }
}

impl Eq for Rule {}
