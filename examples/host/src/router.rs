//! A router around a translator: what happens to a packet from the moment it comes until it leaves.
//!
//! ```text
//!   checked: header, martians          -> dropped
//!   TTL about to run out, not for us   -> time exceeded, before anything is translated
//!   a query for a name of the table    -> answered; over TCP all queries are taken, and others relayed
//!   translated                         -> sent on: TTL decremented, length judged
//!   passed, for an own address         -> a query is relayed; echo reply, or unreachable
//!   passed, and a rule is about it     -> does not leave, unless the rule fails open
//!   passed, a server's, after a crash  -> may not leave
//!   passed                             -> sent on
//!   a fragment before its first        -> kept, and offered again
//! ```

use core::net::Ipv4Addr;
use std::collections::HashSet;
use std::sync::Arc;

use byway::{
    Connection, DatagramId, DropReason, Heap, Imported, Instant, Match, Prefix, Protocol, Record, RecordError, State, Translator, Verdict,
};

use crate::counters::Counters;
use crate::held::{Given, Held};
use crate::icmp::{Error, Quote};
use crate::limiter::Limiter;
use crate::names::{Named, Naming};
use crate::packet::{self, Fault};
use crate::policy::{Policies, Policy};
use crate::portion::{self, Awaited, Direction, Early};
use crate::resumable::{self, Mover};
use crate::strays::Strays;
use crate::tap::Tap;
use crate::vnet::{LENGTH, VnetHeader};

mod own;

/// How many records are imported at once.
const IMPORTS: usize = 64;

/// Where packets are sent.
pub trait Output {
    /// Sends a frame: a [`VnetHeader`] and a packet. What cannot be sent is lost, and counted.
    fn send(&mut self, frame: &[u8], counters: &mut Counters);
}

/// The settings of a router, which may change later.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source address of its own messages.
    pub address: Ipv4Addr,
    /// The longest packet that it sends on, in bytes.
    pub mtu: u16,
    /// How many ICMP errors of its own it sends in a second.
    pub errors_per_second: u32,
    /// How many fragments it keeps.
    pub held: usize,
    /// How connections are handed over, if any can be.
    pub resumable: Option<resumable::Settings>,
    /// The direction of packets that can arrive before the other portion's record of their connection.
    pub early: Option<Direction>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It leaves as it is now.
    Leaves,
    /// It is kept until another comes.
    Waits,
    /// Nothing more happens to it.
    Ends,
}

/// A router with its translator: one shard.
#[derive(Debug)]
pub struct Router {
    /// The translator.
    pub translator: Translator<Heap>,
    /// The counters.
    pub counters: Counters,
    settings: Settings,
    open: HashSet<Match>,
    policies: Policies,
    /// What servers send of connections that are not known after a crash.
    pub strays: Strays,
    held: Held,
    /// Packets that wait for the other portion's record.
    early: Option<Early>,
    /// Hands connections over, if that is wanted.
    mover: Option<Mover>,
    errors: Limiter,
    /// The naming server, which all shards share.
    naming: Option<Arc<Naming>>,
    /// A capture of one rule's packets.
    pub tap: Option<Tap>,
}

impl Router {
    /// A router around this translator.
    #[must_use]
    pub fn new(translator: Translator<Heap>, settings: Settings) -> Self {
        Self {
            translator,
            counters: Counters::default(),
            open: HashSet::new(),
            policies: Policies::default(),
            strays: Strays::default(),
            held: Held::new(settings.held),
            early: settings.early.map(Early::new),
            mover: settings.resumable.as_ref().map(Mover::new),
            errors: Limiter::new(settings.errors_per_second),
            naming: None,
            tap: None,
            settings,
        }
    }

    /// Sets the rules that let packets leave untranslated rather than drop them.
    pub fn fail_open(&mut self, open: HashSet<Match>) {
        self.open = open;
        self.policies.forget();
        self.strays.forget();
    }

    /// Packets to this prefix do not leave unless a rule matches them.
    pub const fn close(&mut self, prefix: Prefix) {
        self.policies.close(prefix);
    }

    /// Sets the status of the stream to the other portion: without the stream no packet waits for a record.
    pub fn follow_link(&mut self, status: &Arc<portion::Status>) {
        if let Some(early) = &mut self.early {
            early.follow(status.clone());
        }
    }

