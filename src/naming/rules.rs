//! Entries that are tied to a rule of the translator: a name is answered with an original destination, which the rule
//! diverts. A change of the server needs no change of the answer, so it reaches clients whatever they have cached.

use core::fmt;
use core::net::Ipv4Addr;

use super::entry::{EntryError, Inserted, NameEntry};
use super::name::Pattern;
use super::storage::{NONE, NameParts, NameSlot, NameStorage};
use super::table::{Names, Place, slot_mut};
use crate::divert::{Divert, DivertError, Match, Target};
use crate::endpoint::Prefix;
use crate::table::rule::DivertEntry;
use crate::table::storage::Storage;
use crate::translator::{Diverted, Redivert, RedivertError, Rediverted, Removed, Translator};

/// What [`Names::divert`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct NameDiverted {
    /// What was done to the names.
    pub entry: Inserted,
    /// What was done to the rules.
    pub rule: Diverted,
}

/// Why an entry and its rule could not be changed together. Neither has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TieError {
    /// The entry was refused.
    Entry(EntryError),
    /// The rule was refused.
    Divert(DivertError),
    /// The re-divert was refused.
    Redivert(RedivertError),
    /// The rule is for more than one address, so a name cannot be answered with it.
    ManyOriginals {
        /// What the rule matches.
        destination: Prefix,
    },
    /// The rule is for other clients than the entry: some would get an original that is not diverted for them.
    OtherClients {
        /// The entry's clients.
        entry: Prefix,
        /// The rule's clients.
        rule: Prefix,
    },
    /// There is an entry that is not tied to a rule, or is tied to another one. Remove it first.
    OtherRule {
        /// The match of the rule that it is tied to, if any.
        rule: Option<Match>,
    },
    /// There is no entry with this pattern and these clients.
    NoEntry,
    /// The entry is not tied to a rule.
    NotTied,
    /// There is no rule that the entry could be tied to.
    NoRule {
        /// What it would match.
        rule: Match,
    },
    /// The rule has been removed, but not the entry. Enter the rule again ([`Names::divert`]), or remove the entry.
    RuleGone {
        /// What it matched.
        rule: Match,
    },
    /// The rule has several servers. Name the one to move away from ([`Translator::redivert`]).
    Group {
        /// How many servers it has.
        servers: usize,
    },
    /// No address of a pool that was looked at can be an original ([`Names::draw_original`]).
    PoolUsedUp {
        /// The pool.
        pool: Prefix,
    },
    /// Another rule has the same server, and its connections would be moved with those of this one. Only
    /// [`Redivert::Drain`] leaves them alone; or move all with [`Translator::redivert`].
    SharedServer {
        /// The server.
        target: Target,
        /// What the other rule matches.
        rule: Match,
    },
}

impl fmt::Display for TieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(error) => error.fmt(f),
            Self::Divert(error) => error.fmt(f),
            Self::Redivert(error) => error.fmt(f),
            Self::ManyOriginals { destination } => {
                write!(f, "destination {destination}: a name is answered with one address")
            }
            Self::OtherClients { entry, rule } => {
                write!(f, "entry from {entry}, rule from {rule}: the rule must be for all clients of the entry")
            }
            Self::OtherRule { rule: Some(rule) } => write!(f, "the entry is tied to another rule, for {rule}"),
            Self::OtherRule { rule: None } => f.write_str("there is an entry that is tied to no rule"),
            Self::NoEntry => f.write_str("there is no such entry"),
            Self::NotTied => f.write_str("the entry is tied to no rule"),
            Self::NoRule { rule } => write!(f, "there is no rule for {rule}"),
            Self::RuleGone { rule } => write!(f, "the rule for {rule} has been removed"),
            Self::Group { servers } => write!(f, "the rule has {servers} servers: name the one to move away from"),
            Self::PoolUsedUp { pool } => write!(f, "pool {pool}: no address that was looked at is free"),
            Self::SharedServer { target, rule } => {
                write!(f, "server {target} is also that of the rule for {rule}, which would move too")
            }
        }
    }
}

impl core::error::Error for TieError {}

