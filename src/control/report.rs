//! Measurements for monitors that have subscribed to them: a list of all servers at an interval.

use super::agent::{Agent, Done};
use super::answer::{HEAD, Head};
use super::authentication::Rights;
use super::code::{Code, Refusal};
use super::datagram::{HEADER, Header, MAX_ANSWER, kind, seal};
use super::measured::ServerPage;
use super::request::Received;
use super::server_page::servers;
use super::several::{Several, generation};
use super::subject::Subject;
use super::subscriber::{Asked, Subscriber};
use super::translators::Translators;
use super::wire::{Reader, Writer};
use core::net::SocketAddr;

use crate::time::Instant;

impl<const KEYS: usize, const SESSIONS: usize, const REPORTS: usize> Agent<KEYS, SESSIONS, REPORTS> {
    /// Answers a request about measurements.
    pub(super) fn report_to<T: Translators + ?Sized>(
        &mut self,
        translators: &mut T,
        session: [u8; 8],
        rights: &Rights,
        request: &Received<'_>,
        out: &mut Writer<'_>,
    ) -> Done {
        out.zeros(HEAD);
        let done = self.try_to_report_to(translators, session, rights, request, out);
        let end = out.go_to(HEADER);
        let generation = generation(translators);
        let refusal = done.err().map(|refusal| (refusal, 0));
        Head { refusal, dry_run: request.dry_run && done.is_err(), generation }.write(out);
        if done.is_ok() {
            out.go_to(end);
        }
        done.unwrap_or(Done::Change)
    }

    fn try_to_report_to<T: Translators + ?Sized>(
        &mut self,
        translators: &mut T,
        session: [u8; 8],
        rights: &Rights,
        request: &Received<'_>,
        out: &mut Writer<'_>,
    ) -> Result<Done, Refusal> {
        if request.count != 1 {
            return Err(Code::BadTransaction.into());
        }
        if request.demanded.is_some_and(|demanded| !Several(&mut *translators).has_generation(demanded)) {
            return Err(Code::Generation.into());
        }
        let mut instructions = request.instructions();
        let asked = Asked::read(instructions.next().ok_or(Code::Malformed)?)?;
        if instructions.next().is_some() {
            return Err(Code::Malformed.into());
        }
        match asked {
            Asked::Page(position) => {
                if servers(translators, position, out) {
                    Ok(Done::Read)
                } else {
                    Err(Code::NotMeasured.into())
                }
            }
            // A key that cannot change anything must not keep others from leading.
            Asked::Lead { .. } if matches!(rights, Rights::Read) => Err(Code::NotPermitted.into()),
            Asked::Reports { .. } | Asked::Lead { .. } if !is_measured(translators) => Err(Code::NotMeasured.into()),
            Asked::Lead { number, lease, note } => {
                self.stand(session, number, lease, note)?.write(out);
                Ok(Done::Session)
            }
            Asked::Reports { seconds, interval } => {
                self.subscribe_to_reports(session, seconds, interval)?;
                Ok(Done::Session)
            }
        }
    }

    /// The place of a session among those that get reports: its own, or one that is free.
    pub(super) fn place_for_reports(&mut self, session: [u8; 8]) -> Result<usize, Refusal> {
        let sessions = &mut self.sessions;
        let mine = self.reports.iter().position(|subscriber| subscriber.session == session);
        // A subscription that has ended keeps its place, so that no number is used twice in a session.
        let mut free = || self.reports.iter().position(|subscriber| sessions.find(subscriber.session).is_none());
        let full = Refusal { code: Code::NoReport, detail: u32::try_from(REPORTS).unwrap_or(u32::MAX) };
        let place = mine.or_else(&mut free).ok_or(full)?;
        let subscriber = self.reports.get_mut(place).ok_or(full)?;
        if mine.is_none() {
            *subscriber = Subscriber { session, ..Subscriber::NONE };
        }
        Ok(place)
    }

    fn subscribe_to_reports(&mut self, session: [u8; 8], seconds: u16, interval: u16) -> Result<(), Refusal> {
        let now = self.now;
        let place = self.place_for_reports(session)?;
        let Some(subscriber) = self.reports.get_mut(place) else { return Ok(()) };
        if subscriber.until <= now || subscriber.interval != interval {
            (subscriber.due, subscriber.position) = (now, 0);
        }
        subscriber.interval = interval;
        subscriber.until = Instant::from_micros(now.as_micros().saturating_add(u64::from(seconds) * 1_000_000));
        Ok(())
    }

