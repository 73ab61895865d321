//! What a router that hides addresses must not let out, and what is none of its business.
//!
//! The fault class: a packet that an address translator matches but cannot translate leaves with its private source.
//! Public reports of it: segments of connections that are no longer known (moby/moby#18630,
//! containernetworking/plugins#816), segments with odd flags (firewalld/firewalld#961).

use byway::{Config, Counters, Divert, DropReason, Heap, Midstream, Prefix, Protocol, Translator, Verdict, Weighted};
use byway_testing::talk::*;
use byway_testing::*;

const OUTSIDE: &str = "203.0.113.9:443";
const INSIDE: &str = "192.168.0.0/16";

fn prefix(text: &str) -> Prefix {
    let (network, length) = text.split_once('/').unwrap();
    Prefix::new(ip(network), length.parse().unwrap()).unwrap()
}

/// Without measurements, so that plain packets take the fast paths; `ways.rs` holds those against the slow one.
fn translator(config: Config) -> Translator<Heap> {
    Translator::new(config, Heap::new(1000, 100)).unwrap()
}

fn masquerading(config: Config) -> Translator<Heap> {
    let mut t = translator(config);
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    t
}

fn is_private(address: core::net::Ipv4Addr) -> bool {
    prefix(INSIDE).contains(address)
}

/// Whatever leaves has another source, or does not leave.
#[track_caller]
fn does_not_leak(t: &mut Translator<Heap>, now: byway::Instant, packet: &[u8], what: &str) -> Verdict {
    let (verdict, seen) = run(t, now, packet);
    let leaves = !matches!(verdict, Verdict::Drop(_) | Verdict::Hold);
    assert!(!leaves || !is_private(address(&seen, 12)), "{what}: {verdict:?}, from {}", address(&seen, 12));
    verdict
}

/// A segment from inside that nobody knows, with these flags.
fn stray(flags: u8, data: &[u8]) -> Vec<u8> {
    tcp(at(CLIENT), at(OUTSIDE), (flags, 1, 1), data)
}

/// A message of protocol `protocol` from inside, and one of ICMP.
fn raw(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4(protocol, *at(CLIENT).ip(), *at(OUTSIDE).ip(), payload)
}

