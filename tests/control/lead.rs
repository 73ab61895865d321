//! Of several monitors with the same key one leads: which one, for how long, and that never two do.

use core::time::Duration;

use crate::support::*;
use byway::control::{Client, Code, Instruction, Lead, MAX_LEASE, MAX_NOTE, MIN_LEASE, Note, Request};
use byway::{Config, Fixed, Heap, Translator};
use byway_testing::*;

const LEASE: u16 = 5_000;

fn lead(number: u64, lease: u16, note: &[u8]) -> Request {
    Request::one(Instruction::Lead { number, lease, note: Note::new(note).unwrap() })
}

/// A monitor that asks a translator now and then.
struct Asker {
    number: u64,
    client: Client,
    peer: u8,
}

impl Asker {
    fn new(house: &mut House, number: u64, peer: u8) -> Self {
        Self::with(house, ADMIN, number, peer)
    }

    fn with(house: &mut House, key: (u16, [u8; 32]), number: u64, peer: u8) -> Self {
        Self { number, client: house.open(key, crate::support::peer(peer)), peer }
    }

    fn ask_for(&mut self, house: &mut House, lease: u16) -> Result<Lead, Option<Code>> {
        let request = lead(self.number, lease, &self.number.to_be_bytes());
        house.ask(&mut self.client, peer(self.peer), &request, |answer| match answer.refused() {
            None => Ok(answer.lead().expect("it can be read")),
            Some(why) => Err(why.code),
        })
    }

    /// Who leads, and whether that is the one who asks.
    fn ask(&mut self, house: &mut House) -> (Option<u64>, bool) {
        let lead = self.ask_for(house, LEASE).unwrap();
        assert!(lead.lease.is_none_or(|lease| lease == Duration::from_millis(u64::from(LEASE))), "{lead:?}");
        let expected = lead.leader.map_or(Vec::new(), |leader| leader.to_be_bytes().to_vec());
        assert_eq!(lead.note.bytes(), expected, "the note is the leader's");
        (lead.leader, lead.lease.is_some())
    }
}

fn after(house: &mut House, millis: u64) {
    house.now = house.now + Duration::from_millis(millis);
}

#[test]
fn the_first_one_leads_and_the_next_one_watches_until_it_is_gone() {
    let mut house = House::new();
    let (mut first, mut second) = (Asker::new(&mut house, 7, 1), Asker::new(&mut house, 8, 2));
    assert_eq!(first.ask(&mut house), (Some(7), true));
    assert_eq!(second.ask_for(&mut house, LEASE).unwrap().standing, 2);
    for _ in 0..20 {
        after(&mut house, 1_000);
        assert_eq!(first.ask(&mut house), (Some(7), true));
        assert_eq!(second.ask(&mut house), (Some(7), false));
    }
    // It says nothing any more: its lease runs out, and not a moment earlier.
    after(&mut house, 4_999);
    assert_eq!(second.ask(&mut house), (Some(7), false));
    after(&mut house, 1);
    assert_eq!(second.ask(&mut house), (Some(8), true));
    // Whoever does not want to lead any longer lets the other lead at once.
    assert_eq!(second.ask_for(&mut house, 0).unwrap().leader, None);
    assert_eq!(first.ask(&mut house), (Some(7), true));
}

/// A lower number that comes back takes the lead, but only after it has stood for a whole lease without a break, and after
/// the other one has heard of it.
#[test]
fn a_lower_number_takes_the_lead_once_it_has_stood_for_a_lease() {
    let mut house = House::new();
    let (mut low, mut high) = (Asker::new(&mut house, 1, 1), Asker::new(&mut house, 2, 2));
    assert_eq!(high.ask(&mut house), (Some(2), true));
    // One whose datagrams seldom arrive never gets it.
    for _ in 0..5 {
        assert_eq!(low.ask(&mut house), (Some(2), false));
        for _ in 0..6 {
            after(&mut house, 1_000);
            assert_eq!(high.ask(&mut house), (Some(2), true));
        }
    }
    for _ in 0..5 {
        assert_eq!((low.ask(&mut house), high.ask(&mut house)), ((Some(2), false), (Some(2), true)));
        after(&mut house, 1_000);
    }
    // Now it has. The other one is told, and still has the lead until it says that it has heard that.
    assert_eq!(low.ask(&mut house), (Some(2), false));
    assert_eq!(high.ask(&mut house), (Some(2), false));
    assert_eq!(low.ask(&mut house), (Some(2), false));
    assert_eq!(high.ask(&mut house), (None, false));
    assert_eq!(high.ask(&mut house), (None, false));
    assert_eq!((low.ask(&mut house), high.ask(&mut house)), ((Some(1), true), (Some(1), false)));

    // There is room for two.
    let mut lowest = Asker::new(&mut house, 0, 3);
    assert!(matches!(lowest.ask_for(&mut house, LEASE), Err(Some(Code::NoReport))));
}

