//! TCP hand-over between programs that nobody here wrote: one connection of a client, and servers that take turns.

use core::time::Duration;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Instant, SystemTime};

use crate::network::traffic::slow_file;
use crate::network::*;
use byway_host::lab::network::{A, B, ORIGINAL};
use byway_host::lab::space::Space;

const RULES: &str = "[resumable]\nquiet = \"60ms\"\npatience = \"20s\"\n\
                     [[rule]]\ndivert = \"100.100.100.100 tcp\"\nto = \"123.45.67.89\"\nresumable = true\n";

/// The mirrors have different windows and clocks: Linux gives each connection's timestamps an offset of its own.
fn world(options: Options) -> World {
    let world = World::new(Options { rules: RULES, ..options });
    world.network.a.set(&[("tcp_rmem", "4096 131072 6291456")]).unwrap();
    world.network.b.set(&[("tcp_rmem", "4096 16384 400000"), ("tcp_wmem", "4096 65536 8388608")]).unwrap();
    world
}

/// The mirror that the only open connection stands on.
fn stands_on(world: &mut World) -> Option<String> {
    let list = world.ctl("--json connections");
    let open = list.split("{\"protocol\"").find(|connection| connection.contains("\"established\""))?;
    let server = open.split_once("\"server\":\"")?.1.split_once(':')?.0;
    Some(server.to_string())
}

