//! Servers and clients that do what most do not: other ports, slow readers, transfers, much at once.

use super::*;

/// A server that a rule leads to can be on any port.
#[test]
fn a_server_on_another_port_is_asked() {
    let text = format!("[router]\naddress = \"{OWN}\"\n[nat]\nalternatives = [\"10.10.10.10:1024-65535\"]\n[names]\n");
    let config = config::Config::parse(std::path::Path::new("byway.toml"), text).unwrap();
    let naming = Naming::new(config.names.as_ref().unwrap(), [[7; 32], [8; 32]], OWN, 1500).unwrap();
    let nat = byway::Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535).own(OWN);
    let mut translator = Translator::new(nat, Heap::new(16, 16)).unwrap();
    let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
    translator.divert(Divert::parse("9.9.9.53:53 to 20.0.0.1:5353", &mut room).unwrap()).unwrap();
    let target = Ipv4Addr::new(20, 0, 0, 1);
    let (mut client, mut server) = (Machine::new(CLIENT), Machine::new(target));
    let mut listens = socket();
    listens.listen(5353).unwrap();
    let listens = server.sockets.add(listens);
    let handle = client.connect(40_000, SERVER);
    let (mut now, mut heard, mut asked) = (Instant::from_secs(1_700_000_000), Vec::new(), Vec::new());
    let mut unsent = query(1, "other.test");
    for _ in 0..50 {
        now = now + Duration::from_millis(20);
        for machine in [&mut client, &mut server] {
            machine.interface.poll(time(now), &mut machine.queues, &mut machine.sockets);
        }
        write(client.socket(handle), &mut unsent);
        read(client.socket(handle), &mut heard, 1000);
        read(server.socket(listens), &mut asked, 1000);
        if first_message(&asked).is_some() {
            write(server.socket(listens), &mut asked);
        }
        let sent: Vec<_> = client.queues.sent.drain(..).chain(server.queues.sent.drain(..)).collect();
        let mut came = naming.poll(now, &translator);
        for packet in sent {
            assert!(naming.concerns(&packet), "from {} to {}", packet::source(&packet), packet::destination(&packet));
            match naming.take(now, &VnetHeader::NONE, &packet, &translator) {
                Named::Done(packets) => came.extend(packets),
                other => panic!("{other:?}"),
            }
        }
        for packet in came {
            let to = if packet::destination(&packet) == CLIENT { &mut client } else { &mut server };
            to.queues.received.push_back(packet);
        }
    }
    assert_eq!(heard, query(1, "other.test"));
}

/// A server has a connection for as long as its client has.
#[test]
fn a_server_is_told_when_a_client_is_gone() {
    let ends: [fn(&mut World, SocketHandle); 3] = [
        |world, handle| world.client.socket(handle).close(),
        |world, handle| world.client.socket(handle).abort(),
        |world, _| world.now = world.now + IDLE,
    ];
    for end in ends {
        let mut world = World::new(echo);
        let handle = world.client.connect(40_000, SERVER);
        world.settle();
        assert_eq!(messages(&world.say(handle, &query(1, "other.test"))).len(), 1);
        let server = world.listens.unwrap();
        assert!(world.server.socket(server).is_active() && world.relay.ports.contains(world.relay.port));
        end(&mut world, handle);
        world.settle();
        world.settle();
        assert_eq!(world.relay.connections(), 0);
        assert!(!world.server.socket(server).is_active(), "{:?}", world.server.socket(server).state());
        assert!(!world.relay.ports.contains(world.relay.port) && world.relay.bound.is_empty());
    }
}

/// A client that sends a byte from time to time, or takes no answer, cannot keep its connection.
#[test]
fn a_slow_client_is_let_go() {
    let mut world = World::new(long_answer);
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    for byte in &query(1, "other.test")[..4] {
        world.client.socket(handle).send_slice(&[*byte]).unwrap();
        world.now = world.now + IDLE / 3;
        world.settle();
    }
    assert_eq!(world.relay.connections(), 0);
    // A few bytes of an answer at a time.
    let handle = world.client.connect(40_001, SERVER);
    world.settle();
    world.client.socket(handle).send_slice(&query(1, "other.test")).unwrap();
    world.settle();
    let mut steps = 0;
    while world.relay.connections() != 0 && steps < 1000 {
        let mut few = [0; 8];
        let _ = world.client.socket(handle).recv_slice(&mut few);
        world.now = world.now + IDLE / 3;
        world.settle();
        steps += 1;
    }
    assert!(steps < 100, "{steps}");
    assert_eq!(world.relay.waiting, 0);
}

