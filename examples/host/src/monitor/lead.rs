//! Which of several monitors acts at a translator, and what the others are told in case they have to take over.

use core::time::Duration;

use byway::Instant;
use byway::control::{Answer, Code, Instruction, Lead, MAX_NOTE, Note, Request};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::results::refusal;
use super::rules::Pins;
use super::run::Run;
use super::service::{Change, State};

/// For how long a monitor stands for the lead without asking again. After it has died, another one leads after this time.
const LEASE: Duration = Duration::from_secs(5);
/// How often it asks again.
const AGAIN: Duration = Duration::from_secs(1);
/// The first byte of a note that holds pins in the form that is read and written here.
const FORM: u8 = 1;
/// The same, if some services had no room.
const FORM_IN_PART: u8 = 2;

/// The number of a monitor that starts now: a lower rank comes first, and of the same rank the one that has run longest.
///
/// # Errors
/// The machine has no randomness.
pub fn number(rank: u16) -> Result<u64, String> {
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    let seconds = u32::try_from(Timestamp::now().as_second()).unwrap_or(0);
    Ok(u64::from(rank) << 48 | u64::from(seconds) << 16 | u64::from(u16::from_be_bytes(random)))
}

/// What a monitor with this number is called.
#[must_use]
pub fn name(number: u64) -> String {
    let seconds = i64::from((number >> 16) as u32);
    let start = Timestamp::from_second(seconds).map_or(String::new(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    format!("the monitor of rank {} started {start}", number >> 48)
}

/// What is known of the lead at one translator.
#[derive(Clone, Debug)]
pub struct Stand {
    number: u64,
    /// Whether this monitor wants to lead: it does not in a dry run, which only says what it would do.
    pub wants: bool,
    /// Whether a whole report came in this session: a monitor that hears none decides nothing, and so does not stand for the
    /// lead.
    hears: bool,
    /// What the others are told while it leads.
    pub note: Note,
    /// What was answered last.
    told: Told,
    asked: Instant,
    again: Instant,
    leads_until: Instant,
}

#[derive(Clone, Debug)]
enum Told {
    Nothing,
    /// The translator does not know leads: any monitor may act.
    Unknown,
    Refused(String),
    Lead(Lead),
}

impl Stand {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(number: u64, wants: bool) -> Self {
        Self {
            number,
            wants,
            hears: false,
            note: Note::EMPTY,
            told: Told::Nothing,
            asked: Instant::ZERO,
            again: Instant::ZERO,
            leads_until: Instant::ZERO,
        }
    }

    /// The session is over.
    pub fn lose(&mut self) {
        (self.told, self.again, self.leads_until) = (Told::Nothing, Instant::ZERO, Instant::ZERO);
        self.hears = false;
    }

    /// A whole report came: from the first one of a session on this monitor may stand for the lead.
    pub const fn hear(&mut self) {
        if !self.hears {
            self.hears = true;
            self.hurry();
        }
    }

    /// Whether this monitor leads. In a dry run it acts, in that it says what it would do.
    #[must_use]
    pub fn acts(&self, now: Instant) -> bool {
        !self.wants || matches!(self.told, Told::Unknown) || now < self.leads_until
    }

    /// When [`Stand::request`] has something to ask next.
    #[must_use]
    pub const fn ask_at(&self) -> Instant {
        self.again
    }

    /// Makes it ask at once, since its note has changed.
    pub const fn hurry(&mut self) {
        self.again = Instant::ZERO;
    }

    /// What is to be asked now.
    pub fn request(&mut self, now: Instant) -> Option<Request> {
        if now < self.again {
            return None;
        }
        self.again = now + AGAIN;
        // A monitor that does not want to lead, or hears nothing yet, only asks who leads, and gives up its own lead if it has
        // one.
        let lease = if self.wants && self.hears { LEASE.as_millis() as u16 } else { 0 };
        Some(Request::one(Instruction::Lead { number: self.number, lease, note: self.note }))
    }

    /// The request is sent for the first time: the lease counts from here.
    pub const fn asked(&mut self, now: Instant) {
        self.asked = now;
    }

    /// Takes the answer.
    pub fn answered(&mut self, answer: &Answer<'_>) {
        self.told = match (answer.refused(), answer.lead()) {
            (None, Some(lead)) => Told::Lead(lead),
            (None, None) => Told::Refused("its answer cannot be read".into()),
            (Some(why), _) if why.code == Some(Code::UnknownInstruction) => Told::Unknown,
            (Some(why), _) => Told::Refused(refusal(&why)),
        };
        let lead = if let Told::Lead(lead) = &self.told { Some(lead) } else { None };
        self.leads_until = lead.and_then(|lead| lead.lease).map_or(Instant::ZERO, |lease| self.asked + lease);
        // A monitor that has to yield confirms this with its next request. It does not hurry: the same answer may mean that the
        // lease of its own last session still runs, and until that ends it would ask as fast as it is answered.
    }

    /// The other monitor that leads, and its note.
    #[must_use]
    pub fn other(&self) -> Option<(u64, &Note)> {
        match &self.told {
            Told::Lead(lead) => lead.leader.filter(|leader| *leader != self.number).map(|leader| (leader, &lead.note)),
            _ => None,
        }
    }

    /// Why this monitor does not act, if it does not.
    #[must_use]
    pub fn why_not(&self, now: Instant) -> Option<String> {
        if self.acts(now) {
            return None;
        }
        Some(match (&self.told, self.other()) {
            (_, Some((other, _))) => format!("{} acts", name(other)),
            (Told::Refused(why), _) => format!("it may not act: {why}"),
            _ => "it is not settled yet which monitor acts".into(),
        })
    }
}

impl Run {
    /// Whether this monitor may change something at a translator.
    pub(super) fn acts_at(&self, place: usize) -> bool {
        self.links[place].acts(self.now())
    }

    /// Whether it may do so anywhere.
    pub(super) fn acts(&self) -> bool {
        (0..self.links.len()).any(|place| self.acts_at(place))
    }

    /// Why it does not, if it acts nowhere.
    pub(super) fn watches(&self) -> Option<String> {
        if self.acts() {
            return None;
        }
        let open: Vec<_> = self.links.iter().filter(|link| link.is_open()).collect();
        let lowest = open.iter().filter_map(|link| link.stand.other()).map(|(number, _)| number).min();
        let why = open.iter().find_map(|link| link.stand.why_not(self.now()));
        Some(match (lowest, why) {
            (Some(number), _) => format!("watching: {} acts", name(number)),
            (None, Some(why)) => format!("watching: {why}"),
            (None, None) => "no translator can be reached".into(),
        })
    }

    /// Notices where it leads now, and where no longer.
    pub(super) fn note_leads(&mut self) {
        for place in 0..self.links.len() {
            let acts = self.acts_at(place);
            if self.acting[place] == acts {
                continue;
            }
            let was_anywhere = self.acting.contains(&true);
            self.acting[place] = acts;
            let name = &self.links[place].translator.name;
            if acts {
                if self.links[place].stand.wants {
                    tracing::info!("{name}: this monitor acts");
                }
                if !was_anywhere && (self.noted.is_some() || !self.has_acted) {
                    // Another monitor has led, or may have before this one began: the weights in force are those found there.
                    self.services.iter_mut().for_each(|state| state.in_force = None);
                    self.told.fill(Instant::ZERO);
                    self.refused.fill(None);
                }
                self.has_acted = true;
                self.services.iter_mut().for_each(|state| state.is_unmoved = true);
                self.links[place].list();
            } else if self.links[place].is_open()
                && let Some(why) = self.links[place].stand.why_not(self.now())
            {
                tracing::info!("{name}: watching: {why}");
            }
        }
        self.take_note();
    }

    /// Moves open connections that were left on servers that this monitor has seen fail, once the rules are known wherever it
    /// acts.
    pub(super) fn move_left_behind(&mut self) {
        let is_known = |place: usize| !self.acts_at(place) || self.links[place].rules.is_some();
        if !self.acts() || !(0..self.links.len()).all(is_known) {
            return;
        }
        for service in 0..self.services.len() {
            let state = &mut self.services[service];
            let Some(weights) = state.in_force.filter(|_| core::mem::take(&mut state.is_unmoved)) else { continue };
            let moves = state.left_behind(&weights);
            if moves.is_empty() {
                continue;
            }
            let to = |(from, to): &(usize, usize)| format!("of {} go to {}", state.name(*from), state.name(*to));
            let words: Vec<_> = moves.iter().map(to).collect();
            let text = format!("{}: open connections {}, since they were left on what has failed", state.service.name, words.join(" and "));
            let entry = json!({
                "service": state.service.name, "cause": "failures that were seen", "text": text,
                "before": state.named(&weights), "after": state.named(&weights),
            });
            let how = state.service.open_connections;
            self.carry_out(service, Change { weights, moves, falling: Vec::new(), how, entry, promised: None }, None);
        }
    }

    /// Takes over what operators have set at the monitor that leads, unless this one acts somewhere itself.
    fn take_note(&mut self) {
        if self.acts() {
            self.noted = None;
            return;
        }
        let others = self.links.iter().filter(|link| link.is_open()).filter_map(|link| link.stand.other());
        let Some((number, note)) = others.min_by_key(|(number, _)| *number).map(|(number, note)| (number, *note)) else {
            return;
        };
        if self.noted.replace((number, note)) == Some((number, note)) {
            return;
        }
        let (mut is_new, all) = (false, sign_all(&self.services));
        for state in &mut self.services {
            let Some(pins) = read(&note, all, state) else { continue };
            if pins != state.pins {
                tracing::warn!("{}: what operators have set is that of {} now", state.service.name, name(number));
                (state.pins, is_new) = (pins, true);
                self.journal.note_pins(&state.service.name, state.pins.json(state));
            }
        }
        if is_new {
            self.write_note();
        }
    }

    /// Tells the watching monitors what operators have set.
    pub(super) fn write_note(&mut self) {
        let (note, left_out) = write(&self.services);
        self.unshared = left_out;
        if left_out != 0 {
            tracing::warn!("what operators have set for {left_out} services has no room in what watching monitors are told");
        }
        for link in &mut self.links {
            if link.stand.note != note {
                link.stand.note = note;
                link.stand.hurry();
            }
        }
    }
}

/// A hash that stands for a service in a note: the same for monitors that have the same servers for it, in the same order.
fn sign(state: &State) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(state.service.name.as_bytes());
    hash.update([0]);
    hash.update(state.service.matches.to_string().as_bytes());
    for server in 0..state.len() {
        hash.update([0]);
        hash.update(state.name(server).as_bytes());
    }
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d]
}

