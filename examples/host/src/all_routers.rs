//! The routers of all shards at once, for what must be done to all of them or to none.

use std::sync::MutexGuard;

use byway::control::{NameRights, Rule, Translators};
use byway::naming::{NameTable, Pattern};
use byway::{Heap, Translator};

use crate::control::ComesHere;
use crate::names::{self, Naming};
use crate::router::Router;
use crate::shard::{Handle, Seat};

/// The routers of all shards. They are locked when the first of them is needed, and free when this is dropped.
#[derive(Debug)]
pub struct AllRouters<'a> {
    shards: &'a [Handle],
    locked: Vec<MutexGuard<'a, Option<Seat>>>,
}

impl<'a> AllRouters<'a> {
    /// Nothing is locked yet.
    #[must_use]
    pub const fn of(shards: &'a [Handle]) -> Self {
        Self { shards, locked: Vec::new() }
    }

    /// All routers, in the order of their shards; `None` if a shard has ended.
    pub fn lock(&mut self) -> Option<impl Iterator<Item = &mut Router>> {
        self.lock_all()?;
        Some(self.locked.iter_mut().filter_map(|seat| seat.as_mut()).map(|seat| &mut *seat.router))
    }

    /// Locks them in the order of their numbers, so that two threads that want all of them never wait for each other.
    fn lock_all(&mut self) -> Option<()> {
        if !self.locked.is_empty() {
            return Some(());
        }
        let locked: Option<Vec<_>> = self.shards.iter().map(Handle::lock).collect();
        self.locked = locked?;
        let is_complete = !self.locked.is_empty() && self.locked.iter().all(|seat| seat.is_some());
        if !is_complete {
            self.locked.clear();
        }
        is_complete.then_some(())
    }
}

impl Drop for AllRouters<'_> {
    fn drop(&mut self) {
        if !self.locked.is_empty() {
            self.locked.clear();
            // Something may be due earlier now.
            self.shards.iter().for_each(Handle::wake);
        }
    }
}

impl Translators for AllRouters<'_> {
    type Storage = Heap;

    fn count(&self) -> usize {
        self.shards.len()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<Heap>> {
        self.lock_all()?;
        Some(&mut self.locked.get_mut(number)?.as_mut()?.router.translator)
    }
}

/// The routers of all shards together with the naming server. The routers come first, as they do for a packet.
#[derive(Debug)]
pub struct WithNaming<'a> {
    routers: AllRouters<'a>,
    naming: Option<&'a Naming>,
    names: Option<MutexGuard<'a, names::State>>,
    rights: &'a [NameRights],
    comes_here: Option<&'a ComesHere>,
}

impl<'a> WithNaming<'a> {
    /// Nothing is locked yet.
    #[must_use]
    pub const fn of(routers: AllRouters<'a>, naming: Option<&'a Naming>, rights: &'a [NameRights]) -> Self {
        Self { routers, naming, names: None, rights, comes_here: None }
    }

    /// Refuses rules about what is not routed here, if that is known.
    #[must_use]
    pub(crate) const fn refusing_unrouted(mut self, comes_here: Option<&'a ComesHere>) -> Self {
        self.comes_here = comes_here;
        self
    }
}

impl Translators for WithNaming<'_> {
    type Storage = Heap;

    fn count(&self) -> usize {
        self.routers.count()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<Heap>> {
        self.routers.shard(number)
    }

    fn comes_here(&self) -> Option<&dyn Fn(&Rule) -> bool> {
        self.comes_here.map(ComesHere::judge)
    }

    fn names(&mut self) -> Option<&mut dyn NameTable> {
        let naming = self.naming?;
        self.routers.shard(0)?;
        Some(&mut self.names.get_or_insert_with(|| naming.lock()).names)
    }

    fn may_name(&self, key: u16, pattern: &Pattern) -> bool {
        self.rights.iter().any(|right| right.key == key && right.pattern.covers(pattern))
    }
}