/// Nothing is read from a client whose connection is being closed.
#[test]
fn nothing_is_read_after_the_end() {
    let mut world = World::new(echo);
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    world.client.socket(handle).send_slice(&[framed(&[]), vec![0; 10_000]].concat()).unwrap();
    world.settle();
    world.client.socket(handle).send_slice(&[0; 5000]).unwrap();
    world.settle();
    assert!(world.relay.waiting < 16_384, "{}", world.relay.waiting);
    for _ in 0..8 {
        let _ = world.client.socket(handle).send_slice(&[0; 100]);
        world.now = world.now + IDLE / 4;
        world.settle();
    }
    assert_eq!((world.relay.connections(), world.relay.waiting), (0, 0));
}

/// All sessions together have a limit, and each still gets its answers.
#[test]
fn what_waits_is_limited() {
    let mut world = World::new(long_answer);
    world.relay.waiting = ALL_WAITING;
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    world.client.socket(handle).send_slice(&[0xff; 10_000]).unwrap();
    world.settle();
    assert_eq!(world.relay.waiting, ALL_WAITING + SHORT);
    let handle = world.client.connect(40_001, SERVER);
    world.settle();
    assert_eq!(messages(&world.say(handle, &query(1, "www.bt.com"))).len(), 1);
}

/// What comes from the relay's own address is forged, or is what it has sent itself.
#[test]
fn it_does_not_talk_to_itself() {
    let mut world = World::new(echo);
    world.client = Machine::new(OWN);
    world.client.connect(40_000, SERVER);
    let now = time(world.now);
    let Machine { interface, queues, sockets } = &mut world.client;
    interface.poll(now, queues, sockets);
    world.relay.receive(queues.sent.pop_front().unwrap());
    world.relay.work(world.now, &mut world.names, |_, _| None);
    assert_eq!((world.relay.packets().count(), world.relay.connections(), world.relay.refused), (0, 0, 1));
}

/// The server would take the query for this machine's, and might permit what it denies the client.
#[test]
fn transfers_of_zones_are_refused() {
    for kind in [251, 252] {
        let mut world = World::new(echo);
        let handle = world.client.connect(40_000, SERVER);
        world.settle();
        let mut asked = query(0x1234, "zone.test");
        let end = asked.len();
        asked[end - 3] = kind;
        let heard = messages(&world.say(handle, &[asked.clone(), query(2, "other.test")].concat()));
        let [refused, other] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(refused[..12], [0x12, 0x34, 0x81, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refused[12..], asked[14..]);
        assert_eq!(*other, echo(&query(2, "other.test")[2..])[0]);
        assert_eq!((world.relay.relayed, world.relay.transfers), (1, 1));
    }
    // With anything behind the question, and cut short anywhere.
    let mut asked = query(1, "zone.test")[2..].to_vec();
    let end = asked.len();
    asked[end - 3] = 252;
    for length in 0..end {
        assert_eq!(transfer::refuse(&asked[..length]), None);
    }
    let refused = transfer::refuse(&asked).unwrap();
    asked[11] = 1;
    asked.extend([0; 30]);
    assert_eq!(transfer::refuse(&asked), Some(refused));
}

/// What does not fit through a tunnel is not sent, since it must not be fragmented.
#[test]
fn packets_fit_through_tunnels() {
    let mut world = World::new(long_answer);
    let handle = world.client.connect(40_000, SERVER);
    world.settle();
    assert_eq!(messages(&world.say(handle, &query(1, "other.test"))).len(), 1);
    assert_eq!(world.longest, usize::from(LONGEST));
}

/// From one seed the stack draws the same numbers again; what is sent differs by connection and key.
#[test]
fn sequence_numbers_are_not_foreseen() {
    let number = |port: u16| {
        let mut world = World::new(echo);
        world.client.connect(port, SERVER);
        let now = time(world.now);
        let Machine { interface, queues, sockets } = &mut world.client;
        interface.poll(now, queues, sockets);
        world.relay.receive(queues.sent.pop_front().unwrap());
        world.relay.work(world.now, &mut world.names, |_, _| None);
        let packet = world.relay.packets().next().unwrap();
        assert_eq!(packet[33], 0x12, "SYN and ACK");
        // The right checksum: a sum of everything is all ones.
        assert_eq!(packet::add_sums(packet::pseudo_sum(&packet, packet.len() - 20), packet::sum(&packet[20..])), 0xffff);
        let other: Vec<_> = [40_001, 40_002].map(|port: u16| {
            let mut other = packet.clone();
            packet::put(&mut other, 22, port);
            world.relay.numbers.hide(&mut other);
            u32::from_be_bytes(other[24..28].try_into().unwrap())
        }).into();
        assert_ne!(other[0], other[1], "one key, two connections");
        u32::from_be_bytes(packet[24..28].try_into().unwrap())
    };
    let numbers = [number(40_000), number(40_000), number(40_000)];
    assert!(numbers[0] != numbers[1] || numbers[1] != numbers[2], "{numbers:?}");
}