fn icmp(kind: u8) -> Vec<u8> {
    raw(1, &[kind, 0, 0, 0, 0, 7, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
}

#[test]
fn segments_of_an_expired_connection_do_not_leak() {
    for swept in [true, false] {
        for (flags, what) in [(ACK, "data"), (FIN | ACK, "FIN"), (RST | ACK, "RST with ACK"), (RST, "RST")] {
            let mut t = masquerading(config());
            connect(&mut t, s(0), at(CLIENT), at(OUTSIDE));
            if swept {
                t.poll(s(7_500));
            }
            let late = tcp(at(CLIENT), at(OUTSIDE), (flags, CLIENT_START + 1, SERVER_START + 1), b"");
            let verdict = does_not_leak(&mut t, s(7_500), &late, what);
            let adopted = flags & (RST | ACK) == ACK;
            let due = if adopted { Verdict::ToServer } else { Verdict::Drop(DropReason::Midstream) };
            assert_eq!(verdict, due, "{what}");
            assert_eq!(t.connections().count(), usize::from(adopted));
        }
    }
}

/// All 256 combinations, with and without data, whole and as first fragments; by the rule and by the configuration.
#[test]
fn no_combination_of_flags_leaks() {
    let rule = || Divert::new(Prefix::ALL);
    let policies = [
        (config(), rule()),
        (config(), rule().midstream(Midstream::Adopt)),
        (config(), rule().midstream(Midstream::Drop)),
        (config().midstream(Midstream::Adopt), rule().midstream(Midstream::Pass)),
        (config().midstream(Midstream::Drop), rule().midstream(Midstream::Pass)),
        (config().checksums(byway::Checksums::Hardware), rule()),
    ];
    for (config, rule) in policies {
        for flags in 0..=255 {
            for packet in
                [stray(flags, b""), stray(flags, b"data"), fragments(&stray(flags, &[7; 64]), 9, 40)[0].clone()]
            {
                let mut t = translator(config.clone());
                t.divert(rule).unwrap();
                let verdict = does_not_leak(&mut t, s(0), &packet, &format!("flags {flags:#x}"));
                let opens = flags & (SYN | ACK | RST) == SYN;
                let adopts = flags & (SYN | ACK | RST) == ACK;
                let dropping = verdict == Verdict::Drop(DropReason::Midstream);
                assert!(
                    if opens { verdict == Verdict::ToServer } else { adopts || dropping },
                    "{flags:#x}: {verdict:?}"
                );
            }
        }
    }
}

/// The configuration overrides the rule, and the rule the default.
#[test]
fn a_rule_says_what_becomes_of_segments_from_the_middle_and_the_configuration_overrides_it() {
    let settings = [None, Some(Midstream::Pass), Some(Midstream::Adopt), Some(Midstream::Drop)];
    for own in settings {
        for overriding in settings {
            for masquerades in [true, false] {
                let mut rule = Divert::new(at(OUTSIDE));
                if !masquerades {
                    rule = rule.to(at(SERVER));
                }
                if let Some(own) = own {
                    rule = rule.midstream(own);
                }
                let config = overriding.map_or(config(), |overriding| config().midstream(overriding));
                let mut t = translator(config);
                t.divert(rule).unwrap();
                assert_eq!(t.find_divert(at(OUTSIDE)).unwrap().midstream(), own);
                let default = if masquerades { Midstream::Adopt } else { Midstream::Pass };
                let (ack, rst) = match overriding.or(own).unwrap_or(default) {
                    Midstream::Pass => (Verdict::Pass, Verdict::Pass),
                    Midstream::Adopt if masquerades => (Verdict::ToServer, Verdict::Drop(DropReason::Midstream)),
                    Midstream::Adopt => (Verdict::ToServer, Verdict::Pass),
                    _ => [Verdict::Drop(DropReason::Midstream); 2].into(),
                };
                let what = format!("{own:?} {overriding:?} {masquerades}");
                assert_eq!(verdict(&mut t, s(0), &stray(RST, b"")), rst, "{what}");
                assert_eq!(verdict(&mut t, s(0), &stray(ACK, b"")), ack, "{what}");
            }
        }
    }
}

/// A group that holds the original among others leads elsewhere, and so does a rule that keeps the source.
#[test]
fn what_leads_elsewhere_passes_by_default() {
    let group = [Weighted::new(byway::Target::Same, 1), Weighted::new(at(SERVER), 0)];
    let rules = [
        Divert::new(at(OUTSIDE)).to(at(SERVER)),
        Divert::new(Prefix::ALL).to(ip("9.9.9.9")),
        Divert::new(at(OUTSIDE)).to_group(&group),
        Divert::new(at(OUTSIDE)).to(at(SERVER)).keep_source(),
        Divert::new(Prefix::ALL).keep_source(),
    ];
    for rule in rules {
        let mut t = translator(config());
        t.divert(rule).unwrap();
        for packet in [stray(ACK, b""), stray(RST, b""), stray(0, b""), icmp(0), icmp(13), raw(47, b"GRE")] {
            assert_eq!(verdict(&mut t, s(0), &packet), Verdict::Pass, "{:?}", rule.matches());
        }
    }
}

#[test]
fn adopted_segments_are_carried_both_ways() {
    let mut t = masquerading(config());
    let seen = there(&mut t, s(0), &stray(ACK, b"more"));
    let (us, server) = ends(&seen);
    assert_eq!((*us.ip(), server), (ip(ALTERNATIVE), at(OUTSIDE)));
    let back = back(&mut t, s(1), &tcp(server, us, (ACK, 1, 5), b"answer"));
    assert_eq!(ends(&back), (at(OUTSIDE), at(CLIENT)));
}

/// UDP has no beginning, and neither has an echo request.
#[test]
fn udp_and_echo_requests_are_always_carried() {
    for policy in [None, Some(Midstream::Pass), Some(Midstream::Adopt), Some(Midstream::Drop)] {
        let mut t = masquerading(policy.map_or(config(), |policy| config().midstream(policy)));
        assert_eq!(does_not_leak(&mut t, s(0), &udp(at(CLIENT), at(OUTSIDE), b"x"), "UDP"), Verdict::ToServer);
        assert_eq!(does_not_leak(&mut t, s(0), &icmp(8), "echo request"), Verdict::ToServer);
    }
}

/// Echo replies that nobody asked for, every other ICMP type, and all protocols without ports.
#[test]
fn what_cannot_be_translated_does_not_leak() {
    let untranslatable = Verdict::Drop(DropReason::Untranslatable);
    let masquerade = Divert::new(Prefix::ALL);
    for rule in [masquerade, masquerade.clients(prefix(INSIDE)), Divert::new(*at(OUTSIDE).ip())] {
        let mut t = translator(config());
        t.divert(rule).unwrap();
        for kind in (0..=255).filter(|kind| ![3, 4, 5, 8, 11, 12].contains(kind)) {
            assert_eq!(verdict(&mut t, s(0), &icmp(kind)), untranslatable, "ICMP type {kind}");
        }
        for protocol in (0..=255).filter(|protocol| ![1, 6, 17].contains(protocol)) {
            let packet = raw(protocol, &[7; 40]);
            assert_eq!(verdict(&mut t, s(0), &packet), untranslatable, "protocol {protocol}");
            let pieces = fragments(&packet, 9, 16);
            assert_eq!(verdict(&mut t, s(0), &pieces[0]), untranslatable, "protocol {protocol}, in fragments");
            assert_eq!(verdict(&mut t, s(0), &pieces[1]), Verdict::Hold, "protocol {protocol}, in fragments");
        }
        assert_eq!(t.slots_in_use(), 0);
        assert_eq!(t.counters().dropped(DropReason::Untranslatable), 250 + 2 * 253);
    }
}

/// A rule for one protocol or port speaks of no other protocol, whatever its number has in common with that.
#[test]
fn a_rule_for_a_protocol_or_port_does_not_speak_of_others() {
    for rule in [
        Divert::new(Prefix::ALL).protocol(Protocol::Tcp),
        Divert::new(Prefix::ALL).protocol(Protocol::Udp),
        Divert::new(Prefix::ALL).protocol(Protocol::Icmp),
        Divert::new((Prefix::ALL, 443)),
    ] {
        let mut t = translator(config());
        t.divert(rule).unwrap();
        for protocol in (0..=255).filter(|protocol| ![1, 6, 17].contains(protocol)) {
            assert_eq!(verdict(&mut t, s(0), &raw(protocol, &[1, 187, 1, 187])), Verdict::Pass, "protocol {protocol}");
        }
    }
    let mut t = translator(config());
    t.divert(Divert::new(Prefix::ALL).protocol(Protocol::Icmp)).unwrap();
    assert_eq!(verdict(&mut t, s(0), &icmp(13)), Verdict::Drop(DropReason::Untranslatable));
}

/// An error about a connection that is not known: from the host itself, from a router inside, whatever it quotes.
#[test]
fn icmp_errors_about_forgotten_connections_do_not_leak() {
    let (client, server) = (at(CLIENT), at(OUTSIDE));
    let quoted = [
        tcp(server, client, (ACK, 1, 1), b"data"),
        udp(server, client, b"data"),
        echo(0, *server.ip(), *client.ip(), 7, b"x"),
        echo(8, *server.ip(), *client.ip(), 7, b"x"),
        ipv4(47, *server.ip(), *client.ip(), &[0; 16]),
        fragments(&udp(server, client, &[1; 64]), 5, 24)[1].clone(),
    ];
    for rule in [Divert::new(Prefix::ALL), Divert::new(Prefix::ALL).clients(prefix(INSIDE))] {
        for about in &quoted {
            for (from, kind) in [(*client.ip(), 3), (ip("192.168.99.1"), 11), (ip("192.168.99.1"), 12)] {
                let mut t = translator(config());
                t.divert(rule).unwrap();
                let error = icmp_error(kind, 1, from, about, 60);
                let verdict = does_not_leak(&mut t, s(0), &error, "an error");
                assert_eq!(verdict, Verdict::Drop(DropReason::IcmpUnrelated));
            }
        }
    }
    // Only TCP is masqueraded: the error quotes a private address all the same. And errors of a router outside the
    // clients' prefix quote one too.
    let mut t = translator(config());
    t.divert(Divert::new(Prefix::ALL).protocol(Protocol::Tcp).clients(prefix(INSIDE))).unwrap();
    for from in [*client.ip(), ip("172.16.0.1")] {
        let error = icmp_error(3, 1, from, &quoted[0], 60);
        assert_eq!(verdict(&mut t, s(0), &error), Verdict::Drop(DropReason::IcmpUnrelated));
    }
    // An error about a connection that is known is translated.
    let (us, _) = connect(&mut t, s(0), client, server);
    let answer = back(&mut t, s(0), &tcp(server, us, (ACK, SERVER_START + 1, CLIENT_START + 1), b"x"));
    let seen = there(&mut t, s(0), &icmp_error(11, 0, ip("192.168.99.1"), &answer, 60));
    assert_eq!(address(&seen, 12), *us.ip());
}

#[test]
fn fragments_without_a_first_do_not_leak() {
    let mut t = masquerading(config());
    for packet in [udp(at(CLIENT), at(OUTSIDE), &[1; 64]), stray(ACK, &[1; 64]), raw(50, &[1; 64])] {
        for piece in &fragments(&packet, 77, 24)[1..] {
            let _ = does_not_leak(&mut t, s(0), piece, "a later fragment");
        }
    }
}

#[test]
fn a_full_table_does_not_leak() {
    let full = |config: Config, connections| {
        let mut t = Translator::new(config, Heap::new(connections, 4)).unwrap();
        t.divert(Divert::new(Prefix::ALL)).unwrap();
        for n in 0..40 {
            let from = core::net::SocketAddrV4::new(ip("192.168.7.7"), 2_000 + n);
            for packet in [udp(from, at(OUTSIDE), b""), tcp(from, at(OUTSIDE), (ACK, 1, 1), b"")] {
                let _ = does_not_leak(&mut t, s(0), &packet, "beyond what there is room for");
            }
            // What a server has answered is not given up for the sake of others.
            if let (Verdict::ToServer, seen) = run(&mut t, s(0), &udp(from, at(OUTSIDE), b"")) {
                let (us, server) = ends(&seen);
                back(&mut t, s(0), &udp(server, us, b"answer"));
            }
        }
        *t.counters()
    };
    let dropped = |counters: Counters, reason| assert_ne!(counters.dropped(reason), 0, "{reason}");
    dropped(full(config(), 16), DropReason::TableFull);
    dropped(full(config().client_limit(3), 100), DropReason::ClientLimit);
    let few = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 2_000..=2_003);
    dropped(full(few, 100), DropReason::NoPort);
}

#[test]
fn dhcp_and_multicast_pass() {
    let mut t = masquerading(config());
    for (from, to) in [
        ("0.0.0.0:68", "255.255.255.255:67"),
        ("192.168.7.1:67", "255.255.255.255:68"),
        ("192.168.7.7:5353", "224.0.0.251:5353"),
        ("192.168.7.7:1900", "239.255.255.250:1900"),
    ] {
        assert_eq!(verdict(&mut t, s(0), &udp(at(from), at(to), b"x")), Verdict::Pass, "{from} {to}");
    }
    // IGMP, OSPF, VRRP.
    for protocol in [2, 89, 112] {
        let packet = ipv4(protocol, ip("192.168.7.1"), ip("224.0.0.18"), &[1; 20]);
        assert_eq!(verdict(&mut t, s(0), &packet), Verdict::Pass, "protocol {protocol}");
    }
    assert_eq!(t.slots_in_use(), 0);
}

#[test]
fn the_routers_own_traffic_is_its_own() {
    let config = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 32_768..=60_999).own(ip("192.168.7.1"));
    let mut t = masquerading(config);
    for to in ["10.10.10.10:22", "10.10.10.10:32767", "10.10.10.10:61000", "192.168.7.1:53"] {
        assert_eq!(verdict(&mut t, s(0), &tcp(at(CLIENT), at(to), (SYN, 1, 0), b"")), Verdict::Pass, "{to}");
    }
    let stray = tcp(at(OUTSIDE), at("10.10.10.10:40000"), (SYN, 1, 0), b"");
    assert_eq!(verdict(&mut t, s(0), &stray), Verdict::Drop(DropReason::NoConnection));
    let ping = echo(8, ip("203.0.113.9"), ip(ALTERNATIVE), 40_000, b"");
    assert_eq!(verdict(&mut t, s(0), &ping), Verdict::Pass);
    for to in [ip(ALTERNATIVE), ip("192.168.7.1")] {
        assert_eq!(verdict(&mut t, s(0), &ipv4(47, ip("203.0.113.9"), to, &[0; 16])), Verdict::Pass, "GRE to {to}");
    }
}