/// Moves everything from one mirror to the other, and waits until the connection stands there.
#[track_caller]
fn turn(world: &mut World, moves: usize) {
    let (from, to) = if moves.is_multiple_of(2) { (A, B) } else { (B, A) };
    world.ctl(&format!("redivert {from} {to} --hand-over"));
    let start = Instant::now();
    while stands_on(world).is_some_and(|server| server != to.to_string()) {
        if start.elapsed() > PATIENCE {
            let list = world.ctl("--json connections");
            let log = world.proxy.take().expect("byway runs").stop();
            panic!("move {moves} to {to}: {list}{log:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn serve_large(length: usize) -> Vec<u8> {
    let bytes = content(1, length);
    std::fs::create_dir_all(www()).unwrap();
    let file = std::fs::File::create(www().join("large")).unwrap();
    (&file).write_all(&bytes).unwrap();
    // Apache calls the tag of a file weak that may yet change within the second.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    bytes
}

/// A file server on a mirror, whose answers have a strong entity tag of the file's time and length.
fn serve(kind: &str, space: &Space) -> Program {
    let name = space.name();
    let folder = Path::new(FOLDER).join(format!("{kind}-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    let (at, www, conf) = (folder.display(), www(), folder.join("conf"));
    let (text, words) = match kind {
        "nginx" => return nginx(space),
        "lighttpd" => (
            format!(
                "server.port = 80\nserver.document-root = \"{www}\"\nserver.errorlog = \"{at}/log\"\n\
                 etag.use-inode = \"disable\"\nmimetype.assign = (\"\" => \"text/plain\")\nserver.stream-response-body = 2\n",
                www = www.display()
            ),
            format!("lighttpd -D -f {at}/conf"),
        ),
        "apache" => (
            format!(
                "ServerName {name}\nListen 80\nPidFile {at}/pid\nErrorLog {at}/log\nDocumentRoot {www}\n\
                 LoadModule mpm_event_module {MODULES}/mod_mpm_event.so\n\
                 LoadModule authz_core_module {MODULES}/mod_authz_core.so\n<Directory />\nRequire all granted\n</Directory>\n",
                www = www.display()
            ),
            // It will not serve as root.
            format!("unshare --user --map-user=1000 --map-group=1000 apache2 -X -f {at}/conf"),
        ),
        _ => panic!("no such server: {kind}"),
    };
    std::fs::write(conf, text).unwrap();
    space.set(&[("ip_unprivileged_port_start", "0")]).unwrap();
    let program = Program::start(space, command(&words));
    wait_for_port(space, "tcp", 80, || std::fs::read_to_string(folder.join("log")).unwrap_or_default());
    program
}

const MODULES: &str = "/usr/lib/apache2/modules";

/// Has the mirrors take turns while a client loads a file. How often they did.
fn take_turns(world: &mut World, client: &mut Child) -> usize {
    let mut moves = 0;
    // The first bytes of the response must be there.
    while stands_on(world).is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    while client.try_wait().expect("it was started").is_none() {
        turn(world, moves);
        moves += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    moves
}

#[test]
fn a_download_changes_servers_over_and_over() {
    in_namespace(|| {
        let bytes = serve_large(64 << 20);
        let mut world = world(Options::PLAIN);
        let _servers = [nginx(&world.network.a), nginx(&world.network.b)];
        let got = format!("{FOLDER}/got");
        let mut curl = start(
            &world.network.client,
            &format!("curl -sS --fail --limit-rate 8M -o {got} -w %{{num_connects}} http://{ORIGINAL}/large"),
        );
        let moves = take_turns(&mut world, &mut curl);
        assert_eq!(said(curl, "curl"), "1", "connections");
        assert!(std::fs::read(&got).unwrap() == bytes, "other bytes than the server has");
        let counted = world.end();
        println!("{moves} moves of one download: {counted}");
        assert!(moves > 10 && count(&counted, "hand_overs_moved") + 1 >= moves as u64, "{moves}: {counted}");
    });
}

fn digest(bytes: &[u8]) -> String {
    let mut child = command("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("coreutils");
    child.stdin.take().expect("it is piped").write_all(bytes).expect("it reads");
    said(child, "sha256sum").split(' ').next().expect("a digest").to_string()
}

/// What each client prints: how many connections it made or the digest of what it got, if it says so itself.
const FILE_SERVERS: [&str; 3] = ["nginx", "apache", "lighttpd"];

#[test]
fn file_servers_and_clients_of_all_kinds() {
    let programs = [("apache2", "-v"), ("lighttpd", "-v"), ("wget", "--version"), ("java", "-version")];
    in_namespace_with(&programs, || {
        let bytes = serve_large(12 << 20);
        let digest = digest(&bytes);
        let class = format!("{}/tests/programs/Fetch.java", env!("CARGO_MANIFEST_DIR"));
        let mut world = world(Options::PLAIN);
        let got = format!("{FOLDER}/got");
        let clients = [
            ("curl", format!("curl -sS --fail --limit-rate 5M -o {got} http://{ORIGINAL}/large")),
            ("wget", format!("wget --quiet --limit-rate 5m --tries 1 -O {got} http://{ORIGINAL}/large")),
            ("Java", format!("java {class} http://{ORIGINAL}/large")),
        ];
        let (mut downloads, mut turns) = (0, 0);
        for kind in FILE_SERVERS {
            let servers = [serve(kind, &world.network.a), serve(kind, &world.network.b)];
            for (client, words) in &clients {
                let mut child = start(&world.network.client, words);
                let moves = take_turns(&mut world, &mut child);
                (downloads, turns) = (downloads + 1, turns + moves as u64);
                let printed = said(child, words);
                let is_right = printed.trim() == digest || std::fs::read(&got).is_ok_and(|got| got == bytes);
                assert!(is_right, "{client} and {kind}: other bytes than the server has");
                assert!(moves > 1, "{client} and {kind}: {moves} moves");
                let _ = std::fs::remove_file(&got);
                println!("{client} and {kind}: {moves} moves");
                // The rule leads to the first mirror again, and the connection is gone.
                world.ctl(&format!("divert {ORIGINAL} {A} --protocol tcp --resumable"));
                std::thread::sleep(Duration::from_millis(300));
            }
            drop(servers);
        }
        // The last turn of each download may come while it ends, or after that.
        let counted = world.end();
        let [moved, kept] = ["hand_overs_moved", "hand_overs_kept"].map(|name| count(&counted, name));
        assert!(kept <= downloads && moved + downloads >= turns, "{turns} turns: {counted}");
    });
}

/// The remainder of a polynomial in the bytes, small enough for the numbers of a browser.
fn polynomial(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum, byte| (sum * 31 + u64::from(*byte)) % POLYNOMIAL)
}

const POLYNOMIAL: u64 = (1 << 47) - 115;

/// A page that loads what a mirror has, and says what it got.
fn page(path: &str) -> String {
    format!(
        "<body><script>const got = new XMLHttpRequest(); got.open('GET', 'http://{ORIGINAL}{path}', false); \
         got.overrideMimeType('text/plain; charset=x-user-defined'); got.send(); const text = got.responseText; let sum = 7; \
         for (let n = 0; n < text.length; n++) sum = (sum * 31 + (text.charCodeAt(n) & 255)) % {POLYNOMIAL}; \
         document.write('got ' + text.length + ' ' + sum);</script></body>"
    )
}

#[test]
fn a_browser_loads_a_file_from_servers_in_turn() {
    in_namespace_with(&[("chromium", "--version")], || {
        let bytes = slow_file(12_000_000);
        std::fs::write(format!("{FOLDER}/page.html"), page("/slow/file")).unwrap();
        let mut world = world(Options::PLAIN);
        let _servers = [nginx(&world.network.a), nginx(&world.network.b)];
        let words = format!(
            "chromium {CHROMIUM} --disable-web-security --user-data-dir={FOLDER}/chromium --dump-dom file://{FOLDER}/page.html"
        );
        let mut chromium = start(&world.network.client, &words);
        take_turns(&mut world, &mut chromium);
        let shown = said(chromium, "chromium");
        let expected = format!("got {} {}", bytes.len(), polynomial(&bytes));
        assert!(shown.contains(&expected), "{expected} is not in {shown}");
        let counted = world.end();
        let [moved, kept] = ["hand_overs_moved", "hand_overs_kept"].map(|name| count(&counted, name));
        println!("{moved} moves of a browser's download");
        assert!(moved > 5 && kept == 0, "{counted}");
    });
}

/// Between two requests the connection changes servers; what is asked for next comes from the other one.
#[test]
fn sessions_change_servers_between_requests() {
    let programs = [("memcached", "--version"), ("redis-server", "--version"), ("python3", "--version")];
    in_namespace_with(&programs, || {
        const MOVES: usize = 16;
        let bytes = serve_large(100_000);
        let digest = digest(&bytes);
        let mut world = world(Options::PLAIN);
        let script = |name: &str| format!("{}/tests/programs/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut servers = Vec::new();
        for space in [&world.network.a, &world.network.b] {
            servers.push(nginx(space));
            servers.push(Program::start(space, command("memcached -u root -l 0.0.0.0 -p 11211")));
            let redis =
                "redis-server --bind 0.0.0.0 --port 6379 --protected-mode no --appendonly no --loglevel warning --save";
            let mut redis = command(redis);
            redis.arg("");
            servers.push(Program::start(space, redis));
            let name = space.name();
            for (port, lines) in
                [(11_211, format!("set who 0 0 {}\\r\\n{name}", name.len())), (6379, format!("SET who {name}"))]
            {
                wait_for_port(space, "tcp", port, || format!("port {port}"));
                let mut own = Talk::start(space, command(&format!("python3 {} 127.0.0.1 {port}", script("talk.py"))));
                own.ask(&lines);
                own.end();
            }
        }
        let names = [world.network.a.name().to_string(), world.network.b.name().to_string()];
        for (port, words, question) in [
            (80, format!("python3 {} {ORIGINAL} 80", script("fetch.py")), "/large"),
            (11_211, format!("python3 {} {ORIGINAL} 11211", script("talk.py")), "get who"),
            (6379, format!("python3 {} {ORIGINAL} 6379", script("talk.py")), "GET who"),
        ] {
            let mut session = Talk::start(&world.network.client, command(&words));
            let mut port_of_client = None;
            for moves in 0..MOVES {
                let answer = session.ask(question);
                let parts: Vec<_> = answer.split(' ').collect();
                assert!(parts.contains(&names[moves % 2].as_str()), "port {port}, move {moves}: {answer}");
                assert!(port != 80 || parts[2] == digest, "move {moves}: other bytes than the server has");
                let own = if port == 80 { parts[1] } else { parts[parts.len() - 1] }.to_string();
                assert_eq!(port_of_client.get_or_insert_with(|| own.clone()), &own, "another connection");
                turn(&mut world, moves);
            }
            session.end();
            std::thread::sleep(Duration::from_millis(300));
        }
        let counted = world.end();
        println!("{MOVES} moves of each session: {counted}");
        assert_eq!((count(&counted, "hand_overs_moved"), count(&counted, "hand_overs_kept")), (3 * MOVES as u64, 0));
    });
}

/// Connections that were handed over carry on over restarts and when another process takes over.
#[test]
fn a_session_survives_restarts_between_moves() {
    in_namespace_with(&[("python3", "--version")], || {
        let bytes = serve_large(300_000);
        let digest = digest(&bytes);
        let mut world = world(Options { queues: 2, ..Options::PLAIN });
        let _servers = [nginx(&world.network.a), nginx(&world.network.b)];
        let names = [world.network.a.name().to_string(), world.network.b.name().to_string()];
        let script = format!("{}/tests/programs/fetch.py", env!("CARGO_MANIFEST_DIR"));
        let mut session = Talk::start(&world.network.client, command(&format!("python3 {script} {ORIGINAL} 80")));
        let mut port = None;
        for moves in 0..6 {
            for _ in 0..2 {
                let answer = session.ask("/large");
                let [name, from, bytes] = answer.split(' ').collect::<Vec<_>>()[..] else { panic!("{answer}") };
                assert_eq!((name, bytes), (names[moves % 2].as_str(), digest.as_str()), "move {moves}");
                assert_eq!(port.get_or_insert_with(|| from.to_string()), from, "another connection");
                world.restart();
            }
            // Nothing is known of a connection's protocol until its client asks again.
            assert_eq!(session.ask("/large").split(' ').next(), Some(names[moves % 2].as_str()));
            turn(&mut world, moves);
        }
        session.end();
        let counted = world.end();
        assert_eq!(count(&counted, "hand_overs_kept"), 0, "{counted}");
    });
}
