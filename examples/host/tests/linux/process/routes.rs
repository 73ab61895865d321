//! What is routed to byway, and what is not any more when its configuration has changed.

use core::net::Ipv4Addr;

use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::ORIGINAL;
use rustix::process::Signal;

/// What a rule is about does not leave untranslated: where there is no route, there can be no rule. A process that runs makes no
/// routes.
#[test]
fn a_rule_without_a_route_is_refused() {
    in_namespace(|| {
        const OTHER: Ipv4Addr = Ipv4Addr::new(100, 100, 102, 1);
        let mut world = World::new(Options::PLAIN);
        // A server that has the address in truth, and listens there.
        world.network.b.ip(&format!("address add {OTHER}/32 dev eth0")).unwrap();
        world.network.proxy.ip(&format!("route add {OTHER}/32 dev to-b")).unwrap();
        let _echo = Echo::start(&world.network.a, 7);
        let rule = format!("[[rule]]\ndivert = \"{OTHER}\"\nto = \"123.45.67.89\"\n");
        let listed = std::fs::read_to_string(&world.config).unwrap();
        std::fs::write(&world.config, format!("{listed}{rule}")).unwrap();
        world.proxy().signal(Signal::HUP);
        let line = world.proxy().wait_for("not reloaded, nothing has changed").unwrap();
        let why = "rule[2].divert: 100.100.102.1/32 is not routed to byway0, and would leave untranslated";
        assert!(line.ends_with(&format!("{why}: add it to device.routes")) && line.contains("byway.toml:"), "{line}");
        let words = format!("{} check {}", env!("CARGO_BIN_EXE_byway"), world.config.display());
        let said = output(&world.network.proxy, &words);
        assert!(said.status.code() == Some(2) && String::from_utf8_lossy(&said.stderr).contains(why), "{said:?}");
        // The same where the list comes from the rules.
        let text = without_list(&listed);
        std::fs::write(&world.config, &text).unwrap();
        world.restart();
        std::fs::write(&world.config, format!("{text}{rule}")).unwrap();
        world.proxy().signal(Signal::HUP);
        let line = world.proxy().wait_for("not reloaded, nothing has changed").unwrap();
        assert!(line.contains(why) && line.ends_with("restart it, or hand over to another"), "{line}");
        let said = world.proxy().ctl(&format!("divert {OTHER} 123.45.67.89")).unwrap_err();
        assert!(said.contains("what the rule is about is not routed to the translator"), "{said}");
        assert!(world.ctl("list").contains("1 rules, generation"), "{}", world.ctl("list"));
        let address = (OTHER, 7);
        let is_translated = |world: &World| {
            let client = world.network.client.clone();
            client.run(move || std::net::TcpStream::connect(address).is_ok())
        };
        assert!(!is_translated(&world), "nobody listens on the other mirror");
        // A start makes the route, and a reload leaves it, so that the rule can come and go.
        world.restart();
        assert!(is_translated(&world));
        for (text, rules) in [(text.clone(), 1), (format!("{text}{rule}"), 2)] {
            std::fs::write(&world.config, text).unwrap();
            world.proxy().signal(Signal::HUP);
            world.proxy().wait_for("reloaded: ").unwrap();
            assert!(world.ctl("list").contains(&format!("{rules} rules, generation")), "{}", world.ctl("list"));
        }
        assert!(is_translated(&world));
        // The rule of an instruction is routed after a restart too.
        world.ctl(&format!("divert {OTHER}:7 123.45.67.89"));
        std::fs::write(&world.config, text).unwrap();
        world.restart();
        assert!(is_translated(&world));
        world.end();
    });
}

/// A device or a table with another name: nothing is left of the old ones that packets go to.
#[test]
fn another_device_and_another_table_take_the_place_of_the_old_ones() {
    in_namespace(|| {
        let rules = "[[rule]]\ndivert = \"100.100.100.100:7 tcp\"\nto = \"123.45.67.89\"\n";
        let mut world = World::new(Options { rules, ..Options::PLAIN });
        // What no rule is about passes untranslated, to a server that has the address in truth.
        world.network.b.ip(&format!("address add {ORIGINAL}/32 dev eth0")).unwrap();
        world.network.proxy.ip(&format!("route add {ORIGINAL}/32 dev to-b")).unwrap();
        // The way to that address begins with byway.
        world.network.proxy.set(&[("conf/to-b/rp_filter", "2")]).unwrap();
        let _echo = Echo::start(&world.network.a, 7);
        let text = std::fs::read_to_string(&world.config).unwrap();
        let [name, table] = ["name = \"other0\"\n", "table = 7300\n"];
        for (more, device, table, old) in [
            ("", "byway0", 7207, 7300),
            (name, "other0", 7207, 7300),
            ("", "byway0", 7207, 7300),
            (table, "byway0", 7300, 7207),
            ("", "byway0", 7207, 7300),
        ] {
            std::fs::write(&world.config, text.replacen("[device]\n", &format!("[device]\n{more}"), 1)).unwrap();
            world.restart();
            // A packet that comes back to the device would go round until its TTL has run out.
            let said = run(&world.network.client, &format!("ping -n -c 3 -i 0.1 -W 2 {ORIGINAL}"));
            assert!(said.contains(" 3 received"), "{more}: {said}");
            exchange(&mut connect(&world.network.client, 7, 3), b"hello");
            let rules = run(&world.network.proxy, "ip rule");
            let own: Vec<_> = rules.lines().filter(|line| line.contains("not from all")).map(str::trim).collect();
            assert_eq!(own, [format!("{table}:\tnot from all iif {device} lookup {table}")]);
            let left = output(&world.network.proxy, &format!("ip route show table {old}")).stdout;
            assert_eq!(String::from_utf8_lossy(&left), "");
        }
        // Another byway's table.
        let _ = world.proxy.take().unwrap().stop();
        world.network.proxy.ip("tuntap add dev other0 mode tun").unwrap();
        world.network.proxy.ip("rule add not iif other0 lookup 7207 priority 7207").unwrap();
        let words = format!("{} run --config {}", env!("CARGO_BIN_EXE_byway"), world.config.display());
        let said = String::from_utf8(output(&world.network.proxy, &words).stderr).unwrap();
        assert!(said.contains("byway: device.table 7207: it is that of device other0, which is there"), "{said}");
    });
}

/// A configuration that leaves it to its rules what is routed.
pub(super) fn without_list(text: &str) -> String {
    let start = text.find("routes = ").unwrap();
    text.replacen(text[start..].lines().next().unwrap(), "", 1)
}
