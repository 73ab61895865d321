//! The smallest users of byway: a packet path and a forwarder, linked by `scripts/image.sh` and never run.
#![no_std]

use core::hint::black_box;
use core::panic::PanicInfo;

/// The forwarder whose size is measured: it takes a packet, translates it if it has byway, and gives it away.
#[unsafe(no_mangle)]
pub extern "C" fn image() -> ! {
    let mut packet = [0; 1500];
    #[cfg(feature = "byway")]
    let translator = with_byway::start(black_box([0; 32]));
    #[cfg(feature = "control")]
    with_control::start(black_box([0; 32]));
    #[cfg(feature = "naming")]
    let names = with_naming::start(black_box([0; 32]));
    #[cfg(feature = "handover")]
    let hand_overs = with_handover::start();
    #[cfg(feature = "report")]
    let exporter = with_report::start();
    loop {
        let received = black_box(&mut packet);
        #[cfg(feature = "rules")]
        with_rules::take(translator);
        #[cfg(feature = "control")]
        with_control::take(translator, black_box(0), &received[..black_box(64).min(1500)]);
        #[cfg(feature = "naming")]
        with_naming::take(names, translator, black_box(0), received);
        #[cfg(feature = "handover")]
        with_handover::take(hand_overs, translator, black_box(0), received);
        #[cfg(feature = "report")]
        with_report::take(exporter, translator, black_box(0));
        #[cfg(feature = "byway")]
        if !with_byway::packet_path(translator, black_box(0), received) {
            continue;
        }
        black_box(received);
    }
}

#[cfg(feature = "byway")]
mod with_byway {
    use core::cell::UnsafeCell;
    use core::mem::MaybeUninit;
    use core::net::Ipv4Addr;

    use byway::{Config, Fixed, Instant, Owner, Sharding, Translator, Verdict};

    #[cfg(not(any(feature = "handover", feature = "measured")))]
    pub type Storage = Fixed<1024, 64>;
    /// Each connection, server and event is measured.
    #[cfg(feature = "measured")]
    pub type Storage = Fixed<1024, 64, 8, 8, 1032, 0, 64>;
    /// Each connection can be handed over.
    #[cfg(feature = "handover")]
    pub type Storage = Fixed<1024, 64, 8, 8, 0, 1024>;

    /// The path of a packet and nothing else: what is reachable from here must not panic.
    ///
    /// Returns whether the packet is to be sent.
    #[unsafe(no_mangle)]
    pub fn packet_path(translator: &mut Translator<Storage>, micros: u64, packet: &mut [u8]) -> bool {
        let verdict = translator.translate(Instant::from_micros(micros), packet);
        !matches!(verdict, Verdict::Drop(_))
    }

    /// The same with what the driver knows of the packet.
    #[cfg(feature = "paths")]
    #[unsafe(no_mangle)]
    pub fn packet_meta_path(
        translator: &mut Translator<Storage>,
        micros: u64,
        packet: &mut [u8],
        meta: byway::PacketMeta,
    ) -> bool {
        let verdict = translator.translate_with(Instant::from_micros(micros), packet, meta);
        !matches!(verdict, Verdict::Drop(_))
    }

    /// What a core asks before that, where there are several.
    #[unsafe(no_mangle)]
    pub fn packet_owner(sharding: &Sharding, packet: &[u8]) -> Owner {
        sharding.owner(packet)
    }

    /// Static memory for the translator, as firmware has it. It is in `.bss`, so it costs no flash.
    struct Memory(UnsafeCell<MaybeUninit<Translator<Storage>>>);

    // SAFETY: the image has one thread and no interrupts.
    unsafe impl Sync for Memory {}

    static MEMORY: Memory = Memory(UnsafeCell::new(MaybeUninit::uninit()));

    /// Sets the translator up, in static memory. To be called once.
    pub fn start(secret: [u8; 32]) -> &'static mut Translator<Storage> {
        let config = Config::new(secret).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
        let Ok(translator) = Translator::new(config, Storage::sized()) else { loop {} };
        // SAFETY: `image` calls this once, so this is the only reference to the memory.
        unsafe { (*MEMORY.0.get()).write(translator) }
    }
}

