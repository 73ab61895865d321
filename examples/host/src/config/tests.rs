use core::time::Duration;

use super::*;

const GOOD: &str = r#"
[router]
address = "10.9.9.9"

[nat]
alternatives = ["10.10.10.10:1024-65535"]
client_limit = 500

[timeouts]
udp = "3m"

[groups]
web = ["20.0.0.1:80*2", "20.0.0.2:80"]

[[rule]]
divert = "100.100.100.100:80 tcp"
group = "web"
fail_open = true

[[rule]]
divert = "100.100.101.0/24"
to = "20.0.0.3"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("byway.toml"), text.into()).map_err(|error| error.to_string())
}

#[test]
fn a_file_is_read() {
    let config = parse(GOOD).unwrap();
    let rules: Vec<_> = config.rules.iter().map(|rule| (rule.divert().to_string(), rule.fail_open)).collect();
    assert_eq!(
        rules,
        [
            ("100.100.100.100:80 tcp to 20.0.0.1:80*2, 20.0.0.2:80".to_string(), true),
            ("100.100.101.0/24 to 20.0.0.3".to_string(), false)
        ]
    );
    assert_eq!((config.nat.client_limit, config.nat.timeouts.udp.as_secs()), (500, 180));
    let routes: Vec<_> = config.device.routes.iter().map(Prefix::to_string).collect();
    assert_eq!(routes, ["10.9.9.9/32", "10.10.10.10/32", "100.100.100.100/32", "100.100.101.0/24"]);
    assert_eq!(
        (config.device.queues, config.router.address, config.control.is_none()),
        (1, [10, 9, 9, 9].into(), true)
    );
}

#[test]
fn a_rule_may_eject_what_fails_if_servers_are_measured() {
    let wanted = GOOD.replace("group = \"web\"", "group = \"web\"\nleast_loaded = true\neject = true");
    let rule = parse(&wanted).unwrap().rules[0].divert().to_string();
    assert_eq!(rule, "100.100.100.100:80 tcp to 20.0.0.1:80*2, 20.0.0.2:80 least-loaded eject");
    let error = parse(&wanted.replace("[nat]", "[nat]\nmeasure = false")).unwrap_err();
    assert!(error.ends_with("failing servers cannot be ejected, since servers are not measured"), "{error}");
}

