//! The session with one translator: its reports, checked, and what it is asked.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::net::UdpSocket;

use byway::control::{
    Answer, Client, Code, Effect, GaveUp, Incoming, Instruction, MeasuredServer, Request,
};
use byway::monitor::{Distrust, Observation, Reading};
use byway::{Histogram, Instant, Match, Target};

use super::lead::Stand;
use super::listed::Listed;
use super::results::refusal;
use crate::config::monitor::Translator;

/// How long a subscription is asked for; it is renewed at a third of that.
const SUBSCRIPTION: u16 = 30;
/// Without a report for so many intervals the translator is thought to be away.
const PATIENCE: u32 = 12;
/// How long it takes until a translator that has not answered is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The most entries of one translator that are kept.
const MOST_ENTRIES: usize = 65_536;

/// What a translator was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Its rules, from a position on.
    List,
    /// Reports.
    Reports,
    /// Who leads.
    Lead,
    /// A change; the number is the asker's.
    Change(u64),
}

/// Why a change was not made.
#[derive(Clone, Debug)]
pub struct NotMade {
    /// In one line.
    pub why: String,
    /// Whether somebody else had changed something before.
    pub was_late: bool,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The session is open.
    Opened,
    /// Its rules are known.
    Listed,
    /// Something about a server.
    Server {
        /// The server.
        target: Target,
        /// Its weight in the group.
        weight: u16,
        /// Where it stands in the translator's list.
        position: u32,
        /// What was seen of it since the last report, if that can be said and believed.
        seen: Option<Observation>,
        /// Response times since the last report.
        times: Box<Histogram>,
        /// Connections on it.
        connections: u32,
    },
    /// The last page of a report has come.
    Round {
        /// Whether none was lost since the last page of the one before.
        is_whole: bool,
    },
    /// What has come of a change.
    Changed(u64, Result<Vec<Effect>, NotMade>),
    /// The session is over; why.
    Lost(String),
}

/// What was refused, lost or not understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Reports of servers that were not believed, by reason.
    pub distrusted: [u64; Distrust::ALL.len()],
    /// Reports of servers that no service names.
    pub unknown: u64,
    /// Datagrams of reports that were lost.
    pub missed: u64,
    /// Pages that could not be read to their end.
    pub malformed: u64,
}

/// A session with a translator.
#[derive(Debug)]
pub struct Link {
    /// The translator.
    pub translator: Translator,
    /// The generation of its rules, by its last answer.
    pub generation: u32,
    /// Its rules, if they are known.
    pub rules: Option<Vec<Listed>>,
    /// What was odd about it.
    pub oddities: Oddities,
    /// When its last report came.
    pub heard: Option<Instant>,
    /// Who of several monitors leads there.
    pub stand: Stand,
    interval: Duration,
    socket: Option<UdpSocket>,
    client: Option<Client>,
    is_open: bool,
    /// When it is asked again.
    again: Instant,
    renew: Instant,
    queue: VecDeque<(Ask, Request)>,
    current: Option<Ask>,
    /// How many datagrams were missed when the last report ended.
    missed: u64,
    listing: Vec<Listed>,
    /// Whether a listing is under way, with the generation that its first page had, once that is there.
    pub(super) is_listing: bool,
    listed_at: Option<u32>,
    /// Whether it has to be listed again after that.
    list_again: bool,
    readings: HashMap<u32, (Reading, Histogram)>,
    /// The servers of services; of others nothing is kept.
    servers: HashSet<Target>,
}

impl Link {
    /// A session that is yet to be opened.
    #[must_use]
    pub fn new(translator: Translator, interval: Duration, servers: HashSet<Target>, stand: Stand) -> Self {
        Self {
            translator,
            generation: 0,
            rules: None,
            oddities: Oddities::default(),
            heard: None,
            stand,
            interval,
            socket: None,
            client: None,
            is_open: false,
            again: Instant::ZERO,
            renew: Instant::ZERO,
            queue: VecDeque::new(),
            current: None,
            missed: 0,
            listing: Vec::new(),
            is_listing: false,
            listed_at: None,
            list_again: false,
            readings: HashMap::new(),
            servers,
        }
    }

