//! The routers of all shards at once, for what must be done to all of them or to none.
//!
//! A router belongs to its thread, and no packet pays for a lock. Whoever needs all of them asks each thread for its
//! router; the thread stops between two packets, hands it out, and goes on when it is given back.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard};

use byway::control::{NameRights, Rule, Translators};
use byway::naming::{NameTable, Pattern};
use byway::{Heap, Translator};

use crate::control::ComesHere;
use crate::names::{self, Naming};
use crate::router::Router;
use crate::shard::Handle;

/// A router away from its thread, which waits for it.
#[derive(Debug)]
pub struct Lent {
    /// The router.
    pub router: Box<Router>,
    /// Where it is given back.
    pub back: Sender<Box<Router>>,
}

/// Lets one thread at a time borrow: two that each had a part of the routers would wait for each other.
pub type Turn = std::sync::Arc<Mutex<()>>;

/// The routers of all shards. They are borrowed when the first of them is needed, and go back when this is dropped.
#[derive(Debug)]
pub struct AllRouters<'a> {
    shards: &'a [Handle],
    lent: Vec<Lent>,
    turn: Option<MutexGuard<'a, ()>>,
}

impl<'a> AllRouters<'a> {
    /// Nothing is borrowed yet.
    #[must_use]
    pub const fn of(shards: &'a [Handle]) -> Self {
        Self { shards, lent: Vec::new(), turn: None }
    }

    /// All routers, in the order of their shards; `None` if a shard has ended.
    pub fn borrow(&mut self) -> Option<impl Iterator<Item = &mut Router>> {
        if self.lent.is_empty() {
            self.fetch()?;
        }
        Some(self.lent.iter_mut().map(|lent| &mut *lent.router))
    }

    fn fetch(&mut self) -> Option<()> {
        // It guards no data, so the lock can be used although a thread has panicked with it.
        let turn = self.shards.first()?.turn();
        self.turn = Some(turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        // All are asked before one is waited for, so that they stop at the same time.
        let asked: Vec<Receiver<Lent>> = self.shards.iter().filter_map(ask).collect();
        let lent: Vec<Lent> = asked.iter().filter_map(|asked| asked.recv().ok()).collect();
        let is_complete = lent.len() == self.shards.len();
        self.lent = lent;
        if !is_complete {
            self.give_back();
            return None;
        }
        Some(())
    }

    fn give_back(&mut self) {
        for Lent { router, back } in self.lent.drain(..) {
            // If the thread has ended meanwhile, it needs no router.
            let _ = back.send(router);
        }
        self.turn = None;
    }
}

fn ask(shard: &Handle) -> Option<Receiver<Lent>> {
    let (sender, receiver) = channel();
    shard.lend(sender).then_some(receiver)
}

impl Drop for AllRouters<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Translators for AllRouters<'_> {
    type Storage = Heap;

    fn count(&self) -> usize {
        self.shards.len()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<Heap>> {
        if self.lent.is_empty() {
            self.fetch()?;
        }
        self.lent.get_mut(number).map(|lent| &mut lent.router.translator)
    }
}

/// The routers of all shards together with the naming server. The routers come first: a shard that waited for the names
/// would not lend its router.
#[derive(Debug)]
pub struct WithNaming<'a> {
    routers: AllRouters<'a>,
    naming: Option<&'a Naming>,
    names: Option<MutexGuard<'a, names::State>>,
    rights: &'a [NameRights],
    comes_here: Option<&'a ComesHere>,
}

impl<'a> WithNaming<'a> {
    /// Nothing is borrowed yet.
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
