//! Translators together with a naming server.

use super::rule::Rule;
use super::translators::Translators;

use crate::naming::{NameTable, Pattern};
use crate::translator::Translator;

/// Which entries the owner of a key may change besides what its [`Rights`](super::Rights) say, which are about rules. A
/// key can have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NameRights {
    /// The number of the key.
    pub key: u16,
    /// The entries whose names this pattern [covers](Pattern::covers): `*.xyz.com` permits those of all names below
    /// `xyz.com`, and of suffixes below, but not of `xyz.com` itself.
    pub pattern: Pattern,
}

/// Translators and the names of a naming server, which take instructions as one: pass it to
/// [`Agent::handle`](super::Agent::handle).
///
/// A request can change rules and names, all of it at once or nothing. The generation that an answer gives, and that a
/// request can demand, is the sum of both generations.
///
/// ```
/// use byway::control::{Agent, Key, MAX_ANSWER, NameRights, Rights, WithNames};
/// use byway::naming::{FixedNames, Names, NamesConfig};
/// use byway::{Config, Fixed, Instant, Translator};
///
/// # let (entropy, secret) = ([1; 32], [2; 32]);
/// let mut byway = Translator::new(Config::new([7; 32]), Fixed::<64, 4>::new())?;
/// let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<16>::new());
/// let mut agent = Agent::<2, 4>::new(entropy);
/// agent.add_key(Key::new(1, secret, Rights::All))?;
/// agent.add_key(Key::new(2, secret, Rights::Read))?;
/// // The second key may change the names below xyz.com, and nothing else.
/// let rights = [NameRights { key: 2, pattern: "*.xyz.com".parse()? }];
///
/// # let (now, from, received) = (Instant::ZERO, "192.0.2.1:5213".parse().unwrap(), [0_u8; 64]);
/// # let mut answer = [0; MAX_ANSWER];
/// let mut both = WithNames::new(&mut byway, &mut names).rights(&rights);
/// if let Ok(length) = agent.handle(now, &mut both, from, &received, &mut answer) {
///     // send answer[..length] to `from`
/// # let _ = length;
/// }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WithNames<'a, T: ?Sized, N> {
    translators: &'a mut T,
    names: &'a mut N,
    rights: &'a [NameRights],
}

#[cfg(feature = "defmt")]
impl<T: ?Sized, N: defmt::Format> defmt::Format for WithNames<'_, T, N> {
    /// The names.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "WithNames {{ names: {} }}", self.names);
    }
}

impl<'a, T: Translators + ?Sized, N: NameTable> WithNames<'a, T, N> {
    /// Both together. Only keys with [`Rights::All`](super::Rights::All) may change names.
    #[must_use]
    pub const fn new(translators: &'a mut T, names: &'a mut N) -> Self {
        Self { translators, names, rights: &[] }
    }

    /// Which names the owners of other keys may change.
    #[must_use]
    pub const fn rights(mut self, rights: &'a [NameRights]) -> Self {
        self.rights = rights;
        self
    }
}

impl<T: Translators + ?Sized, N: NameTable> Translators for WithNames<'_, T, N> {
    type Storage = T::Storage;

    fn count(&self) -> usize {
        self.translators.count()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<T::Storage>> {
        self.translators.shard(number)
    }

    fn comes_here(&self) -> Option<&dyn Fn(&Rule) -> bool> {
        self.translators.comes_here()
    }

    fn names(&mut self) -> Option<&mut dyn NameTable> {
        Some(self.names)
    }

    fn may_name(&self, key: u16, pattern: &Pattern) -> bool {
        self.rights.iter().any(|right| right.key == key && right.pattern.covers(pattern))
    }
}
