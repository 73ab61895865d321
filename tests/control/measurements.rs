//! What was measured of servers, over the control protocol: pages, reports at an interval, losses, and whom they go to.

use core::time::Duration;

use crate::support::*;
use byway::control::{
    Agent, Code, Incoming, Instruction, Key, MAX_ANSWER, MAX_INTERVAL, MAX_SUBSCRIPTION, MIN_INTERVAL, MeasuredServer,
    Request, Rights,
};
use byway::{Config, Divert, Fixed, Heap, Instant, Measurements, Sharded, Target, Translator, Weighted};
use byway_testing::*;

fn first_page() -> Request {
    Request::one(Instruction::Measurements(0))
}

fn report(seconds: u16, interval: u16) -> Request {
    Request::one(Instruction::Report { seconds, interval })
}

/// Rules for so many servers, in groups of 16, and a question for each that is answered after 1, 2, 3 ... ms.
fn measured(servers: u16) -> House {
    let mut house = House::new();
    for rule in 0..servers.div_ceil(16) {
        let members: Vec<_> = (rule * 16..servers.min(rule * 16 + 16))
            .map(|n| Weighted::new(Target::Endpoint(at(&format!("20.0.{}.{}:80", n / 200, 1 + n % 200))), n + 1))
            .collect();
        let original = at(&format!("100.1.1.{}:53", rule + 1));
        house.byway.divert(Divert::new(original).to_group(&members)).unwrap();
        for client in 0..140 {
            let packet = udp(at(&format!("1.2.{rule}.{client}:5000")), original, b"question");
            let (source, server) = ends(&there(&mut house.byway, house.now, &packet));
            let later = house.now + Duration::from_micros(1 << (client % 26));
            back(&mut house.byway, later, &udp(server, source, b"the answer"));
            there(&mut house.byway, house.now, &packet);
        }
    }
    house
}