/// What an agent does to a translator, without the agent: so that the difference is the agent.
#[cfg(feature = "rules")]
mod with_rules {
    use core::hint::black_box;
    use core::net::{Ipv4Addr, SocketAddrV4};

    use byway::{Divert, Redivert, Timeouts, Translator, Weighted};

    use super::with_byway::Storage;

    pub fn take(translator: &mut Translator<Storage>) {
        let address = || black_box(Ipv4Addr::LOCALHOST);
        let endpoint = || SocketAddrV4::new(address(), black_box(1));
        let group = black_box([Weighted::new(endpoint(), 1), Weighted::new(address(), 2)]);
        let mut plan = translator.plan();
        black_box(plan.divert(&Divert::new(endpoint()).to_group(&group)).is_ok());
        black_box(plan.remove(endpoint()).is_some());
        black_box(plan.redivert(endpoint(), address(), black_box(Redivert::Switch)).is_ok());
        black_box(translator.divert(Divert::new(endpoint()).to_group(&group)).is_ok());
        black_box(translator.remove(endpoint()).is_some());
        black_box(translator.redivert(endpoint(), address(), black_box(Redivert::Switch)).is_ok());
        black_box(translator.set_timeouts(black_box(Timeouts::RECOMMENDED)).is_ok());
        black_box(translator.set_client_limit(black_box(5)).is_ok());
        black_box(translator.diverts().count());
        black_box(translator.connections().next_measured().is_some());
        black_box(translator.counters().dropped_in_all());
        while let Some(event) = translator.poll_event() {
            black_box(event);
        }
    }
}

/// An agent with two keys and four sessions: what comes is taken for an instruction.
#[cfg(feature = "control")]
mod with_control {
    use core::cell::UnsafeCell;
    use core::hint::black_box;
    use core::net::{Ipv4Addr, SocketAddr};

    use byway::control::{Agent, Key, MAX_ANSWER, Rights};
    use byway::{Instant, Translator};

    use super::with_byway::Storage;

    struct Memory(UnsafeCell<(Agent<2, 4>, [u8; MAX_ANSWER])>);

    // SAFETY: the image has one thread and no interrupts.
    unsafe impl Sync for Memory {}

    /// All zeros, so that it costs no flash.
    static MEMORY: Memory = Memory(UnsafeCell::new((Agent::new([0; 32]), [0; MAX_ANSWER])));

    /// Gives the agent its entropy and a key. To be called once.
    pub fn start(entropy: [u8; 32]) {
        // SAFETY: `image` calls this once, before anything else, so this is the only reference to the memory.
        let (agent, _) = unsafe { &mut *MEMORY.0.get() };
        *agent = Agent::new(entropy);
        let _ = agent.add_key(Key::new(1, black_box([0; 32]), Rights::All));
    }

    pub fn take(translator: &mut Translator<Storage>, micros: u64, datagram: &[u8]) {
        // SAFETY: this function does not call itself, so this is the only reference to the memory.
        let (agent, answer) = unsafe { &mut *MEMORY.0.get() };
        let now = Instant::from_micros(micros);
        let from = black_box(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        if let Ok(length) = agent.handle(now, translator, from, datagram, answer) {
            black_box(&answer[..length.min(MAX_ANSWER)]);
        }
        while agent.has_room()
            && let Some(event) = translator.poll_event()
        {
            agent.tell(now, &event);
        }
        while let Some((to, length)) = agent.poll_transmit(now, answer) {
            black_box((to, &answer[..length.min(MAX_ANSWER)]));
        }
    }
}

/// An exporter with all that it reports.
#[cfg(feature = "report")]
mod with_report {
    use core::cell::UnsafeCell;
    use core::hint::black_box;
    use core::mem::MaybeUninit;

    use byway::report::{Exporter, Settings, Totals};
    use byway::{Instant, Translator};

    use super::with_byway::Storage;

    type Reporter = Exporter<&'static mut [u8]>;

    struct Memory(UnsafeCell<(MaybeUninit<Reporter>, [u8; 1472])>);

    // SAFETY: the image has one thread and no interrupts.
    unsafe impl Sync for Memory {}

    static MEMORY: Memory = Memory(UnsafeCell::new((MaybeUninit::uninit(), [0; 1472])));

