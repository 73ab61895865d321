//! Names that are answered here: asked by dig, kdig, glibc, curl, wget and Chromium, with unbound as the DNS server behind, which knows the
//! mirrors' addresses and must not get to tell them.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::dns::*;
use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::{Network, ORIGINAL};
use byway_host::lab::space::Space;

/// The DNS server, on the machine of the first mirror.
const DNS: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 53);

/// `www.bt.com` is the original of the rule, for a day; the names below `xyz.com` are one of two addresses.
const NAMES: &str = "[[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\n\
    [names]\nanswers_per_second = 0\n\
    [[names.entry]]\nname = \"www.bt.com\"\nrule = \"100.100.100.100\"\nttl = \"24h\"\n\
    [[names.entry]]\nname = \"*.xyz.com\"\nto = [\"203.0.113.1*3\", \"203.0.113.2\"]\nttl = \"20s\"\n";

const PROGRAMS: &[(&str, &str)] =
    &[("dig", "-v"), ("unbound", "-V"), ("getent", "--version"), ("chromium", "--version")];

/// The network, with the DNS server in it.
fn world(options: Options) -> (World, Program) {
    let world = World::new(Options { rules: NAMES, routes: ", \"9.9.9.53/32\"", ..options });
    let Network { a, proxy, .. } = &world.network;
    a.ip(&format!("address add {DNS}/32 dev lo")).unwrap();
    proxy.ip(&format!("route add {DNS}/32 dev to-a")).unwrap();
    // What is routed to byway comes back by another interface than its answers do.
    proxy.set(&[("conf/to-a/rp_filter", "2"), ("conf/to-client/rp_filter", "2")]).unwrap();
    let unbound = unbound(a, DNS);
    (world, unbound)
}

/// What dig says, without its comments.
#[track_caller]
fn dig(space: &Space, words: &str) -> String {
    run(space, &format!("dig @{DNS} +tries=1 +timeout=5 {words}"))
}