/// All pages that are asked for.
fn read(house: &mut House, servers: u16) -> (Vec<MeasuredServer>, usize) {
    let mut client = house.open(READER, peer(2));
    let (mut all, mut next, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(position) = next {
        let request = Request::one(Instruction::Measurements(position));
        next = house.ask(&mut client, peer(2), &request, |answer| {
            assert_eq!(answer.refused(), None);
            let page = answer.measurements();
            assert!(servers == 0 || page.translator_time() >= Instant::from_secs(1));
            assert_eq!(page.servers().count(), page.len());
            all.extend(page.servers());
            page.next()
        });
        pages += 1;
    }
    (all, pages)
}

/// Whoever asks gets exactly what the translator says of itself, in as many pages as that takes.
#[test]
fn pages_say_what_the_translator_says() {
    for servers in [0, 1, 5, 100] {
        let mut house = measured(servers);
        let (all, pages) = read(&mut house, servers);
        let said: Vec<Measurements> = all.iter().map(|server| server.measured).collect();
        let own: Vec<Measurements> = house.byway.measurements().collect();
        assert_eq!(said, own);
        assert_eq!(all.len(), usize::from(servers));
        assert!((pages > 20) == (servers == 100), "{servers} {pages}");
        assert!(all.is_sorted_by_key(|server| server.position));
        assert!(servers < 5 || said.iter().any(|m| m.response.count() > 20 && m.waiting.count > 20), "{said:?}");
        let mut weights: Vec<_> = all.iter().map(|server| server.weight).collect();
        weights.sort_unstable();
        assert!(servers == 1 || weights.iter().copied().eq(1..=servers), "{weights:?}");
    }
}

/// Everything that the agent sends now.
fn sent_reports(house: &mut House) -> Vec<Vec<u8>> {
    let mut buffer = [0; MAX_ANSWER];
    let mut all = Vec::new();
    while let Some((to, length)) = house.agent.poll_report(house.now, &mut house.byway, &mut buffer) {
        assert_eq!(to, peer(1));
        all.push(buffer[..length].to_vec());
    }
    all
}

#[test]
fn reports_come_at_their_interval_until_the_subscription_ends() {
    let mut house = measured(100);
    assert_eq!(house.agent.report_at(), None);
    let mut client = house.open(ADMIN, peer(1));
    let start = house.now;
    house.ask(&mut client, peer(1), &report(10, 250), |answer| assert_eq!(answer.refused(), None));
    assert_eq!(house.agent.report_at(), Some(start));
    let (mut rounds, mut servers) = (Vec::new(), 0);
    for step in 0..1_200 {
        house.now = start + Duration::from_millis(step * 10);
        let due = house.agent.report_at().is_some_and(|at| at <= house.now);
        let datagrams = sent_reports(&mut house);
        assert_eq!(!datagrams.is_empty(), due);
        let pages = datagrams.len();
        for (n, datagram) in datagrams.into_iter().enumerate() {
            let Ok(Incoming::Report(report)) = client.handle(house.now, &datagram) else { panic!("not a report") };
            assert_eq!((report.datagrams_missed(), report.page().next().is_none()), (0, n + 1 == pages));
            servers += report.page().servers().count();
            rounds.push((step * 10, report.round()));
        }
    }
    rounds.dedup();
    // At 0, 250, 500, ... ms, less than 10 s.
    let expected: Vec<_> = (0..40).map(|n| (n * 250, n as u32 + 1)).collect();
    assert_eq!((rounds, servers), (expected, 4_000));
    assert_eq!(house.agent.report_at(), None);
}

/// An agent that was stopped until a subscription had ended has nothing to do for it any more.
#[test]
fn what_was_due_when_a_subscription_ended_is_not_due_for_ever() {
    let mut house = measured(10);
    let mut client = house.open(ADMIN, peer(1));
    house.ask(&mut client, peer(1), &report(10, 250), |answer| assert_eq!(answer.refused(), None));
    assert!(!sent_reports(&mut house).is_empty());
    let due = house.agent.report_at().expect("the next one");
    house.now = house.now + Duration::from_secs(20);
    assert!(due < house.now && sent_reports(&mut house).is_empty());
    assert_eq!(house.agent.report_at(), None);
}

/// A loss shows as a gap, once; a datagram that comes twice, or late, is not a report.
#[test]
fn losses_and_repetitions_are_noticed() {
    let mut house = measured(5);
    let mut client = house.open(ADMIN, peer(1));
    house.ask(&mut client, peer(1), &report(60, 100), |answer| assert_eq!(answer.refused(), None));
    let mut all = Vec::new();
    for _ in 0..10 {
        all.extend(sent_reports(&mut house));
        house.now = house.now + Duration::from_millis(100);
    }
    assert!(all.len() >= 10);
    let mut missed = |n: usize| match client.handle(house.now, &all[n]) {
        Ok(Incoming::Report(report)) => Some(report.datagrams_missed()),
        Err(byway::control::Ignored::NotAwaited) => None,
        other => panic!("{other:?}"),
    };
    assert_eq!([0, 1, 5, 3, 5, 6].map(&mut missed), [Some(0), Some(0), Some(3), None, None, Some(0)]);
    let mut forged = all[7].clone();
    forged[30] ^= 1;
    assert!(matches!(client.handle(house.now, &forged), Err(byway::control::Ignored::BadTag)));
    // Numbers go on where a subscription ends and another begins.
    house.ask(&mut client, peer(1), &report(0, 100), |answer| assert_eq!(answer.refused(), None));
    assert!(sent_reports(&mut house).is_empty() && house.agent.report_at().is_none());
    house.ask(&mut client, peer(1), &report(60, 200), |answer| assert_eq!(answer.refused(), None));
    let again = sent_reports(&mut house);
    let Ok(Incoming::Report(report)) = client.handle(house.now, &again[0]) else { panic!("not a report") };
    assert_eq!((report.datagrams_missed() as usize, report.round()), (all.len() - 7, 11));
}

/// A late caller gets one report, not all that would have been due.
#[test]
fn what_is_late_is_not_made_up_for() {
    let mut house = measured(1);
    let mut client = house.open(ADMIN, peer(1));
    house.ask(&mut client, peer(1), &report(60, 100), |answer| assert_eq!(answer.refused(), None));
    for _ in 0..3 {
        house.now = house.now + Duration::from_secs(5);
        assert_eq!(sent_reports(&mut house).len(), 1);
        assert_eq!(house.agent.report_at(), Some(house.now + Duration::from_millis(100)));
    }
    // The session ends, and its reports with it.
    house.ask(&mut client, peer(1), &Request::one(Instruction::Close), |answer| assert_eq!(answer.refused(), None));
    house.now = house.now + Duration::from_secs(1);
    assert!(sent_reports(&mut house).is_empty() && house.agent.report_at().is_none());
}

#[test]
fn what_cannot_be_is_refused() {
    let mut house = measured(3);
    let mut client = house.open(READER, peer(2));
    let mut code = |house: &mut House, request: &Request| {
        house
            .ask(&mut client, peer(2), request, |answer| answer.refused().map(|refused| (refused.code, refused.detail)))
    };
    let malformed = Some((Some(Code::Malformed), 0));
    for (seconds, interval) in [(60, 0), (60, MIN_INTERVAL - 1), (60, MAX_INTERVAL + 1), (MAX_SUBSCRIPTION + 1, 250)] {
        assert_eq!(code(&mut house, &report(seconds, interval)), malformed, "{seconds} {interval}");
    }
    for (seconds, interval) in [(MAX_SUBSCRIPTION, MIN_INTERVAL), (1, MAX_INTERVAL), (0, 250)] {
        assert_eq!(code(&mut house, &report(seconds, interval)), None, "{seconds} {interval}");
    }
    let both = first_page().and(Instruction::Measurements(0)).unwrap();
    assert_eq!(code(&mut house, &both), Some((Some(Code::BadTransaction), 0)));
    assert_eq!(code(&mut house, &first_page().only_if(7)), Some((Some(Code::Generation), 0)));
    let generation = house.byway.generation();
    assert_eq!(code(&mut house, &first_page().only_if(generation).dry_run()), None);
    // Beyond the last there is nothing.
    let beyond = Request::one(Instruction::Measurements(u32::MAX));
    house.ask(&mut client, peer(2), &beyond, |answer| {
        assert!(
            answer.refused().is_none() && answer.measurements().is_empty() && answer.measurements().next().is_none()
        );
    });
    // There is room for two monitors, of which one is there already.
    for (number, key, refused) in [(3, ADMIN, None), (4, TENANT, Some((Some(Code::NoReport), 2)))] {
        let mut other = house.open(key, peer(number));
        let result = house.ask(&mut other, peer(number), &report(60, 250), |answer| {
            answer.refused().map(|refused| (refused.code, refused.detail))
        });
        assert_eq!(result, refused);
    }
}

/// A translator that measures no servers says so; one whose storage cannot does not know the instructions.
#[test]
fn whoever_does_not_measure_says_so() {
    let config = || Config::new([7; 32]).alternative(ip("10.10.10.10"), 1024..=2047);
    let mut plain = House::of(Translator::new(config(), Heap::new(10, 10)).unwrap(), [1; 32]);
    let mut client = plain.open(READER, peer(2));
    for request in [first_page(), report(60, 250)] {
        let code = plain.ask(&mut client, peer(2), &request, |answer| answer.refused().unwrap().code);
        assert_eq!(code, Some(Code::NotMeasured));
    }
    let mut small = House::of(Translator::new(config(), Fixed::<10, 4>::new()).unwrap(), [1; 32]);
    let mut client = small.open(READER, peer(2));
    for (request, number) in [(first_page(), 20), (report(60, 250), 34)] {
        let refused = small.ask(&mut client, peer(2), &request, |answer| answer.refused().unwrap());
        assert_eq!((refused.code, refused.detail), (Some(Code::UnknownInstruction), number));
    }
    // An agent without room for reports still gives pages.
    let mut measured = measured(2);
    let mut agent = Agent::<1, 1>::new([3; 32]);
    agent.add_key(Key::new(1, ADMIN.1, Rights::Read)).unwrap();
    let mut plain = House::of(Translator::new(config(), Heap::new(10, 10).measured()).unwrap(), [1; 32]);
    core::mem::swap(&mut plain.byway, &mut measured.byway);
    assert_eq!(read(&mut plain, 2).0.len(), 2);
}

/// The shards' servers come one after the other, each with its shard's number.
#[test]
fn each_shard_has_its_own_list() {
    let config = Config::new([7; 32]).alternative(ip("10.10.10.10"), 1024..=2047);
    let byway = Sharded::new(config, [(); 4].map(|()| Heap::new(100, 100).measured())).unwrap();
    let mut house = House::of(byway, [1; 32]);
    let mut client = house.open(ADMIN, peer(1));
    let group = [Weighted::new(at("20.0.0.1:53"), 3), Weighted::new(at("20.0.0.2:53"), 4)];
    let rule = Divert::new(at("100.1.1.1:53")).to_group(&group);
    let rule = Instruction::Divert(byway::control::Rule::new(&rule).unwrap());
    house.ask(&mut client, peer(1), &Request::one(rule), |answer| assert_eq!(answer.refused(), None));
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(position) = next {
        next = house.ask(&mut client, peer(1), &Request::one(Instruction::Measurements(position)), |answer| {
            all.extend(answer.measurements().servers());
            answer.measurements().next()
        });
    }
    let mut places: Vec<_> =
        all.iter().map(|server| (server.position >> 16, server.measured.server.to_string())).collect();
    assert!(all.is_sorted_by_key(|server| server.position));
    places.sort();
    let expected: Vec<_> = (0..4_u32).flat_map(|shard| [1, 2].map(|n| (shard, format!("20.0.0.{n}:53")))).collect();
    assert_eq!(places, expected);
}
