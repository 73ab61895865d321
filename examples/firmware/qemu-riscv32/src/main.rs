//! A two-port router for QEMU's `virt` machine: two virtio network devices, a virtio source of randomness, the machine's
//! timer, and a line on the console now and then.
#![no_std]
#![no_main]

mod machine;
mod port;

use core::fmt::Write;
use core::panic::PanicInfo;

use router::{Duration, EthernetAddress, Instant, Router, SocketMemory, lab};
use static_cell::{ConstStaticCell, StaticCell};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::{DeviceType, Transport};

use crate::machine::{Console, Machine};
use crate::port::{Buffers, Dma, Port, Ports};

/// Between two lines of the watchdog.
const WATCHDOG: Duration = Duration::from_secs(1);

/// Frames taken from one port before it is the other one's turn.
const TURN: usize = 32;

static TABLES: ConstStaticCell<lab::Tables> = ConstStaticCell::new(lab::Tables::new());
static NAMES: ConstStaticCell<lab::NameTables> = ConstStaticCell::new(lab::NameTables::new());
static SOCKETS: ConstStaticCell<SocketMemory> = ConstStaticCell::new(SocketMemory::new());
static ROUTER: StaticCell<Router<&'static mut lab::Tables, &'static mut lab::NameTables>> = StaticCell::new();
static BUFFERS: [StaticCell<Buffers>; 2] = [const { StaticCell::new() }; 2];

#[riscv_rt::entry]
fn main() -> ! {
    let mut machine = Machine::take();
    let _ = writeln!(Console, "byway firmware, qemu-riscv32");

    let mut ports: [Option<Port>; 2] = [None, None];
    let mut random = None;
    for (slot, transport) in machine.virtio() {
        match transport.device_type() {
            DeviceType::Network => {
                let free = ports.iter_mut().zip(&BUFFERS).find(|(port, _)| port.is_none());
                let Some((port, buffers)) = free else { continue };
                *port = Some(Port::new(slot, transport, buffers.init_with(Buffers::new)));
            }
            DeviceType::EntropySource => random = Some(draw(transport)),
            _ => {}
        }
    }
    let [Some(client), Some(server)] = ports else { panic!("the machine needs two network devices") };
    let random = random.expect("the machine needs a source of randomness");
    let mut ports = Ports([client, server]);
    for port in &ports.0 {
        machine.listen(port.slot);
    }

    let [client, server] = ports.0.each_ref().map(|port| EthernetAddress(port.mac()));
    let config = lab::config([(0, client), (1, server)], random.seed);
    let (translator, control) = (lab::translator(random.secret, TABLES.take()), lab::control(random.sessions));
    let names = lab::names(random.secret, &translator, NAMES.take());
    let router = ROUTER.init_with(|| Router::new(machine.now(), config, translator, names, control, SOCKETS.take()));
    for foot in &config.interfaces {
        let _ = writeln!(Console, "port {}: {} {} mtu {}", foot.wire, foot.mac, foot.address, foot.mtu);
    }
    let _ = writeln!(Console, "ready");

    let mut watchdog = machine.now() + WATCHDOG;
    loop {
        // First the acknowledgement, then the look: a frame that arrives in between makes a new interrupt.
        machine.interrupts(|slot| ports.acknowledge(slot));
        let mut idle = true;
        for wire in 0..ports.0.len() {
            for _ in 0..TURN {
                if !receive(router, &mut ports, wire, machine.now()) {
                    break;
                }
                idle = false;
            }
        }
        let now = machine.now();
        if router.poll_at().is_some_and(|due| due <= now) {
            router.poll(now, &mut ports);
        }
        if now >= watchdog {
            let _ = writeln!(Console, "watchdog {}s {}", now.secs(), router.watchdog());
            watchdog += WATCHDOG;
        }
        if idle {
            machine.sleep_until(router.poll_at().map_or(watchdog, |due| due.min(watchdog)));
        }
    }
}

/// Takes one frame from a port, if there is one.
fn receive(
    router: &mut Router<&'static mut lab::Tables, &'static mut lab::NameTables>,
    ports: &mut Ports,
    wire: usize,
    now: Instant,
) -> bool {
    let Some(port) = ports.0.get_mut(wire) else { return false };
    let Some(mut frame) = port.receive() else { return false };
    router.receive(now, wire, frame.bytes(), ports);
    if let Some(port) = ports.0.get_mut(wire) {
        port.give_back(frame);
    }
    true
}

/// Draws what must be random.
fn draw(transport: machine::Transport) -> lab::Random {
    let mut source = VirtIORng::<Dma, _>::new(transport).expect("the source of randomness starts");
    let random = lab::Random::draw(|bytes| {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += source.request_entropy(rest)?;
        }
        Ok::<(), virtio_drivers::Error>(())
    });
    random.expect("the source of randomness answers")
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "{info}");
    machine::fail()
}