    /// Sets it up, in static memory. To be called once.
    pub fn start() -> &'static mut Reporter {
        // SAFETY: `image` calls this once, so these are the only references to the memory.
        let (place, buffer) = unsafe {
            let memory = MEMORY.0.get();
            (&mut (*memory).0, &mut (*memory).1)
        };
        let Ok(exporter) = Exporter::new(Settings::new(black_box(32_473)), &mut buffer[..]) else { loop {} };
        place.write(exporter)
    }

    /// From events and measurements to messages. Returns how long the last one is.
    #[cfg_attr(feature = "report-paths", unsafe(no_mangle))]
    pub fn report_path(exporter: &mut Reporter, translator: &mut Translator<Storage>, micros: u64) -> usize {
        let now = Instant::from_micros(micros);
        while let Some(report) = translator.poll_report() {
            if exporter.report(now, &report).is_err() {
                exporter.lost(1);
            }
        }
        for server in translator.measurements() {
            black_box(exporter.server(now, Instant::ZERO, &server).is_ok());
        }
        black_box(exporter.counters(now, &Totals::of(translator)).is_ok());
        exporter.restart();
        exporter.flush();
        black_box(exporter.poll_at());
        let mut length = 0;
        while let Some(message) = exporter.poll_transmit(now) {
            length = black_box(message).len();
        }
        length
    }

    pub fn take(exporter: &mut Reporter, translator: &mut Translator<Storage>, micros: u64) {
        black_box(report_path(exporter, translator, micros));
    }
}

/// Two hand-overs at once, at rest; packets, an instruction for one connection and one for all.
#[cfg(feature = "handover")]
mod with_handover {
    use core::cell::UnsafeCell;
    use core::hint::black_box;
    use core::mem::MaybeUninit;
    use core::net::{Ipv4Addr, SocketAddrV4};
    use core::time::Duration;

    use byway::{AtRest, HandOvers, Instant, Pair, Translator};
    #[cfg(feature = "handover-paths")]
    use byway::{Divert, Redivert};

    use super::with_byway::Storage;

    type Mover = HandOvers<'static, AtRest, 2>;

    struct Memory(UnsafeCell<(MaybeUninit<Mover>, [u8; 2048])>);

    // SAFETY: the image has one thread and no interrupts.
    unsafe impl Sync for Memory {}

    static MEMORY: Memory = Memory(UnsafeCell::new((MaybeUninit::uninit(), [0; 2048])));

    /// Sets it up, in static memory. To be called once.
    pub fn start() -> &'static mut Mover {
        // SAFETY: `image` calls this once, so these are the only references to the memory.
        let (place, buffer) = unsafe {
            let memory = MEMORY.0.get();
            (&mut (*memory).0, &mut (*memory).1)
        };
        place.write(HandOvers::new(AtRest::after(black_box(Duration::from_millis(500))), buffer))
    }

    /// The way of a packet, and of what the hand-overs have to say.
    #[cfg_attr(feature = "handover-paths", unsafe(no_mangle))]
    pub fn handover_path(
        mover: &mut Mover,
        translator: &mut Translator<Storage>,
        micros: u64,
        packet: &mut [u8],
    ) -> usize {
        let now = Instant::from_micros(micros);
        let _ = black_box(mover.translate(now, translator, packet));
        mover.poll(now, translator);
        black_box(mover.poll_at(now));
        black_box(mover.poll_outcome());
        mover.poll_transmit(now, translator, packet).map_or(0, |own| own.length)
    }

    /// The ways of instructions.
    #[cfg_attr(feature = "handover-paths", unsafe(no_mangle))]
    pub fn handover_instruction_path(mover: &mut Mover, translator: &mut Translator<Storage>, micros: u64) {
        let pair = Pair { source: end(), destination: end() };
        black_box(mover.begin(Instant::from_micros(micros), translator, &pair, end()).is_ok());
        #[cfg(feature = "handover-paths")]
        {
            black_box(translator.divert(Divert::new(end()).to(end()).resumable()).is_ok());
            black_box(translator.redivert(end(), end(), black_box(Redivert::HandOver)).is_ok());
        }
    }

    fn end() -> SocketAddrV4 {
        SocketAddrV4::new(black_box(Ipv4Addr::LOCALHOST), black_box(80))
    }

    pub fn take(mover: &mut Mover, translator: &mut Translator<Storage>, micros: u64, packet: &mut [u8]) {
        black_box(handover_path(mover, translator, micros, packet));
        handover_instruction_path(mover, translator, micros);
    }
}

