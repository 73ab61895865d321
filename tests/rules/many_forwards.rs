//! Port forwards in storages with room for many rules: the servers that they hide and the ports that they speak of are known
//! whatever comes, goes and moves. And what is gone is forgotten.

use byway::{Divert, DropReason, Heap, Match, Prefix, Protocol, Redivert, Target, Translator, Verdict, Weighted};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);

/// What a rule was told to be.
#[derive(Clone, Debug)]
struct Rule {
    matches: Match,
    targets: Vec<Weighted>,
    keeps_source: bool,
}

impl Rule {
    fn is_for_udp_of(&self, client: Ipv4Addr) -> bool {
        self.matches.limited_to().is_none_or(|p| p == Protocol::Udp) && self.matches.from_clients().contains(client)
    }

    /// Whether a UDP packet from this server to a client would show an address that the client does not know.
    fn hides(&self, server: SocketAddrV4, client: Ipv4Addr) -> bool {
        let is_it = |t: &Weighted| match t.target {
            Target::Same => false,
            Target::Address(address) => Some(server) == self.matches.port().map(|p| SocketAddrV4::new(address, p)),
            Target::Endpoint(endpoint) => endpoint == server,
        };
        let is_forward = self.matches.destination() == Prefix::host(OWN);
        self.keeps_source && is_forward && self.is_for_udp_of(client) && self.targets.iter().any(is_it)
    }
}

fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.below(from.len() as u64) as usize]
}

fn server_address(dice: &mut Dice) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 7, 1 + dice.below(6) as u8)
}

fn target(dice: &mut Dice) -> Target {
    let address = server_address(dice);
    match dice.below(2) {
        0 => Target::Address(address),
        _ => Target::Endpoint(SocketAddrV4::new(address, 2_000 + dice.below(4) as u16)),
    }
}

/// A rule of any of the kinds that are told apart.
fn rule(dice: &mut Dice) -> Rule {
    let elsewhere = Ipv4Addr::new(100, 100, 0, dice.below(200) as u8);
    let host = pick(dice, &[OWN, OWN, elsewhere]);
    let mut matches = Match::from(SocketAddrV4::new(host, 2_000 + dice.below(8) as u16));
    if dice.below(2) == 0 {
        matches = matches.protocol(pick(dice, &[Protocol::Udp, Protocol::Tcp]));
    }
    if dice.below(2) == 0 {
        let length = pick(dice, &[8, 24, 32]);
        matches = matches.clients(Prefix::new(Ipv4Addr::new(1, 2, 3, dice.below(8) as u8), length).unwrap());
    }
    let mut targets = vec![Weighted::new(target(dice), 1)];
    for _ in 0..pick(dice, &[0, 0, 2]) {
        let another = target(dice);
        if targets.iter().all(|t| t.target != another) {
            targets.push(Weighted::new(another, 1));
        }
    }
    Rule { matches, targets, keeps_source: dice.below(2) == 0 }
}

fn redivert(rules: &mut [Rule], from: SocketAddrV4, to: SocketAddrV4) {
    for weighted in rules.iter_mut().flat_map(|rule| &mut rule.targets) {
        if weighted.target == Target::Endpoint(from) {
            weighted.target = Target::Endpoint(to);
        }
    }
}

