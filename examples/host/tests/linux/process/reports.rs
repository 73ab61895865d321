//! What collectors that nobody here wrote make of byway's reports: tshark, nfdump, pmacct and libfixbuf, each by its own
//! output, against what has gone through.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::{A, ALTERNATIVE, B, CLIENT, ORIGINAL};
use byway_host::lab::space::Space;
use rustix::process::Signal;

const COLLECTORS: &[(&str, &str)] =
    &[("nfcapd", "-V"), ("nfdump", "-V"), ("nfacctd", "-V"), ("ipfixDump", "--version"), ("text2pcap", "--version")];

/// Ports of nfcapd and nfacctd.
const OTHERS: [u16; 2] = [47_391, 47_392];

/// Settings for tests: templates and servers each second, and ICMP connections that end.
const UDP: &str = "[report]\ncollector = \"127.0.0.1:4739\"\nenterprise = 32473\ntemplates = \"1s\"\ninterval = \"1s\"\n\
                   [timeouts]\nicmp = \"2s\"\n\
                   [[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\n";

/// Packets as they are on the wire: a super-packet would count as one.
const OPTIONS: Options = Options { offload: false, nat: "short_timeouts = true\n", rules: UDP, ..Options::PLAIN };

type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

/// A collector in the proxy's namespace: keeps every datagram, and passes it on to others.
fn collect(space: &Space, others: &'static [u16]) -> Messages {
    let messages = Messages::default();
    let kept = messages.clone();
    space.run(move || {
        let socket = UdpSocket::bind("127.0.0.1:4739").unwrap();
        let onwards = UdpSocket::bind("127.0.0.1:0").unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                for other in others {
                    let _ = onwards.send_to(&buffer[..length], SocketAddr::from(([127, 0, 0, 1], *other)));
                }
                kept.lock().unwrap().push(buffer[..length].to_vec());
            }
        });
    });
    messages
}

/// Counts packets and bytes of a conversation with port 80, at the client.
fn count_at(space: &Space) {
    for words in [
        "nft add table ip truth",
        "nft add chain ip truth out { type filter hook output priority 0 ; }",
        "nft add chain ip truth in { type filter hook input priority 0 ; }",
        "nft add rule ip truth out tcp dport 80 counter",
        "nft add rule ip truth in tcp sport 80 counter",
    ] {
        run(space, words);
    }
}

/// Packets and bytes, to the server and from it.
fn counted_at(space: &Space) -> [u64; 4] {
    let number = |chain: &str, what: &str| -> u64 {
        let said = run(space, &format!("nft list chain ip truth {chain}"));
        let rest = said.split_once(&format!("{what} ")).expect("a counter").1;
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    [number("out", "packets"), number("out", "bytes"), number("in", "packets"), number("in", "bytes")]
}

/// What `ipfixDump` says of each data record: its template, and fields by name.
type Dumped = (u16, BTreeMap<String, String>);

/// Has libfixbuf read the messages. It knows our elements from their type records alone.
fn ipfix_dump(messages: &[Vec<u8>]) -> Vec<Dumped> {
    let file = Path::new(FOLDER).join("messages");
    std::fs::write(&file, messages.concat()).unwrap();
    let output = command(&format!("ipfixDump --rfc5610 --in {}", file.display())).output().unwrap();
    let (said, wrong) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && wrong.is_empty(), "{wrong}");
    assert!(!said.contains("_alienInformationElement"), "an element without a type record");
    let mut records: Vec<Dumped> = Vec::new();
    for part in said.split("--- data record ").skip(1) {
        let part = part.split("\n---").next().unwrap();
        let template = part.split_once("tid:").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
        let fields = part.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once(" : ")?;
            let name = name.rsplit([' ', ')']).next()?;
            Some((name.to_string(), value.trim().to_string()))
        });
        records.push((template, fields.collect()));
    }
    records
}

fn of(records: &[Dumped], template: u16, protocol: &str) -> Vec<BTreeMap<String, String>> {
    let is_wanted = |(kind, fields): &&Dumped| *kind == template && fields["protocolIdentifier"] == protocol;
    records.iter().filter(is_wanted).map(|(_, fields)| fields.clone()).collect()
}

/// What stands behind a field's name in nfdump's or pmacct's JSON, whose values have no braces in them.
fn json(object: &str, name: &str) -> String {
    let rest = object.split_once(&format!("\"{name}\"")).unwrap_or_else(|| panic!("no {name} in {object}")).1;
    let rest = rest.trim_start_matches([' ', ':', '\t']);
    let value = match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}', '\n']).next(),
    };
    value.unwrap().trim().to_string()
}