/// A relay of 16 queries at a time.
#[cfg(feature = "paths")]
mod with_relay {
    use core::hint::black_box;

    use byway::naming::{FixedRelay, MAX_RELAY_QUERY, Relay, RelayConfig, Relayed};
    use byway::{Instant, Pair};

    type Table = Relay<FixedRelay<16>>;

    /// The way of queries, answers and time. Returns how much of `out` is to be sent.
    #[unsafe(no_mangle)]
    pub fn relay_path(
        table: &mut Option<Table>,
        micros: u64,
        ends: Pair,
        message: &mut [u8],
        out: &mut [u8; MAX_RELAY_QUERY],
    ) -> usize {
        let Some(relay) = table else {
            let config = RelayConfig::new(black_box([0; 32]), ends.destination).server(ends.source);
            *table = Relay::new(config, FixedRelay::new()).ok();
            return 0;
        };
        let now = Instant::from_micros(micros);
        if let Some(client) = relay.answer(now, ends.source, ends.destination.port(), message) {
            black_box(client);
            return message.len();
        }
        let due = relay.poll_at().is_some_and(|due| due <= now);
        let done = if due { relay.poll(now, out) } else { Some(relay.query(now, ends, message, out)) };
        match done {
            Some(Relayed::Ask { server, port, length }) => {
                black_box((server, port, relay.waits_at(port)));
                length
            }
            Some(Relayed::Answer { client, length }) => {
                black_box(client);
                length
            }
            Some(Relayed::Drop(_)) | None => 0,
        }
    }
}

/// A table of 16 names that uses all that there is: packets, a TCP connection, instructions, rules.
#[cfg(feature = "naming")]
mod with_naming {
    use core::cell::UnsafeCell;
    use core::hint::black_box;
    use core::mem::MaybeUninit;
    use core::net::Ipv4Addr;

    use byway::naming::{Answered, FixedNames, MAX_ANSWER_PACKET, Name, NameEntry, Names, NamesConfig, Pattern};
    #[cfg(feature = "names-tied")]
    use byway::{Divert, Redivert};
    use byway::{Instant, Prefix, Translator};

    use super::with_byway::Storage;

    pub type Table = Names<FixedNames<16, 64>>;

    struct Memory(UnsafeCell<(MaybeUninit<Table>, [u8; MAX_ANSWER_PACKET])>);

    // SAFETY: the image has one thread and no interrupts.
    unsafe impl Sync for Memory {}

    static MEMORY: Memory = Memory(UnsafeCell::new((MaybeUninit::uninit(), [0; MAX_ANSWER_PACKET])));

