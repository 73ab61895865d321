//! Random instructions to an agent of a set of shards, and to one of a single translator.

use super::*;

/// What one translator and a set are both told.
#[derive(Clone, Debug)]
enum Step {
    Packet { client: u8, port: u16, original: u8 },
    Request { instructions: Vec<Change>, dry_run: bool, demands: bool },
    Read,
}

#[derive(Clone, Debug)]
enum Change {
    Divert { original: u8, servers: Vec<u8> },
    Masquerade { original: u8 },
    Remove { original: u8 },
    Redivert { from: u8, to: u8, how: u8 },
    Limit(u32),
    Timeouts { udp: u64 },
    Forget,
}

fn original(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new([100, 1, 1, number].into(), 53)
}

fn mirror(number: u8) -> SocketAddrV4 {
    // One is an original too, so that rules can lead in a circle.
    if number == 0 { original(0) } else { SocketAddrV4::new([20, 0, 0, number].into(), 53) }
}

fn instruction(change: &Change) -> Option<Instruction> {
    Some(match change {
        Change::Divert { original: number, servers } => {
            let group: Vec<_> = servers
                .iter()
                .map(|n| byway::Weighted { target: mirror(*n).into(), weight: u16::from(*n) + 1 })
                .collect();
            Instruction::Divert(Rule::new(&Divert::new(original(*number)).to_group(&group))?)
        }
        Change::Masquerade { original: number } => Instruction::Divert(Rule::new(&Divert::new(original(*number)))?),
        Change::Remove { original: number } => Instruction::Remove(original(*number).into()),
        Change::Redivert { from, to, how } => {
            let how = [Redivert::Switch, Redivert::Drain, Redivert::Reset][usize::from(how % 3)];
            Instruction::Redivert { from: mirror(*from).into(), to: Target::from(mirror(*to)), how }
        }
        Change::Limit(limit) => Instruction::SetClientLimit(*limit),
        Change::Timeouts { udp } => {
            let udp = core::time::Duration::from_secs(*udp);
            Instruction::SetTimeouts(Timeouts { udp, ..Timeouts::RECOMMENDED })
        }
        Change::Forget => Instruction::Forget,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![
        4 => (0..5_u8, vec(0..5_u8, 0..4)).prop_map(|(original, servers)| Change::Divert { original, servers }),
        1 => (0..5_u8).prop_map(|original| Change::Masquerade { original }),
        2 => (0..5_u8).prop_map(|original| Change::Remove { original }),
        4 => (0..5_u8, 0..5_u8, 0..3_u8).prop_map(|(from, to, how)| Change::Redivert { from, to, how }),
        1 => prop_oneof![0..5_u32, Just(65_535)].prop_map(Change::Limit),
        1 => prop_oneof![Just(1_u64), 300..302_u64].prop_map(|udp| Change::Timeouts { udp }),
        1 => Just(Change::Forget),
    ];
    let step = prop_oneof![
        6 => (0..20_u8, 1..4_u16, 0..6_u8).prop_map(|(client, port, original)| Step::Packet { client, port, original }),
        3 => (vec(change, 1..4), any::<bool>(), any::<bool>())
            .prop_map(|(instructions, dry_run, demands)| Step::Request { instructions, dry_run, demands }),
        1 => Just(Step::Read),
    ];
    vec(step, 1..60)
}

/// What an answer says about a list, without what sharding decides: alternative endpoints and the order of connections.
fn view<T: Translators>(house: &mut House<T>, client: &mut Client) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut list: Vec<_> = connections(house, client)
        .iter()
        .map(|c| format!("{} {:?} {} {}", c.protocol, c.client_side, c.server_side.destination, c.state.name()))
        .collect();
    list.sort();
    let counters = house.ask(client, peer(1), &Request::one(Instruction::Counters), |answer: &Answer<'_>| {
        answer.counters().map(|(number, count)| format!("{number}: {count}")).collect::<Vec<_>>()
    });
    let settings = house.ask(client, peer(1), &Request::one(Instruction::Settings), |answer| {
        let s = answer.settings().unwrap();
        format!("{:?} {} {} {}", s.timeouts, s.client_limit, s.rules, s.slots_in_use)
    });
    let mut all = rules(house, client);
    all.push(settings);
    (list, counters, all)
}

/// Each has seen the time, and has sent what it had to say.
fn settle<S: Storage>(shards: &mut [&mut Translator<S>]) {
    for shard in shards {
        shard.poll(s(2));
        // How many messages have room until they are sent depends on which shard refuses connections.
        while shard.poll_transmit(s(2), &mut [0; byway::TRANSMIT_BUFFER]).is_some() {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(200), ..ProptestConfig::default() })]

    /// Where an answer does not depend on which shard has which connection, a set gives that of one translator.
    #[test]
    fn a_set_answers_as_one_translator(steps in steps()) {
        let mut one = House::of(Translator::new(config(), Heap::new(3000, 40).measured()).unwrap(), [0xb0; 32]);
        let mut set = several();
        let (mut to_one, mut to_set) = (one.open(ADMIN, peer(1)), set.open(ADMIN, peer(1)));
        for step in steps {
            match step {
                Step::Packet { client, port, original: number } => {
                    let packet = udp(SocketAddrV4::new([1, 2, 3, client].into(), port), original(number), b"question");
                    let (mut left, mut right) = (packet.clone(), packet);
                    let verdicts = (one.byway.translate(s(2), &mut left), set.byway.translate(s(2), &mut right));
                    prop_assert_eq!(verdicts.0, verdicts.1);
                    prop_assert_eq!(ends(&left).1, ends(&right).1);
                    settle(&mut [&mut one.byway]);
                    settle(&mut set.byway.shards_mut().collect::<Vec<_>>());
                }
                Step::Request { instructions, dry_run, demands } => {
                    let mut request = Request::new();
                    for instruction in instructions.iter().filter_map(instruction) {
                        request = request.and(instruction).unwrap();
                    }
                    if dry_run {
                        request = request.dry_run();
                    }
                    if demands {
                        request = request.only_if(one.byway.generation());
                    }
                    let answers = (said(&mut one, &mut to_one, &request), said(&mut set, &mut to_set, &request));
                    prop_assert_eq!(answers.0, answers.1);
                    prop_assert_eq!(generations(&set.byway), [one.byway.generation(); SHARDS]);
                }
                Step::Read => {
                    settle(&mut [&mut one.byway]);
                    settle(&mut set.byway.shards_mut().collect::<Vec<_>>());
                    let views = (view(&mut one, &mut to_one), view(&mut set, &mut to_set));
                    prop_assert_eq!(views.0, views.1);
                }
            }
        }
    }
}
