//! Names with servers of their own: each is answered with an original that is drawn from a pool, asked by dig and reached by curl,
//! and keeps it over reloads, restarts and hand-overs, since clients may have cached it.

use core::net::Ipv4Addr;
use std::path::Path;

use crate::dns::*;
use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::{Network, OWN};
use byway_host::lab::proxy::Proxy;
use byway_host::lab::space::Space;
use rustix::process::Signal;

/// The DNS server, on the machine of the first mirror.
const DNS: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 53);
const SOCKET: &str = "/run/test/socket";

/// Two names with one mirror each.
const NAMES: &str = "[names]\nanswers_per_second = 0\npool = \"100.64.0.0/24\"\n\
    [[names.entry]]\nname = \"www.bt.com\"\nservers = \"123.45.67.89\"\nttl = \"24h\"\n\
    [[names.entry]]\nname = \"shop.test\"\nservers = \"123.45.67.90:80\"\nttl = \"24h\"\n";

const PROGRAMS: &[(&str, &str)] = &[("dig", "-v"), ("unbound", "-V")];

fn world() -> (World, [Program; 3]) {
    let mut world = World::new(Options { rules: NAMES, routes: ", \"9.9.9.53/32\"", ..Options::PLAIN });
    // Again, so that another one can take over.
    world.proxy.take().unwrap().stop().unwrap();
    world.proxy = Some(start_byway(&world));
    let Network { a, b, proxy, .. } = &world.network;
    a.ip(&format!("address add {DNS}/32 dev lo")).unwrap();
    proxy.ip(&format!("route add {DNS}/32 dev to-a")).unwrap();
    proxy.set(&[("conf/to-a/rp_filter", "2"), ("conf/to-client/rp_filter", "2")]).unwrap();
    let unbound = unbound(a, DNS);
    small_file();
    let programs = [unbound, nginx(a), nginx(b)];
    (world, programs)
}

fn start_byway(world: &World) -> Proxy {
    let program = Path::new(env!("CARGO_BIN_EXE_byway"));
    Proxy::start_with(&world.network.proxy, program, &world.config, &["--hand-over", SOCKET]).unwrap()
}

#[track_caller]
fn ask(client: &Space, name: &str) -> Ipv4Addr {
    let said = run(client, &format!("dig @{DNS} +tries=1 +timeout=5 +short {name} A"));
    said.trim().parse().unwrap_or_else(|_| panic!("{name}: {said}"))
}

/// The mirror that a client reaches by a name whose address it has cached.
#[track_caller]
fn mirror(client: &Space, name: &str, cached: Ipv4Addr) -> String {
    let words = format!("curl -sS --max-time 5 -o /dev/null -D - --resolve {name}:80:{cached} http://{name}/small");
    let said = run(client, &words);
    let found = said.lines().find_map(|line| line.strip_prefix("X-Mirror: "));
    found.unwrap_or_else(|| panic!("{said}")).trim().to_string()
}

/// Writes the configuration with something replaced, and has it read; returns what byway says of it.
#[track_caller]
fn reload(world: &mut World, text: &str, said: &str) -> String {
    std::fs::write(&world.config, text).unwrap();
    world.proxy().signal(Signal::HUP);
    world.proxy().wait_for(said).unwrap()
}