    /// Sets the table up, in static memory. To be called once.
    pub fn start(secret: [u8; 32]) -> &'static mut Table {
        // SAFETY: `image` calls this once, so this is the only reference to the memory.
        unsafe { (*MEMORY.0.get()).0.write(Names::new(NamesConfig::new(secret), FixedNames::new())) }
    }

    /// The way of a packet. Returns how much of `out` is to be sent.
    #[cfg_attr(feature = "paths", unsafe(no_mangle))]
    pub fn names_path(names: &mut Table, micros: u64, packet: &[u8], out: &mut [u8]) -> usize {
        match names.intercept(Instant::from_micros(micros), packet, out) {
            Answered::Answer { length } => length,
            _ => 0,
        }
    }

    /// The way of what a TCP connection brings. Returns how much of `out` is to be sent.
    #[cfg_attr(feature = "paths", unsafe(no_mangle))]
    pub fn names_stream_path(names: &mut Table, micros: u64, input: &[u8], out: &mut [u8]) -> usize {
        let client = black_box(Ipv4Addr::LOCALHOST);
        let done = names.answer_stream(Instant::from_micros(micros), client, input, out);
        black_box((done.taken, done.next));
        done.written
    }

    /// The ways of instructions.
    #[cfg_attr(feature = "paths", unsafe(no_mangle))]
    pub fn names_instruction_path(names: &mut Table, translator: &mut Translator<Storage>, name: &str) {
        let Ok(pattern) = name.parse::<Pattern>() else { return };
        let address = || black_box(Ipv4Addr::LOCALHOST);
        let entry = || NameEntry::new(pattern).to(address()).ttl(black_box(60));
        black_box(names.insert(entry()).is_ok());
        black_box(names.remove(&pattern, black_box(Prefix::ALL)).is_ok());
        #[cfg(feature = "names-tied")]
        tie(names, translator, &pattern);
        #[cfg(not(feature = "names-tied"))]
        let _ = translator;
        black_box(names.entries().filter_map(|entry| entry.addresses().next()).count());
        black_box::<Option<Name>>(names.entries().next().map(|entry| *entry.pattern().name()));
        black_box(names.counters().in_all());
    }

    #[cfg(feature = "names-tied")]
    fn tie(names: &mut Table, translator: &mut Translator<Storage>, pattern: &Pattern) {
        let address = || black_box(Ipv4Addr::LOCALHOST);
        let (entry, rule) = (NameEntry::new(*pattern), Divert::new(address()).to(address()));
        black_box(names.divert(translator, entry, rule).is_ok());
        black_box(names.redivert(translator, pattern, Prefix::ALL, address(), black_box(Redivert::Switch)).is_ok());
        black_box(names.remove_both(translator, pattern, Prefix::ALL).is_ok());
        black_box(names.untie(pattern, Prefix::ALL).is_ok());
        black_box(names.check_rules(translator));
    }

    pub fn take(names: &mut Table, translator: &mut Translator<Storage>, micros: u64, packet: &[u8]) {
        // SAFETY: this function does not call itself, and nothing else refers to this half of the memory.
        let out = unsafe { &mut (*MEMORY.0.get()).1 };
        black_box(names_path(names, micros, packet, out));
        black_box(names_stream_path(names, micros, packet, out));
        names_instruction_path(names, translator, black_box("www.bt.com"));
    }
}

/// The ways of instructions and events, for `no-panic.sh`: what is reachable from them must not panic.
#[cfg(feature = "paths")]
mod control_paths {
    use core::hint::black_box;
    use core::net::{Ipv4Addr, SocketAddr};

    use byway::control::{Agent, Client, Incoming, Instruction, MAX_ANSWER, Request, Rule};
    use byway::{Divert, Fixed, Instant, Translator};

    use super::with_byway::Storage;