    /// When [`poll_report`](Self::poll_report) has something to send next; `None` if no monitor has subscribed. Calling
    /// it late makes reports late, calling it early does nothing.
    #[must_use]
    pub fn report_at(&self) -> Option<Instant> {
        self.reports
            .iter()
            .filter(|subscriber| subscriber.until > subscriber.due.max(self.now))
            .map(|subscriber| subscriber.due)
            .min()
    }

    /// Writes the next datagram of measurements that monitors have subscribed to into `buffer`; returns its destination
    /// and its length. Call it until it returns `None`, whenever [`report_at`](Self::report_at) has passed. Each call
    /// writes one page, and asks for the translators only if one is due.
    ///
    /// ```
    /// use byway::control::{Agent, Key, MAX_ANSWER, Rights};
    /// use byway::{Config, Fixed, Instant, Translator};
    /// # let (now, entropy) = (Instant::ZERO, [1; 32]);
    ///
    /// // 64 connections and 4 rules, all of them measured; 2 keys, 4 sessions, of which 4 can have reports.
    /// let mut byway = Translator::new(Config::new([7; 32]), Fixed::<64, 4, 8, 8, 64, 0, 4>::sized())?;
    /// let mut agent = Agent::<2, 4, 4>::sized(entropy);
    /// agent.add_key(Key::new(1, [2; 32], Rights::Read))?;
    /// // Periodically:
    /// let mut buffer = [0; MAX_ANSWER];
    /// while let Some((to, length)) = agent.poll_report(now, &mut byway, &mut buffer) {
    ///     // send buffer[..length] to `to`
    /// # let _ = (to, length);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_report<T: Translators + ?Sized>(
        &mut self,
        now: Instant,
        translators: &mut T,
        buffer: &mut [u8; MAX_ANSWER],
    ) -> Option<(SocketAddr, usize)> {
        self.now = self.now.max(now);
        let now = self.now;
        for subscriber in &mut self.reports {
            if !subscriber.is_due(now) {
                continue;
            }
            let Some((session, sequence)) =
                self.sessions.find(subscriber.session).zip(subscriber.sequence.checked_add(1))
            else {
                *subscriber = Subscriber::NONE;
                continue;
            };
            if subscriber.position == 0 {
                subscriber.round = subscriber.round.wrapping_add(1);
            }
            subscriber.sequence = sequence;
            let mut out = Writer::new(buffer);
            Header { kind: kind::REPORT, sequence, session: session.id }.write(&mut out);
            out.u32(subscriber.round);
            servers(translators, subscriber.position, &mut out);
            let next = out.bytes().get(HEADER + 4..).and_then(|page| ServerPage::read(page).next());
            subscriber.advance(next, now);
            if let Some(length) = seal(out, &session.secret) {
                return Some((session.peer, length));
            }
        }
        None
    }
}

fn is_measured<T: Translators + ?Sized>(translators: &mut T) -> bool {
    translators.shard(0).is_some_and(|first| !first.table().memory.measured_servers.is_empty())
}

/// A page of a report of measurements that was subscribed to. All pages of a report list each server of each rule once.
///
/// Counters are cumulative across reports, so a lost page makes what is known older, but not wrong.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Report<'a> {
    missed: u32,
    round: u32,
    page: ServerPage<'a>,
}

impl<'a> Report<'a> {
    pub(super) fn read(body: &'a [u8], missed: u32) -> Option<Self> {
        let mut reader = Reader(body);
        Some(Self { missed, round: reader.u32()?, page: ServerPage::read(reader.0) })
    }

    /// How many datagrams of reports were lost in transit since the last one that arrived. One that arrives late is
    /// counted here and then ignored.
    #[must_use]
    pub const fn datagrams_missed(&self) -> u32 {
        self.missed
    }

    /// The report's number in its session. Pages of the same report have the same one.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// Its contents. The report ends with the page that has no [`next`](ServerPage::next) one.
    #[must_use]
    pub const fn page(&self) -> ServerPage<'a> {
        self.page
    }
}
