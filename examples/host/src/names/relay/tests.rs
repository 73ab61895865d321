//! Clients and a DNS server that are TCP stacks of their own, around the relay.

mod unusual;

use core::cell::Cell;

use byway::naming::{NameEntry, NamesConfig, Pattern};

use byway::{Divert, Heap, Target, Translator, Weighted};

use super::super::{Named, Naming};
use super::*;
use crate::config;
use crate::vnet::VnetHeader;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const CLIENT: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);
const SERVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 53);
const ORIGINAL: [u8; 4] = [100, 100, 100, 100];

/// A machine with an address.
struct Machine {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
}

impl Machine {
    fn new(address: Ipv4Addr) -> Self {
        let mut queues = Queues { received: VecDeque::new(), sent: VecDeque::new(), mtu: 1500 };
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut queues, Time::ZERO);
        interface.update_ip_addrs(|all| all.push(IpCidr::new(IpAddress::Ipv4(address), 24)).unwrap());
        interface.routes_mut().add_default_ipv4_route(address).unwrap();
        Self { interface, queues, sockets: SocketSet::new(Vec::new()) }
    }

    fn connect(&mut self, port: u16, to: Ipv4Addr) -> SocketHandle {
        let mut socket = socket();
        socket.connect(self.interface.context(), IpEndpoint::new(IpAddress::Ipv4(to), 53), port).unwrap();
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

struct World {
    now: Instant,
    client: Machine,
    server: Machine,
    /// What the server listens with, and how it answers a message: with any number of others.
    listens: Option<SocketHandle>,
    answer: fn(&[u8]) -> Vec<Vec<u8>>,
    heard: Vec<u8>,
    says: Vec<u8>,
    relay: Relay,
    names: Names<HeapNames>,
    own_server: bool,
    /// How often a rule was looked for.
    looked: Cell<u64>,
    /// Of the packets to and from the relay.
    longest: usize,
}

impl World {
    fn new(answer: fn(&[u8]) -> Vec<Vec<u8>>) -> Self {
        let mut names = Names::new(NamesConfig::new([7; 32]), HeapNames::new(4, 0));
        let www: Pattern = "www.bt.com".parse().unwrap();
        names.insert(NameEntry::new(www).to(ORIGINAL.into())).unwrap();
        let mut world = Self {
            now: Instant::from_secs(1_700_000_000),
            client: Machine::new(CLIENT),
            server: Machine::new(SERVER),
            listens: None,
            answer,
            heard: Vec::new(),
            says: Vec::new(),
            relay: Relay::new(OWN, Ports::new(), 1500, 0x1234_5678_9abc_def0),
            names,
            own_server: false,
            looked: Cell::new(0),
            longest: 0,
        };
        world.listen();
        world
    }

    fn listen(&mut self) {
        let mut socket = socket();
        socket.listen(53).unwrap();
        self.listens = Some(self.server.sockets.add(socket));
    }

    /// Lets packets go round until there are none.
    fn settle(&mut self) {
        for _ in 0..2000 {
            let now = time(self.now);
            for machine in [&mut self.client, &mut self.server] {
                machine.interface.poll(now, &mut machine.queues, &mut machine.sockets);
            }
            self.serve();
            let Machine { interface, queues, sockets } = &mut self.server;
            interface.poll(now, queues, sockets);
            let sent: Vec<_> =
                self.client.queues.sent.drain(..).chain(self.server.queues.sent.drain(..)).collect();
            let is_quiet = sent.is_empty();
            for packet in sent {
                self.longest = self.longest.max(packet.len());
                self.relay.receive(packet);
            }
            let own = self.own_server;
            self.relay.work(self.now, &mut self.names, |client, server| {
                assert_eq!((client, server), (CLIENT, SERVER));
                self.looked.set(self.looked.get() + 1);
                (!own).then_some(SocketAddrV4::new(server, 53))
            });
            let packets: Vec<_> = self.relay.packets().collect();
            if is_quiet && packets.is_empty() {
                return;
            }
            for packet in packets {
                self.longest = self.longest.max(packet.len());
                let to = packet::destination(&packet);
                if to == CLIENT {
                    assert_eq!(packet::source(&packet), SERVER, "as from the server that was asked");
                    self.client.queues.received.push_back(packet);
                } else {
                    assert_eq!((packet::source(&packet), to), (OWN, SERVER));
                    self.server.queues.received.push_back(packet);
                }
            }
        }
        panic!("packets go round for ever");
    }

    fn serve(&mut self) {
        let Some(handle) = self.listens else { return };
        let socket = self.server.sockets.get_mut::<Socket<'_>>(handle);
        read(socket, &mut self.heard, 1 << 20);
        while let Some(length) = first_message(&self.heard) {
            let message: Vec<u8> = self.heard.drain(..length).skip(2).collect();
            for answer in (self.answer)(&message) {
                self.says.extend((answer.len() as u16).to_be_bytes());
                self.says.extend(answer);
            }
        }
        write(socket, &mut self.says);
    }

    /// Sends bytes, and returns all that comes.
    fn say(&mut self, handle: SocketHandle, bytes: &[u8]) -> Vec<u8> {
        let (mut left, mut heard) = (bytes.to_vec(), Vec::new());
        let mut quiet = 0;
        // Acknowledgements and probes of a closed window take their time.
        while quiet < if bytes.len() == 1 { 2 } else { 50 } {
            let socket = self.client.sockets.get_mut::<Socket<'_>>(handle);
            let moved = write(socket, &mut left) | read(socket, &mut heard, 1 << 20);
            quiet = if moved { 0 } else { quiet + 1 };
            self.now = self.now + Duration::from_millis(20);
            self.settle();
        }
        heard
    }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    framed(&message)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(length) = first_message(bytes) {
        all.push(bytes[2..length].to_vec());
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "whole messages");
    all
}

/// The same with the bit of a response, and bytes behind it: as long as an answer can be.
fn long_answer(message: &[u8]) -> Vec<Vec<u8>> {
    let mut answer = message.to_vec();
    answer[2] |= 0x80;
    answer.resize(65_535, 0xa5);
    vec![answer]
}

fn echo(message: &[u8]) -> Vec<Vec<u8>> {
    let mut answer = message.to_vec();
    answer[2] |= 0x80;
    vec![answer]
}

#[test]
fn answers_of_both_share_a_connection() {
    for answer in [echo as fn(&[u8]) -> Vec<Vec<u8>>, long_answer] {
        let mut world = World::new(answer);
        let handle = world.client.connect(40_000, SERVER);
        world.settle();
        let names = ["www.bt.com", "other.test", "WWW.bt.com", "more.test", "bt.com", "www.bt.com"];
        let asked: Vec<u8> = (1..).zip(names).flat_map(|(id, name)| query(id, name)).collect();
        // In one piece, and byte by byte, as TCP may bring them.
        let mut heard = messages(&world.say(handle, &asked));
        let piecewise: Vec<u8> = asked.iter().flat_map(|byte| world.say(handle, &[*byte])).collect();
        let mut again = messages(&piecewise);
        for all in [&mut heard, &mut again] {
            all.sort();
            for (id, (answer, name)) in (1_u16..).zip(all.iter().zip(names)) {
                assert_eq!(answer[..2], id.to_be_bytes());
                let expected = query(id, name)[2..].to_vec();
                if name.eq_ignore_ascii_case("www.bt.com") {
                    assert!(answer.ends_with(&ORIGINAL) && answer[12..expected.len()] == expected[12..]);
                } else {
                    assert!(*answer == (world.answer)(&expected)[0], "the server's own: {name}");
                }
            }
            assert_eq!(all.len(), names.len());
        }
        assert_eq!((world.relay.relayed, world.looked.get()), (6, 1), "rules are looked at once, for the connection to the server");
    }
}

/// Each message that a server sends is the client's, however many there are.
#[test]
fn one_query_may_have_many_answers() {
    let mut world = World::new(|message| vec![message.to_vec(); 40]);
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    assert_eq!(messages(&world.say(handle, &query(1, "zone.test"))).len(), 40);
    assert_eq!(messages(&world.say(handle, &query(2, "www.bt.com"))).len(), 1);
}

#[test]
fn a_client_that_is_done_is_let_go() {
    let mut world = World::new(long_answer);
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    world.client.socket(handle).send_slice(&[query(1, "other.test"), query(2, "www.bt.com")].concat()).unwrap();
    // The client has closed its side, and still gets all of its answers.
    world.client.socket(handle).close();
    let heard = world.say(handle, &[]);
    assert_eq!(messages(&heard).len(), 2);
    world.settle();
    assert_eq!(world.relay.connections(), 0);
    assert!(world.relay.sockets.iter().count() <= LISTENING);
}

/// Behind this machine's own address there is no DNS server.
#[test]
fn own_addresses_answer_names_alone() {
    let mut world = World::new(echo);
    world.own_server = true;
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    assert_eq!(messages(&world.say(handle, &query(1, "www.bt.com"))).len(), 1);
    assert_eq!(world.say(handle, &query(2, "other.test")), b"");
    assert!(!world.client.socket(handle).may_recv(), "the connection is closed");
}

#[test]
fn a_server_that_refuses_ends_the_connection() {
    let mut world = World::new(echo);
    let listens = world.listens.take().unwrap();
    world.server.sockets.remove(listens);
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    assert_eq!(world.say(handle, &query(1, "other.test")), b"");
    assert!(!world.client.socket(handle).may_recv());
    assert_eq!((world.relay.failed, world.relay.relayed), (1, 1));
}

#[test]
fn what_is_no_query_ends_the_connection() {
    for bytes in [framed(&[0; 5]), framed(&[]), framed(&[0xff; 300])] {
        let mut world = World::new(|_| Vec::new());
        let handle = world.client.connect(40_000, SERVER);
        world.settle();
        assert_eq!(world.say(handle, &bytes), b"", "{bytes:?}");
        assert!(!world.client.socket(handle).may_recv(), "{bytes:?}");
        assert_eq!(world.relay.relayed, 0);
    }
}

#[test]
fn who_says_nothing_is_let_go() {
    let mut world = World::new(echo);
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    assert_eq!(world.relay.connections(), 1);
    assert!(world.relay.due().is_some_and(|due| due <= world.now + IDLE));
    world.now = world.now + (IDLE - Duration::from_millis(1));
    world.settle();
    assert_eq!(world.relay.connections(), 1);
    world.now = world.now + Duration::from_millis(1);
    world.settle();
    assert_eq!((world.relay.connections(), world.client.socket(handle).is_open()), (0, false));
}

/// A client gets its share, and leaves the rest to others.
#[test]
fn one_client_has_a_limit() {
    let mut world = World::new(echo);
    for number in 0..OF_ONE_CLIENT + 10 {
        world.client.connect(40_000 + number as u16, SERVER);
        world.settle();
    }
    assert_eq!((world.relay.connections(), world.relay.refused), (OF_ONE_CLIENT, 10));
}

/// SYNs from forged sources keep a client out for as long as a handshake may take, and not longer.
#[test]
fn a_flood_of_forged_handshakes_is_forgotten() {
    let mut world = World::new(echo);
    let handle = world.client.connect(40_000, SERVER);
    let now = time(world.now);
    let Machine { interface, queues, sockets } = &mut world.client;
    interface.poll(now, queues, sockets);
    let syn = queues.sent.pop_front().unwrap();
    for number in 0..2 * SESSIONS as u32 {
        let mut forged = syn.clone();
        forged[12..16].copy_from_slice(&(0x0500_0000 + number).to_be_bytes());
        packet::seal(&mut forged);
        packet::put(&mut forged, 36, 0);
        let sum = packet::add_sums(packet::pseudo_sum(&forged, forged.len() - 20), packet::sum(&forged[20..]));
        packet::put(&mut forged, 36, !sum);
        world.relay.receive(forged);
        world.relay.work(world.now, &mut world.names, |_, _| None);
        world.relay.packets().for_each(drop);
    }
    assert_eq!((world.relay.connections(), world.relay.refused), (SESSIONS, SESSIONS as u64));
    world.now = world.now + HANDSHAKE;
    world.relay.work(world.now, &mut world.names, |_, _| None);
    world.relay.packets().for_each(drop);
    assert_eq!(world.relay.connections(), 0);
    // The client repeats its SYN.
    assert_eq!(messages(&world.say(handle, &query(1, "www.bt.com"))).len(), 1);
}

/// What comes for one session is no work for the others, and what was refused is none at all.
#[test]
fn a_packet_is_work_for_its_own_session_alone() {
    let mut world = World::new(echo);
    let connect = |number| {
        let handle = world.client.connect(40_000 + number, SERVER);
        world.settle();
        handle
    };
    let handles: Vec<_> = (0..OF_ONE_CLIENT as u16).map(connect).collect();
    for (number, handle) in handles.iter().enumerate().skip(10) {
        assert_eq!(world.relay.connections(), OF_ONE_CLIENT);
        let (served, id) = (world.relay.served, number as u16);
        world.client.socket(*handle).send_slice(&query(id, "www.bt.com")).unwrap();
        world.settle();
        let mut heard = Vec::new();
        read(world.client.socket(*handle), &mut heard, 1000);
        assert!(heard.ends_with(&ORIGINAL), "{heard:?}");
        assert!(world.relay.served - served < 10, "{}", world.relay.served - served);
    }
    // Forged segments of no connection are answered with a RST.
    let served = world.relay.served;
    world.client.connect(50_000, SERVER);
    let now = time(world.now);
    let Machine { interface, queues, sockets } = &mut world.client;
    interface.poll(now, queues, sockets);
    let syn = queues.sent.pop_front().unwrap();
    assert!(!world.relay.receive(syn.clone()), "one client has a limit");
    let mut forged = syn;
    forged[33] = 0x10;
    packet::put(&mut forged, 36, 0);
    let sum = packet::add_sums(packet::pseudo_sum(&forged, forged.len() - 20), packet::sum(&forged[20..]));
    packet::put(&mut forged, 36, !sum);
    assert!(world.relay.receive(forged));
    world.relay.work(world.now, &mut world.names, |_, _| None);
    let packets: Vec<_> = world.relay.packets().collect();
    assert!(packets.len() == 1 && packets[0][33] & 4 != 0, "{packets:?}");
    assert_eq!(world.relay.served, served);
}

/// Any bytes as packets: nothing comes of it but resets.
#[test]
fn any_packet() {
    let mut world = World::new(echo);
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    for round in 0..20_000 {
        let mut packet: Vec<u8> = (0..20 + usize::from(next() % 60)).map(|_| next()).collect();
        if round % 2 == 0 {
            packet[0] = 0x45;
            packet[9] = 6;
            packet[12..16].copy_from_slice(&CLIENT.octets());
            packet[16..20].copy_from_slice(&SERVER.octets());
            let length = packet.len() as u16;
            packet::put(&mut packet, 2, length);
            packet::put(&mut packet, 6, 0);
            packet::seal(&mut packet);
        }
        world.relay.receive(packet);
        world.relay.work(world.now, &mut world.names, |_, server| Some(SocketAddrV4::new(server, 53)));
        assert!(world.relay.packets().all(|packet| packet.len() >= 40));
    }
    assert!(world.relay.connections() <= SESSIONS);
}