    /// From the datagram to the answer.
    ///
    /// Returns how much of `answer` is to be sent.
    #[unsafe(no_mangle)]
    pub fn control_path(
        agent: &mut Agent<2, 4>,
        translator: &mut Translator<Storage>,
        micros: u64,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> usize {
        agent.handle(Instant::from_micros(micros), translator, from, datagram, answer).unwrap_or(0)
    }

    /// The same for the translators of two cores.
    #[unsafe(no_mangle)]
    pub fn control_path_of_two(
        agent: &mut Agent<2, 4>,
        translators: &mut [&mut Translator<Storage>; 2],
        micros: u64,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> usize {
        agent.handle(Instant::from_micros(micros), &mut translators[..], from, datagram, answer).unwrap_or(0)
    }

    /// The way of an event to the monitors. Returns how much of `answer` is to be sent, and to where.
    #[unsafe(no_mangle)]
    pub fn event_path(
        agent: &mut Agent<2, 4>,
        translator: &mut Translator<Storage>,
        micros: u64,
        answer: &mut [u8; MAX_ANSWER],
    ) -> Option<(SocketAddr, usize)> {
        let now = Instant::from_micros(micros);
        while agent.has_room()
            && let Some(event) = translator.poll_event()
        {
            agent.tell(now, &event);
        }
        agent.poll_transmit(now, answer)
    }

    /// Storage that measures connections and servers.
    type Measured = Fixed<64, 4, 8, 8, 64, 0, 4>;

    /// What was measured, for a monitor that asks for it, and for those that have subscribed. Returns how much of `answer` is
    /// to be sent, and to where.
    #[unsafe(no_mangle)]
    pub fn report_path(
        agent: &mut Agent<2, 4, 4>,
        translator: &mut Translator<Measured>,
        micros: u64,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Option<(SocketAddr, usize)> {
        let now = Instant::from_micros(micros);
        if let Ok(length) = agent.handle(now, translator, from, datagram, answer) {
            return Some((from, length));
        }
        black_box(agent.report_at());
        agent.poll_report(now, translator, answer)
    }

    /// The monitor's side: the same for what comes from a translator and for what is asked next.
    ///
    /// Returns what is to be sent.
    #[unsafe(no_mangle)]
    pub fn monitor_path<'a>(client: &'a mut Client, micros: u64, datagram: &[u8]) -> Option<&'a [u8]> {
        let now = Instant::from_micros(micros);
        match client.handle(now, datagram) {
            Ok(Incoming::Opened(answer) | Incoming::Answer(answer)) => {
                black_box((answer.effects().count(), answer.counters().count(), answer.settings().is_some()));
                black_box((answer.rules().0.map(|rule| rule.servers().count()).sum::<usize>(), answer.refused()));
                black_box(answer.connections().0.count());
                black_box(answer.measurements().servers().map(|server| server.measured.started).sum::<u32>());
            }
            Ok(Incoming::Report(report)) => {
                black_box(report.page().servers().map(|server| server.measured.response.count()).sum::<u64>());
            }
            Ok(Incoming::Events(events)) => {
                black_box(events.events().count());
            }
            _ => {}
        }
        if client.is_ready() {
            let rule = Rule::new(&Divert::new(black_box(Ipv4Addr::LOCALHOST)).to(black_box(Ipv4Addr::BROADCAST)))?;
            let request = Request::one(Instruction::Divert(rule)).and(black_box(Instruction::Counters)).ok()?;
            client.send(now, &request.only_if(black_box(1))).ok()?;
        }
        client.poll_transmit(now).ok()?
    }
}

/// A packet path that can panic.
#[cfg(feature = "panics")]
#[unsafe(no_mangle)]
pub fn packet_path_that_panics(packet: &mut [u8], at: usize) {
    packet[at] = 1;
}

/// Never inlined, so that the image of whatever can panic has its symbol.
#[panic_handler]
#[inline(never)]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// The ways of instructions about names, for `no-panic.sh`.
#[cfg(feature = "paths")]
mod control_names_paths {
    use core::hint::black_box;
    use core::net::{Ipv4Addr, SocketAddr};

    use byway::Translator;
    use byway::control::{Agent, Answer, Instruction, MAX_ANSWER, NameRights, NamedEntry, Request, WithNames};
    use byway::naming::{NameEntry, Pattern};
    use byway::{Instant, Match, Prefix};

    use super::with_byway::Storage;
    use super::with_naming::Table;

    /// From the datagram to the answer, for a translator with names.
    ///
    /// Returns how much of `answer` is to be sent.
    #[unsafe(no_mangle)]
    pub fn control_names_path(
        agent: &mut Agent<2, 4>,
        translator: &mut Translator<Storage>,
        names: &mut Table,
        rights: &[NameRights],
        micros: u64,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> usize {
        let mut both = WithNames::new(translator, names).rights(rights);
        agent.handle(Instant::from_micros(micros), &mut both, from, datagram, answer).unwrap_or(0)
    }

    /// The monitor's side: instructions, and what an answer tells.
    #[unsafe(no_mangle)]
    pub fn monitor_names_path(pattern: Pattern, rule: Match, answer: &Answer<'_>) -> Option<Request> {
        let own = NamedEntry::new(&NameEntry::new(pattern).to(black_box(Ipv4Addr::LOCALHOST)))?;
        let request =
            Request::one(Instruction::Name(own)).and(Instruction::Name(NamedEntry::tied(pattern, rule))).ok()?;
        let gone = Instruction::RemoveName { pattern, clients: Prefix::ALL };
        let (names, next) = answer.names();
        let told = |entry: byway::control::ListedEntry<'_>| {
            black_box((entry.addresses().count(), entry.rule(), entry.clients()))
        };
        black_box((names.map(told).count(), next, answer.name_sizes()));
        request.and(gone).ok()
    }
}