    /// Makes a naming server answer queries.
    pub fn answer_names(&mut self, naming: Arc<Naming>) {
        self.naming = Some(naming);
    }

    /// Continues a connection of the process before.
    ///
    /// # Errors
    /// The translator's.
    pub fn import(&mut self, time: Instant, record: &Record) -> Result<(), RecordError> {
        self.translator.import(time, record)?;
        self.inherit(record);
        Ok(())
    }

    /// Continues connections of the process before. `refuse` gets the translator's reason for each one that it refuses.
    pub fn import_all(&mut self, time: Instant, records: &[Record], mut refuse: impl FnMut(RecordError)) {
        let mut results = [Ok(Imported::New); IMPORTS];
        for records in records.chunks(IMPORTS) {
            self.translator.import_burst(time, records, &mut results);
            for (record, result) in records.iter().zip(results) {
                match result {
                    Ok(_) => self.inherit(record),
                    Err(why) => refuse(why),
                }
            }
        }
    }

    /// A connection of another process has come here.
    fn inherit(&mut self, record: &Record) {
        if let (Some(mover), Some(connection)) = (&mut self.mover, record.connection()) {
            mover.inherit(connection.client_side);
        }
    }

    /// Takes over what the other portion knows of a connection.
    ///
    /// # Errors
    /// The translator's.
    pub fn join(&mut self, now: Instant, record: &Record) -> Result<(), RecordError> {
        if self.doubts(record) {
            return Ok(());
        }
        self.import(now, record)?;
        if let (Some(early), Some(connection)) = (&mut self.early, record.connection()) {
            early.release(&connection);
        }
        Ok(())
    }

    /// Whether a RST has passed here since the other portion has seen its last packet, so that its record is no sign of life:
    /// there the connection counts as established still.
    fn doubts(&self, record: &Record) -> bool {
        let known = record.connection().and_then(|Connection { protocol, client_side, .. }| {
            self.translator.connection(protocol, client_side.source, client_side.destination)
        });
        let doubtful = known.map(|(known, _)| known).filter(|known| known.state == State::Doubtful);
        let is_over = record.connection().is_some_and(|connection| connection.state == State::TimeWait);
        let since = doubtful.and_then(|known| self.translator.record(&known)?.idle());
        since.is_some_and(|since| !is_over && record.idle().is_some_and(|idle| idle >= since))
    }

    /// How many fragments wait for the first of their datagram.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether a packet has to wait for the other portion: its client says that the server has answered it, and nothing is
    /// known of that here.
    fn awaits_answer(&self, packet: &[u8]) -> Option<Awaited> {
        let _ = self.early.as_ref().filter(|early| early.keeps(Direction::ToServer))?;
        let (from, to) = packet::goes_on(packet)?;
        let (known, _) = self.translator.connection(Protocol::Tcp, from, to)?;
        (known.state == State::Opening).then_some(Awaited::Answer(from, to))
    }

    /// Routes what came to this shard alone: a [`VnetHeader`] and a packet.
    pub fn forward(&mut self, now: Instant, frame: &mut [u8], out: &mut impl Output) {
        if let Some(length) = self.take(now, frame, Given::Alone, out) {
            out.send(frame.get(..length).unwrap_or_default(), &mut self.counters);
        }
    }

    /// Routes what was given to this shard, or to every shard. If the frame leaves, returns its length: it is the caller who
    /// sends it, when this router is free for others again. What else leaves goes to `out`.
    #[must_use = "it is the caller who sends the frame"]
    pub fn take(&mut self, now: Instant, frame: &mut [u8], given: Given, out: &mut impl Output) -> Option<usize> {
        self.counters.received += 1;
        self.counters.received_bytes += frame.len().saturating_sub(LENGTH) as u64;
        let Some((header, packet)) = split(frame) else {
            self.counters.malformed += 1;
            return None;
        };
        let total = match packet::check(packet) {
            Ok(total) => total,
            Err(fault) => {
                self.count(fault);
                return None;
            }
        };
        self.counters.super_packets += u64::from(header.super_packet().is_some());
        let frame = frame.get_mut(..LENGTH + total)?;
        if let Some(awaited) = self.awaits_answer(frame.get(LENGTH..).unwrap_or_default())
            && self.early.as_mut().is_some_and(|early| early.keep(now, awaited, frame))
        {
            self.counters.early_kept += 1;
            return None;
        }
        let fate = self.route(now, &header, frame, given, out);
        self.speak(now, out);
        (fate == Fate::Leaves).then_some(frame.len())
    }