/// What stays inside is excepted by a more specific rule that keeps everything (RFC 6888, REQ-6).
#[test]
fn an_exception_passes_whatever_it_is() {
    let mut t = masquerading(config());
    let inside = prefix(INSIDE);
    t.divert(Divert::new(inside).clients(inside).keep_source()).unwrap();
    let to = at("192.168.9.9:443");
    for packet in [
        tcp(at(CLIENT), to, (ACK, 1, 1), b""),
        tcp(at(CLIENT), to, (RST, 1, 1), b""),
        echo(0, *at(CLIENT).ip(), *to.ip(), 7, b"x"),
        ipv4(47, *at(CLIENT).ip(), *to.ip(), &[0; 16]),
        icmp_error(3, 3, *at(CLIENT).ip(), &udp(to, at(CLIENT), b"x"), 60),
    ] {
        assert_eq!(verdict(&mut t, s(0), &packet), Verdict::Pass);
    }
}

/// A machine with the address 203.0.113.1 that forwards ports to servers behind it, which see their clients' addresses.
mod forward {
    use super::*;

    const PUBLIC: &str = "203.0.113.1:443";
    const HIDDEN: &str = "192.168.7.8:8443";
    const REMOTE: &str = "198.51.100.7:5555";

    fn forwarding(rule: Divert<'_>) -> Translator<Heap> {
        let mut t = translator(config().own(ip("203.0.113.1")));
        t.divert(rule).unwrap();
        t
    }

