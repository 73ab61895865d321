//! Every error says in its text which field is wrong, and what stands in it.
//!
//! Errors come from real calls, as a user would meet them; what no call of this library can bring about is built.

mod support;

use core::time::Duration;

use byway::{
    Config, ConfigError, Divert, DivertError, Fixed, Heap, Imported, MAX_ALTERNATIVES, Prefix, RECORD_LENGTH, Record,
    RecordError, Redivert, RedivertError, Target, Timeouts, Translator, Weighted,
};
use support::talk::*;
use support::*;

/// Checks that the text of an error has all of these in it.
#[track_caller]
fn says(error: &dyn core::error::Error, parts: &[&str]) {
    let text = error.to_string();
    println!("{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

fn refused(config: Config) -> ConfigError {
    Translator::new(config, Heap::new(16, 1)).map(|_| ()).expect_err("it cannot be used")
}

#[test]
#[allow(clippy::reversed_empty_ranges, reason = "it is what is tested")]
fn configurations() {
    let new = || Config::new([1; 32]);
    let many = (1..=9).fold(new(), |c, n| c.alternative(ip(&format!("10.0.0.{n}")), 1..=9));
    says(&refused(many), &["alternative", "10.0.0.9", &MAX_ALTERNATIVES.to_string()]);
    let many = (1..=9).fold(new(), |c, n| c.own(ip(&format!("10.0.0.{n}"))));
    says(&refused(many), &["own", "10.0.0.9", &MAX_ALTERNATIVES.to_string()]);
    says(&refused(new().alternative(ip("10.0.0.1"), 9..=1)), &["alternative", "10.0.0.1", "ports 9-1"]);
    says(&refused(new().alternative(ip("127.0.0.1"), 1..=9)), &["alternative", "127.0.0.1"]);
    let timeouts = |udp| new().timeouts(Timeouts { udp, ..Timeouts::RECOMMENDED });
    says(&refused(timeouts(Duration::from_secs(7))), &["udp", "7s", "120s"]);
    says(&refused(timeouts(Duration::from_secs(500_000))), &["udp", "500000s", "432000s"]);
    says(&refused(new().client_limit(65_535)), &["client limit", "65535", "65534"]);
    let small = Translator::new(new(), Heap::new(7, 1)).unwrap_err();
    says(&small, &["connections", "7", "8"]);
    let odd = Translator::new(new(), Fixed::<16, 1, 1, 1, 15>::sized()).unwrap_err();
    says(&odd, &["measured", "15", "16"]);
}

#[test]
fn rules() {
    let mut t = Translator::new(config(), Fixed::<16, 2>::new()).unwrap();
    let new = || Divert::new(at(ORIGINAL));
    let (zero, martian, own) = (at("9.9.9.9:0"), ip("127.0.0.1"), at("10.10.10.10:7"));
    let weightless = [Weighted::new(at(SERVER), 0), Weighted::new(at(OTHER), 0)];
    let twice = [Weighted::new(at(SERVER), 1); 2];
    let three = [Weighted::new(at(SERVER), 1), Weighted::new(at(OTHER), 1), Weighted::new(ip("9.9.9.9"), 1)];
    let mut says = |divert: Divert<'_>, parts: &[&str]| says(&t.divert(divert).unwrap_err(), parts);
    says(Divert::new(zero), &["destination 9.9.9.9/32", "port 0"]);
    says(new().to(zero), &["target 9.9.9.9:0"]);
    says(new().to_group(&weightless), &["group", "2 servers", "weight"]);
    says(new().to_group(&twice), &["group", SERVER, "twice"]);
    says(new().to_group(&three), &["servers", "2 entries"]);
    says(new().to(martian), &["target 127.0.0.1"]);
    says(new().to(own), &["target 10.10.10.10:7"]);
    says(new().to(at(ORIGINAL)), &["target 100.100.100.100:80"]);
    for address in ["1.1.1.1", "2.2.2.2"] {
        t.divert(Divert::new(ip(address)).to(at(SERVER))).unwrap();
    }
    self::says(&t.divert(new()).unwrap_err(), &["divert table", "2 rules"]);
    let mut bare = Translator::new(Config::new([1; 32]), Fixed::<16, 2>::new()).unwrap();
    self::says(&bare.divert(new()).unwrap_err(), &["destination 100.100.100.100/32", "alternative", "source"]);
    assert_eq!(
        bare.divert(new()),
        Err(DivertError::NoAlternative { destination: Prefix::host(ip("100.100.100.100")) })
    );
}

#[test]
fn rediverts() {
    let mut t = Translator::new(config(), Fixed::<16, 1>::new()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let (zero, martian, own) = (at("9.9.9.9:0"), ip("127.0.0.1"), at("10.10.10.10:7"));
    let server = Target::from(at(SERVER));
    let mut says = |from: Target, to: Target, how, parts: &[&str]| says(&t.redivert(from, to, how).unwrap_err(), parts);
    says(Target::Same, server, Redivert::Switch, &["from", "\"the same\""]);
    says(server, Target::Same, Redivert::Switch, &["to", "\"the same\""]);
    says(server, server, Redivert::Switch, &["from 123.45.67.89:80 to 123.45.67.89:80"]);
    says(server, martian.into(), Redivert::Switch, &["target 127.0.0.1"]);
    says(server, zero.into(), Redivert::Switch, &["target 9.9.9.9:0"]);
    says(server, own.into(), Redivert::Switch, &["target 10.10.10.10:7"]);
    says(server, at(OTHER).into(), Redivert::Drain, &["server", "1 entries"]);
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    let busy = t.redivert(at(OTHER), at(SERVER), Redivert::Switch).unwrap_err();
    assert_eq!(busy, RedivertError::Busy { capacity: 1 });
    self::says(&busy, &["1 re-diverts"]);
}

#[test]
fn records() {
    let one_port = || Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_000);
    let rule = || Divert::new(at(ORIGINAL)).to(at(SERVER));
    let mut t = Translator::new(one_port(), Heap::new(8, 1)).unwrap();
    t.divert(rule()).unwrap();
    ask(&mut t, s(100), at(CLIENT), at(ORIGINAL));
    let record = t.records().next().unwrap();
    let good = *record.as_bytes();
    let read = |place: usize, bytes: &[u8], mend: bool| {
        let mut bad = good;
        bad[place..place + bytes.len()].copy_from_slice(bytes);
        if mend {
            let sum = crc(&bad[..RECORD_LENGTH - 4]);
            bad[RECORD_LENGTH - 4..].copy_from_slice(&sum.to_be_bytes());
        }
        Record::from_bytes(&bad)
    };
    says(&Record::from_bytes(&good[..50]).unwrap_err(), &["50 bytes", "56"]);
    says(&read(0, b"no", false).unwrap_err(), &["begins", &format!("{:?}", b"no"), &format!("{:?}", b"bw")]);
    says(&read(2, &[9], false).unwrap_err(), &["version 9"]);
    says(&read(9, &[9], false).unwrap_err(), &["checksum 0x"]);
    says(&read(3, &[47], true).unwrap_err(), &["protocol", "47"]);
    says(&read(4, &[77], true).unwrap_err(), &["state", "77"]);
    says(&read(5, &[64], true).unwrap_err(), &["flags", "64"]);
    says(&read(26, &[127, 0, 0, 1], true).unwrap_err(), &["server 127.0.0.1:80"]);
    says(&read(20, &[4, 3, 2, 1], true).map(|r| t.import(s(100), &r)).unwrap().unwrap_err(), &["alternative 4.3.2.1"]);
    let rival = read(8, &[1, 2, 3, 5], true).unwrap();
    says(&t.import(s(100), &rival).unwrap_err(), &["alternative 10.10.10.10:2000"]);
    let mut later = Translator::new(one_port().allow_short_timeouts(), Heap::new(8, 1)).unwrap();
    later.set_timeouts(Timeouts { udp: Duration::from_secs(3), ..Timeouts::RECOMMENDED }).unwrap();
    let idle = read(32, &5_000_u32.to_be_bytes(), true).unwrap();
    says(&later.import(s(0), &idle).unwrap_err(), &["idle", "5s"]);
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    says(&t.import(s(100), &record).unwrap_err(), &["server 123.45.67.89:80", "moved"]);
    let mut full = Translator::new(config(), Heap::new(8, 1)).unwrap();
    full.divert(rule()).unwrap();
    for n in 0..8 {
        ask_and_answer(&mut full, s(0), client(n), at(ORIGINAL));
    }
    says(&full.import(s(0), &record).unwrap_err(), &["room", "8 connections"]);
    assert_eq!(later.import(s(0), &record), Ok(Imported::New));
}

#[test]
fn errors_are_small() {
    assert!(size_of::<ConfigError>() <= 48, "{}", size_of::<ConfigError>());
    assert!(size_of::<DivertError>() <= 16, "{}", size_of::<DivertError>());
    assert!(size_of::<RedivertError>() <= 24, "{}", size_of::<RedivertError>());
    assert!(size_of::<RecordError>() <= 32, "{}", size_of::<RecordError>());
}

#[cfg(feature = "control")]
mod control {
    use super::{at, s, says};
    use byway::control::{Agent, Client, Instruction, Key, Request, Rights, Rule};
    use byway::{Divert, Weighted};

    #[test]
    fn of_the_control_protocol() {
        let mut agent = Agent::<1, 1>::new([1; 32]);
        let key = |id| Key::new(id, [1; 32], Rights::All);
        agent.add_key(key(7)).unwrap();
        says(&agent.add_key(key(7)).unwrap_err(), &["key 7"]);
        says(&agent.add_key(key(8)).unwrap_err(), &["key 8", "1"]);

        let mut client = Client::new(s(0), 7, [1; 32], [2; 16]);
        let request = Request::one(Instruction::Counters);
        says(&client.send(s(0), &request).unwrap_err(), &["key 7", "not open"]);
        let gave_up = (0..100).find_map(|n| client.poll_transmit(s(n)).err()).unwrap();
        says(&gave_up, &["request 0", "7 times"]);
        says(&client.send(s(0), &request).unwrap_err(), &["over", "request was 0"]);

        let group: Vec<_> = (1..=16).map(|n| Weighted::new(at(&format!("9.9.9.{n}:80")), 1)).collect();
        let rule = Rule::new(&Divert::new(at("1.1.1.1:80")).to_group(&group)).unwrap();
        let mut request = Request::new();
        let too_long = loop {
            match request.and(Instruction::Divert(rule)) {
                Ok(longer) => request = longer,
                Err(error) => break error,
            }
        };
        says(&too_long, &[&format!("instruction {}", too_long.instruction), &too_long.bytes.to_string()]);
        assert!(too_long.instruction > 1 && too_long.bytes > 0);
    }
}