/// The text in the good file, the text in its place, and the error.
#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (right, wrong, said) in [
        (
            "client_limit = 500",
            "client_limit = 70000",
            "7:16: nat.client_limit: 70000 found: expected a number from 0 to 65534",
        ),
        (
            "client_limit = 500",
            "client_limit = -1",
            "7:16: nat.client_limit: -1 found: expected a number from 0 to 65534",
        ),
        (
            "client_limit = 500",
            "client_limit = \"5\"",
            "7:16: nat.client_limit: string found: expected a number from 0 to 65534",
        ),
        (
            "client_limit",
            "clientlimit",
            "7:1: nat.clientlimit: there is no such field: expected one of alternatives, rules, connections, servers",
        ),
        ("[router]", "[rooter]", "2:2: rooter: there is no such field: expected one of device, router, nat"),
        (
            "udp = \"3m\"",
            "udp = \"3\"",
            "10:7: timeouts.udp: \"3\" found: expected a time like \"2h4m\", \"300s\" or \"500ms\"",
        ),
        ("udp = \"3m\"", "udp = \"3s\"", "9:1: timeouts: time-out udp of 3s is below the floor of 120s"),
        (
            "\"20.0.0.2:80\"]",
            "\"20.0.0.2:http\"]",
            "13:25: groups.web[2]: port \"http\": it must be a number from 0 to 65535",
        ),
        ("\"20.0.0.2:80\"]", "\"20.0.0.1:80\"]", "16:10: rule[1].divert: the group names 20.0.0.1:80 twice"),
        (
            "group = \"web\"",
            "group = \"ftp\"",
            "17:9: rule[1].group: \"ftp\" found: expected the name of one of [groups]: web",
        ),
        ("group = \"web\"", "", "15:1: rule[1].to: it is missing: expected a server, or a list of servers"),
        (
            "group = \"web\"",
            "group = \"web\"\nto = \"20.0.0.1\"",
            "17:9: rule[1].group: the rule has servers already: leave out either to or group",
        ),
        ("[nat]", "[device]\ntable = 254\n[nat]", "6:9: device.table: 254 found: that is the kernel's own table"),
        ("\"10.10.10.10:1024-65535\"", "", "16:10: rule[1].divert: it replaces the source, and nat.alternatives has nothing"),
        ("client_limit", "\"client\\n\\u001b[31mlimit\"", "7:1: nat.client??[31mlimit: there is no such field"),
        ("fail_open = true", "fail_open = 1", "18:13: rule[1].fail_open: integer found: expected true or false"),
        (
            "100.100.101.0/24",
            "100.100.101.0/33",
            "21:10: rule[2].divert: prefix length \"33\": it must be a number from 0 to 32",
        ),
        (
            "100.100.101.0/24",
            "100.100.100.100:80 tcp",
            "21:10: rule[2].divert: another rule is about 100.100.100.100:80 tcp",
        ),
        (
            "100.100.101.0/24",
            "0.0.0.0/0",
            "21:10: rule[2].divert: 0.0.0.0/0 is too much to be routed to the device because a rule says so: list device.routes",
        ),
        (
            "\"20.0.0.3\"",
            "\"10.9.9.9\"",
            "21:10: rule[2].divert: target 10.9.9.9 is an address of the translator itself",
        ),
        ("\"20.0.0.3\"", "\"20.0.0.3", "22:15: invalid basic string, expected `\"`"),
        (
            "10.10.10.10:1024-65535",
            "10.10.10.10:0-9",
            "6:17: nat.alternatives[1]: \"10.10.10.10:0-9\" found: expected FIRST[-LAST]",
        ),
        (
            "10.10.10.10:1024-65535",
            "127.0.0.1",
            "6:16: nat.alternatives: alternative 127.0.0.1: no packet may bear this address",
        ),
        ("alternatives = [\"10.10.10.10:1024-65535\"]", "", "5:1: nat.alternatives: it is missing: expected a list"),
        (
            "address = \"10.9.9.9\"",
            "address = \"10.9.9\"",
            "3:11: router.address: \"10.9.9\" found: expected an IPv4 address like \"10.0.0.1\"",
        ),
        ("[nat]", "[device]\nname = \"a/b\"\n[nat]", "6:8: device.name: \"a/b\" found: expected a name of 1 to 15"),
        (
            "[nat]",
            "[control]\nlisten = \"1.1.1.1:1\"\nkey = [{ file = \"/nowhere/key\" }]\n[nat]",
            "7:17: control.key[1].file: key file /nowhere/key: No such file",
        ),
        ("[nat]", "[report]\ncollector = \"::1\"\n[nat]", "6:13: report.collector: \"::1\" found: expected an address and port"),
        ("[nat]", "[report]\ncollector = \"1.1.1.1:1\"\n[nat]", "5:1: report.enterprise: it is missing: expected your private"),
        (
            "[nat]",
            "[report]\ncollector = \"1.1.1.1:1\"\nenterprise = 29305\n[nat]",
            "7:14: report.enterprise: enterprise number 29305: it must be a private one",
        ),
        (
            "[nat]",
            "[report]\ncollector = \"1.1.1.1:1\"\nenterprise = 1\ninterval = \"5ms\"\n[nat]",
            "8:12: report.interval: it must be at least \"1s\"",
        ),
        (
            "[nat]",
            "[report]\ncollector = \"1.1.1.1:1\"\nenterprise = 1\nmtu = 539\n[nat]",
            "8:7: report.mtu: 539 found: expected a number from 540 to 65535",
        ),
        (
            "[nat]",
            "[report]\ncollector = \"1.1.1.1:1\"\nenterprise = 1\ntransport = \"sctp\"\n[nat]",
            "8:13: report.transport: \"sctp\" found: expected one of \"udp\", \"tcp\"",
        ),
    ] {
        assert!(GOOD.contains(right), "{right}");
        let error = parse(&GOOD.replacen(right, wrong, 1)).unwrap_err();
        assert!(error.starts_with(&format!("byway.toml:{said}")), "{error}\nnot {said}");
    }
    let without = GOOD.replacen("[router]\naddress = \"10.9.9.9\"", "", 1);
    assert_eq!(
        parse(&without).unwrap_err(),
        "byway.toml:1:1: a [router] with an address is missing: ICMP errors come from it"
    );
    let missing = Config::read(Path::new("/nowhere/byway.toml")).unwrap_err().to_string();
    assert_eq!(missing, "/nowhere/byway.toml: No such file or directory (os error 2)");
}