fn all_programs(options: Options) {
    let (mut world, _unbound) = world(options);
    let client = world.network.client.clone();
    // In each of these ways, and of whatever type, there is the original and nothing of a mirror.
    for how in [
        "",
        "+tcp",
        "+noedns",
        "+edns=0",
        "+bufsize=512",
        "+bufsize=4096",
        "+cookie",
        "+nocookie +tcp",
        "+dnssec",
        "+cdflag",
    ] {
        assert_eq!(dig(&client, &format!("+short {how} www.bt.com")), format!("{ORIGINAL}\n"), "{how}");
        for kind in ["A", "AAAA", "HTTPS", "SVCB", "ANY", "CNAME", "MX", "TXT", "SOA", "NS", "TYPE65280"] {
            for name in ["www.bt.com", "wWw.bT.cOm", "b.a.xyz.com"] {
                let said = dig(&client, &format!("{how} {name} {kind}"));
                assert!(!said.contains("123.45.67") && !said.contains("2001:db8"), "{how} {name} {kind}: {said}");
                assert!(said.contains("status: NOERROR"), "{how} {name} {kind}: {said}");
                assert!(said.contains(&format!(";{name}.")), "the question is echoed, letter by letter: {said}");
            }
        }
    }
    let said = dig(&client, "www.bt.com");
    assert!(said.contains("86400") && said.contains("IN\tA\t100.100.100.100"), "{said}");
    assert!(dig(&client, "+cookie +bufsize=1232 www.bt.com").contains("(good)"), "the cookie is right");
    // Others are answered by the server: the names above and beside, long answers, several queries on a connection.
    for how in ["+notcp", "+tcp", "+tcp +keepopen"] {
        assert_eq!(dig(&client, &format!("+short {how} name.test TXT")), "\"behind\"\n");
        assert_eq!(dig(&client, &format!("+short {how} bt.com xyz.com")), "198.51.100.2\n198.51.100.3\n");
        assert!(dig(&client, &format!("{how} nothing.test")).contains("status: NXDOMAIN"));
    }
    let both = dig(&client, "+tcp +keepopen +short name.test TXT www.bt.com long.test TXT name.test A");
    assert!(both.starts_with("\"behind\"\n100.100.100.100\n\"0xxx") && both.ends_with("198.51.100.1\n"), "{both}");
    let long = dig(&client, "+bufsize=512 long.test TXT");
    assert!(long.contains("MSG SIZE  rcvd: 3") && long.contains("(TCP)"), "too long for UDP: {long}");

    // glibc and curl, by name.
    std::fs::write(format!("{FOLDER}/resolv.conf"), format!("nameserver {DNS}\n")).unwrap();
    run(&client, &format!("mount --bind {FOLDER}/resolv.conf /etc/resolv.conf"));
    small_file();
    let _nginx = [nginx(&world.network.a), nginx(&world.network.b)];
    assert!(run(&client, "getent ahosts www.bt.com").starts_with("100.100.100.100"));
    let mirror = |resolve: &str| {
        let said = run(&client, &format!("curl -sS --max-time 5 -o /dev/null -D - {resolve} http://www.bt.com/small"));
        let name = said.lines().find_map(|line| line.strip_prefix("X-Mirror: ")).map(|name| name.trim().to_string());
        name.unwrap_or_else(|| panic!("{said}"))
    };
    assert_eq!(mirror(""), "a");
    assert_eq!(run(&client, "wget -q -T 5 -t 1 -O - http://www.bt.com/small"), "ten bytes\n");
    // A browser, which asks for AAAA and HTTPS as well.
    let browser = format!("chromium {CHROMIUM} --user-data-dir={FOLDER}/chromium --dump-dom http://www.bt.com/small");
    let proxy = world.network.proxy.clone();
    let no_data = || -> u32 {
        let metrics = run(&proxy, "curl -sS http://127.0.0.1:9207/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("byway_name_queries_total{outcome=\"no_data\"} "));
        line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
    };
    let before = no_data();
    let shown = run(&client, &browser);
    assert!(shown.contains("ten bytes"), "{shown}");
    let asked = no_data() - before;
    assert!(asked != 0, "Chromium has asked for an address alone");
    println!("Chromium has asked {asked} times for what there is not");
    // A client that has had the answer for a day asks nobody, and reaches the new server.
    const CACHED: &str = "--resolve www.bt.com:80:100.100.100.100";
    let start = Instant::now();
    world.ctl("redivert 123.45.67.89 123.45.67.90");
    assert_eq!(mirror(CACHED), "b");
    println!(
        "a client with a cached answer has reached the new server {:?} after the instruction was given",
        start.elapsed()
    );
    assert_eq!(mirror(""), "b");
    let counted = world.end();
    assert!(count(&counted, "names_address") > 50 && count(&counted, "names_no_data") > 100, "{counted}");
    assert_eq!((count(&counted, "names_refused"), count(&counted, "names_relay_failed")), (0, 0), "{counted}");
}

#[test]
fn no_program_sees_a_mirror() {
    in_namespace_with(PROGRAMS, || all_programs(Options::PLAIN));
}

#[test]
fn no_program_sees_a_mirror_with_two_queues_and_without_offloads() {
    in_namespace_with(PROGRAMS, || {
        all_programs(Options { offload: false, queues: 2, ..Options::PLAIN });
    });
}

#[test]
fn kdig_asks() {
    in_namespace_with(&[("kdig", "--version"), ("unbound", "-V")], || {
        let (world, _unbound) = world(Options::PLAIN);
        let client = world.network.client.clone();
        for how in ["+notcp", "+tcp", "+edns", "+cookie", "+dnssec", "+padding"] {
            let said = run(&client, &format!("kdig @{DNS} {how} wWw.Bt.com A"));
            assert!(said.contains("100.100.100.100") && !said.contains("123.45.67"), "{how}: {said}");
            assert!(!said.to_lowercase().contains("warning") && !said.contains("MALFORMED"), "{how}: {said}");
            let said = run(&client, &format!("kdig @{DNS} {how} name.test TXT"));
            assert!(said.contains("\"behind\""), "{how}: {said}");
        }
        world.end();
    });
}