impl From<EntryError> for TieError {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<RedivertError> for TieError {
    fn from(error: RedivertError) -> Self {
        Self::Redivert(error)
    }
}

impl<N: NameStorage> Names<N> {
    /// Enters a name and the rule that diverts its address, both or none: clients get the rule's original, and their
    /// connections go to its server. The entry's own addresses are ignored. An entry that is tied to this rule already
    /// is updated, and so is the rule.
    ///
    /// Several entries may be tied to the same rule, as aliases. Use a rule without a port unless the name is for that
    /// port alone: what a rule does not match goes to the original itself.
    ///
    /// # Errors
    /// [`TieError`] says what is wrong; nothing has changed then.
    ///
    /// ```
    /// # use byway::naming::*;
    /// # use byway::*;
    /// # use core::net::Ipv4Addr;
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<4>::new());
    /// let www: Pattern = "www.bt.com".parse()?;
    /// let original = Ipv4Addr::new(100, 100, 100, 100);
    /// let [a, b] = [89, 90].map(|n| Ipv4Addr::new(123, 45, 67, n));
    ///
    /// names.divert(&mut byway, NameEntry::new(www).ttl(86_400), Divert::new(original).to(a))?;
    /// // Later the monitor wants the name to be served by `b`. Clients may have cached the answer for a day: it is right.
    /// names.redivert(&mut byway, &www, Prefix::ALL, b, Redivert::Switch)?;
    /// assert!(byway.diverts().flat_map(|rule| rule.servers()).all(|(server, _)| server.target == b.into()));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn divert<S: Storage>(
        &mut self,
        translator: &mut Translator<S>,
        entry: NameEntry<'_>,
        divert: Divert<'_>,
    ) -> Result<NameDiverted, TieError> {
        let rule = divert.matches();
        let entry = entry.to(original_of(&rule, entry.clients)?);
        let hash = self.hash(&entry.pattern);
        let place = self.place(hash, &entry.pattern, entry.clients);
        if let Some(other) = self.slot(place.at).map(NameSlot::rule)
            && other != Some(rule)
        {
            return Err(TieError::OtherRule { rule: other });
        }
        // Plan the rule first, because an update of the entry is not undone below.
        translator.plan().divert(&divert).map_err(TieError::Divert)?;
        let inserted = self.enter(hash, place, &entry)?;
        // The plan has accepted it in the same state.
        let diverted = match translator.divert(divert) {
            Ok(diverted) => diverted,
            Err(error) => {
                if !inserted.updated {
                    let place = self.place(hash, &entry.pattern, entry.clients);
                    self.take_out(hash, place);
                }
                return Err(TieError::Divert(error));
            }
        };
        let at = self.place(hash, &entry.pattern, entry.clients).at;
        self.set_tie(at, Some(&rule));
        // Another entry may be suspended until this rule is there.
        self.state.checked = None;
        Ok(NameDiverted { entry: inserted, rule: diverted })
    }

    /// Ties an entry to a rule that is there already: clients get the rule's original. An entry with the same pattern
    /// and clients is updated, also one that was tied to another rule or to none. The entry's own addresses are
    /// ignored.
    ///
    /// # Errors
    /// [`TieError`] says what is wrong; nothing has changed then.
    pub fn tie_to<S: Storage>(
        &mut self,
        translator: &Translator<S>,
        entry: NameEntry<'_>,
        rule: Match,
    ) -> Result<Inserted, TieError> {
        let entry = entry.to(original_of(&rule, entry.clients)?);
        if translator.find_divert(rule).is_none() {
            return Err(TieError::NoRule { rule });
        }
        let hash = self.hash(&entry.pattern);
        let place = self.place(hash, &entry.pattern, entry.clients);
        let inserted = self.enter(hash, place, &entry)?;
        let at = self.place(hash, &entry.pattern, entry.clients).at;
        self.set_tie(at, Some(&rule));
        Ok(inserted)
    }

    /// Moves a name to another server: its rule leads there from now on, and its connections follow as `how` says,
    /// whatever its clients have cached. The rule must have one server, and no other rule may have the same one unless
    /// `how` is [`Redivert::Drain`].
    ///
    /// It looks at each rule once.
    ///
    /// # Errors
    /// [`TieError`] says what is wrong; nothing has changed then.
    pub fn redivert<S: Storage>(
        &mut self,
        translator: &mut Translator<S>,
        pattern: &Pattern,
        clients: Prefix,
        to: impl Into<Target>,
        how: Redivert,
    ) -> Result<Rediverted, TieError> {
        let (_, _, rule) = self.tied(pattern, clients)?;
        let to = to.into();
        let (divert, from, connections) = {
            let found = translator.find_divert(rule).ok_or(TieError::RuleGone { rule })?;
            let mut servers = found.servers();
            let (Some((server, connections)), None) = (servers.next(), servers.next()) else {
                return Err(TieError::Group { servers: found.servers().count() });
            };
            (Divert::new(rule).to(to).with_options(found.options()), server.target, connections)
        };
        let shares = |other: &DivertEntry<'_>| {
            other.matches() != rule && other.servers().any(|(server, _)| meet(server.target, from))
        };
        let Some(other) = translator.diverts().find(shares).map(|other| other.matches()) else {
            return Ok(translator.redivert(from, to, how)?);
        };
        if how != Redivert::Drain {
            return Err(TieError::SharedServer { target: from, rule: other });
        }
        // What the re-divert would refuse is refused here as well.
        translator.plan().redivert(from, to, how)?;
        let Diverted { generation, .. } = translator.divert(divert).map_err(TieError::Divert)?;
        Ok(Rediverted { generation, servers: 1, connections })
    }

    /// Removes an entry and, unless another entry is tied to it too, its rule. Connections go on until they end. A client
    /// that has cached the answer goes to the original from then on: to let caches run out first,
    /// [untie](Self::untie) the entry, remove it, and remove the rule after its time to live.
    ///
    /// Returns what happened to the rule; `None` if it stays, or had been removed before.
    ///
    /// # Errors
    /// [`TieError::NoEntry`] and [`TieError::NotTied`]; nothing has changed then.
    pub fn remove_both<S: Storage>(
        &mut self,
        translator: &mut Translator<S>,
        pattern: &Pattern,
        clients: Prefix,
    ) -> Result<Option<Removed>, TieError> {
        let (hash, place, rule) = self.tied(pattern, clients)?;
        self.set_tie(place.at, None);
        self.take_out(hash, place);
        let is_needed = self.entries().any(|entry| entry.rule() == Some(rule));
        Ok(if is_needed { None } else { translator.remove(rule) })
    }

    /// Unties an entry from its rule: both stay as they are, and each can be changed alone. Returns what the rule matches.
    ///
    /// An entry that was suspended, because its rule is gone, is answered again, with an original that nothing diverts:
    /// remove it or give it another address next.
    ///
    /// # Errors
    /// [`TieError::NoEntry`] and [`TieError::NotTied`]; nothing has changed then.
    pub fn untie(&mut self, pattern: &Pattern, clients: Prefix) -> Result<Match, TieError> {
        let (_, place, rule) = self.tied(pattern, clients)?;
        self.set_tie(place.at, None);
        Ok(rule)
    }

    /// Suspends the entries whose rule is gone, because it was removed without them, and resumes those whose rule is
    /// there again. The names of a suspended entry pass to the DNS server, rather than being answered with an original
    /// that nothing diverts. Returns how many are suspended.
    ///
    /// Call it after instructions to the translator that do not come through here. It looks at all entries if a rule has
    /// changed, and at none otherwise. It tells that by the translator's generation, so always pass the same translator.
    pub fn check_rules<S: Storage>(&mut self, translator: &Translator<S>) -> usize {
        let generation = translator.generation();
        let slots = self.storage.parts().slots;
        if self.state.tied != 0 && self.state.checked != Some(generation) {
            for slot in slots.iter_mut() {
                if let Some(rule) = slot.rule() {
                    slot.suspend(translator.find_divert(rule).is_none());
                }
            }
        }
        self.state.checked = Some(generation);
        if self.state.tied == 0 { 0 } else { slots.iter().filter(|slot| slot.is_suspended()).count() }
    }

    /// The entry with this pattern and these clients, which must be tied to a rule.
    fn tied(&self, pattern: &Pattern, clients: Prefix) -> Result<(u64, Place, Match), TieError> {
        let hash = self.hash(pattern);
        let place = self.place(hash, pattern, clients);
        let slot = self.slot(place.at).filter(|_| place.at != NONE).ok_or(TieError::NoEntry)?;
        Ok((hash, place, slot.rule().ok_or(TieError::NotTied)?))
    }

    pub(super) fn set_tie(&mut self, number: u32, rule: Option<&Match>) {
        let NameParts { slots, .. } = self.storage.parts();
        if let Some(slot) = slot_mut(slots, number) {
            let was = slot.rule().is_some();
            slot.set_rule(rule);
            self.state.tied = self.state.tied + usize::from(rule.is_some()) - usize::from(was);
        }
    }
}

/// The original that a rule is for, if an entry for these clients can be answered with it.
fn original_of(rule: &Match, clients: Prefix) -> Result<Ipv4Addr, TieError> {
    let Some(original) = one_address(rule.destination()) else {
        return Err(TieError::ManyOriginals { destination: rule.destination() });
    };
    let wide = rule.from_clients();
    if clients.length() < wide.length() || !wide.contains(clients.network()) {
        return Err(TieError::OtherClients { entry: clients, rule: wide });
    }
    Ok(original)
}

pub(crate) fn one_address(destination: Prefix) -> Option<Ipv4Addr> {
    (destination.length() == 32).then(|| destination.network())
}

/// Whether connections can be on both targets at once: they are equal, or one includes the other.
fn meet(one: Target, other: Target) -> bool {
    match (one, other) {
        (Target::Same, _) | (_, Target::Same) => false,
        (Target::Address(a), Target::Address(b)) => a == b,
        (Target::Endpoint(a), Target::Endpoint(b)) => a == b,
        (Target::Address(a), Target::Endpoint(b)) | (Target::Endpoint(b), Target::Address(a)) => a == *b.ip(),
    }
}