#[test]
fn a_name_keeps_its_original() {
    in_namespace_with(PROGRAMS, || {
        let (mut world, _programs) = world();
        let client = world.network.client.clone();
        let first = std::fs::read_to_string(&world.config).unwrap();
        let (www, shop) = (ask(&client, "www.bt.com"), ask(&client, "shop.test"));
        assert!(www != shop && [www, shop].iter().all(|one| one.octets()[..3] == [100, 64, 0]), "{www} {shop}");
        // What `byway check` has foretold.
        let check = format!("{} check {}", env!("CARGO_BIN_EXE_byway"), world.config.display());
        let foretold = run(&world.network.proxy, &check);
        assert!(
            foretold.contains("good: 2 rules") && foretold.contains(&format!("www.bt.com: {www} unless")),
            "{foretold}"
        );
        assert_eq!((mirror(&client, "www.bt.com", www), mirror(&client, "shop.test", shop)), ("a".into(), "b".into()));
        let listed = world.ctl("names");
        assert!(listed.contains(&format!("www.bt.com -> {www}, 86400 s, tied to the rule for {www}")), "{listed}");
        assert!(world.ctl("list").contains(&www.to_string()));

        // Other servers in the file: the same original, so whoever has cached it is led there.
        let other = first.replace("servers = \"123.45.67.89\"", "servers = [\"123.45.67.90\"]");
        let said = reload(&mut world, &other, "reloaded: ");
        assert!(said.contains("0 rules removed, 1 new or changed"), "{said}");
        assert_eq!((ask(&client, "www.bt.com"), mirror(&client, "www.bt.com", www)), (www, "b".into()));
        // Names that come and go do not move it, and do not get what others have or have had a moment ago.
        let more: String =
            (0..200).map(|n| format!("[[names.entry]]\nname = \"n{n}.test\"\nservers = \"123.45.67.89\"\n")).collect();
        let (start, entries) = first.split_once("[[names.entry]]").unwrap();
        let (kept, _) = entries.split_once("[[names.entry]]").unwrap();
        let said = reload(&mut world, &format!("{start}{more}[[names.entry]]{kept}"), "reloaded: ");
        assert!(
            said.contains("1 rules removed, 201 new or changed") && said.contains("1 names removed, 200 new"),
            "{said}"
        );
        assert_eq!((ask(&client, "www.bt.com"), mirror(&client, "www.bt.com", www)), (www, "a".into()));
        let listed = world.ctl("names");
        assert!(!listed.contains(&format!("-> {shop},")) && listed.contains("201 names"), "{listed}");
        let n150 = ask(&client, "n150.test");
        assert_eq!(mirror(&client, "n150.test", n150), "a");

        // All or nothing: more names than addresses, and a rule that takes one away.
        let too_many: String =
            (0..100).map(|n| format!("[[names.entry]]\nname = \"m{n}.test\"\nservers = \"123.45.67.89\"\n")).collect();
        let full = format!("{start}{more}{too_many}[[names.entry]]{kept}");
        let said = reload(&mut world, &full, "not reloaded, nothing has changed");
        assert!(said.contains(".name: names.pool (100.64.0.0/24) has no address left for "), "{said}");
        let taken = format!("{first}[[rule]]\ndivert = \"{www}\"\nto = \"123.45.67.90\"\n");
        let said = reload(&mut world, &taken, "not reloaded, nothing has changed");
        assert!(said.contains(&format!("{www} is the original that clients of www.bt.com have cached")), "{said}");
        let said =
            reload(&mut world, &first.replace("100.64.0.0/24", "100.64.0.0/23"), "not reloaded, nothing has changed");
        assert!(said.contains("names.pool: it cannot change while byway runs"), "{said}");
        assert_eq!((ask(&client, "www.bt.com"), ask(&client, "n150.test")), (www, n150));

        // An instruction moves it, and that outlives a reload, a hand-over and a restart.
        reload(&mut world, &first, "reloaded: ");
        world.ctl("redivert 123.45.67.89 123.45.67.90");
        reload(
            &mut world,
            &first.replace("[names]", "[names]\n# nothing"),
            "reloaded: 0 rules removed, 0 new or changed",
        );
        assert_eq!(mirror(&client, "www.bt.com", www), "b");
        let shop = ask(&client, "shop.test");
        let next = start_byway(&world);
        world.proxy.replace(next).unwrap().ended().unwrap();
        assert_eq!((ask(&client, "www.bt.com"), ask(&client, "shop.test")), (www, shop));
        assert_eq!((mirror(&client, "www.bt.com", www), mirror(&client, "shop.test", shop)), ("b".into(), "b".into()));
        let (start, entries) = first.split_once("[[names.entry]]").unwrap();
        std::fs::write(&world.config, format!("{start}{more}[[names.entry]]{entries}")).unwrap();
        world.proxy.take().unwrap().stop().unwrap();
        world.proxy = Some(start_byway(&world));
        assert_eq!((ask(&client, "www.bt.com"), ask(&client, "shop.test")), (www, shop));
        assert_eq!(mirror(&client, "www.bt.com", www), "b", "as the instruction has said");
        assert_eq!(mirror(&client, "n150.test", ask(&client, "n150.test")), "a");

        // Without a snapshot, as after a crash: the names have what they had at first.
        world.proxy.take().unwrap().stop().unwrap();
        std::fs::remove_file(format!("{FOLDER}/snapshot")).unwrap();
        std::fs::write(&world.config, &first).unwrap();
        world.proxy = Some(start_byway(&world));
        assert!(foretold.contains(&format!("shop.test: {} unless", ask(&client, "shop.test"))), "{foretold}");
        assert_eq!((ask(&client, "www.bt.com"), mirror(&client, "www.bt.com", www)), (www, "a".into()));
        let counted = world.end_unjudged().1;
        assert_eq!(count(&counted, "names_address"), 2, "{counted}");
    });
}

/// Nothing but names gets what the pool has, and nothing that is in use is drawn.
#[test]
fn what_nothing_diverts_is_not_led_on() {
    in_namespace_with(PROGRAMS, || {
        let (mut world, _programs) = world();
        let client = world.network.client.clone();
        let used = [ask(&client, "www.bt.com"), ask(&client, "shop.test")];
        let free = (0..=255).map(|last| Ipv4Addr::new(100, 64, 0, last)).find(|one| !used.contains(one)).unwrap();
        // Where a route leads anywhere, as most do.
        world.network.proxy.ip("route add default dev to-b").unwrap();
        world.network.b.ip(&format!("address add {free}/32 dev lo")).unwrap();
        let failed = output(&client, &format!("curl -sS --max-time 60 http://{free}/small"));
        assert_eq!(failed.status.code(), Some(7), "the client is told at once: {failed:?}");
        // An instruction has what the next name would draw.
        let text = std::fs::read_to_string(&world.config).unwrap();
        let more = format!("{text}[[names.entry]]\nname = \"next.test\"\nservers = \"123.45.67.89\"\n");
        std::fs::write(&world.config, &more).unwrap();
        let check = format!("{} check {}", env!("CARGO_BIN_EXE_byway"), world.config.display());
        let foretold = run(&world.network.proxy, &check);
        let drawn = foretold.lines().find_map(|line| line.strip_prefix("next.test: ")?.split(' ').next()).unwrap();
        world.ctl(&format!("divert {drawn} 123.45.67.90"));
        reload(&mut world, &more, "reloaded: 0 rules removed, 1 new or changed");
        let next = ask(&client, "next.test");
        assert_ne!(next.to_string(), drawn);
        assert_eq!(mirror(&client, "next.test", next), "a");
        assert_eq!(mirror(&client, "next.test", drawn.parse().unwrap()), "b", "the instruction's rule is left alone");
        assert_ne!(next, OWN);
        world.end_unjudged();
    });
}