    /// Whether there is a session.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether this monitor leads there, so that it may change something.
    #[must_use]
    pub fn acts(&self, now: Instant) -> bool {
        self.is_open && self.stand.acts(now)
    }

    /// Ends the session, so that another monitor can lead at once. Nobody waits for the answer.
    pub fn leave(&mut self, now: Instant) {
        if let (Some(client), Some(socket)) = (&mut self.client, &self.socket)
            && client.send(now, &Request::one(Instruction::Close)).is_ok()
            && let Ok(Some(datagram)) = client.poll_transmit(now)
        {
            let _ = socket.send(datagram);
        }
    }

    /// Its socket, while there is one.
    #[must_use]
    pub const fn socket(&self) -> Option<&UdpSocket> {
        self.socket.as_ref()
    }

    /// The rules, if they are known and it is not known that they have changed since.
    #[must_use]
    pub fn listed(&self) -> Option<&[Listed]> {
        self.rules.as_deref().filter(|_| !self.is_listing)
    }

    /// The rule with this match.
    #[must_use]
    pub fn rule(&self, matches: &Match) -> Option<&Listed> {
        self.rules.as_ref()?.iter().find(|rule| rule.matches == *matches)
    }

    /// Asks for something once everything before it is answered.
    pub fn ask(&mut self, ask: Ask, request: Request) {
        self.queue.push_back((ask, request));
    }

    /// Asks for its rules.
    pub fn list(&mut self) {
        // Pages that are under way may be older than the change that it is listed for.
        self.list_again = self.is_listing;
        if !self.is_listing {
            self.is_listing = true;
            self.listed_at = None;
            self.listing.clear();
            self.ask(Ask::List, Request::one(Instruction::ListRules(0)));
        }
    }

    /// Whether it is being asked who leads, or that is the next thing to ask.
    fn is_asking(&self) -> bool {
        self.current == Some(Ask::Lead) || self.queue.front().is_some_and(|(ask, _)| *ask == Ask::Lead)
    }

    /// When [`Link::poll`] has something to do at the latest.
    #[must_use]
    pub fn poll_at(&self) -> Instant {
        let sending = self.client.as_ref().and_then(Client::poll_at);
        match (&self.client, self.is_open) {
            (None, _) => self.again,
            // What was just asked for need not wait for the next datagram.
            (Some(client), true) if client.is_ready() && !self.queue.is_empty() => Instant::ZERO,
            (Some(_), true) => {
                let next = sending.unwrap_or(self.renew).min(self.renew);
                if self.is_asking() { next } else { next.min(self.stand.ask_at()) }
            }
            (Some(_), false) => sending.unwrap_or(self.again),
        }
    }