/// Has tshark read the messages: fields of each data record of IANA's, in its words.
fn tshark(messages: &[Vec<u8>], filter: &str, fields: &str) -> Vec<Vec<String>> {
    use core::fmt::Write as _;
    let mut text = String::new();
    for message in messages {
        for (number, line) in message.chunks(16).enumerate() {
            let _ = write!(text, "{:06x}", number * 16);
            line.iter().for_each(|byte| {
                let _ = write!(text, " {byte:02x}");
            });
            text.push('\n');
        }
    }
    let (hex, pcap) = (format!("{FOLDER}/messages.hex"), format!("{FOLDER}/messages.pcap"));
    std::fs::write(&hex, text).unwrap();
    let output = command(&format!("text2pcap -q -u 4739,4739 {hex} {pcap}")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words =
        format!("tshark -r {pcap} -d udp.port==4739,cflow -T fields -E separator=; -E aggregator=, {fields} -Y");
    let mut command = command(&words);
    let output = command.arg(filter).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| line.split(';').map(str::to_string).collect()).collect()
}

#[test]
fn four_collectors_show_what_went_through() {
    in_namespace_with(COLLECTORS, || {
        small_file();
        std::fs::write(www().join("file"), content(7, 200_000)).unwrap();
        let mut world = World::new(OPTIONS);
        let (client, proxy) = (world.network.client.clone(), world.network.proxy.clone());
        let folder = Path::new(FOLDER).join("flows");
        std::fs::create_dir_all(&folder).unwrap();
        // Its semaphores are not another test's.
        let words = format!("unshare --ipc nfcapd -p {} -b 127.0.0.1 -w {} -t 60", OTHERS[0], folder.display());
        let nfcapd = start(&proxy, &words);
        let pmacct = Path::new(FOLDER).join("nfacctd.conf");
        let text = format!(
            "nfacctd_port: {}\nnfacctd_ip: 127.0.0.1\nplugins: print[a]\nprint_output[a]: json\nprint_refresh_time[a]: 1\n\
             print_output_file[a]: {FOLDER}/pmacct.json\nprint_output_file_append[a]: true\n\
             aggregate[a]: src_host, dst_host, src_port, dst_port, proto, post_nat_src_host, post_nat_dst_host, \
             post_nat_src_port, post_nat_dst_port, nat_event, timestamp_start, timestamp_end\n",
            OTHERS[1]
        );
        std::fs::write(&pmacct, text).unwrap();
        let mut nfacctd = command(&format!("nfacctd -f {}", pmacct.display()));
        nfacctd.stdout(std::process::Stdio::null());
        let _nfacctd = Program::start(&proxy, nfacctd);
        for port in OTHERS {
            wait_for_port(&proxy, "udp", port, || "a collector did not start".into());
        }
        let messages = collect(&proxy, &OTHERS);
        // It was not there when the first templates were sent, and gets others.
        wait("templates", || {
            let mut messages = messages.lock().unwrap();
            let has_types = messages.iter().position(|m| m[16..18] == [0, 3]);
            let begins = has_types.unwrap_or(messages.len());
            messages.drain(..begins);
            messages.len() >= 6
        });
        let _nginx = nginx(&world.network.a);

        // One download, and a flow that is re-diverted in the middle.
        count_at(&client);
        run(&client, &format!("curl -sS --fail --local-port 45678 -o {FOLDER}/got http://{ORIGINAL}/file"));
        let seen = |filter: &dyn Fn(&[Dumped]) -> bool| filter(&ipfix_dump(&messages.lock().unwrap()));
        // The rule's change takes a server with it, and what it has done since its last record.
        wait("the server's record of it", || {
            seen(&|all| all.iter().any(|(kind, fields)| *kind == 259 && fields["finishedConnectionDeltaCount"] == "1"))
        });
        let ping = start(&client, &format!("ping -q -n -i 0.2 -c 10 -W 2 {ORIGINAL}"));
        std::thread::sleep(Duration::from_millis(900));
        world.ctl("redivert 123.45.67.89 123.45.67.90");
        assert!(said(ping, "ping").contains(" 10 received"));
        wait("the ICMP connection is reported", || {
            !messages.lock().unwrap().is_empty() && seen(&|all| !of(all, 256, "1").is_empty())
        });
        // Servers' records of the interval in which that was.
        std::thread::sleep(Duration::from_millis(1_500));
        let [to_packets, to_bytes, from_packets, from_bytes] = counted_at(&client);
        let metrics = run(&proxy, "curl -sS http://127.0.0.1:9207/metrics");
        world.end();
        let messages = messages.lock().unwrap().clone();

        // libfixbuf: everything, our own elements by their names.
        let records = ipfix_dump(&messages);
        let [download] = &of(&records, 256, "6")[..] else { panic!("{records:#?}") };
        let port = download["postNAPTSourceTransportPort"].clone();
        let expected = [
            ("sourceIPv4Address", CLIENT.to_string()),
            ("sourceTransportPort", "45678".into()),
            ("destinationIPv4Address", ORIGINAL.to_string()),
            ("destinationTransportPort", "80".into()),
            ("postNATSourceIPv4Address", ALTERNATIVE.to_string()),
            ("postNATDestinationIPv4Address", A.to_string()),
            ("postNAPTDestinationTransportPort", "80".into()),
            ("packetDeltaCount", to_packets.to_string()),
            ("octetDeltaCount", to_bytes.to_string()),
            ("reversePacketDeltaCount", from_packets.to_string()),
            ("reverseOctetDeltaCount", from_bytes.to_string()),
            ("biflowDirection", "1".into()),
            ("flowEndReason", "3".into()),
            ("connectionEndCause", "1".into()),
            ("resetSegmentCount", "0".into()),
        ];
        for (name, value) in &expected {
            assert_eq!(&download[*name], value, "{name}: {download:#?}");
        }
        let micros = |name: &str| download[name].parse::<u64>().unwrap();
        let (server, client_leg) = (micros("serverHandshakeMicroseconds"), micros("clientHandshakeMicroseconds"));
        assert!(server > 0 && client_leg > 0 && server + client_leg == micros("handshakeRoundTripMicroseconds"));
        let [ping] = &of(&records, 256, "1")[..] else { panic!("{records:#?}") };
        let volume =
            ["packetDeltaCount", "reversePacketDeltaCount", "octetDeltaCount", "flowEndReason", "connectionEndCause"];
        assert_eq!(volume.map(|name| ping[name].as_str()), ["10", "10", "840", "1", "4"]);
        let [moved] = &of(&records, 258, "1")[..] else { panic!("{records:#?}") };
        for (name, value) in [
            ("postNATDestinationIPv4Address", B.to_string()),
            ("previousServerIPv4Address", A.to_string()),
            ("previousAlternativeIPv4Address", ALTERNATIVE.to_string()),
            ("previousAlternativeTransportPort", moved["postNAPTSourceTransportPort"].clone()),
            ("redivertCause", "1".into()),
        ] {
            assert_eq!(moved[name], value, "{name}: {moved:#?}");
        }
        assert_ne!(moved["redivertGeneration"], "0");
        let events: Vec<_> = of(&records, 257, "1")
            .iter()
            .map(|n| (n["natEvent"].clone(), n["postNATDestinationIPv4Address"].clone()))
            .collect();
        let event = |event: &str, server: core::net::Ipv4Addr| (event.to_string(), server.to_string());
        assert_eq!(events, [event("4", A), event("5", A), event("4", B), event("5", B)]);
        let sum = |server: core::net::Ipv4Addr, name: &str| -> u64 {
            let of_it =
                |(kind, fields): &&Dumped| *kind == 259 && fields["destinationIPv4Address"] == server.to_string();
            records.iter().filter(of_it).map(|(_, fields)| fields[name].parse::<u64>().unwrap()).sum()
        };
        assert_eq!(sum(A, "finishedConnectionDeltaCount") + sum(B, "finishedConnectionDeltaCount"), 1);
        assert!(sum(A, "octetToClientDeltaCount") + sum(B, "octetToClientDeltaCount") >= from_bytes);
        let (_, own) = records.iter().rfind(|(kind, _)| *kind == 265).expect("statistics");
        assert!(own["exportedFlowRecordTotalCount"].parse::<usize>().unwrap() > records.len() / 2);
        assert!(metrics.contains("\nbyway_report_messages_total "), "{metrics}");

        // nfdump: all of IANA's, both directions in one record, and NAT events by their names.
        stop(nfcapd);
        let flows = command(&format!("nfdump -R {} -o json", folder.display())).output().unwrap();
        let flows = String::from_utf8(flows.stdout).unwrap();
        let all: Vec<&str> = flows.split("},").filter(|o| o.contains("\"src_port\" : 45678")).collect();
        let (events, flow): (Vec<_>, Vec<_>) = all.iter().partition(|object| object.contains("nat_event_id"));
        let [flow] = flow[..] else { panic!("{flows}") };
        for (name, value) in [
            ("proto", "6".to_string()),
            ("src4_addr", CLIENT.to_string()),
            ("dst4_addr", ORIGINAL.to_string()),
            ("dst_port", "80".into()),
            ("in_packets", to_packets.to_string()),
            ("in_bytes", to_bytes.to_string()),
            ("out_packets", from_packets.to_string()),
            ("out_bytes", from_bytes.to_string()),
            ("src4_xlt_ip", ALTERNATIVE.to_string()),
            ("dst4_xlt_ip", A.to_string()),
            ("src_xlt_port", port.clone()),
            ("dst_xlt_port", "80".into()),
        ] {
            assert_eq!(json(flow, name), value, "{name}: {flow}");
        }
        let events: Vec<_> = events.iter().map(|event| json(event, "nat_event")).collect();
        assert_eq!(events, ["NAT44 session create", "NAT44 session delete"]);

        // pmacct: the forward direction, both pairs, and NAT events by number.
        let written = || std::fs::read_to_string(format!("{FOLDER}/pmacct.json")).unwrap_or_default();
        wait("pmacct writes", || written().lines().filter(|line| line.contains("\"port_src\": 45678")).count() >= 3);
        let lines = written();
        let all: Vec<&str> = lines.lines().filter(|line| line.contains("\"port_src\": 45678")).collect();
        let mut events = Vec::new();
        for line in all {
            for (name, value) in [
                ("ip_src", CLIENT.to_string()),
                ("ip_dst", ORIGINAL.to_string()),
                ("port_dst", "80".into()),
                ("ip_proto", "tcp".into()),
                ("post_nat_ip_src", ALTERNATIVE.to_string()),
                ("post_nat_ip_dst", A.to_string()),
                ("post_nat_port_src", port.clone()),
                ("post_nat_port_dst", "80".into()),
            ] {
                assert_eq!(json(line, name), value, "{name}: {line}");
            }
            let event = json(line, "nat_event");
            if event == "0" {
                assert_eq!(
                    (json(line, "packets"), json(line, "bytes")),
                    (to_packets.to_string(), to_bytes.to_string())
                );
            }
            events.push(event);
        }
        events.sort_unstable();
        assert_eq!(events, ["0", "4", "5"], "{lines}");

        // tshark: all of IANA's; of one message each field is a list.
        let fields = "-e cflow.srcaddr -e cflow.srcport -e cflow.post_natsource_ipv4_address -e cflow.octets -e cflow.flow_end_reason";
        let rows = tshark(&messages, "cflow.srcport == 45678 && cflow.octets", fields);
        let [row] = &rows[..] else { panic!("{rows:?}") };
        for (column, value) in [
            (0, CLIENT.to_string()),
            (1, "45678".into()),
            (2, ALTERNATIVE.to_string()),
            (3, to_bytes.to_string()),
            (4, "3".into()),
        ] {
            assert!(row[column].split(',').any(|found| found == value), "{value} in {row:?}");
        }
        assert!(tshark(&messages, "_ws.malformed || cflow.template_frame == 0", "-e frame.number").is_empty());
        assert_eq!(tshark(&messages, "cflow.version == 10", "-e frame.number").len(), messages.len());
    });
}

