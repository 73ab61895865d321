//! Measures byway in QEMU and prints what `scripts/budget.sh` makes tables of: lines of words with `|` between them.
//!
//! Nothing here is a router; see the other images for that.
#![no_std]
#![no_main]

mod kinds;
mod machine;
mod packets;
mod speed;
mod stack;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::panic::PanicInfo;

use byway::{Config, Fixed, Translator};

use crate::machine::Counter;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 2, 0, 20), Ipv4Addr::new(10, 2, 0, 30)];

const fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

/// Measured with a known secret, so that each run prints the same.
fn config() -> Config {
    Config::new([0x42; 32]).alternative(ALTERNATIVE, 1024..=65535)
}

/// What the tables take, in bytes: the translator with `Fixed<8, 4, 2, 2, 0>`, and one more of each thing.
fn sizes() {
    const fn size<const C: usize, const D: usize, const F: usize, const E: usize, const M: usize>() -> usize {
        size_of::<Translator<Fixed<C, D, F, E, M>>>()
    }
    const SMALL: usize = size::<1024, 64, 64, 64, 0>();
    for (name, bytes) in [
        ("connection", (size::<2048, 64, 64, 64, 0>() - SMALL) / 1024),
        ("measurement of a connection", (size::<1024, 64, 64, 64, 1024>() - SMALL) / 1024),
        ("rule, with its server", (size::<1024, 128, 64, 64, 0>() - SMALL) / 64),
        ("datagram in fragments", (size::<1024, 64, 128, 64, 0>() - SMALL) / 64),
        ("event", (size::<1024, 64, 64, 128, 0>() - SMALL) / 64),
        ("translator of 170 connections, 4 rules, 2 datagrams, no events", size::<170, 4, 2, 0, 0>()),
        ("translator of 170 connections, 8 rules, 8 datagrams, 8 events", size::<170, 8, 8, 8, 0>()),
        ("translator of 1024 connections, 64 rules", size::<1024, 64, 8, 8, 0>()),
    ] {
        semihosting::println!("size|{name}|{bytes}");
    }
}

fn run(counter: Counter) {
    sizes();
    kinds::run();
    // Too large to be made on the stack of anything but a measurement.
    speed::run(&mut Translator::new(config(), speed::Storage::new()).expect("the configuration is good"), counter);
    semihosting::println!("done");
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::entry]
fn main() -> ! {
    let peripherals = cortex_m::Peripherals::take().expect("nobody took them before");
    run(Counter::start(peripherals.SYST));
    semihosting::process::exit(0)
}

#[cfg(target_arch = "riscv32")]
#[riscv_rt::entry]
fn main() -> ! {
    run(Counter::start());
    semihosting::process::exit(0)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    semihosting::println!("{info}");
    semihosting::process::exit(1)
}
