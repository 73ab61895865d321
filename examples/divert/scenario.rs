//! The story: a client downloads from a server that it asks by name and that does not answer, since its traffic is
//! diverted; half-way the traffic is diverted to yet another server. Once over TCP, once over UDP.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Divert, DropReason, Protocol, Redivert};
use sha2::{Digest, Sha256};
use smoltcp::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::capture::Captures;
use crate::client::{Client, OverTcp, OverUdp};
use crate::content::{self, SIZE};
use crate::network::Network;
use crate::observer::{EVENTS, Observer, Seen, Sighting};
use crate::proxy::Proxy;

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);
pub(crate) const ORIGINAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
pub(crate) const PROXY: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
/// The document prints `123.456.789:80`, which is no address.
pub(crate) const SERVERS: [(char, SocketAddrV4); 2] = [
    ('A', SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 80)),
    ('B', SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 90), 80)),
];

/// A download that takes longer than this, in simulated time, has come to a halt.
const TOO_LONG: Duration = Duration::from_secs(60);

/// How long the last packets have to arrive.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// What happened.
pub(crate) struct Story {
    pub(crate) figure: Vec<Sighting>,
    /// The pair of pairs that stood in the table then.
    pub(crate) connection: String,
    pub(crate) chapters: Vec<Chapter>,
}

impl Story {
    /// What is not as it should be, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.figure.len() != EVENTS {
            return Some("Figure 3 has gaps".into());
        }
        self.chapters.iter().find_map(|chapter| Some(format!("{}: {}", chapter.protocol, chapter.fault()?)))
    }
}

/// One download.
pub(crate) struct Chapter {
    pub(crate) protocol: Protocol,
    /// How it moved, if that is known here.
    pub(crate) how: Option<Redivert>,
    /// How many bytes each server delivered, in the order of [`SERVERS`].
    pub(crate) delivered: [usize; 2],
    /// Packets of the old server that came after the move, and were dropped.
    pub(crate) late: u64,
    /// What the client had to ask for again: requests over UDP, connections over TCP.
    pub(crate) asked_again: u32,
    /// From the move to the first bytes of the new server.
    pub(crate) gap: Option<Duration>,
    pub(crate) by_client: Seen,
    pub(crate) by_servers: Seen,
    /// SHA-256 of what the client got, and of what the servers have.
    pub(crate) hashes: [String; 2],
    pub(crate) took: Duration,
}

