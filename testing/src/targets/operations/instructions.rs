//! What is no packet: rules, re-diverts, polls, records.

use byway::{
    Divert, Imported, Instant, Match, Midstream, Prefix, Record, Redivert, RedivertError, Storage, TRANSMIT_BUFFER,
    Target, Weighted,
};

use super::super::model::Move;
use super::super::model::rules::{Rule, place};
use super::run::Run;
use super::{ALTERNATIVE, OWN};

impl<F: Storage> Run<'_, F> {
    pub(super) fn divert(
        &mut self,
        matches: Match,
        targets: &[Weighted],
        keep_source: bool,
        siblings: bool,
        midstream: Option<Midstream>,
    ) {
        let mut divert = Divert::new(matches);
        divert = match targets {
            [one] if one.weight == 1 => divert.to(one.target),
            group => divert.to_group(group),
        };
        if keep_source {
            divert = divert.keep_source();
        }
        if siblings {
            divert = divert.replies_from_any_port();
        }
        if let Some(midstream) = midstream {
            divert = divert.midstream(midstream);
        }
        let generation = self.one.generation();
        let done = self.one.divert(divert);
        assert_eq!(self.two.divert(divert), done);
        match done {
            Err(byway::DivertError::TableFull { .. } | byway::DivertError::ServersFull { .. }) if self.large => {}
            Ok(done) if self.large => {
                let theirs = self.bursting.divert(divert).expect("there is room for more");
                assert_eq!((theirs.generation, theirs.updated), (done.generation, done.updated));
            }
            done => assert_eq!(self.bursting.divert(divert), done),
        }
        let twice = targets.iter().enumerate().any(|(n, t)| targets[..n].iter().any(|o| o.target == t.target));
        let to_itself = |t: Target| {
            let place = place(t);
            let same = |p: super::super::model::Place| Prefix::host(p.address) == matches.destination();
            place.is_some_and(|p| same(p) && (p.port.is_none() || p.port == matches.port()))
        };
        let own = [ALTERNATIVE, OWN].map(Prefix::host).contains(&matches.destination());
        let wrong = targets.is_empty()
            || targets.iter().all(|t| t.weight == 0)
            || twice
            || (own && targets.iter().any(|t| t.target == Target::Same))
            || matches!(targets, [one] if to_itself(one.target));
        match done {
            Ok(done) => {
                assert!(!wrong, "a rule was taken that makes no sense");
                assert_eq!(done.generation, generation.wrapping_add(1));
                let rule = Rule { matches, targets: targets.to_vec(), keep_source, siblings, midstream };
                assert_eq!(done.updated, self.model.rules.divert(rule));
            }
            Err(byway::DivertError::TableFull { .. } | byway::DivertError::ServersFull { .. }) => {}
            Err(error) => assert!(wrong, "a rule was refused: {error}"),
        }
        self.check_rules();
    }

    pub(super) fn remove(&mut self, matches: Match) {
        let done = self.one.remove(matches);
        assert_eq!(self.two.remove(matches), done);
        let theirs = self.bursting.remove(matches);
        assert_eq!(theirs.map(|r| r.generation), done.map(|r| r.generation));
        assert!(self.large || theirs == done);
        assert_eq!(done.is_some(), self.model.rules.remove(matches));
        self.check_rules();
    }

    pub(super) fn redivert(&mut self, from: Target, to: Target, how: Redivert) {
        let generation = self.one.generation();
        let done = self.one.redivert(from, to, how);
        assert_eq!(self.two.redivert(from, to, how), done);
        match done {
            Err(RedivertError::Busy { .. } | RedivertError::ServersFull { .. }) if self.large => {}
            done => assert_eq!(self.bursting.redivert(from, to, how), done),
        }
        match (place(from), place(to), done) {
            (None, _, done) => assert_eq!(done, Err(RedivertError::NoServer { name: "from" })),
            (_, None, done) => assert_eq!(done, Err(RedivertError::NoServer { name: "to" })),
            (Some(old), Some(new), done) if old == new => {
                assert_eq!(done, Err(RedivertError::SameServer { target: to }));
            }
            (Some(from_place), Some(to_place), Ok(done)) => {
                assert_eq!(done.generation, generation.wrapping_add(1));
                assert_eq!(done.servers, self.model.rules.redivert(from, to, how));
                if how != Redivert::Drain {
                    let reset = how == Redivert::Reset;
                    self.model.moves.push(Move { from: from_place, to: to_place, reset });
                }
            }
            (_, _, Err(RedivertError::Busy { .. } | RedivertError::ServersFull { .. })) => {}
            // There is no room for connections that can be handed over.
            (_, _, Err(RedivertError::NotResumable { .. }))
                if matches!(how, Redivert::HandOver | Redivert::HandOverOrReset) => {}
            (_, _, Err(error)) => panic!("a re-divert was refused: {error}"),
        }
        self.check_rules();
    }

    pub(super) fn poll(&mut self) {
        let now = Instant::from_micros(self.now());
        self.one.poll(now);
        self.two.poll(now);
        self.bursting.poll(now);
        let next = self.one.poll_at();
        assert_eq!(self.two.poll_at(), next);
        // A translator with an index of rules also has to rebuild that after rules have gone.
        let theirs = self.bursting.poll_at();
        let comes_early = self.large && theirs.is_some_and(|theirs| next.is_none_or(|next| theirs < next));
        assert!(theirs == next || comes_early, "it wants to be called at {theirs:?}, not {next:?}");
        for next in [next, theirs] {
            assert!(next.is_none_or(|next| next >= now), "it wants to be called in the past");
        }
        let events = self.events_of_all();
        self.model.quiet_step(&events);
        // As long as it goes through its table, it wants to be called at once.
        self.model.forgetting &= next == Some(now);
    }

    pub(super) fn forget(&mut self) {
        let done = self.one.forget();
        assert_eq!(self.two.forget(), done);
        assert_eq!(self.bursting.forget(), done);
        assert!(done.connections as usize <= self.model.alive().count());
        assert_eq!(self.one.connections().count(), 0);
        self.model.forget();
        let events = self.events_of_all();
        self.model.quiet_step(&events);
    }

    pub(super) fn transmit(&mut self) {
        let now = Instant::from_micros(self.now());
        let mut buffers = [[0; TRANSMIT_BUFFER]; 3];
        let [a, b, c] = &mut buffers;
        loop {
            let transmit = self.one.poll_transmit(now, a);
            assert_eq!(self.two.poll_transmit(now, b), transmit);
            assert_eq!(self.bursting.poll_transmit(now, c), transmit);
            let events = self.events_of_all();
            self.model.quiet_step(&events);
            let Some(transmit) = transmit else {
                break;
            };
            let said = &a[..transmit.length];
            assert!(said == &b[..transmit.length] && said == &c[..transmit.length]);
            self.model.said(said, transmit.direction == byway::Direction::ToClient);
        }
    }

    /// A record of our own changes nothing; a damaged one is refused.
    pub(super) fn import(&mut self, which: u8, place: u8, value: u8) {
        let now = Instant::from_micros(self.now());
        self.one.poll(now);
        self.two.poll(now);
        self.bursting.poll(now);
        let events = self.events_of_all();
        self.model.quiet_step(&events);
        let records: Vec<Record> = self.one.records().collect();
        let Some(record) = records.get(usize::from(which) % records.len().max(1)) else {
            return;
        };
        let mut bytes = *record.as_bytes();
        if let Some(byte) = bytes.get_mut(usize::from(place))
            && value != 0
        {
            *byte ^= value;
            assert!(Record::from_bytes(&bytes).is_err(), "a damaged record was read");
            return;
        }
        assert_eq!(Record::from_bytes(&bytes), Ok(*record));
        let told = record.connection().expect("a record is well-formed");
        if self.model.alive().any(|c| c.near == told.client_side && self.model.is_behind(c)) {
            return;
        }
        for done in [self.one.import(now, record), self.two.import(now, record), self.bursting.import(now, record)] {
            assert_eq!(done, Ok(Imported::Updated));
        }
        self.model.imported(told.protocol, told.client_side);
        let events = self.events_of_all();
        self.model.quiet_step(&events);
    }
}