/// Nothing waits for a pipe, and an endless device does not fill the memory.
#[test]
fn only_regular_files_are_read() {
    let refused = |file: &str| Config::read(Path::new(file)).unwrap_err().to_string();
    assert_eq!(refused("/dev/zero"), "/dev/zero: it is no regular file");
    let key = "[control]\nlisten = \"127.0.0.1:5213\"\n[[control.key]]\nfile = \"/dev/zero\"\n";
    let error = parse(&format!("{GOOD}{key}")).unwrap_err();
    assert!(error.ends_with("control.key[1].file: key file /dev/zero: it is no regular file"), "{error}");
    let locations = monitor::Monitor::parse(Path::new("m.toml"), "[monitor]\nlocations = \"/dev/zero\"\n").unwrap_err();
    assert_eq!(locations.to_string(), "m.toml:2:13: monitor.locations: /dev/zero: it is no regular file");
    assert!(monitor::Monitor::read(Path::new("/dev/zero")).unwrap_err().to_string().contains("no regular file"));
}

#[test]
fn own_addresses_are_those_of_a_host() {
    for address in ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255"] {
        let error = parse(&GOOD.replace("10.9.9.9", address)).unwrap_err();
        assert!(error.ends_with(&format!("router.address: no host can have the address {address}")), "{error}");
    }
}

/// The check refuses what the start would refuse.
#[test]
fn a_page_is_for_this_machine() {
    let said = |page: &str| {
        let text = format!("[monitor]\npage = \"{page}\"\n");
        monitor::Monitor::parse(Path::new("m.toml"), &text).unwrap_err().to_string()
    };
    assert!(said("0.0.0.0:8213").starts_with("m.toml:2:8: monitor.page: 0.0.0.0:8213 found: expected a loopback address"));
    assert!(said("127.0.0.1:8213").contains("[[translator]]") && said("[::1]:8213").contains("[[translator]]"));
}

