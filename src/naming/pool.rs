//! Originals that are drawn from a pool, so that each name has an address of its own that can be diverted.

use core::net::Ipv4Addr;

use super::name::Pattern;
use super::rules::TieError;
use super::storage::{NameSlot, NameStorage};
use super::table::Names;
use crate::endpoint::Prefix;
use crate::table::hash::reduce;
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::wire::ipv4::is_martian;

/// How many addresses of the pool are examined.
const DRAWS: u32 = 64;

impl<N: NameStorage> Names<N> {
    /// Draws an original for a name: an address of `pool` that no rule matches, that no entry is answered with, and
    /// that is not one of the translator's own. Pass it to [`divert`](Self::divert). A name that is tied to a rule for
    /// an address of the pool keeps that address, because clients may have cached it.
    ///
    /// The pool must be routed to this machine, and no host must have its addresses: 100.64.0.0/10 (RFC 6598) or a part
    /// of 10.0.0.0/8, for instance. Where the search begins depends on the name and the secret alone, so the same
    /// names, entered in the same order, draw the same addresses after a restart. After a name is removed, clients that
    /// have cached its address reach the name that draws it next: make the pool many times as large as the number of
    /// names.
    ///
    /// It examines each rule and each entry once, and 64 addresses: use at most half of the pool.
    ///
    /// # Errors
    /// [`TieError::PoolUsedUp`]
    ///
    /// ```
    /// # use byway::naming::*;
    /// # use byway::*;
    /// # use core::net::Ipv4Addr;
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<4>::new());
    /// let (www, pool): (Pattern, Prefix) = ("www.bt.com".parse()?, "100.64.0.0/10".parse()?);
    ///
    /// let original = names.draw_original(&byway, &www, Prefix::ALL, pool)?;
    /// let rule = Divert::new(original).to(Ipv4Addr::new(123, 45, 67, 89));
    /// names.divert(&mut byway, NameEntry::new(www).ttl(86_400), rule)?;
    /// assert_eq!(names.draw_original(&byway, &www, Prefix::ALL, pool)?, original);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn draw_original<S: Storage>(
        &self,
        translator: &Translator<S>,
        pattern: &Pattern,
        clients: Prefix,
        pool: Prefix,
    ) -> Result<Ipv4Addr, TieError> {
        let hash = self.hash(pattern);
        let known = self.slot(self.place(hash, pattern, clients).at).and_then(NameSlot::rule);
        if let Some(rule) = known
            && rule.destination().length() == 32
            && pool.contains(rule.destination().network())
        {
            return Ok(rule.destination().network());
        }
        let order = Order::new(hash, pool);
        let draws = DRAWS.min(order.last.saturating_add(1));
        let address = |draw: u32| order.address(draw);
        // A bit for each address that is taken.
        let mut taken = 0_u64;
        let mut take = |is_taken: &dyn Fn(Ipv4Addr) -> bool| {
            for draw in 0..draws {
                taken |= u64::from(is_taken(Ipv4Addr::from_bits(address(draw)))) << draw;
            }
        };
        take(&|one| is_martian(one.to_bits()) || translator.is_own(one));
        translator.diverts().for_each(|rule| take(&|one| rule.matches().destination().contains(one)));
        self.entries().for_each(|entry| {
            take(&|one| {
                let is_tied_to = entry.rule().is_some_and(|rule| rule.destination().contains(one));
                is_tied_to || entry.addresses().any(|listed| listed.address == one)
            });
        });
        let free = (0..draws).find(|draw| taken >> draw & 1 == 0);
        free.map(|draw| Ipv4Addr::from_bits(address(draw))).ok_or(TieError::PoolUsedUp { pool })
    }

    /// All addresses of `pool` that a host can have, in the order in which [`draw_original`](Self::draw_original) looks
    /// at them for this name: for a caller that draws originals for many names at once, and keeps track of the
    /// addresses that are taken, since `draw_original` looks at every rule and entry for each name. The order depends
    /// on the name and the secret alone.
    ///
    /// ```
    /// # use byway::naming::{FixedNames, Names, NamesConfig, Pattern};
    /// let names = Names::new(NamesConfig::new([7; 32]), FixedNames::<4>::new());
    /// let www: Pattern = "www.bt.com".parse()?;
    /// let mut all: Vec<_> = names.originals(&www, "100.64.0.0/28".parse()?).collect();
    /// all.sort();
    /// assert_eq!((all.len(), all[0].to_string()), (16, "100.64.0.0".into()));
    /// # Ok::<(), byway::ParseError>(())
    /// ```
    pub fn originals(&self, pattern: &Pattern, pool: Prefix) -> impl Iterator<Item = Ipv4Addr> + use<N> {
        let order = Order::new(self.hash(pattern), pool);
        let all = (0..=order.last).map(move |draw| order.address(draw)).filter(|address| !is_martian(*address));
        all.map(Ipv4Addr::from_bits)
    }
}

/// The addresses of a pool in cyclic order, from a start that a name's hash determines.
#[derive(Clone, Copy, Debug)]
struct Order {
    first: u32,
    start: u32,
    /// The number of addresses less one, since 32 bits may not be enough for the number itself.
    last: u32,
}

impl Order {
    fn new(hash: u64, pool: Prefix) -> Self {
        let last = u32::MAX.checked_shr(pool.length().into()).unwrap_or(0);
        let start = if last == u32::MAX { (hash >> 32) as u32 } else { reduce((hash >> 32) as u32, last + 1) };
        Self { first: pool.network().to_bits(), start, last }
    }

    const fn address(self, draw: u32) -> u32 {
        self.first.wrapping_add(self.start.wrapping_add(draw) & self.last)
    }
}