/// Whoever was told to yield, and has not been heard since, leads until its lease ends; a request that comes twice counts once.
#[test]
fn a_repeated_request_is_not_the_proof_that_its_answer_arrived() {
    let mut house = House::new();
    let (mut low, mut high) = (Asker::new(&mut house, 1, 1), Asker::new(&mut house, 2, 2));
    high.ask(&mut house);
    low.ask(&mut house);
    for _ in 0..4 {
        after(&mut house, 1_000);
        assert!(high.ask(&mut house).1 && !low.ask(&mut house).1);
    }
    after(&mut house, 1_000);
    // The lease from the request before goes on; the answer to this one is lost, and the request comes again.
    high.client.send(house.now, &lead(2, LEASE, &2_u64.to_be_bytes())).unwrap();
    let datagram = sent(&mut high.client, house.now);
    let answer = house.give(peer(2), &datagram).unwrap();
    for _ in 0..3 {
        assert_eq!(house.give(peer(2), &datagram).unwrap(), answer);
        assert_eq!(low.ask(&mut house), (Some(2), false));
    }
    high.client.handle(house.now, &answer).unwrap();
    high.ask(&mut house);
    assert_eq!(low.ask(&mut house), (Some(1), true));
}

/// Any order of requests, losses and pauses: by what they were told and when they asked, no two lead at the same time.
/// The answer that grants a shorter lease may get lost: the longer one is what its monitor knows of.
#[test]
fn a_shorter_lease_takes_nothing_back() {
    let mut house = House::new();
    let (mut first, mut second) = (Asker::new(&mut house, 7, 1), Asker::new(&mut house, 8, 2));
    assert!(first.ask_for(&mut house, 60_000).unwrap().lease.is_some());
    after(&mut house, 1_000);
    let granted = first.ask_for(&mut house, 1_000).unwrap().lease;
    assert_eq!(granted, Some(Duration::from_millis(1_000)));
    for _ in 0..58 {
        after(&mut house, 1_000);
        assert_eq!(second.ask(&mut house), (Some(7), false));
    }
    after(&mut house, 1_001);
    assert_eq!(second.ask(&mut house), (Some(8), true));
}

#[test]
fn never_do_two_lead() {
    let mut dice = Dice(1);
    let mut next = |below: u64| dice.below(below);
    let (mut changes, mut led) = (0, [0_u32; 2]);
    for _ in 0..40 {
        let mut house = House::new();
        let mut askers = [Asker::new(&mut house, 1, 1), Asker::new(&mut house, 2, 2)];
        // Until when each may act, by its own knowledge; and the request that each waits for an answer to.
        let mut until = [house.now; 2];
        let mut waits: [Option<(byway::Instant, Vec<u8>)>; 2] = [None, None];
        let mut last = None;
        let quiet = next(4);
        for _ in 0..600 {
            after(&mut house, next(1_000));
            if next(20) < quiet {
                after(&mut house, next(6_000));
            }
            let who = next(2) as usize;
            let (asker, now) = (&mut askers[who], house.now);
            // The same bytes are sent again until there is an answer. Each way may lose them.
            let (asked_at, datagram) = waits[who].get_or_insert_with(|| {
                asker.client.send(now, &lead(asker.number, LEASE, &[])).unwrap();
                (now, sent(&mut asker.client, now))
            });
            let answer = (next(4) != 0).then(|| house.give(peer(who as u8 + 1), datagram).unwrap());
            if let Some(answer) = answer.filter(|_| next(4) != 0) {
                let Ok(byway::control::Incoming::Answer(answer)) = asker.client.handle(now, &answer) else {
                    panic!("no answer")
                };
                until[who] = answer.lead().unwrap().lease.map_or(now, |lease| *asked_at + lease);
                waits[who] = None;
            }
            assert!(until.iter().filter(|until| **until > now).count() <= 1, "{until:?} {now:?}");
            for (who, until) in until.iter().enumerate() {
                if *until > now {
                    led[who] += 1;
                    changes += u32::from(last.replace(who).is_some_and(|last| last != who));
                }
            }
        }
    }
    assert!(changes > 50 && led.iter().all(|led| *led > 500), "{changes} {led:?}");
}

