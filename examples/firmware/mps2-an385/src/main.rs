//! A router on a stick for the Cortex-M3 of ARM's MPS2 board with image AN385: one LAN9118 Ethernet controller with both
//! subnets on its wire, and `defmt` over semihosting.
//!
//! The board has no source of randomness. What must be random is read from that of the host that debugs it, by semihosting (its
//! `/dev/urandom`), and without one the image does not start: a constant would be the same in every board, and with it
//! every port that the translator will choose. A product takes it from its own true random number generator, or from
//! a seed that is stored when the device is made and replaced at every start.
#![no_std]
#![no_main]

mod clock;
mod lan9118;

use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use defmt_semihosting as _;
use router::{Duration, EthernetAddress, Router, SocketMemory, Wires, lab};
use static_cell::{ConstStaticCell, StaticCell};

use crate::clock::Clock;
use crate::lan9118::{Lan9118, RECEIVE};

/// Between two lines of the watchdog.
const WATCHDOG: Duration = Duration::from_secs(1);

/// Frames taken before anything else gets its turn.
const TURN: usize = 32;

static TABLES: ConstStaticCell<lab::Tables> = ConstStaticCell::new(lab::Tables::new());
static NAMES: ConstStaticCell<lab::NameTables> = ConstStaticCell::new(lab::NameTables::new());
static SOCKETS: ConstStaticCell<SocketMemory> = ConstStaticCell::new(SocketMemory::new());
static ROUTER: StaticCell<Router<&'static mut lab::Tables, &'static mut lab::NameTables>> = StaticCell::new();
static FRAME: StaticCell<[u8; RECEIVE]> = StaticCell::new();

#[entry]
fn main() -> ! {
    defmt::info!("byway firmware, mps2-an385");
    let peripherals = cortex_m::Peripherals::take().expect("nobody took them before");
    let mut clock = Clock::start(peripherals.SYST);
    let random = lab::Random::draw(|bytes| semihosting::experimental::random::fill_bytes(bytes));
    let random = random.expect("the host has a source of randomness");
    let mut wire = Wire(Lan9118::take().expect("the Ethernet controller answers"));

    let mac = EthernetAddress(wire.0.mac());
    let config = lab::config([(0, mac), (0, mac)], random.seed);
    let (translator, control) = (lab::translator(random.secret, TABLES.take()), lab::control(random.sessions));
    let names = lab::names(random.secret, &translator, NAMES.take());
    let router = ROUTER.init_with(|| Router::new(clock.now(), config, translator, names, control, SOCKETS.take()));
    let frame = FRAME.init_with(|| [0; RECEIVE]);
    for foot in &config.interfaces {
        defmt::info!("subnet {} of {} mtu {}", foot.address, foot.mac, foot.mtu);
    }
    defmt::info!("ready");

    let mut watchdog = clock.now() + WATCHDOG;
    loop {
        let mut idle = true;
        for _ in 0..TURN {
            let Some(len) = wire.0.receive(frame) else { break };
            idle = false;
            router.receive(clock.now(), 0, &mut frame[..len], &mut wire);
        }
        let now = clock.now();
        if router.poll_at().is_some_and(|due| due <= now) {
            router.poll(now, &mut wire);
        }
        if now >= watchdog {
            defmt::info!("watchdog {=i64}s {}", now.secs(), router.watchdog());
            watchdog += WATCHDOG;
        }
        if idle {
            // Until a frame comes, or for the rest of this millisecond.
            wire.0.wait();
        }
    }
}

/// The one wire.
struct Wire(Lan9118);

impl Wires for Wire {
    fn send(&mut self, wire: usize, frame: &[u8]) -> bool {
        wire == 0 && self.0.send(frame)
    }
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    defmt::error!("hard fault at {=u32:#x}", frame.pc());
    semihosting::process::exit(1)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    semihosting::process::exit(1)
}