impl Chapter {
    fn fault(&self) -> Option<&'static str> {
        if self.delivered.contains(&0) { Some("one of the servers delivered nothing") } else { self.broken() }
    }

    /// What is wrong even if nothing was to be moved.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        let [got, right] = &self.hashes;
        if self.delivered.iter().sum::<usize>() != SIZE {
            Some("the download is not complete")
        } else if got != right {
            Some("what came is not what the servers have")
        } else if self.by_client.expected == 0 || self.by_client.other != 0 {
            Some("the client saw packets that were not from the original destination")
        } else if self.by_servers.expected == 0 || self.by_servers.other != 0 {
            Some("the servers saw packets that were not from the proxy")
        } else {
            None
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Story, String> {
    let captures = arguments.pcap.as_deref().map_or(Ok(Captures::default()), Captures::create)?;
    let proxy = Proxy::new(PROXY, captures).map_err(|error| error.to_string())?;
    let mut network = Network::new(CLIENT, &SERVERS, proxy, Observer::new(ORIGINAL, PROXY));
    let mut story = Story { figure: Vec::new(), connection: String::new(), chapters: Vec::new() };

    let mut client = OverTcp::new(ORIGINAL, &mut network.client);
    download(&mut network, &mut client, Protocol::Tcp, Redivert::Reset, &mut story)?;
    let mut client = OverUdp::new(ORIGINAL, &mut network.client);
    download(&mut network, &mut client, Protocol::Udp, Redivert::Switch, &mut story)?;

    network.proxy.finish()?;
    Ok(story)
}

/// Downloads everything, from the first server until half of it is there, and then from the second.
fn download(
    network: &mut Network,
    client: &mut dyn Client,
    protocol: Protocol,
    how: Redivert,
    story: &mut Story,
) -> Result<(), String> {
    let [(_, first), (b, second)] = SERVERS;
    let began = network.now;
    let dropped_before = late(network);
    let rule = Divert::new(ORIGINAL).to(first);
    network.proxy.translator.divert(rule).map_err(|error| error.to_string())?;

    let mut moved: Option<Instant> = None;
    loop {
        network.act(client);
        if story.figure.is_empty() && network.observer.figure.len() == EVENTS {
            story.figure.clone_from(&network.observer.figure);
            let ends = network.proxy.translator.connection(protocol, story.figure[0].from, ORIGINAL);
            story.connection = ends.map_or(String::new(), |(connection, _)| connection.to_string());
        }
        if moved.is_none() && client.download().received >= SIZE / 2 {
            network.proxy.translator.redivert(first, second, how).map_err(|error| error.to_string())?;
            moved = Some(network.now);
        }
        if client.download().is_complete() || network.now >= began + TOO_LONG {
            break;
        }
        network.advance(client, began + TOO_LONG);
    }
    let took = network.now - began;
    let limit = network.now + AFTERWARDS;
    while network.now < limit {
        network.advance(client, limit);
        network.act(client);
    }

    let first_of_b = client.download().by_server.get(&b).map(|(_, first)| *first);
    let gap = first_of_b.zip(moved).map(|(first, moved)| first - moved);
    let late = late(network) - dropped_before;
    story.chapters.push(Chapter { how: Some(how), late, gap, took, ..chapter(network, client, protocol) });
    Ok(())
}

/// What a download came to, as far as client and observer know.
pub(crate) fn chapter(network: &mut Network, client: &dyn Client, protocol: Protocol) -> Chapter {
    let download = client.download();
    Chapter {
        protocol,
        how: None,
        delivered: SERVERS.map(|(server, _)| download.by_server.get(&server).map_or(0, |(bytes, _)| *bytes)),
        late: 0,
        asked_again: download.asked_again,
        gap: None,
        by_client: core::mem::take(&mut network.observer.by_client),
        by_servers: core::mem::take(&mut network.observer.by_servers),
        hashes: [hash(&download.content), hash(&content::resource())],
        took: Duration::ZERO,
    }
}

pub(crate) fn late(network: &Network) -> u64 {
    let counters = network.proxy.translator.counters();
    counters.dropped(DropReason::OldServer) + counters.dropped(DropReason::Resetting)
}

fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Chapter {
        let seen = Seen { expected: 1, other: 0 };
        Chapter {
            protocol: Protocol::Udp,
            how: Some(Redivert::Switch),
            delivered: [SIZE - 1, 1],
            late: 0,
            asked_again: 0,
            gap: None,
            by_client: seen,
            by_servers: seen,
            hashes: ["same".into(), "same".into()],
            took: Duration::ZERO,
        }
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_noticed() {
        assert_eq!(good().fault(), None);
        type Spoil = fn(&mut Chapter);
        let spoilt: [(Spoil, &str); 7] = [
            (|chapter| chapter.delivered = [SIZE, 0], "delivered nothing"),
            (|chapter| chapter.delivered = [0, SIZE], "delivered nothing"),
            (|chapter| chapter.delivered = [SIZE / 2, SIZE / 2 - 1], "not complete"),
            (|chapter| chapter.hashes[0] = "other".into(), "what came"),
            (|chapter| chapter.by_client.other = 1, "the client saw"),
            (|chapter| chapter.by_client.expected = 0, "the client saw"),
            (|chapter| chapter.by_servers.other = 1, "the servers saw"),
        ];
        for (spoil, named) in spoilt {
            let mut chapter = good();
            spoil(&mut chapter);
            assert!(chapter.fault().is_some_and(|fault| fault.contains(named)), "{:?}", chapter.fault());
        }
        let story = Story { figure: Vec::new(), connection: String::new(), chapters: vec![good()] };
        assert_eq!(story.fault().as_deref(), Some("Figure 3 has gaps"));
    }

    #[test]
    fn without_a_rule_nobody_answers() {
        let proxy = Proxy::new(PROXY, Captures::default()).unwrap();
        let mut network = Network::new(CLIENT, &SERVERS, proxy, Observer::new(ORIGINAL, PROXY));
        let mut client = OverUdp::new(ORIGINAL, &mut network.client);
        while network.now < Instant::from_secs(1) {
            network.act(&mut client);
            network.advance(&client, Instant::from_secs(1));
        }
        assert_eq!(client.download().received, 0);
        assert!(client.download().asked_again > 0);
        assert_eq!((network.observer.by_client, network.observer.by_servers), Default::default());
    }
}