    fn rule() -> Divert<'static> {
        Divert::new(at(PUBLIC)).to(at(HIDDEN)).keep_source()
    }

    fn answer(flags: u8) -> Vec<u8> {
        tcp(at(HIDDEN), at(REMOTE), (flags, 1, 1), b"data")
    }

    /// All that the server, or a router beside it, may say of a connection that is not known.
    fn everything() -> Vec<Vec<u8>> {
        let asked = tcp(at(REMOTE), at(HIDDEN), (ACK, 1, 1), b"data");
        let errors = [*at(HIDDEN).ip(), ip("192.168.99.1")].map(|from| icmp_error(3, 13, from, &asked, 60));
        let pieces = fragments(&tcp(at(HIDDEN), at(REMOTE), (ACK, 1, 1), &[7; 64]), 5, 40);
        (0..=255).map(answer).chain([udp(at(HIDDEN), at(REMOTE), b"x")]).chain(errors).chain(pieces).collect()
    }

    #[test]
    fn the_server_of_a_forgotten_connection_does_not_show_itself() {
        // Never known; known and expired a while ago; expired and not swept.
        for story in 0..3 {
            for packet in everything() {
                let mut t = forwarding(rule());
                let mut now = s(0);
                if story > 0 {
                    connect(&mut t, now, at(REMOTE), at(PUBLIC));
                    now = s(7_500);
                }
                if story == 1 {
                    t.poll(now);
                    now = s(8_000);
                    t.poll(now);
                }
                let verdict = does_not_leak(&mut t, now, &packet, "the server");
                assert_ne!(verdict, Verdict::Pass);
            }
        }
    }

    #[test]
    fn in_bursts_as_well() {
        let mut t = forwarding(rule());
        let mut packets = vec![answer(ACK); 100];
        let mut verdicts = vec![Verdict::Pass; 100];
        t.translate_burst(s(0), &mut packets, &mut verdicts);
        assert_eq!(verdicts, [Verdict::Drop(DropReason::NoConnection); 100]);
    }

    /// The port is kept, the group has several servers, a re-divert has brought another one.
    #[test]
    fn whatever_server_it_is() {
        let group = [Weighted::new(ip("192.168.7.8"), 1), Weighted::new(at("192.168.7.9:80"), 1)];
        let mut t = forwarding(Divert::new(at(PUBLIC)).to_group(&group).keep_source());
        let hides = |t: &mut Translator<Heap>, server: &str| {
            verdict(t, s(0), &tcp(at(server), at(REMOTE), (ACK, 1, 1), b"")) == Verdict::Drop(DropReason::NoConnection)
        };
        assert!(hides(&mut t, "192.168.7.8:443") && hides(&mut t, "192.168.7.9:80"));
        t.redivert(at("192.168.7.9:80"), at("192.168.7.10:81"), byway::Redivert::Switch).unwrap();
        assert!(hides(&mut t, "192.168.7.10:81"));
        // Other services of the same hosts are their own business, and so is a rule that is gone.
        assert!(!hides(&mut t, "192.168.7.8:22") && !hides(&mut t, "192.168.7.9:443"));
        t.remove(at(PUBLIC)).unwrap();
        assert!(!hides(&mut t, "192.168.7.8:443"));
    }

    /// A rule for any port: what else the server says is its own business, but an end is remembered for a while.
    #[test]
    fn behind_a_forward_of_all_ports_ended_connections_are_remembered() {
        let public = at(PUBLIC);
        let mut t = forwarding(Divert::new(*public.ip()).to(*at(HIDDEN).ip()).keep_source());
        let (_, server) = connect(&mut t, s(0), at(REMOTE), public);
        t.poll(s(7_500));
        let late = |server| tcp(server, at(REMOTE), (ACK, SERVER_START, CLIENT_START), b"");
        assert_eq!(verdict(&mut t, s(7_510), &late(server)), Verdict::Drop(DropReason::NoConnection));
        assert_eq!(verdict(&mut t, s(7_510), &late(at("192.168.7.8:50000"))), Verdict::Pass);
        // An echo reply has no port: it answers what came through the rule, or nothing.
        let reply = echo(0, *server.ip(), *at(REMOTE).ip(), 9, b"");
        assert_eq!(verdict(&mut t, s(7_510), &reply), Verdict::Drop(DropReason::NoConnection));
    }

    #[test]
    fn connections_that_are_known_are_carried() {
        let mut t = forwarding(rule());
        let (client, server) = connect(&mut t, s(0), at(REMOTE), at(PUBLIC));
        assert_eq!((client, server), (at(REMOTE), at(HIDDEN)));
        let seen = back(&mut t, s(1), &tcp(server, client, (ACK, SERVER_START + 1, CLIENT_START + 1), b"x"));
        assert_eq!(ends(&seen), (at(PUBLIC), at(REMOTE)));
    }

    /// The machine itself, hosts that an exception names, clients that the rule is not for, and a rule that says so.
    #[test]
    fn who_talks_to_the_server_directly_may_be_excepted() {
        let passes = |t: &mut Translator<Heap>, client: &str| {
            let verdicts =
                [SYN | ACK, ACK, RST].map(|flags| verdict(t, s(0), &tcp(at(HIDDEN), at(client), (flags, 1, 1), b"")));
            verdicts == [Verdict::Pass; 3]
        };
        let mut t = forwarding(rule());
        assert!(
            passes(&mut t, "203.0.113.1:5000") && passes(&mut t, "10.10.10.10:500") && passes(&mut t, "224.0.0.1:5")
        );
        assert!(!passes(&mut t, "192.168.20.20:5000"));
        t.divert(Divert::new(prefix(INSIDE)).keep_source()).unwrap();
        assert!(passes(&mut t, "192.168.20.20:5000") && !passes(&mut t, REMOTE));
        let mut t = forwarding(rule().clients(prefix("198.51.100.0/24")));
        assert!(passes(&mut t, "192.168.20.20:5000") && !passes(&mut t, REMOTE));
        let mut t = forwarding(rule().midstream(Midstream::Pass));
        assert!(passes(&mut t, REMOTE));
        let mut t = translator(config().own(ip("203.0.113.1")).midstream(Midstream::Pass));
        t.divert(rule()).unwrap();
        assert!(passes(&mut t, REMOTE));
    }

    /// Where the original is not ours nothing says that the server's address is private.
    #[test]
    fn a_server_of_a_diverted_address_is_not_hidden() {
        let mut t = translator(config());
        t.divert(Divert::new(at(PUBLIC)).to(at(HIDDEN)).keep_source()).unwrap();
        assert_eq!(verdict(&mut t, s(0), &answer(ACK)), Verdict::Pass);
    }

    /// With a masquerade beside it the server's segments leave from the alternative address.
    #[test]
    fn beside_a_masquerade_the_servers_segments_are_translated() {
        let mut t = forwarding(rule());
        t.divert(Divert::new(Prefix::ALL).clients(prefix(INSIDE))).unwrap();
        for packet in everything() {
            assert_ne!(does_not_leak(&mut t, s(0), &packet, "the server"), Verdict::Pass);
        }
        assert_eq!(t.counters().passed, 0);
    }
}