    /// Translates a frame. If it is a fragment, sends it on its way at once, and then those that have waited for it.
    fn route(
        &mut self,
        now: Instant,
        header: &VnetHeader,
        frame: &mut [u8],
        given: Given,
        out: &mut impl Output,
    ) -> Fate {
        // The identity must be taken from the packet as it came.
        let datagram = frame.get(LENGTH..).and_then(DatagramId::of_fragment);
        let fate = self.translate(now, header, frame, given, out);
        let Some(datagram) = datagram else {
            return fate;
        };
        self.send(fate, frame, out);
        if fate != Fate::Waits {
            // It may be the first, and those that came before it can follow. If it was dropped, they wait again.
            for (mut frame, given) in self.held.take(now, datagram) {
                if let Some((header, _)) = split(&mut frame) {
                    let fate = self.translate(now, &header, &mut frame, given, out);
                    self.send(fate, &frame, out);
                }
            }
        }
        Fate::Ends
    }

    /// Sends a frame, if it leaves.
    fn send(&mut self, fate: Fate, frame: &[u8], out: &mut impl Output) {
        if fate == Fate::Leaves {
            out.send(frame, &mut self.counters);
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Instant, out: &mut impl Output) {
        self.held.expire(now, &mut self.counters);
        if let Some(early) = &mut self.early {
            self.counters.early_expired += early.expire(now) as u64;
        }
        // While they are routed none is kept again.
        if let Some(mut early) = self.early.take() {
            while let Some(mut frame) = early.take() {
                if let Some((header, _)) = split(&mut frame) {
                    let fate = self.route(now, &header, &mut frame, Given::Alone, out);
                    self.send(fate, &frame, out);
                }
            }
            self.early = Some(early);
        }
        if self.translator.poll_at().is_some_and(|due| due <= now) {
            self.translator.poll(now);
        }
        if let Some(mover) = &mut self.mover {
            mover.poll(now, &mut self.translator, &mut self.counters);
        }
        if let Some(naming) = &self.naming {
            let packets = naming.poll(now, &self.translator);
            self.send_own(&packets, out);
        }
        self.speak(now, out);
    }

    /// When to poll at the latest.
    #[must_use]
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let mover = self.mover.as_ref().and_then(|mover| mover.poll_at(now));
        let naming = self.naming.as_ref().and_then(|naming| naming.poll_at());
        let early = self.early.as_ref().and_then(Early::due);
        self.translator.poll_at().into_iter().chain(mover).chain(naming).chain(early).chain(self.held.due()).min()
    }

    fn count(&mut self, fault: Fault) {
        match fault {
            Fault::NotIpv4 => self.counters.not_ipv4 += 1,
            Fault::Malformed => self.counters.malformed += 1,
            Fault::Martian => self.counters.martian += 1,
        }
    }

