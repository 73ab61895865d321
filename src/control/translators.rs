//! What an agent speaks for.

use core::ops::DerefMut;

use super::rule::Rule;
#[cfg(feature = "naming")]
use crate::naming::{NameTable, Pattern};
#[cfg(feature = "alloc")]
use crate::sharded::Sharded;
use crate::table::storage::Storage;
use crate::translator::Translator;

/// What an [`Agent`](super::Agent) speaks for: one translator, or several ("shards") that take instructions as one.
///
/// A request of changes takes effect on every shard or on none: it is planned on each of them before it is applied to
/// any, so one that is refused on one shard alone, for lack of room, changes nothing on the others either. What the
/// agent reports covers all shards: counts are sums, the rules are those of the first shard with the connections of
/// all, and a list of connections goes from shard to shard.
///
/// Shards must have the same rules and the same settings except for their alternative ports, as
/// [`Sharding`](crate::Sharding) divides them. Then the same instructions change their
/// [generations](Translator::generation) alike, and an answer gives that of the first shard. A program that changes
/// rules without the agent must do so on all shards; if one was changed alone, requests that demand a generation are
/// refused until all generations agree again.
///
/// The library implements it for a [`Translator`], for `Sharded` (feature `alloc`), and for slices of references or of
/// locks' guards, such as `[&mut Translator<S>]` and `[MutexGuard<Translator<S>>]`.
///
/// # Translators on several threads
///
/// The agent calls [`shard`](Self::shard) only for an authentic request of an open session, to answer an authentic
/// request for one, or when a report is due ([`Agent::poll_report`](super::Agent::poll_report)). So an implementation
/// may stop the other threads, or lock their translators, in the first call, and release them when
/// [`Agent::handle`](super::Agent::handle) or `poll_report` has returned; a flood of forged datagrams does not make
/// packets wait. Until then no one but the agent may use the translators, or the request is not atomic.
///
/// ```
/// use byway::control::Translators;
/// use byway::{Heap, Translator};
/// use std::sync::{Mutex, MutexGuard};
///
/// /// Translators of which each thread locks its own for a burst of packets.
/// struct Locked<'a> {
///     all: &'a [Mutex<Translator<Heap>>],
///     guards: Vec<MutexGuard<'a, Translator<Heap>>>,
/// }
///
/// impl Translators for Locked<'_> {
///     type Storage = Heap;
///
///     fn count(&self) -> usize {
///         self.all.len()
///     }
///
///     fn shard(&mut self, number: usize) -> Option<&mut Translator<Heap>> {
///         if self.guards.is_empty() {
///             // Always in the same order; `None` if a thread has panicked.
///             self.guards = self.all.iter().map(Mutex::lock).collect::<Result<_, _>>().ok()?;
///         }
///         self.guards.get_mut(number).map(|guard| &mut **guard)
///     }
/// }
/// ```
pub trait Translators {
    /// The storage of each translator.
    type Storage: Storage;

    /// How many translators there are. It must not change while a monitor has a session.
    fn count(&self) -> usize;

    /// The translator with this number, from zero; `None` from [`count`](Self::count) on. If it is `None` for a smaller
    /// number, the request is refused with [`Code::Other`](super::Code::Other).
    fn shard(&mut self, number: usize) -> Option<&mut Translator<Self::Storage>>;

    /// Says of a rule whether what it is about comes to the translators. A request with a rule of which that is false is
    /// refused with [`Code::NotRouted`](super::Code::NotRouted): its packets would go elsewhere, untranslated. `None`,
    /// the default, where nobody knows what is routed to them.
    #[inline]
    fn comes_here(&self) -> Option<&dyn Fn(&Rule) -> bool> {
        None
    }

    /// The names of the naming server that takes instructions together with the translators; `None` by default.
    /// [`WithNames`](super::WithNames) returns them.
    #[cfg(feature = "naming")]
    #[inline]
    fn names(&mut self) -> Option<&mut dyn NameTable> {
        None
    }

    /// Whether the owner of a key may change entries of this pattern. A key with [`Rights::All`](super::Rights::All)
    /// may change all of them; by default, other keys may change none.
    #[cfg(feature = "naming")]
    #[inline]
    fn may_name(&self, key: u16, pattern: &Pattern) -> bool {
        let _ = (key, pattern);
        false
    }
}

impl<S: Storage> Translators for Translator<S> {
    type Storage = S;

    #[inline]
    fn count(&self) -> usize {
        1
    }

    #[inline]
    fn shard(&mut self, number: usize) -> Option<&mut Self> {
        (number == 0).then_some(self)
    }
}

#[cfg(feature = "alloc")]
impl<S: Storage> Translators for Sharded<S> {
    type Storage = S;

    fn count(&self) -> usize {
        self.shards().len()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<S>> {
        self.shards_mut().nth(number)
    }
}

impl<S: Storage, G: DerefMut<Target = Translator<S>>> Translators for [G] {
    type Storage = S;

    fn count(&self) -> usize {
        self.len()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<S>> {
        self.get_mut(number).map(|translator| &mut **translator)
    }
}