/// A hash that stands for all services, in any order: the same for monitors that have the same ones.
fn sign_all(services: &[State]) -> [u8; 4] {
    let mut signs: Vec<_> = services.iter().map(sign).collect();
    signs.sort_unstable();
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(signs.concat()));
    [a, b, c, d]
}

/// Writes the pins of as many services as there is room for; returns the note, and how many services had no room. A note is the
/// form and [`sign_all`], and then for each service with pins its [`sign`], how many servers it has, and for each server 0, or 1
/// plus its share, and 128 more if it is drained.
fn write(services: &[State]) -> (Note, usize) {
    let (mut bytes, mut left_out) = (vec![FORM], 0);
    bytes.extend(sign_all(services));
    for state in services.iter().filter(|state| state.pins != Pins::default()) {
        let each = (0..state.len()).map(|server| {
            state.pins.share[server].map_or(0, |share| share + 1) | u8::from(state.pins.drained[server]) << 7
        });
        let mut one = sign(state).to_vec();
        one.push(state.len() as u8);
        one.extend(each);
        if bytes.len() + one.len() <= MAX_NOTE { bytes.extend(one) } else { left_out += 1 }
    }
    if left_out != 0 {
        bytes[0] = FORM_IN_PART;
    }
    (Note::new(&bytes).unwrap_or(Note::EMPTY), left_out)
}