/// A client that validates asks with DO and CD, and looks at signatures itself. There are none, here and at the server.
#[test]
fn delv_asks() {
    in_namespace_with(&[("delv", "-v"), ("dig", "-v"), ("unbound", "-V")], || {
        let (world, _unbound) = world(Options::PLAIN);
        let client = world.network.client.clone();
        let delv = |words: &str| run(&client, &format!("delv @{DNS} {words}"));
        for how in ["", "+tcp"] {
            // Without a trust anchor what is not signed is an answer.
            let said = delv(&format!("+noroot {how} wWw.Bt.com A"));
            assert!(said.contains("; authoritative"), "{how}: {said}");
            assert!(said.contains("86400\tIN\tA\t100.100.100.100") && !said.contains("123.45.67"), "{how}: {said}");
            let said = delv(&format!("+noroot {how} www.bt.com AAAA"));
            assert!(!said.contains("2001:db8") && said.to_lowercase().contains("nxrrset"), "{how}: {said}");
            let said = delv(&format!("+noroot {how} name.test TXT"));
            assert!(said.contains("; authoritative") && said.contains("\"behind\""), "{how}: {said}");
        }
        // With one, the missing signature is noticed, and no address is believed: neither ours nor a mirror's.
        let said = output(&client, &format!("delv @{DNS} www.bt.com A"));
        let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
        assert!(said.contains("resolution failed") && !said.contains("IN\tA"), "{said}");
        // On the wire: DO and CD are copied, nothing is signed, and AD is never set.
        for how in ["+dnssec", "+dnssec +cdflag", "+cdflag", "+dnssec +adflag +tcp"] {
            let said = dig(&client, &format!("{how} www.bt.com A"));
            let flags = said.lines().find(|line| line.starts_with(";; flags:")).unwrap_or_else(|| panic!("{said}"));
            let flags = flags.split(';').nth(2).unwrap_or_default();
            assert!(!flags.contains(" ad") && flags.contains(" cd") == how.contains("cdflag"), "{how}: {said}");
            assert_eq!(said.contains("flags: do;"), how.contains("dnssec"), "{how}: {said}");
            assert!(said.contains("IN\tA\t100.100.100.100") && !said.contains("RRSIG"), "{how}: {said}");
        }
        world.end();
    });
}

/// A name elsewhere that is an alias of a name in the table: it passes, so the server's answer comes as it is, and who follows the
/// alias himself gets the original. Where the alias is in the table, nothing of the chain is told.
#[test]
fn aliases() {
    in_namespace_with(PROGRAMS, || {
        let (mut world, _unbound) = world(Options::PLAIN);
        let (client, server) = (world.network.client.clone(), world.network.a.clone());
        for how in ["+notcp", "+tcp", "+dnssec"] {
            let alias = dig(&client, &format!("+short {how} alias.test CNAME"));
            assert_eq!(alias, "alias2.test.\n", "{how}");
            let end = dig(&client, &format!("+short {how} alias2.test CNAME"));
            assert_eq!(end, "www.bt.com.\n", "{how}");
            assert_eq!(dig(&client, &format!("+short {how} {}", end.trim())), format!("{ORIGINAL}\n"), "{how}");
        }
        // Byte by byte, whatever the server makes of the chain.
        let ask = || {
            let asked: Vec<_> = [1, 5, 28, 65, 255].iter().map(|kind| query(7, "alias.test", *kind, 1232)).collect();
            over_udp(DNS, &asked)
        };
        let (through, direct) = (client.run(ask), server.run(ask));
        assert!(through == direct, "{}", differences(&through, &direct));
        world.ctl("name add alias.test 203.0.113.9");
        for kind in ["A", "CNAME", "AAAA", "ANY"] {
            let said = dig(&client, &format!("alias.test {kind}"));
            assert!(!said.contains("alias2") && !said.contains("www.bt.com"), "{kind}: {said}");
        }
        assert_eq!(dig(&client, "+short alias.test"), "203.0.113.9\n");
        world.end();
    });
}