    fn connect(&mut self, now: Instant) -> std::io::Result<()> {
        let any: SocketAddr = if self.translator.at.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.translator.at)?;
        socket.set_nonblocking(true)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        let (id, secret) = self.translator.key;
        (self.socket, self.client) = (Some(socket), Some(Client::new(now, id, secret, nonce)));
        Ok(())
    }

    fn lose(&mut self, now: Instant, why: String, heard: &mut Vec<Heard>) {
        (self.socket, self.client, self.is_open, self.rules) = (None, None, false, None);
        (self.is_listing, self.list_again) = (false, false);
        self.stand.lose();
        self.again = now + PAUSE;
        let unanswered = self.current.take().into_iter().chain(self.queue.drain(..).map(|(ask, _)| ask));
        for ask in unanswered {
            if let Ask::Change(number) = ask {
                heard.push(Heard::Changed(number, Err(NotMade { why: format!("it is not known whether it was applied: {why}"), was_late: false })));
            }
        }
        heard.push(Heard::Lost(why));
    }

    /// Sends and receives what there is.
    pub fn poll(&mut self, now: Instant, heard: &mut Vec<Heard>) {
        if self.client.is_none() {
            if now >= self.again
                && let Err(error) = self.connect(now)
            {
                self.lose(now, error.to_string(), heard);
            }
            if self.client.is_none() {
                return;
            }
        }
        let mut buffer = [0; 2048];
        while let Some(length) = self.receive(&mut buffer) {
            self.take(now, &buffer[..length], heard);
        }
        if self.is_open {
            let late = self.interval * PATIENCE + Duration::from_secs(2);
            if self.heard.is_some_and(|at| now.duration_since(at) > late) {
                // So that another monitor that hears them can decide.
                self.leave(now);
                return self.lose(now, "it sends no reports".into(), heard);
            }
            if now >= self.renew {
                self.renew = now + Duration::from_secs(u64::from(SUBSCRIPTION) / 3);
                let interval = u16::try_from(self.interval.as_millis()).unwrap_or(u16::MAX);
                self.ask(Ask::Reports, Request::one(Instruction::Report { seconds: SUBSCRIPTION, interval }));
            }
            // The lead does not wait behind other requests: that would lose it. While one such request is under way, the next one
            // waits, with what is new in its note.
            if !self.is_asking()
                && let Some(request) = self.stand.request(now)
            {
                self.queue.push_front((Ask::Lead, request));
            }
        }
        self.send(now, heard);
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            match self.socket.as_ref()?.recv(buffer) {
                Ok(length) => return Some(length),
                // Nobody listens there (yet): the same as no answer.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted) => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether one of these changes is not answered yet, or not even sent.
    #[must_use]
    pub fn is_to_change(&self, is_one: impl Fn(u64) -> bool) -> bool {
        let mut asks = self.current.iter().chain(self.queue.iter().map(|(ask, _)| ask));
        asks.any(|ask| matches!(ask, Ask::Change(number) if is_one(*number)))
    }

    /// Cancels changes that are not sent yet, but only those of which `is_change` says that they are no previews.
    pub fn take_back(&mut self, is_change: impl Fn(u64) -> bool, why: &str, heard: &mut Vec<Heard>) {
        self.queue.retain(|(ask, _)| match ask {
            Ask::Change(number) if is_change(*number) => {
                heard.push(Heard::Changed(*number, Err(NotMade { why: why.to_string(), was_late: true })));
                false
            }
            _ => true,
        });
    }

    fn send(&mut self, now: Instant, heard: &mut Vec<Heard>) {
        let may_act = self.acts(now);
        if self.client.as_ref().is_some_and(Client::is_ready) && !may_act {
            // Such changes are up to the other monitor now.
            self.take_back(|_| true, "another monitor has taken over", heard);
        }
        let Some(client) = &mut self.client else { return };
        if client.is_ready()
            && let Some((ask, request)) = self.queue.pop_front()
        {
            // Nothing that somebody else has changed since the last answer is overwritten unseen.
            let request = if matches!(ask, Ask::Change(_)) { request.only_if(self.generation) } else { request };
            let is_sent = client.send(now, &request).is_ok();
            if ask == Ask::Lead {
                self.stand.asked(now);
            }
            self.is_listing &= is_sent || ask != Ask::List;
            self.current = is_sent.then_some(ask);
        }
        match client.poll_transmit(now) {
            Ok(Some(datagram)) => {
                if let Some(socket) = &self.socket {
                    // A datagram that could not be sent is repeated.
                    let _ = socket.send(datagram);
                }
            }
            Ok(None) => {}
            Err(GaveUp { .. }) => self.lose(now, "it does not answer".into(), heard),
        }
    }

    fn take(&mut self, now: Instant, datagram: &[u8], heard: &mut Vec<Heard>) {
        let Some(client) = &mut self.client else { return };
        match client.handle(now, datagram) {
            Ok(Incoming::Opened(answer)) => match answer.refused() {
                Some(why) => self.lose(now, refusal(&why), heard),
                None => {
                    (self.is_open, self.renew, self.heard) = (true, now, Some(now));
                    self.generation = answer.generation();
                    heard.push(Heard::Opened);
                    self.list();
                }
            },
            Ok(Incoming::Refused(why)) => self.lose(now, refusal(&why), heard),
            Ok(Incoming::Answer(answer)) => self.answered(now, &answer, heard),
            Ok(Incoming::Report(report)) => {
                self.heard = Some(now);
                self.oddities.missed += u64::from(report.datagrams_missed());
                let page = report.page();
                let mut count = 0;
                for server in page.servers() {
                    count += 1;
                    self.read(page.translator_time(), &server, heard);
                }
                if count < page.len() {
                    self.oddities.malformed += 1;
                }
                if page.next().is_none() {
                    self.stand.hear();
                    let missed = core::mem::replace(&mut self.missed, self.oddities.missed);
                    heard.push(Heard::Round { is_whole: missed == self.oddities.missed });
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Compares what is said of a server with what was said before.
    fn read(&mut self, at: Instant, server: &MeasuredServer, heard: &mut Vec<Heard>) {
        let new = &server.measured;
        let has_room = self.readings.len() < MOST_ENTRIES || self.readings.contains_key(&server.position);
        if !self.servers.contains(&new.server) || !has_room {
            self.oddities.unknown += 1;
            return;
        }
        let (reading, times) =
            self.readings.entry(server.position).or_insert((Reading::default(), Histogram::EMPTY));
        let before = core::mem::replace(times, new.response);
        let seen = match reading.take(at, new) {
            Ok(seen) => seen,
            Err(why) => {
                if let Some(place) = Distrust::ALL.iter().position(|known| *known == why) {
                    self.oddities.distrusted[place] += 1;
                }
                None
            }
        };
        let since = new.response.since(&before);
        let times = match seen {
            Some(seen) if since.count() == u64::from(seen.answered) => since,
            // Its counters have begun anew.
            Some(_) => new.response,
            None => Histogram::EMPTY,
        };
        heard.push(Heard::Server {
            target: new.server,
            weight: server.weight,
            position: server.position,
            seen,
            times: Box::new(times),
            connections: new.connections,
        });
    }

    fn answered(&mut self, now: Instant, answer: &Answer<'_>, heard: &mut Vec<Heard>) {
        let generation = answer.generation();
        match self.current.take() {
            Some(Ask::List) if answer.refused().is_none() => {
                // Pages of different generations are no list.
                self.list_again |= *self.listed_at.get_or_insert(generation) != generation;
                let (rules, next) = answer.rules();
                self.listing.extend(rules.map(|rule| Listed::of(&rule)));
                match next {
                    Some(position) => {
                        self.queue.push_front((Ask::List, Request::one(Instruction::ListRules(position))));
                    }
                    None if core::mem::take(&mut self.list_again) => {
                        self.is_listing = false;
                        self.list();
                    }
                    None => {
                        (self.is_listing, self.generation) = (false, generation);
                        self.rules = Some(core::mem::take(&mut self.listing));
                        heard.push(Heard::Listed);
                    }
                }
            }
            Some(Ask::Change(number)) => {
                if answer.refused().is_none() && !answer.is_dry_run() {
                    // The request demanded that nobody else has changed anything in between.
                    self.generation = generation;
                }
                let result = match answer.refused() {
                    None => Ok(answer.effects().collect()),
                    Some(why) => Err(NotMade { why: refusal(&why), was_late: why.code == Some(Code::Generation) }),
                };
                if result.as_ref().is_err_and(|not_made| not_made.was_late) || !answer.is_dry_run() {
                    self.list();
                }
                heard.push(Heard::Changed(number, result));
            }
            Some(Ask::Reports) => {
                if let Some(why) = answer.refused() {
                    self.lose(now, format!("it sends no reports: {}", refusal(&why)), heard);
                } else {
                    self.look_again(generation);
                }
            }
            Some(Ask::Lead) => {
                self.stand.answered(answer);
                self.look_again(generation);
            }
            Some(Ask::List) => self.is_listing = false,
            None => {}
        }
    }

    /// Lists the rules again if somebody else has changed something.
    fn look_again(&mut self, generation: u32) {
        if self.rules.is_some() && generation != self.generation && !self.is_listing {
            self.list();
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