/// The pins that a note has for a service, where `all` is [`sign_all`] of the reader's services. `None` if it is no such note.
/// `None` also if it does not name this service, and had no room for all or is from a monitor with other services or servers:
/// then it says nothing about the service.
fn read(note: &Note, all: [u8; 4], state: &State) -> Option<Pins> {
    let (&[form, a, b, c, d], mut rest) = note.bytes().split_first_chunk()?;
    let is_whole = match form {
        FORM => [a, b, c, d] == all,
        FORM_IN_PART => false,
        _ => return None,
    };
    let mut is_named = false;
    let sign = sign(state);
    let mut pins = Pins::default();
    while let Some((&[a, b, c, d, count], behind)) = rest.split_first_chunk() {
        let (each, behind) = behind.split_at_checked(usize::from(count))?;
        rest = behind;
        if [a, b, c, d] != sign || each.len() != state.len() {
            continue;
        }
        is_named = true;
        for (server, byte) in each.iter().enumerate() {
            pins.drained[server] = byte & 0x80 != 0;
            pins.share[server] = (byte & 0x7f).checked_sub(1).filter(|share| *share <= 100);
        }
    }
    (rest.is_empty() && (is_whole || is_named)).then_some(pins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::service::tests::service;

    fn state(name: &str, servers: usize) -> State {
        State::new(service(name, servers), 0, Pins::default())
    }

    #[test]
    fn a_note_says_what_operators_have_set() {
        let mut services = [state("web", 3), state("mail", 16), state("free", 2)];
        services[0].pins.drained[1] = true;
        (services[0].pins.share[0], services[0].pins.share[1]) = (Some(0), Some(100));
        services[1].pins.share[15] = Some(7);
        let (note, left_out) = write(&services);
        assert_eq!(left_out, 0);
        let all = sign_all(&services);
        for state in &services {
            assert_eq!(read(&note, all, state), Some(state.pins.clone()), "{}", state.service.name);
        }
        // Bytes that are no such note.
        let [a, b, c, d] = all;
        for bytes in [&[][..], &[2], &[3, a, b, c, d], &[FORM, a], &[FORM, a, b, c, d, 1], &note.bytes()[..note.bytes().len() - 1]] {
            assert_eq!(read(&Note::new(bytes).unwrap(), all, &services[0]), None, "{bytes:?}");
        }
        assert_eq!(read(&Note::new(&[FORM, a, b, c, d]).unwrap(), all, &services[0]), Some(Pins::default()));
    }

    #[test]
    fn other_servers_or_services_leave_pins_alone() {
        let mut old = [state("web", 3), state("mail", 2), state("free", 2)];
        (old[0].pins.drained[1], old[1].pins.drained[0]) = (true, true);
        let (note, _) = write(&old);
        // One server more, and another service: what the note names holds, and of the others it says nothing.
        let new = [state("web", 4), state("mail", 2), state("free", 2), state("other", 2)];
        let all = sign_all(&new);
        let read = new.each_ref().map(|state| read(&note, all, state));
        assert_eq!(read, [None, Some(old[1].pins.clone()), None, None]);
        // The order of services does not matter.
        old.reverse();
        assert_eq!(super::read(&note, sign_all(&old), &old[0]), Some(Pins::default()));
    }

    #[test]
    fn who_hears_no_report_does_not_stand() {
        let mut stand = Stand::new(7, true);
        let now = Instant::from_secs(9);
        let lead = |lease| format!("{:?}", Some(Request::one(Instruction::Lead { number: 7, lease, note: Note::EMPTY })));
        let asks = |stand: &mut Stand| format!("{:?}", stand.request(now));
        assert_eq!(asks(&mut stand), lead(0));
        stand.hear();
        assert_eq!(asks(&mut stand), lead(5_000));
        // It asks at once, but only once.
        stand.hear();
        assert!(stand.request(now).is_none());
        stand.lose();
        assert_eq!(asks(&mut stand), lead(0));
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut services: Vec<_> = (0..6).map(|n| state(&format!("s{n}"), 16)).collect();
        services.iter_mut().for_each(|state| state.pins.drained[3] = true);
        let (note, left_out) = write(&services);
        // 5 bytes, and 21 for each.
        assert_eq!((note.bytes().len(), left_out), (89, 2));
        let all = sign_all(&services);
        assert_eq!(read(&note, all, &services[3]), Some(services[3].pins.clone()));
        // What the note does not know of stays as it is.
        assert_eq!(read(&note, all, &services[4]), None);
    }

    #[test]
    fn a_lower_rank_comes_first_and_then_the_older_one() {
        let [one, two] = [number(1).unwrap(), number(2).unwrap()];
        assert!(one < two && number(999).unwrap() < u64::MAX);
        let (old, new) = (1 << 48 | 1_000_000_000_u64 << 16 | 0xffff, 1 << 48 | 1_000_000_001_u64 << 16);
        assert!(old < new && name(old) == "the monitor of rank 1 started 2001-09-09 01:46:40 UTC");
    }
}
