//! Records of a set of shards, imported into an equal set.

use byway::{Config, Divert, Heap, Imported, Instant, Sharded, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

fn set() -> Sharded<Heap> {
    let config = Config::new([7; 32]).alternatives([10, 10, 10, 10].into(), [10, 10, 10, 13].into(), 1024..=65535);
    let mut set = Sharded::new(config, (0..4).map(|_| Heap::new(64, 8).resumable())).unwrap();
    set.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).resumable()).unwrap();
    set
}

/// A second record names no shard of its own: it goes to the shard that has the connection.
#[test]
fn second_records_reach_the_shard_of_their_connection() {
    let (mut from, mut into) = (set(), set());
    let now = Instant::from_millis(0);
    for n in 0..16 {
        let mut syn = tcp(client(n), at(ORIGINAL), (SYN, CLIENT_START, 0), b"");
        assert_eq!(from.translate(now, &mut syn), Verdict::ToServer);
        let side = from
            .shards()
            .flat_map(byway::Translator::connections)
            .find(|c| c.client_side.source == client(n))
            .unwrap()
            .server_side;
        let answer = (SYN | ACK, SERVER_START, CLIENT_START + 1);
        let mut answer = tcp(side.destination, side.source, answer, b"");
        assert_eq!(from.translate(now, &mut answer), Verdict::ToClient);
        let mut ack = tcp(client(n), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"");
        assert_eq!(from.translate(now, &mut ack), Verdict::ToServer);
    }
    let records: Vec<_> = from.records().collect();
    assert_eq!(records.iter().filter(|record| record.is_second()).count(), 16);
    for record in &records {
        let imported = into.import(now, record);
        assert!(
            matches!(imported, Ok(Imported::New | Imported::Updated)),
            "{imported:?}, second: {}",
            record.is_second()
        );
    }
    // One whose connection no shard has is still refused.
    let second = records.iter().find(|record| record.is_second()).unwrap();
    assert_eq!(set().import(now, second), Err(byway::RecordError::NoConnection));
}
