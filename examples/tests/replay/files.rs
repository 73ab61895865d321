//! Captures that are shuffled, cut or damaged, or of another kind of file.

use super::*;

#[test]
fn every_kind_of_file_and_clock_gives_the_same() {
    let case = case_of("http.pcap");
    let capture = Pcap::capture(case.file);
    let big_endian = capture.write_as("big-endian.pcap", u32::to_be_bytes);
    let mut nanoseconds = Pcap { magic: 0xa1b2_3c4d, ..capture.clone() };
    nanoseconds.records.iter_mut().for_each(|r| r.time.1 *= 1000);
    let files = [big_endian, nanoseconds.write_as("nano-be.pcap", u32::to_be_bytes), nanoseconds.write("nano-le.pcap")];
    for file in files {
        assert_eq!(json(&file, None, case.arguments), case.summary(), "{}", file.display());
    }
    let mut back = capture;
    for (i, record) in back.records.iter_mut().enumerate() {
        record.time.0 -= if i % 3 == 0 { 86_400 } else { 0 };
    }
    assert_eq!(json(&back.write("back.pcap"), None, case.arguments), case.summary());
}

/// By the capture's clock a UDP connection is over five minutes after its last packet; its late answer belongs to none.
#[test]
fn time_is_that_of_the_capture() {
    let mut capture = Pcap::capture("dns.pcap");
    let is_udp = |ip: &[u8], port: usize| ip[9] == 17 && ip[port..port + 2] == [0, 53];
    let question = (0..capture.records.len()).find(|r| capture.ip(*r).is_some_and(|ip| is_udp(ip, 22))).unwrap();
    let answer = (question..capture.records.len()).find(|r| capture.ip(*r).is_some_and(|ip| is_udp(ip, 20))).unwrap();
    capture.records = vec![capture.records[question].clone(), capture.records[answer].clone()];
    let base = [("packets", 2), ("to_server", 1), ("connections", 1)];
    for (delay, fate) in [(290, [("to_client", 1), ("exact", 1)]), (301, [("passed", 1), ("", 0)])] {
        capture.records[1].time.0 = capture.records[0].time.0 + delay;
        let expected = summary(&[&base[..], &fate].concat());
        assert_eq!(json(&capture.write(&format!("late-{delay}.pcap")), None, HOST), expected, "{delay} s");
    }
}

#[test]
fn fragments_in_any_order() {
    for file in ["iperf-udp-fragments.pcap", "ping.pcap", "dns.pcap"] {
        let case = case_of(file);
        let mut capture = Pcap::capture(file);
        let datagrams = capture.fragments();
        assert!(datagrams.iter().all(|records| records.len() > 1) && !datagrams.is_empty());
        for records in &datagrams {
            let backwards: Vec<Record> = records.iter().rev().map(|r| capture.records[*r].clone()).collect();
            for (place, record) in records.iter().zip(backwards) {
                capture.records[*place].data = record.data;
                capture.records[*place].length = record.length;
            }
        }
        let output = temporary(&format!("backwards-out-{file}"));
        let input = capture.write(&format!("backwards-{file}"));
        assert_eq!(json(&input, Some(&output), case.arguments), case.summary(), "{file}");
        // In the output they stand in the capture's order.
        let sent = Pcap::read(&output);
        let captured: Vec<&[u8]> = (0..capture.records.len()).filter_map(|r| capture.ip(r)).collect();
        assert_eq!(sent.records.len(), captured.len());
        for (captured, sent) in captured.iter().zip(&sent.records) {
            // Identification, flags and offset.
            assert_eq!(captured[4..8], sent.data[4..8], "{file}");
        }
    }
}

#[test]
fn fragments_without_their_first_one() {
    let case = case_of("iperf-udp-fragments.pcap");
    let capture = Pcap::capture(case.file);
    let datagrams = capture.fragments();
    let from = |address: [u8; 4]| {
        let of = |records: &&Vec<usize>| capture.ip(records[0]).unwrap()[12..16] == address;
        datagrams.iter().rfind(of).unwrap()
    };
    for sender in [CLIENT, SERVER] {
        let records = from(sender);
        let mut capture = capture.clone();
        capture.records.remove(records[0]);
        let lost = |address: [u8; 4]| if sender == address { records.len() as u32 } else { 0 };
        let expected = summary(&[
            ("packets", case.packets - 1),
            ("not_ipv4", case.not_ipv4),
            ("to_server", case.to_server - lost(CLIENT)),
            ("to_client", case.to_client - lost(SERVER)),
            ("exact", case.to_client - lost(SERVER)),
            ("held", records.len() as u32 - 1),
            ("connections", case.connections),
        ]);
        assert_eq!(json(&capture.write("without-first.pcap"), None, case.arguments), expected);
    }
}

