//! Every record fills exactly what its template says.

use super::*;
use crate::connection::{Connection, Measured, State};
use crate::divert::Target;
use crate::endpoint::{Endpoint, Pair, Protocol};
use core::time::Duration;

fn filled(template: &Template, texts: usize, write: impl FnOnce(&mut Writer<'_>)) {
    let mut message = Message::new([0xaa; 2_048]);
    let mut out = message.add(template.kind as u16, template.data() + texts).unwrap();
    write(&mut out);
    assert_eq!(out.left(), 0, "{:?}", template.kind);
    let long = message.length();
    // The message is exactly as long as expected.
    assert_eq!(long, HEADER + SET_HEADER + template.data() + texts);
}

#[test]
fn records_are_as_long_as_their_templates() {
    let settings = Settings::new(32_473);
    let now = Instant::from_secs(7);
    let pair = Pair { source: Endpoint::new(1, 2).socket(), destination: Endpoint::new(3, 4).socket() };
    let connection =
        Connection { protocol: Protocol::Tcp, client_side: pair, server_side: pair, state: State::Established };
    filled(&CONNECTION, 0, |out| {
        record::connection(out, &settings, &connection, Closed::Finished, &Measured::default());
    });
    filled(&SESSION, 0, |out| {
        record::session(out, &settings, now, (NatEvent::Create, None), (&connection, pair));
    });
    filled(&MOVE, 0, |out| {
        record::moved(
            out,
            &settings,
            now,
            &connection,
            (Endpoint::new(1, 2).socket(), Endpoint::new(3, 4).socket()),
            None,
        )
    });
    let mut measured = Measurements::none(Target::Same, now);
    for buckets in [0, 1, 31, 32, 88] {
        measured.response = crate::histogram::Histogram::EMPTY;
        (0..buckets).for_each(|n| measured.response.add(Duration::from_micros(17 << (n % 22))));
        for room in [30, 200, 900] {
            let length = record::histogram_length(&measured.response, room);
            assert!(length <= room);
            filled(&SERVER, length, |out| record::server(out, &settings, (now, now), &measured, room));
        }
    }
    for reason in DropReason::ALL {
        filled(&DROP, reason.name().len(), |out| record::drop(out, &settings, now, *reason, (1, 2)));
    }
    for (template, event, quota) in [
        (&TABLE_FULL, NatEvent::QuotaExceeded, Some((Quota::SessionEntries, 5))),
        (&CLIENT_LIMIT, NatEvent::QuotaExceeded, Some((Quota::EntriesPerUser, 5))),
        (&NO_PORT, NatEvent::PortsExhausted, None),
    ] {
        filled(template, 0, |out| record::exhausted(out, &settings, now, event, quota, 9));
    }
    let totals = Totals { counters: Counters::ZERO, capacity: 9, client_limit: 0 };
    filled(&COUNTERS, 0, |out| record::counters(out, &settings, now, &totals));
    filled(&STATISTICS, 0, |out| record::statistics(out, &settings, now, &Statistics::default()));
    for element in ELEMENTS {
        filled(&TYPE, record::texts(element), |out| record::element(out, &settings, 1, element));
    }
}

#[test]
fn every_record_fits_the_shortest_message() {
    for template in TEMPLATES.iter().chain([&TYPE]) {
        assert!(HEADER + SET_HEADER + template.record() <= MIN_MESSAGE, "{:?}", template.kind);
        assert!(HEADER + SET_HEADER + template.data() <= MIN_MESSAGE, "{:?}", template.kind);
    }
    for event in [&[MOVE, SESSION, SESSION][..], &[CONNECTION, SESSION], &[COUNTERS, STATISTICS]] {
        let length: usize = event.iter().map(|template| SET_HEADER + template.data()).sum();
        assert!(HEADER + length <= MIN_MESSAGE, "{event:?}");
    }
    for element in ELEMENTS {
        assert!(HEADER + SET_HEADER + TYPE.data() + record::texts(element) <= MIN_MESSAGE);
    }
    let name = DropReason::ALL.iter().map(|reason| reason.name().len()).max().unwrap();
    assert!(HEADER + 2 * SET_HEADER + DROP.data() + name + TABLE_FULL.data() <= MIN_MESSAGE);
    // At least a few buckets of a histogram.
    assert!(HEADER + SET_HEADER + SERVER.data() + 100 <= MIN_MESSAGE);
}

/// The table in docs/report.md matches the code.
#[test]
fn the_table_of_elements_is_true() {
    use core::fmt::Write as _;
    let mut table = String::new();
    for (place, element) in ELEMENTS.iter().enumerate() {
        let data_type = match element.data_type {
            element::DataType::Bytes => "octetArray",
            element::DataType::U8 => "unsigned8",
            element::DataType::U16 => "unsigned16",
            element::DataType::U32 => "unsigned32",
            element::DataType::U64 => "unsigned64",
            element::DataType::Text => "string",
            element::DataType::Address => "ipv4Address",
        };
        writeln!(table, "| {} | `{}` | {data_type} | {} |", place + 1, element.name, element.description).unwrap();
    }
    let page = include_str!("../../docs/report.md");
    assert!(page.contains(&table), "docs/report.md should have:\n{table}");
}