/// So many at once, and then their answers, which may come in any order.
fn over_tcp(queries: &[Vec<u8>], at_once: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for queries in queries.chunks(50) {
        let mut stream = TcpStream::connect(SocketAddrV4::new(DNS, 53)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for queries in queries.chunks(at_once) {
            let framed = queries.iter().flat_map(|query| [&(query.len() as u16).to_be_bytes()[..], query].concat());
            stream.write_all(&framed.collect::<Vec<_>>()).unwrap();
            let mut answers: Vec<_> = queries
                .iter()
                .map(|_| {
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).unwrap();
                    let mut answer = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut answer).unwrap();
                    answer
                })
                .collect();
            answers.sort();
            all.extend(answers);
        }
    }
    all
}

/// What is for other names is what the server says, byte by byte, also when it is asked through byway.
#[test]
fn other_answers_are_the_servers_own() {
    in_namespace_with(PROGRAMS, || {
        let (world, _unbound) = world(Options::PLAIN);
        let (client, server) = (&world.network.client, &world.network.a);
        let asked = queries(4000);
        let (through, direct) =
            (client.run(move || over_udp(DNS, &asked)), server.run(|| over_udp(DNS, &queries(4000))));
        assert!(through == direct, "of 4000 {}", differences(&through, &direct));
        for at_once in [1, 10] {
            let through = client.run(move || over_tcp(&queries(1000), at_once));
            let direct = server.run(move || over_tcp(&queries(1000), at_once));
            assert!(through == direct, "of 1000 {}", differences(&through, &direct));
        }
        let counted = world.end();
        // Over TCP they were all relayed, and none was answered here.
        assert_eq!((count(&counted, "names_relayed"), count(&counted, "names_address")), (2000, 0), "{counted}");
        assert_eq!(count(&counted, "names_passed"), 6000, "{counted}");
    });
}