#[test]
fn packets_that_were_cut_are_counted_and_left_out() {
    const SNAPLEN: usize = 96;
    let case = case_of("http.pcap");
    let mut capture = Pcap::capture(case.file);
    let mut counts = BTreeMap::from([("packets", case.packets), ("not_ipv4", case.not_ipv4), ("connections", 9)]);
    for record in 0..capture.records.len() {
        if let Some(ip) = capture.ip(record) {
            let is_cut = 14 + usize::from(u16::from_be_bytes([ip[2], ip[3]])) > SNAPLEN;
            let whole: &[&str] = if ip[12..16] == CLIENT { &["to_server"] } else { &["to_client", "exact"] };
            let names = if is_cut { &["truncated"] } else { whole };
            names.iter().for_each(|name| *counts.entry(name).or_default() += 1);
        }
        capture.records[record].data.truncate(SNAPLEN);
    }
    assert!(counts["truncated"] > 30 && counts["exact"] > 20);
    let counts: Vec<(&str, u32)> = counts.into_iter().collect();
    assert_eq!(json(&capture.write("cut.pcap"), None, case.arguments), summary(&counts));

    // So short that not even the link layer is there.
    capture.records.iter_mut().for_each(|r| r.data.truncate(9));
    let expected = summary(&[("packets", case.packets), ("truncated", case.packets)]);
    assert_eq!(json(&capture.write("cut-to-nothing.pcap"), None, case.arguments), expected);
}

/// What network cards compute is wrong in a capture from the sending machine. It comes back as it was.
#[test]
fn wrong_checksums_come_back_wrong() {
    let case = case_of("http.pcap");
    let mut capture = Pcap::capture(case.file);
    for record in 0..capture.records.len() {
        if capture.ip(record).is_some_and(|ip| ip[9] == 6) {
            // The TCP checksum, and in every third packet that of the IPv4 header.
            capture.records[record].data[14 + 20 + 17] ^= 0x55;
            capture.records[record].data[14 + 11] ^= if record % 3 == 0 { 0x0f } else { 0 };
        }
    }
    assert_eq!(json(&capture.write("offloaded.pcap"), None, case.arguments), case.summary());
}

/// Of the connection that was under way when the capture began the client sends five more packets and the server some.
#[test]
fn connections_that_began_before_the_capture() {
    let case = case_of("http.pcap");
    let mut capture = Pcap::capture(case.file);
    let port = |ip: &[u8]| if ip[12..16] == CLIENT { [ip[20], ip[21]] } else { [ip[22], ip[23]] };
    let is_syn = |ip: &[u8]| ip[9] == 6 && ip[33] == 2;
    let first = (0..capture.records.len()).find(|r| capture.ip(*r).is_some_and(is_syn)).unwrap();
    let ports = port(capture.ip(first).unwrap());
    let of_it = |capture: &Pcap, client: bool| {
        let is_of_it = |ip: &&[u8]| ip[9] == 6 && port(ip) == ports && (ip[12..16] == CLIENT) == client;
        (0..capture.records.len()).filter_map(|r| capture.ip(r)).filter(is_of_it).count() as u32
    };
    // Without the SYN and the SYN+ACK: the next packet of the connection is the client's.
    capture.records.remove(first);
    let next = (0..capture.records.len()).find(|r| capture.ip(*r).is_some_and(|ip| ip[9] == 6)).unwrap();
    capture.records.remove(next);
    let (client, server) = (of_it(&capture, true), of_it(&capture, false));
    assert!(client > 2 && server > 2);
    let file = capture.write("midstream.pcap");
    let numbers = |own: u32, its: u32| {
        vec![
            ("packets", case.packets - 2),
            ("not_ipv4", case.not_ipv4),
            ("to_server", case.to_server - 1 - own),
            ("to_client", case.to_client - 1 - its),
            ("exact", case.to_client - 1 - its),
        ]
    };
    let passed = [numbers(client, server), vec![("passed", client + server), ("connections", 8)]].concat();
    assert_eq!(json(&file, None, case.arguments), summary(&passed));
    let adopted = [numbers(0, 0), vec![("connections", 9)]].concat();
    assert_eq!(json(&file, None, &format!("{} --midstream adopt", case.arguments)), summary(&adopted));
    let dropped = [numbers(client, server), vec![("passed", server), ("connections", 8)]].concat();
    let dropped = summary(&dropped).replacen("\"dropped\":{}", &format!("\"dropped\":{{\"midstream\":{client}}}"), 1);
    assert_eq!(json(&file, None, &format!("{} --midstream drop", case.arguments)), dropped);
}