/// A list that is looked through is the measure.
fn agrees_with_a_list(room: usize, seed: u64) {
    let mut dice = Dice(seed);
    let mut t = Translator::new(config(), Heap::new(64, room).servers(4_000)).unwrap();
    let mut rules: Vec<Rule> = Vec::new();
    for step in 0..3_000_u64 {
        let now = s(step / 4);
        match dice.below(8) {
            0 | 1 if !rules.is_empty() => {
                let gone = rules.swap_remove(dice.below(rules.len() as u64) as usize);
                assert!(t.remove(gone.matches).is_some());
            }
            2 => {
                let [from, to] = [2_000, 2_001].map(|p| SocketAddrV4::new(server_address(&mut dice), p));
                t.redivert(from, to, pick(&mut dice, &[Redivert::Switch, Redivert::Drain])).unwrap();
                redivert(&mut rules, from, to);
            }
            3 => t.poll(now),
            _ => {
                let rule = rule(&mut dice);
                let divert = Divert::new(rule.matches).to_group(&rule.targets);
                t.divert(if rule.keeps_source { divert.keep_source() } else { divert }).unwrap();
                rules.retain(|r| r.matches != rule.matches);
                rules.push(rule);
            }
        }
        for asked in 0..4 {
            // A server that says something to somebody, as it may, unless that client knows it by another address.
            let server = SocketAddrV4::new(server_address(&mut dice), 2_000 + dice.below(8) as u16);
            let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, dice.below(8) as u8), 40_000);
            let hidden = rules.iter().any(|rule| rule.hides(server, *client.ip()));
            let expected = if hidden { Verdict::Drop(DropReason::NoConnection) } else { Verdict::Pass };
            assert_eq!(verdict(&mut t, now, &udp(server, client, b"")), expected, "{server} to {client}: {rules:?}");
            // A client that asks for a port of our own. One that rules speak of for others is no answer's.
            let port = SocketAddrV4::new(OWN, 2_000 + dice.below(8) as u16);
            let speaks = |rule: &&Rule| {
                rule.matches.destination() == Prefix::host(OWN)
                    && rule.matches.port() == Some(port.port())
                    && rule.matches.limited_to().is_none_or(|p| p == Protocol::Udp)
            };
            let speaking: Vec<&Rule> = rules.iter().filter(speaks).collect();
            let expected = match speaking.as_slice() {
                [] => Verdict::Drop(DropReason::NoConnection),
                some if some.iter().any(|rule| rule.is_for_udp_of(*client.ip())) => Verdict::ToServer,
                _ => Verdict::Pass,
            };
            let client = SocketAddrV4::new(*client.ip(), 50_000 + (4 * step + asked) as u16);
            assert_eq!(verdict(&mut t, now, &udp(client, port, b"")), expected, "{client} to {port}: {rules:?}");
            // So that no connection carries over what comes next.
            t.forget();
            t.poll(now);
        }
        assert_eq!(t.diverts().count(), rules.len());
    }
    for rule in &rules {
        let listed = t.find_divert(rule.matches).unwrap();
        assert!(listed.keeps_source() == rule.keeps_source && listed.servers().count() == rule.targets.len());
    }
}

#[test]
fn hidden_servers_and_ports_of_our_own_are_known_among_many_rules() {
    for seed in 1..5_u64 {
        agrees_with_a_list(2_000, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

/// The same of a storage without an index of rules.
#[test]
fn hidden_servers_and_ports_of_our_own_are_known_among_few_rules() {
    agrees_with_a_list(1_000, 0x1234_5678_9abc_def1);
}

/// Goes through time as `poll_at` asks, until this instant. Returns how often it polled.
fn pass_time(t: &mut Translator<Heap>, until: u64) -> u32 {
    let mut polls = 0;
    while let Some(due) = t.poll_at().filter(|due| *due <= s(until)) {
        t.poll(due);
        polls += 1;
        assert!(polls < 10_000, "it does not come to an end");
    }
    t.poll(s(until));
    polls
}

/// A transit fragment to an address that was diverted once is held for as long as the translator remembers that.
#[test]
fn one_rule_that_goes_is_forgotten_among_many() {
    // Elsewhere there is no index of rules, no two of them share an entry for their server, and the filter, which is small,
    // cannot tell the addresses of thousands from others.
    let large = cfg!(target_pointer_width = "64");
    let (counts, servers): (&[u32], _) = if large { (&[10, 5_000], 4) } else { (&[10], 10) };
    for &rules in counts {
        let mut t = Translator::new(config(), Heap::new(256, 8_000).servers(servers)).unwrap();
        let original = |n: u32| SocketAddrV4::new(Ipv4Addr::from_bits(0x6440_0000 + n * 3), 80);
        let to = at("123.45.67.89:80");
        (0..rules).for_each(|n| assert!(t.divert(Divert::new(original(n)).to(to)).is_ok()));
        let gone = original(7);
        let asked = ask(&mut t, s(0), client(1), gone);
        assert_eq!(asked.1, to);
        assert!(t.remove(gone).is_some());
        let later = || fragment(&udp(client(2), gone, &[0; 64]), 9, 3, true, &[0; 16]);
        // The connection goes on, and so its address is known.
        assert!(verdict(&mut t, s(1), &later()) == Verdict::Hold);
        pass_time(&mut t, 100);
        assert!(verdict(&mut t, s(100), &later()) == Verdict::Hold);
        // It expires, and half a minute later nothing is left, however few rules have gone.
        let polls = pass_time(&mut t, 480);
        assert_eq!(t.slots_in_use(), 0);
        assert_eq!(verdict(&mut t, s(480), &later()), Verdict::Pass, "among {rules} rules");
        assert!(polls < 1_000, "{polls} polls among {rules} rules");
        assert_eq!(t.poll_at(), None);
        let mut broken = udp(client(3), gone, b"");
        broken[24..26].copy_from_slice(&[0, 3]);
        assert_eq!(verdict(&mut t, s(480), &broken), Verdict::Pass);
    }
}