/// Instructions change names, rules stay while names need them, and a reload changes all or nothing.
#[test]
fn an_operator_changes_names() {
    in_namespace_with(PROGRAMS, || {
        let (mut world, _unbound) = world(Options::PLAIN);
        let client = world.network.client.clone();
        let short = |name: &str| dig(&client, &format!("+short {name}"));
        let said = world.ctl("names");
        assert!(
            said.contains("www.bt.com -> 100.100.100.100, 86400 s, tied to the rule for 100.100.100.100"),
            "{said}"
        );
        assert!(
            said.contains("*.xyz.com -> 203.0.113.1*3, 203.0.113.2*1, 20 s") && said.contains("2 names, room for 4096"),
            "{said}"
        );
        assert_eq!(short("name.test"), "198.51.100.1\n");
        assert!(world.ctl("name add name.test 203.0.113.9 --ttl 1h").contains("inserted"));
        assert_eq!(short("name.test"), "203.0.113.9\n");
        assert!(dig(&client, "+tcp name.test").contains("3600\tIN\tA\t203.0.113.9"));
        assert!(world.ctl("name remove name.test").contains("removed"));
        assert_eq!(short("name.test"), "198.51.100.1\n");
        let refused = world.proxy().ctl("restore 100.100.100.100").unwrap_err();
        assert!(refused.contains("entries of names are tied to the rule (1)"), "{refused}");
        assert!(world.ctl("name add name.test --rule 100.100.100.100").contains("inserted"));
        assert_eq!(short("name.test"), "100.100.100.100\n");
        world.ctl("name add only.test 203.0.113.7 --clients 9.0.0.0/8");
        assert_eq!(short("only.test"), "");

        // A reload leaves alone what an instruction has changed, and takes all of the rest, or nothing.
        let text = std::fs::read_to_string(&world.config).unwrap();
        let other = text.replace("203.0.113.1*3", "203.0.113.5*3").replace("24h", "1h");
        std::fs::write(&world.config, &other).unwrap();
        world.proxy().signal(rustix::process::Signal::HUP);
        let said = world.proxy().wait_for("reloaded: ").unwrap();
        assert!(said.contains("0 names removed, 2 new or changed"), "{said}");
        let said = world.ctl("names");
        assert!(said.contains("203.0.113.5*3") && said.contains("3600 s") && said.contains("4 names"), "{said}");
        for (old, new, why) in [
            ("[names]\n", "[names]\ncapacity = 5000\n", "names.capacity: it cannot change while byway runs"),
            ("name = \"www.bt.com\"", "name = \"www..com\"", "names.entry[1].name: name \"www..com\": it must be"),
        ] {
            std::fs::write(&world.config, other.replacen(old, new, 1).replace("203.0.113.5", "203.0.113.6")).unwrap();
            world.proxy().signal(rustix::process::Signal::HUP);
            let said = world.proxy().wait_for("not reloaded, nothing has changed").unwrap();
            assert!(said.contains(why), "{said}");
        }
        assert!(world.ctl("names").contains("203.0.113.5*3"));
        // Without its rule an entry is answered no more; the file cannot say so, but with the entry it can go.
        let gone =
            other.replace("[[names.entry]]\nname = \"www.bt.com\"\nrule = \"100.100.100.100\"\nttl = \"1h\"\n", "");
        let gone = gone.replace("[[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\n", "");
        std::fs::write(&world.config, gone).unwrap();
        world.proxy().signal(rustix::process::Signal::HUP);
        world.proxy().wait_for("reloaded: 1 rules removed").unwrap();
        assert!(world.ctl("names").contains(
            "name.test -> 100.100.100.100, 30 s, tied to the rule for 100.100.100.100, which is gone: not answered"
        ));
        assert_eq!(short("name.test"), "198.51.100.1\n");
        let metrics = run(&world.network.proxy, "curl -sS http://127.0.0.1:9207/metrics");
        for line in [
            "byway_name_entries 3",
            "byway_name_queries_total{outcome=\"suspended\"} 1",
            "byway_name_connections_total{event=\"accepted\"} 1",
        ] {
            assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
        }
        // What instructions have changed outlives a restart, and so does what the file says since.
        std::fs::write(&world.config, other.replace("203.0.113.5*3", "203.0.113.8*3")).unwrap();
        world.proxy().signal(rustix::process::Signal::HUP);
        world.proxy().wait_for("reloaded: 0 rules removed, 1 new or changed").unwrap();
        world.ctl("name add name.test --rule 100.100.100.100 --ttl 7s");
        world.ctl("name remove only.test --clients 9.0.0.0/8");
        std::fs::write(&world.config, other.replace("203.0.113.5*3", "203.0.113.9*3")).unwrap();
        world.restart();
        let said = world.ctl("names");
        assert!(said.contains("name.test -> 100.100.100.100, 7 s, tied to the rule for 100.100.100.100\n"), "{said}");
        assert!(said.contains("203.0.113.9*3") && said.contains("3 names"), "{said}");
        assert_eq!(short("name.test"), "100.100.100.100\n");
        // A key may change its names and no others.
        let key = format!("2 {}\n", "5a".repeat(32));
        std::fs::write(format!("{FOLDER}/key2"), key).unwrap();
        let more = "\n[[control.key]]\nfile = \"key2\"\nrights = \"read\"\nnames = [\"*.test\"]\n";
        std::fs::write(&world.config, std::fs::read_to_string(&world.config).unwrap() + more).unwrap();
        world.proxy().signal(rustix::process::Signal::HUP);
        world.proxy().wait_for("reloaded: 0 rules removed, 0 new or changed").unwrap();
        let ctl = format!("{} ctl --agent 1.2.3.1:5213 --key {FOLDER}/key2", env!("CARGO_BIN_EXE_byway"));
        let said = run(&world.network.proxy, &format!("{ctl} name add own.test 203.0.113.4"));
        assert!(said.contains("inserted"), "{said}");
        for words in ["name add www.bt.com 203.0.113.4", "name add test 203.0.113.4", "divert 100.100.100.100 20.0.0.1"]
        {
            let output = output(&world.network.proxy, &format!("{ctl} {words}"));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(1) && said.contains("the key does not permit it"), "{words}: {said}");
        }
        world.end();
    });
}