/// Settings with a collector over TCP.
const TCP: &str = "[report]\ncollector = \"127.0.0.1:4739\"\ntransport = \"tcp\"\nenterprise = 32473\ninterval = \"1s\"\n\
                   [[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\n";

/// A metric of byway's.
#[track_caller]
fn metric(space: &Space, name: &str) -> u64 {
    let page = run(space, "curl -sS http://127.0.0.1:9207/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// Accepts connections at the collector's port and reads what comes, for so long.
fn accept(space: &Space, time: Duration) -> Vec<Vec<u8>> {
    space.run(move || {
        let listener = std::net::TcpListener::bind("127.0.0.1:4739").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 65_536]);
        let end = std::time::Instant::now() + time;
        while std::time::Instant::now() < end {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                Err(_) => {}
            }
        }
        let mut messages = Vec::new();
        while bytes.len() >= 4 {
            let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            if length > bytes.len() {
                break;
            }
            messages.push(bytes.drain(..length).collect());
        }
        messages
    })
}

/// A collector over TCP that is not there, comes, goes and comes again: traffic goes on, reports wait, and each session begins
/// with templates and sequence number zero.
#[test]
fn a_collector_may_come_and_go() {
    in_namespace_with(COLLECTORS, || {
        small_file();
        let mut world = World::new(Options { rules: TCP, ..OPTIONS });
        let (client, proxy) = (world.network.client.clone(), world.network.proxy.clone());
        let _nginx = nginx(&world.network.a);
        let fetch = |port: u16| {
            run(&client, &format!("curl -sS --fail --local-port {port} http://{ORIGINAL}/small"));
        };
        fetch(40_001);
        wait("it is known that nobody is there", || metric(&proxy, "byway_report_failures_total") > 0);
        // What happened before waits for the collector.
        let fetches = |port: u16, messages: &[Vec<u8>]| {
            let records = ipfix_dump(messages);
            of(&records, 256, "6").iter().filter(|r| r["sourceTransportPort"] == port.to_string()).count()
        };
        let first = accept(&proxy, Duration::from_secs(3));
        assert_eq!((fetches(40_001, &first), &first[0][8..12]), (1, &[0; 4][..]));
        // Gone: byway notices, and tries again.
        fetch(40_002);
        let failures = metric(&proxy, "byway_report_failures_total");
        wait("it is noticed", || metric(&proxy, "byway_report_failures_total") > failures);
        fetch(40_003);
        let second = accept(&proxy, Duration::from_secs(3));
        assert_eq!(&second[0][8..12], &[0; 4]);
        assert_eq!([40_002, 40_003].map(|port| fetches(port, &second)), [1, 1]);
        // A reload changes what may change, and refuses the rest.
        let text = std::fs::read_to_string(&world.config).unwrap();
        std::fs::write(&world.config, text.replace("4739", "4740")).unwrap();
        world.proxy().signal(Signal::HUP);
        let said = world.proxy().wait_for("not reloaded").unwrap();
        assert!(said.contains("report.collector: it cannot change while byway runs"), "{said}");
        std::fs::write(&world.config, text.replace("interval = \"1s\"", "nat_events = false")).unwrap();
        world.proxy().signal(Signal::HUP);
        world.proxy().wait_for("reloaded: ").unwrap();
        fetch(40_004);
        let third = accept(&proxy, Duration::from_secs(3));
        let records = ipfix_dump(&third);
        let is_new = |kind: u16| of(&records, kind, "6").iter().any(|r| r["sourceTransportPort"] == "40004");
        assert!(is_new(256) && !is_new(257), "{records:#?}");
        assert!(records.iter().all(|(kind, _)| *kind != 264), "the interval is ten seconds now: {records:#?}");
        world.end();
    });
}