#[test]
fn a_portion_has_an_end_a_key_and_rules_if_it_is_the_one_to_the_server() {
    let folder = std::env::temp_dir().join(format!("byway-portion-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = folder.join("portion.key");
    std::fs::write(&key, format!("0 {}\n", "5a".repeat(32))).unwrap();
    let portion = format!(
        "[portion]\ndirection = \"to-server\"\nconnect = \"192.0.2.2:5214\"\nkey = \"{}\"\nrefresh = \"2s\"\n",
        key.display()
    );
    let (pooled, _) = GOOD.split_once("[[rule]]").unwrap();
    let pooled =
        pooled.to_owned() + "[names]\npool = \"100.64.0.0/16\"\n[[names.entry]]\nname = \"www.test\"\ngroup = \"web\"\n";
    let with = |right: &str, wrong: &str, good: &str| parse(&(portion.replacen(right, wrong, 1) + good));
    let read = with("", "", GOOD).unwrap();
    let settings = read.portion.unwrap();
    assert_eq!((settings.secret, settings.refresh), ([0x5a; 32], Duration::from_secs(2)));
    assert!(read.router.early.is_some() && !format!("{settings:?}").contains("90, 90"), "the secret is not shown");
    for (right, wrong, good, said) in [
        ("to-server", "to-serve", GOOD, "2:13: portion.direction: \"to-serve\" found: expected one of"),
        ("to-server", "to-client", GOOD, "21:10: rule[1].divert: rules belong to the portion to the server"),
        ("to-server", "to-client", &pooled, "24:9: names.entry[1].group: rules belong to the portion to the server"),
        ("connect", "connects", GOOD, "1:1: portion: listen or connect is missing"),
        ("key", "listen = \"1.1.1.1:1\"\nkey", GOOD, "3:11: portion.connect: one portion listens, the other connects"),
        ("192.0.2.2:5214", "192.0.2.2", GOOD, "3:11: portion.connect: \"192.0.2.2\" found: expected an address and port"),
        ("portion.key", "no.key", GOOD, "4:7: portion.key: key file "),
        ("2s", "2h", GOOD, "5:11: portion.refresh: 7200s found: expected a time from 100ms to 20s"),
        ("2s\"", "2s\"\nfresh = 1", GOOD, "6:1: portion.fresh: there is no such field"),
        ("", "", &GOOD.replace("[nat]", "[nat]\nevents = 0"), "1:1: portion: nat.events is 0"),
        ("", "", &GOOD.replace("[nat]", "[resumable]\n[nat]"), "1:1: portion: [resumable] is there"),
    ] {
        let error = with(right, wrong, good).unwrap_err();
        assert!(error.starts_with(&format!("byway.toml:{said}")), "{error}\nnot {said}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_rule_may_be_for_one_shard_only() {
    let text = GOOD.replace("[nat]", "[device]\nqueues = 2\n[nat]") + "keep_source = true\n";
    let error = parse(&text).unwrap_err();
    assert!(error.starts_with("byway.toml:23:10: rule[2].divert: "), "{error}");
}

#[test]
fn what_cannot_change_is_named() {
    let old = parse(GOOD).unwrap();
    let changed = |right: &str, wrong: &str| {
        let new = parse(&GOOD.replacen(right, wrong, 1)).unwrap();
        new.check_reload(&old).map_err(|error| error.to_string())
    };
    for (right, other) in [
        ("client_limit = 500", "client_limit = 600"),
        ("client_limit = 500", ""),
        ("udp = \"3m\"", "udp = \"4m\""),
        ("to = \"20.0.0.3\"", "to = [\"20.0.0.4\", \"20.0.0.5\"]"),
        ("20.0.0.1:80*2", "20.0.0.9:80"),
        ("[timeouts]", "# a comment\n[timeouts]"),
    ] {
        assert_eq!(changed(right, other), Ok(()), "{other}");
    }
    let why = "byway.toml:3:11: router.address: it cannot change while byway runs (it was \"10.9.9.9\"): restart byway";
    assert_eq!(changed("10.9.9.9", "10.9.9.8"), Err(why.into()));
    let why = "byway.toml:6:10: device.queues: it cannot change while byway runs (it was not there): restart byway";
    assert_eq!(changed("[nat]", "[device]\nqueues = 2\n[nat]"), Err(why.into()));
    let new = parse(&GOOD.replace("[nat]", "[device]\nmtu = 1400\n[nat]")).unwrap();
    let why = "byway.toml:1:1: device.mtu: it cannot go away while byway runs (it was 1400): restart byway";
    assert_eq!(old.check_reload(&new).map_err(|e| e.to_string()), Err(why.into()));
}

/// What is compared is what a field says, not how it is written.
#[test]
fn another_way_of_writing_is_no_change() {
    let text = |routes: &str, errors: &str, more: &str| {
        let good = GOOD.replace("[nat]", &format!("[device]\nroutes = {routes}\n[nat]\nconnections = {errors}"));
        good.replace("[router]\n", "[router]\nown = [\"10.9.9.8\"]\n") + more
    };
    let routes = "[\"100.100.100.0/24\", \"100.100.101.0/24\"]";
    let old = parse(&text(routes, "1024", "")).unwrap();
    let reload = |text: &str| parse(text).unwrap().check_reload(&old).map_err(|error| error.to_string());
    for (routes, connections) in [
        ("[\"100.100.100.0/24\",\"100.100.101.0/24\"]", "1024"),
        ("[ 'REST' ,\n  # a comment\n \"100.100.101.0/24\", ]", "1_024"),
        (routes, "0x400"),
        (routes, "0b1_00_0000_0000"),
    ] {
        assert_eq!(reload(&text(&routes.replace("REST", "100.100.100.0/24"), connections, "")), Ok(()), "{routes}");
    }
    let refused = reload(&text(routes, "0x401", "")).unwrap_err();
    assert!(refused.contains("nat.connections: it cannot change while byway runs (it was 1024): restart byway"), "{refused}");
    // Lists of tables that may change may also be empty.
    let without = text(routes, "1024", "").split_once("[[rule]]").unwrap().0.to_owned();
    assert_eq!(reload(&format!("rule = []\n{without}")), Ok(()));
    assert_eq!(old.check_reload(&parse(&format!("rule = []\n{without}")).unwrap()).map_err(|e| e.to_string()), Ok(()));
    // A section that says nothing may still mean something.
    let more = text(routes, "1024", "[resumable]\n");
    let why = reload(&more).unwrap_err();
    assert!(why.ends_with("resumable: it cannot change while byway runs (it was not there): restart byway"), "{why}");
    let why = old.check_reload(&parse(&more).unwrap()).unwrap_err().to_string();
    assert!(why.ends_with("resumable: it cannot go away while byway runs (it was there): restart byway"), "{why}");
    assert_eq!(reload(&text(routes, "1024", "[privileges]\n")), Ok(()));
}

/// Nobody can be reached at port 0, and nobody can know at which one something listens.
#[test]
fn port_zero_is_refused() {
    for (more, said) in [
        ("[report]\ncollector = \"192.0.2.9:0\"\nenterprise = 32473\n", "report.collector: 192.0.2.9:0 found: no port is 0: expected an address and port"),
        ("[metrics]\nlisten = \"127.0.0.1:0\"\n", "metrics.listen: 127.0.0.1:0 found: no port is 0: expected an address and port"),
        ("[control]\nlisten = \"127.0.0.1:0\"\n", "control.listen: 127.0.0.1:0 found: no port is 0: expected an address and port"),
        ("[portion]\ndirection = \"to-server\"\nconnect = \"192.0.2.1:0\"\n", "portion.connect: 192.0.2.1:0 found: no port is 0: expected an address and port"),
        ("[portion]\ndirection = \"to-server\"\nlisten = \"192.0.2.1:0\"\n", "portion.listen: 192.0.2.1:0 found: no port is 0: expected an address and port"),
    ] {
        let error = parse(&format!("{GOOD}{more}")).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

const NAMES: &str = r#"
[names]
servers = "9.9.9.53/32"
address = "10.9.9.10"
capacity = 5

[[names.entry]]
name = "www.bt.com"
rule = "100.100.100.100:80 tcp"
ttl = "24h"

[[names.entry]]
name = "*.xyz.com"
to = ["203.0.113.1*3", "203.0.113.2"]
clients = "192.168.0.0/16"
"#;

#[test]
fn names_are_read() {
    let config = parse(&(GOOD.to_owned() + NAMES)).unwrap();
    let names = config.names.as_ref().unwrap();
    assert_eq!((names.capacity, names.address), (5, Some([10, 9, 9, 10].into())));
    let [www, below] = &names.entries[..] else { panic!("{names:?}") };
    assert_eq!((www.pattern.to_string(), www.ttl), ("www.bt.com".into(), 86_400));
    assert_eq!(www.answer, Answer::Rule("100.100.100.100:80 tcp".parse().unwrap()));
    assert_eq!((below.pattern.to_string(), below.ttl, below.clients.length()), ("*.xyz.com".into(), 30, 16));
    assert!(matches!(&below.answer, Answer::Addresses(all) if all.len() == 2 && all[0].weight == 3));
    assert!(config.device.routes.contains(&Prefix::host([10, 9, 9, 10].into())), "answers come back by it");
    assert_eq!(config.nat.own, [[10, 9, 9, 9].into(), Ipv4Addr::new(10, 9, 9, 10)], "it is this machine's");
    // An entry may change and go while byway runs, the rest may not.
    let changed = |right: &str, wrong: &str| {
        let new = parse(&(GOOD.to_owned() + &NAMES.replacen(right, wrong, 1))).unwrap();
        new.check_reload(&config).map_err(|error| error.to_string())
    };
    assert_eq!(changed("24h", "1h"), Ok(()));
    // Zero means that no answer is kept.
    let unkept = parse(&(GOOD.to_owned() + &NAMES.replace("24h", "0s"))).unwrap();
    assert_eq!(unkept.entries()[0].ttl, 0);
    assert_eq!(changed("to = [\"203.0.113.1*3\", \"203.0.113.2\"]", "to = \"203.0.113.4\""), Ok(()));
    let why = "byway.toml:27:12: names.capacity: it cannot change while byway runs (it was 5): restart byway";
    assert_eq!(changed("capacity = 5", "capacity = 6"), Err(why.into()));
}

#[test]
fn what_is_wrong_with_names_is_said_with_its_place() {
    let name = "29:8: names.entry[1].";
    for (right, wrong, said) in [
        ("servers = \"9.9.9.53/32\"", "servers = \"9.9\"", "25:11: names.servers: \"9.9\" found: expected a prefix".into()),
        ("address = \"10.9.9.10\"", "address = \"10.10.10.10\"", "26:11: names.address: 10.10.10.10 is an alternative address".into()),
        ("address = \"10.9.9.10\"", "address = \"224.0.0.1\"", "26:11: names.address: no host can have the address 224.0.0.1".into()),
        ("capacity = 5", "capacity = 0", "27:12: names.capacity: 0 found: expected a number from 1 to 1048575".into()),
        ("capacity = 5", "capacity = 1", "35:8: names.entry[2].name: the table of names is full: 1 entries".into()),
        ("\"www.bt.com\"", "\"www..com\"", format!("{}name: name \"www..com\": it must be labels with one dot", name.replace("29", "30"))),
        ("name = \"www.bt.com\"", "", "29:1: names.entry[1].name: it is missing: expected a name".into()),
        ("100.100.100.100:80 tcp", "100.100.100.100", "31:8: names.entry[1].rule: \"100.100.100.100\" found: expected what a [[rule]] diverts: 100.100.100.100:80 tcp; 100.100.101.0/24".into()),
        ("100.100.100.100:80 tcp", "100.100.101.0/24", "30:8: names.entry[1].name: the rule is for 100.100.101.0/24: a name is answered with one address".into()),
        ("24h", "1500ms", "32:7: names.entry[1].ttl: expected whole seconds, at most 2147483647".into()),
        ("203.0.113.2\"", "203.0.113.1\"", "35:8: names.entry[2].name: the entry has address 203.0.113.1 twice".into()),
        ("203.0.113.2\"", "203.0.113.2*x\"", "36:24: names.entry[2].to[2]: \"203.0.113.2*x\" found: expected an address: ADDRESS[*WEIGHT]".into()),
        ("203.0.113.2\"", "127.0.0.1\"", "35:8: names.entry[2].name: address 127.0.0.1: no host can have this address".into()),
        ("ttl = \"24h\"", "to = \"203.0.113.1\"", "31:8: names.entry[1].rule: the entry says already what it is answered with: leave out one of to, rule, servers and group".into()),
        ("ttl = \"24h\"", "tll = \"24h\"", "32:1: names.entry[1].tll: there is no such field: expected one of name, clients, to, rule, servers, group, ttl".into()),
    ] {
        assert!(NAMES.contains(right), "{right}");
        let error = parse(&(GOOD.to_owned() + &NAMES.replacen(right, wrong, 1))).unwrap_err();
        assert!(error.starts_with(&format!("byway.toml:{said}")), "{error}\nnot {said}");
    }
}

const RELAY: &str = r#"
[names]
[names.relay]
servers = ["192.0.2.53", "198.51.100.53:5353"]
clients = ["192.168.0.0/16", "10.0.0.0/8"]
patience = "1500ms"
"#;

#[test]
fn servers_of_other_names_are_read() {
    let config = parse(&(GOOD.to_owned() + RELAY)).unwrap();
    let relay = config.names.as_ref().unwrap().relay.as_ref().unwrap();
    assert_eq!(relay.servers, ["192.0.2.53:53", "198.51.100.53:5353"].map(|server| server.parse().unwrap()));
    assert!(relay.is_for([10, 1, 1, 1].into()) && !relay.is_for([11, 1, 1, 1].into()));
    assert_eq!((relay.queries, relay.config([0; 32]).check()), (1024, Ok(())));
    assert!(format!("{:?}", relay.config([0; 32])).contains("client_limit: 256"), "a quarter");
    let changed = parse(&(GOOD.to_owned() + &RELAY.replace("1500ms", "2s"))).unwrap().check_reload(&config);
    let why = "names.relay.patience: it cannot change while byway runs (it was \"1500ms\"): restart byway";
    assert!(changed.unwrap_err().to_string().ends_with(why));
    // The section can neither be added nor removed.
    let without = parse(&(GOOD.to_owned() + "[names]\n")).unwrap();
    assert!(without.check_reload(&config).is_err() && config.check_reload(&without).is_err());
}

/// No longer answer is asked for than the path can carry whole.
#[test]
fn answers_of_other_servers_fit_the_mtu() {
    let asked = |device: u16, router: u16| {
        let text = format!(
            "[device]\nmtu = {device}\n[router]\naddress = \"10.9.9.9\"\nmtu = {router}\n\
             [nat]\nalternatives = [\"10.10.10.10\"]\n{RELAY}"
        );
        let config = parse(&text).unwrap();
        let relay = config.names.unwrap().relay.unwrap().config([0; 32]);
        assert_eq!(relay.check(), Ok(()));
        let shown = format!("{relay:?}");
        let (_, rest) = shown.split_once("payload: ").unwrap();
        rest.split_once(',').unwrap().0.parse::<u16>().unwrap()
    };
    for (device, router, expected) in [
        (1500, 1500, 1232),
        (1000, 1500, 972),
        (1500, 1000, 972),
        (1260, 9000, 1232),
        (1259, 9000, 1231),
        (1500, 540, 512),
        (68, 68, 512),
    ] {
        assert_eq!(asked(device, router), expected, "device {device}, router {router}");
    }
}

#[test]
fn what_is_wrong_with_servers_of_other_names_is_said_with_its_place() {
    for (right, wrong, said) in [
        ("\"192.0.2.53\"", "\"192.0.2\"", "26:12: names.relay.servers[1]: \"192.0.2\" found: expected ADDRESS[:PORT]"),
        ("\"192.0.2.53\"", "53", "26:12: names.relay.servers[1]: integer found: expected ADDRESS[:PORT]"),
        ("\"192.0.2.53\"", "\"127.0.0.1\"", "26:12: names.relay.servers[1]: no packet can be sent to 127.0.0.1:53"),
        ("\"192.0.2.53\"", "\"192.0.2.53:0\"", "26:12: names.relay.servers[1]: no packet can be sent to 192.0.2.53:0"),
        ("\"192.0.2.53\"", "\"10.9.9.9\"", "26:12: names.relay.servers[1]: 10.9.9.9 is this machine itself: expected a DNS server elsewhere"),
        ("\"192.0.2.53\"", "\"10.10.10.10\"", "26:12: names.relay.servers[1]: 10.10.10.10 is this machine itself"),
        ("\"192.0.2.53\"", "\"198.51.100.53:5353\"", "25:1: names.relay: server 198.51.100.53:5353: it is there twice"),
        ("\"192.0.2.53\", \"198.51.100.53:5353\"", "", "26:11: names.relay.servers: 0 found: expected 1 to 8"),
        ("servers", "server", "25:1: names.relay.servers: it is missing: expected a DNS server, or a list"),
        ("clients = [\"192.168.0.0/16\", \"10.0.0.0/8\"]", "", "25:1: names.relay.clients: it is missing: expected whose queries are relayed"),
        ("\"10.0.0.0/8\"", "\"10.0.0.0/33\"", "27:30: names.relay.clients[2]: \"10.0.0.0/33\" found: expected whose queries are relayed"),
        ("1500ms", "61s", "25:1: names.relay: patience of 61s: expected more than none and at most 60s"),
        ("patience = \"1500ms\"", "attempts = 0", "28:12: names.relay.attempts: 0 found: expected a number from 1 to 255"),
        ("patience = \"1500ms\"", "queries = 16385", "28:11: names.relay.queries: 16385 found: expected a number from 1 to 16384"),
        ("patience", "patient", "28:1: names.relay.patient: there is no such field: expected one of servers, clients, queries, queries_per_client, patience"),
        ("[names]", "[names]\nservers = \"9.9.9.53/32\"", "26:1: names.relay: names.servers (9.9.9.53/32) has no address of this machine: nobody could ask it"),
    ] {
        assert!(RELAY.contains(right), "{right}");
        let error = parse(&(GOOD.to_owned() + &RELAY.replacen(right, wrong, 1))).unwrap_err();
        assert!(error.starts_with(&format!("byway.toml:{said}")), "{error}\nnot {said}");
    }
}