    /// Translates a frame.
    fn translate(
        &mut self,
        now: Instant,
        header: &VnetHeader,
        frame: &mut [u8],
        given: Given,
        out: &mut impl Output,
    ) -> Fate {
        let Some(packet) = frame.get_mut(LENGTH..) else {
            return Fate::Ends;
        };
        let expires = packet::ttl(packet) <= 1;
        let local = self.translator.is_own(packet::destination(packet));
        if expires && !local {
            self.counters.ttl_exceeded += 1;
            self.complain(now, Error::TimeExceeded, Quote::of(header, packet), out);
            return Fate::Ends;
        }
        let is_long = packet::is_whole_or_nothing(packet) && header.longest(packet) > usize::from(self.settings.mtu);
        if let Some(naming) = &self.naming
            && naming.concerns(packet)
        {
            match naming.take(now, header, packet, &self.translator) {
                Named::Pass => {}
                Named::Done(own) => {
                    self.send_own(&own, out);
                    return Fate::Ends;
                }
                Named::Split(own, others) => {
                    self.send_own(&own, out);
                    for other in others {
                        let mut frame = vec![0; LENGTH];
                        frame.extend(other);
                        // It is no query for this naming server, and passes at once.
                        let fate = self.translate(now, &VnetHeader::NONE, &mut frame, given, out);
                        self.send(fate, &frame, out);
                    }
                    return Fate::Ends;
                }
            }
        }
        // Errors quote a packet as it came, and translation changes it.
        let quote = if expires || is_long { Quote::of(header, packet) } else { None };
        let meta = header.meta(packet);
        let datagram = DatagramId::of_fragment(packet);
        let before = self.tap.as_ref().map(|_| packet.to_vec());
        let verdict = match &mut self.mover {
            Some(mover) => mover.translate(now, &mut self.translator, packet, meta),
            None => self.translator.translate_with(now, packet, meta),
        };
        if let (Some(tap), Some(before)) = (&self.tap, before)
            && !tap.show(now, header, verdict, &before, packet)
        {
            self.tap = None;
        }
        match verdict {
            Verdict::ToServer | Verdict::ToClient => return self.forwarded(now, quote, expires, is_long, packet, out),
            Verdict::Pass if local => self.receive(now, header, frame, out),
            Verdict::Pass => match self.policy(packet) {
                Policy::Free if self.strays.include(now, packet, &self.translator, (&self.open, &self.policies)) => {
                    self.counters.strays_dropped += 1;
                }
                Policy::Free => return self.forwarded(now, quote, expires, is_long, packet, out),
                Policy::Open => {
                    self.counters.failed_open += 1;
                    return self.forwarded(now, quote, expires, is_long, packet, out);
                }
                Policy::Closed => {
                    self.counters.failed_closed += 1;
                    let quote = Quote::of(header, packet);
                    self.complain(now, Error::Prohibited, quote, out);
                }
            },
            Verdict::Hold => {
                let until = self.translator.hold_until(now);
                if let Some(datagram) = datagram {
                    self.held.keep(now, datagram, until, frame, given, &mut self.counters);
                }
                return Fate::Waits;
            }
            Verdict::Drop(DropReason::NoConnection) => {
                let early = self.early.as_mut().filter(|early| early.keeps(Direction::ToClient));
                let kept = early.zip(Awaited::by_reply(packet)).is_some_and(|(early, of)| early.keep(now, of, frame));
                self.counters.early_kept += u64::from(kept);
            }
            Verdict::Drop(reason) => {
                if is_want_of_room(reason) && self.policy(packet) == Policy::Open {
                    self.counters.failed_open += 1;
                    self.speak_but(now, Some(packet), out);
                    return self.forwarded(now, quote, expires, is_long, packet, out);
                }
            }
        }
        Fate::Ends
    }

    fn policy(&mut self, packet: &[u8]) -> Policy {
        self.policies.follow(&self.translator, &self.open);
        self.policies.of(packet)
    }

    /// What a router does to a packet that it sends on.
    fn forwarded(
        &mut self,
        now: Instant,
        quote: Option<Quote>,
        expires: bool,
        is_long: bool,
        packet: &mut [u8],
        out: &mut impl Output,
    ) -> Fate {
        if expires {
            self.counters.ttl_exceeded += 1;
            self.complain(now, Error::TimeExceeded, quote, out);
            return Fate::Ends;
        }
        if is_long {
            self.counters.too_long += 1;
            self.complain(now, Error::FragmentationNeeded(self.settings.mtu), quote, out);
            return Fate::Ends;
        }
        packet::decrement_ttl(packet);
        Fate::Leaves
    }

}

/// The parts of a frame.
fn split(frame: &mut [u8]) -> Option<(VnetHeader, &mut [u8])> {
    let (header, packet) = frame.split_first_chunk_mut::<LENGTH>()?;
    Some((VnetHeader::read(header), packet))
}

/// Whether a packet was dropped because no connection could be made for it.
const fn is_want_of_room(reason: DropReason) -> bool {
    matches!(reason, DropReason::TableFull | DropReason::ClientLimit | DropReason::NoPort)
}

#[cfg(test)]
mod tests;
