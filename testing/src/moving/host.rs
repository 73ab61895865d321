//! A host: one interface without a link layer, some TCP sockets, and a clock of its own for timestamps.

use core::cell::Cell;
use core::net::SocketAddrV4;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use crate::wire::Wire;

/// How the TCP of a host is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub address: SocketAddrV4,
    /// Bytes of a socket's receive buffer: the window scale follows from it.
    pub receive: usize,
    /// Where the host's timestamps start; without them it offers none.
    pub clock: Option<u32>,
    pub mtu: usize,
    pub sockets: usize,
    /// What initial sequence numbers are drawn from.
    pub seed: u64,
}

thread_local! {
    /// The clock of the host whose stack is at work.
    static CLOCK: Cell<u32> = const { Cell::new(0) };
}

fn clock() -> u32 {
    CLOCK.get()
}

pub struct Host {
    pub setup: Setup,
    pub wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    pub handles: Vec<SocketHandle>,
}

pub fn endpoint(of: SocketAddrV4) -> IpEndpoint {
    IpEndpoint::new(IpAddress::Ipv4(*of.ip()), of.port())
}

impl Host {
    pub fn new(setup: Setup) -> Self {
        let mut wire = Wire::new(setup.mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = setup.seed;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        let address = IpCidr::new(IpAddress::Ipv4(*setup.address.ip()), 0);
        interface.update_ip_addrs(|all| all.push(address).expect("one fits"));
        let mut sockets = SocketSet::new(Vec::new());
        let handles = (0..setup.sockets)
            .map(|_| {
                let mut socket =
                    Socket::new(SocketBuffer::new(vec![0; setup.receive]), SocketBuffer::new(vec![0; 1 << 18]));
                socket.set_nagle_enabled(false);
                socket.set_ack_delay(None);
                if setup.sockets > 1 {
                    // A server does not wait for ever for a peer whose RST was lost.
                    socket.set_timeout(Some(Duration::from_secs(90)));
                }
                if setup.clock.is_some() {
                    socket.set_tsval_generator(Some(clock));
                }
                sockets.add(socket)
            })
            .collect();
        Self { setup, wire, interface, sockets, handles }
    }

    pub fn socket(&mut self, number: usize) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handles[number])
    }

    pub fn connect(&mut self, number: usize, to: SocketAddrV4) {
        let socket = self.sockets.get_mut::<Socket>(self.handles[number]);
        let context = self.interface.context();
        socket.connect(context, endpoint(to), self.setup.address.port()).expect("it is closed");
    }

    /// Listens on every socket that is closed.
    pub fn listen(&mut self) {
        let port = self.setup.address.port();
        for handle in &self.handles {
            let socket = self.sockets.get_mut::<Socket>(*handle);
            if matches!(socket.state(), State::Closed | State::TimeWait) {
                socket.abort();
                if self.setup.clock.is_some() {
                    socket.set_tsval_generator(Some(clock));
                }
                socket.listen(port).expect("it is closed");
            }
        }
    }

    /// Lets the stack work at this time, in microseconds.
    pub fn poll(&mut self, micros: u64) {
        // A tick of the clock is a millisecond.
        CLOCK.set(self.setup.clock.unwrap_or(0).wrapping_add((micros / 1_000) as u32));
        let now = Instant::from_micros(micros as i64);
        let _ = self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// When it has to work next.
    pub fn due(&mut self, micros: u64) -> Option<u64> {
        let now = Instant::from_micros(micros as i64);
        let wait: Option<Duration> = self.interface.poll_delay(now, &self.sockets);
        wait.map(|wait| micros + wait.total_micros())
    }
}