/// The same over UDP: refused datagrams are noticed, counted, and the reason for new templates.
#[test]
fn a_datagram_that_nobody_takes_is_counted() {
    in_namespace_with(COLLECTORS, || {
        small_file();
        let world = World::new(OPTIONS);
        let (client, proxy) = (world.network.client.clone(), world.network.proxy.clone());
        let _nginx = nginx(&world.network.a);
        for port in 40_000..40_020 {
            run(&client, &format!("curl -sS --fail --local-port {port} http://{ORIGINAL}/small"));
        }
        wait("records get lost", || metric(&proxy, "byway_report_records_lost_total") > 20);
        let lost = metric(&proxy, "byway_report_records_lost_total");
        let messages = collect(&proxy, &[]);
        wait("templates and statistics", || {
            let mut messages = messages.lock().unwrap();
            let begin = messages.iter().position(|m| m[16..18] == [0, 3]).unwrap_or(messages.len());
            messages.drain(..begin);
            !messages.is_empty() && ipfix_dump(&messages).iter().any(|(kind, _)| *kind == 265)
        });
        let records = ipfix_dump(&messages.lock().unwrap());
        let (_, told) = records.iter().rfind(|(kind, _)| *kind == 265).expect("statistics");
        assert!(told["notSentFlowTotalCount"].parse::<u64>().unwrap() >= lost, "{told:?}");
        assert_eq!(metric(&proxy, "byway_events_lost_total"), 0);
        world.end();
    });
}

/// Ends a program and returns what it has said.
fn stop(mut program: std::process::Child) -> String {
    let pid = rustix::process::Pid::from_raw(program.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    let mut said = String::new();
    program.stdout.take().expect("it is piped").read_to_string(&mut said).expect("text");
    let _ = program.wait();
    said
}