/// Monitors with other keys have nothing to do with each other; one that may only read cannot keep another from acting.
#[test]
fn each_key_has_a_lead_of_its_own() {
    let mut house = House::new();
    let mut admin = Asker::new(&mut house, 5, 1);
    let mut tenant = Asker::with(&mut house, TENANT, 1, 2);
    let mut reader = Asker::with(&mut house, READER, 0, 3);
    assert_eq!(reader.ask_for(&mut house, LEASE), Err(Some(Code::NotPermitted)));
    for _ in 0..10 {
        assert_eq!(admin.ask(&mut house), (Some(5), true));
        assert_eq!(tenant.ask(&mut house), (Some(1), true));
        after(&mut house, 1_000);
    }
    // A session that is closed stands no longer.
    house.ask(&mut tenant.client, peer(2), &Request::one(Instruction::Close), |answer| {
        assert!(answer.refused().is_none())
    });
    let mut other = Asker::with(&mut house, TENANT, 9, 4);
    assert_eq!(other.ask(&mut house), (Some(9), true));
    assert_eq!(other.ask_for(&mut house, LEASE).unwrap().standing, 1);
}

/// Who leads does not matter for reports, and the other way round.
#[test]
fn it_takes_the_place_of_reports() {
    let mut house = House::new();
    let mut asker = Asker::new(&mut house, 5, 1);
    asker.ask(&mut house);
    assert_eq!(house.agent.report_at(), None);
    let report = Request::one(Instruction::Report { seconds: 1, interval: 100 });
    house.ask(&mut asker.client, peer(1), &report, |answer| assert!(answer.refused().is_none()));
    assert!(house.agent.report_at().is_some());
    after(&mut house, 2_000);
    assert_eq!((asker.ask(&mut house), house.agent.report_at()), ((Some(5), true), None));
    let _second = Asker::new(&mut house, 6, 2).ask(&mut house);
    assert_eq!(Asker::new(&mut house, 4, 3).ask_for(&mut house, LEASE), Err(Some(Code::NoReport)));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut house = House::new();
    let mut client = house.open(ADMIN, peer(1));
    let mut code = |number, lease| {
        let request = lead(number, lease, &[0; MAX_NOTE]);
        house.ask(&mut client, peer(1), &request, |answer| answer.refused().map(|refused| refused.code))
    };
    for (number, lease) in [(1, 1), (1, MIN_LEASE - 1), (1, MAX_LEASE + 1), (u64::MAX, LEASE)] {
        assert_eq!(code(number, lease), Some(Some(Code::Malformed)), "{number} {lease}");
    }
    for (number, lease) in [(0, MIN_LEASE), (u64::MAX - 1, MAX_LEASE), (1, 0)] {
        assert_eq!(code(number, lease), None, "{number} {lease}");
    }
    // A note that is cut short, longer than it says, or longer than a note can be, or with something behind it.
    let mut client = house.client(ADMIN);
    let hello = sent(&mut client, house.now);
    let challenge = house.give(peer(2), &hello).unwrap();
    client.handle(house.now, &challenge).unwrap();
    let opened = house.give(peer(2), &sent(&mut client, house.now)).unwrap();
    client.handle(house.now, &opened).unwrap();
    let number = u32::from_be_bytes(challenge[40..44].try_into().unwrap());
    let key = session_key(&ADMIN.1, 1, number, &hello[8..24], &challenge[24..40]);
    for (at, value) in [(38, MAX_NOTE as u8 - 1), (38, MAX_NOTE as u8 + 1), (38, 255), (39, 1), (38, MAX_NOTE as u8)] {
        client.send(house.now, &lead(1, LEASE, &[1; MAX_NOTE])).unwrap();
        let mut datagram = sent(&mut client, house.now);
        datagram[at] = value;
        let end = datagram.len() - 16;
        assert_eq!(end, 24 + 4 + 12 + MAX_NOTE);
        let tag = hmac(&key, &datagram[..end]);
        datagram[end..].copy_from_slice(&tag[..16]);
        let answer = house.give(peer(2), &datagram).unwrap();
        let Ok(byway::control::Incoming::Answer(answer)) = client.handle(house.now, &answer) else {
            panic!("no answer")
        };
        let is_good = (at, value) == (38, MAX_NOTE as u8);
        assert_eq!(answer.refused().map(|why| why.code), (!is_good).then_some(Some(Code::Malformed)), "{at} {value}");
    }
    // A translator that cannot measure does not know the instruction; one that does not says so.
    let config = || Config::new([7; 32]).alternative(ip("10.10.10.10"), 1024..=2047);
    let mut plain = House::of(Translator::new(config(), Heap::new(10, 10)).unwrap(), [1; 32]);
    let mut client = plain.open(ADMIN, peer(2));
    let request = lead(1, LEASE, &[]);
    let code = plain.ask(&mut client, peer(2), &request, |answer| answer.refused().unwrap().code);
    assert_eq!(code, Some(Code::NotMeasured));
    let mut small = House::of(Translator::new(config(), Fixed::<10, 4>::new()).unwrap(), [1; 32]);
    let mut client = small.open(ADMIN, peer(2));
    let refused = small.ask(&mut client, peer(2), &request, |answer| answer.refused().unwrap());
    assert_eq!((refused.code, refused.detail), (Some(Code::UnknownInstruction), 35));
}
