//! A network that always has another packet: everything else has its turn all the same.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::io::{self, Read, Write};

use byway::{Config, Divert, Heap, Instant, Translator};
use byway_mediator::far::carrier::packet;
use byway_mediator::far::{Far, MTU, Place, STACK, Way};
use byway_mediator::mediator::{self, Mediator};
use byway_mediator::session::Stream;
use smoltcp::phy::{self, DeviceCapabilities, Medium};

const ORIGIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5683);
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 5683);
const AT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 4), 40_000);
const NOW: Instant = Instant::from_secs(9);
/// How many packets nobody takes without doing something else.
const MANY: u32 = 5000;

/// The device that the packets come from, and how many of them were taken.
struct Endless {
    taken: u32,
}

impl phy::Device for Endless {
    type RxToken<'a> = Packet;
    type TxToken<'a> = Packet;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, MTU);
        capabilities
    }

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Packet, Packet)> {
        self.taken += 1;
        assert!(self.taken < MANY, "nothing but the network has a turn");
        Some((Packet, Packet))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Packet> {
        Some(Packet)
    }
}

struct Packet;

impl phy::RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&packet(SERVER, AT, b"junk"))
    }
}

impl phy::TxToken for Packet {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        f(&mut vec![0; length])
    }
}

/// No HTTP client is here.
struct Nobody;

impl Read for Nobody {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Write for Nobody {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Nobody {
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}

fn translator() -> Translator<Heap> {
    let config = Config::new([7; 32]).alternative(*AT.ip(), AT.port()..=AT.port());
    let mut byway = Translator::new(config, Heap::new(16, 4)).unwrap();
    byway.divert(Divert::new(ORIGIN).to(SERVER)).unwrap();
    byway
}

#[test]
fn packets_for_nobody_have_an_end() {
    let config = mediator::Config::new(vec![format!("coap://{ORIGIN}").parse().unwrap()], [9; 32]);
    let mut mediator: Mediator<_, Nobody> = Mediator::new(config, Endless { taken: 0 }, translator(), NOW);
    mediator.poll(NOW);
    assert!(mediator.device().taken > 0);
}

/// Packets of a server that the stack knows, of one that transfers stay at, and both in turns with a stack that is read.
#[test]
fn packets_for_somebody_have_an_end() {
    for stays in [false, true] {
        let mut far = Far::new(Endless { taken: 0 }, translator(), 7, NOW);
        let way = Way { lane: far.lease(NOW, STACK, ORIGIN, None).unwrap(), client: STACK, origin: ORIGIN };
        assert!(far.send(way, b"request"));
        far.poll(NOW);
        if stays {
            far.stay(Place { alternative: AT, server: SERVER, generation: 0 }, way);
        }
        far.device_mut().taken = 0;
        let (mut datagram, mut received) = (Vec::new(), 0);
        for _ in 0..10 {
            far.poll(NOW);
            while far.receive(&mut datagram).is_some() || far.receive_past(&mut datagram).is_some() {
                assert_eq!(datagram, b"junk");
                received += 1;
            }
        }
        // None that was taken is lost for want of room.
        assert!(received >= 10, "{received}");
        assert_eq!(received, far.device().taken);
    }
}
