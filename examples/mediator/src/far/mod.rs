//! The side of the servers: a smoltcp stack whose device byway wraps.
//!
//! The proxy addresses every request to the origin that the HTTP client asked for. Where it goes is byway's business: rules,
//! groups and re-diverts apply to the stack's packets as to those of any other client. What must not follow an instruction
//! goes past byway ([`bypass`]).
//!
//! This is all that a proxy of your own needs of byway:
//!
//! ```
//! use byway::{Config, Divert, Heap, Instant, Redivert, Translator};
//! use byway_mediator::far::carrier::{Carrier, Ports, inside};
//! use byway_mediator::far::{Far, STACK, Way};
//! use core::net::{Ipv4Addr, SocketAddrV4};
//! # use std::net::{SocketAddr, UdpSocket};
//! # let listen = || -> std::io::Result<_> {
//! #     let socket = UdpSocket::bind("127.0.0.1:0")?;
//! #     socket.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
//! #     let SocketAddr::V4(at) = socket.local_addr()? else { unreachable!() };
//! #     Ok((socket, SocketAddrV4::new(inside(*at.ip()), at.port())))
//! # };
//! # let ((first_socket, first), (second_socket, second)) = (listen()?, listen()?);
//! # let (secret, seed, mut now) = ([7; 32], 7, Instant::ZERO);
//! // What the servers see: an address with some ports. Each port is a UDP socket of the operating system.
//! let (address, ports) = (Ipv4Addr::new(198, 19, 0, 1), 40_000..=40_015);
//! let carrier = Carrier::open(Ipv4Addr::UNSPECIFIED, address, ports.clone(), Ports::Any)?;
//!
//! // byway, and a rule: the origin, where nothing listens, is served by the first server.
//! let mut byway = Translator::new(Config::new(secret).alternative(address, ports), Heap::new(256, 16))?;
//! let origin = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5683);
//! byway.divert(Divert::new(origin).to(first))?;
//!
//! // A smoltcp stack over both. The proxy sends to the origin, whatever the rules are.
//! let mut far = Far::new(carrier, byway, seed, now);
//! let lane = far.lease(now, STACK, origin, None).ok_or("no lane is free")?;
//! let way = Way { lane, client: STACK, origin };
//! far.send(way, b"for the first");
//! far.poll(now); // at `far.poll_at(now)`, and when a socket is readable (`Carrier::mark_ready`)
//! # let mut buffer = [0; 64];
//! # assert_eq!(first_socket.recv(&mut buffer)?, 13);
//!
//! // An instruction in the middle, from the program or from `byway ctl` (module `control`): the next datagram goes to
//! // the second server, and its answer comes from the origin.
//! far.translator_mut().redivert(first, second, Redivert::Switch)?;
//! far.send(way, b"for the second");
//! far.poll(now);
//! # let (length, from) = second_socket.recv_from(&mut buffer)?;
//! # assert_eq!(length, 14);
//! # second_socket.send_to(b"from the second", from)?;
//! # let mut answer = Vec::new();
//! # for _ in 0..1000 {
//! #     std::thread::sleep(std::time::Duration::from_millis(5));
//! #     (0..16).for_each(|socket| far.device_mut().mark_ready(socket));
//! #     now = now + core::time::Duration::from_millis(5);
//! #     far.poll(now);
//! #     if far.receive(&mut answer) == Some(way) {
//! #         break;
//! #     }
//! # }
//! # assert_eq!(answer, b"from the second");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

pub mod bypass;
pub mod carrier;
pub mod identifiers;
pub mod lanes;
pub mod link;
pub mod outside;
#[cfg(target_os = "linux")]
pub mod tun;

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use byway::device::TranslatingDevice;
use byway::{Heap, Instant, Protocol, Translator, Verdict};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::udp;
use smoltcp::time::Instant as Timestamp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use bypass::Bypass;
pub use bypass::Place;
use identifiers::Identifiers;
pub use lanes::Lane;
use lanes::MAX_LANES;

/// The stack's address: the dummy address of RFC 7600. It is in no packet that leaves the machine, since byway replaces
/// it.
pub const STACK: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The longest packet, in bytes.
pub const MTU: usize = 1500;

/// The capabilities of every device here: it carries IP packets.
fn ip_device() -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MTU;
    capabilities
}

/// Datagrams that wait in a lane's socket, in each direction.
const WAITING: usize = 16;

/// How many packets are received before others have their turn: as many as a socket has room for, so that none is lost.
const BURST: usize = WAITING;

/// The stack's ports: those that no program is registered for (RFC 6335, section 6).
const PORTS: core::ops::Range<u16> = 49_152..65_535;

/// A datagram's addresses, as the stack sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// The stack's socket.
    pub lane: Lane,
    /// The stack's address: that of the HTTP client.
    pub client: Ipv4Addr,
    /// The origin, as it was asked for. byway may divert it.
    pub origin: SocketAddrV4,
}

/// The stack, its lanes, and byway below it.
pub struct Far<D> {
    device: TranslatingDevice<Bypass<D>, Heap, Vec<u8>>,
    /// When it was last polled.
    now: Instant,
    interface: Interface,
    sockets: SocketSet<'static>,
    lanes: Vec<LaneSocket>,
    ids: Identifiers,
    current: usize,
    next_port: u16,
    /// Whether a lane was released since the last call of [`Self::take_released`].
    has_released: bool,
}

struct LaneSocket {
    handle: SocketHandle,
    port: u16,
    /// The rules' generation when it got its port.
    generation: u32,
    /// The transfers that use it: what each fetches or stores, if no other may do so beside it.
    users: Vec<Option<u64>>,
}

impl<D: phy::Device> Far<D> {
    /// A stack over `device`. `seed` makes ports and identifiers unpredictable.
    ///
    /// byway translates between the two, so whatever `translator` does not divert reaches the device with a client's
    /// address as its source.
    pub fn new(device: D, translator: Translator<Heap>, seed: u64, now: Instant) -> Self {
        let mut device = TranslatingDevice::new(Bypass::new(device), translator, [vec![0; MTU], vec![0; MTU]]);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, timestamp(now));
        interface.update_ip_addrs(|addresses| {
            // There is room for two.
            let _ = addresses.push(IpCidr::new(STACK.into(), 32));
        });
        // Everything is behind the device, and every address that a client has is the stack's own.
        let _ = interface.routes_mut().add_default_ipv4_route(STACK);
        interface.set_any_ip(true);
        let first = PORTS.start + (seed >> 16) as u16 % (PORTS.end - PORTS.start);
        Self {
            device,
            now,
            interface,
            sockets: SocketSet::new(vec![]),
            lanes: Vec::new(),
            ids: Identifiers::new(seed),
            current: 0,
            next_port: first,
            has_released: false,
        }
    }

    /// byway.
    pub const fn translator(&self) -> &Translator<Heap> {
        self.device.translator()
    }

    /// byway, for instructions. The stack's clients notice them with [`generation`](Self::generation).
    pub const fn translator_mut(&mut self) -> &mut Translator<Heap> {
        self.device.translator_mut()
    }

    /// The device below byway.
    pub const fn device(&self) -> &D {
        self.device.inner().inner()
    }

    /// The device below byway.
    pub const fn device_mut(&mut self) -> &mut D {
        self.device.inner_mut().inner_mut()
    }

    /// Changes with every instruction that changes a rule or moves a server.
    pub const fn generation(&self) -> u32 {
        self.device.translator().generation()
    }

    /// Sends what waits, and receives what has come: some packets at most, since more may come than can be received. Take the
    /// datagrams then, and call it again if the device may have more.
    pub fn poll(&mut self, now: Instant) {
        self.now = now;
        let generation = self.generation();
        self.device.inner_mut().heed(generation);
        let (interface, device, sockets) = (&mut self.interface, &mut self.device, &mut self.sockets);
        interface.poll_maintenance(timestamp(now));
        for _ in 0..BURST {
            if interface.poll_ingress_single(timestamp(now), device, sockets) == PollIngressSingleResult::None {
                break;
            }
        }
        while interface.poll_egress(timestamp(now), device, sockets) == PollResult::SocketStateChanged {}
    }

    /// When to poll again although nothing has come.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let stack = self.interface.poll_at(timestamp(now), &self.sockets);
        let device = self.device.poll_at();
        let earliest = [stack, device].into_iter().flatten().min()?;
        Some(Instant::from_micros(u64::try_from(earliest.total_micros()).unwrap_or(0)))
    }

    /// Gives a transfer of this client from this origin a lane, which [`release`](Self::release) returns.
    ///
    /// Two transfers of one `resource` never share a lane: a CoAP endpoint cannot have two block-wise transfers of one
    /// resource at once (RFC 7959, section 2.4), and servers that keep such a transfer's state give them each other's.
    ///
    /// `None` if there is no such lane, or all have used up their message identifiers: wait for a release.
    pub fn lease(
        &mut self,
        now: Instant,
        client: Ipv4Addr,
        origin: SocketAddrV4,
        resource: Option<u64>,
    ) -> Option<Lane> {
        let generation = self.generation();
        let fits = |(number, lane): (usize, &LaneSocket)| {
            (resource.is_none() || !lane.users.contains(&resource))
                && self.has_ids(now, Way { lane: Lane(number), client, origin })
        };
        let is_new = |(number, lane): (usize, &LaneSocket)| lane.generation == generation && fits((number, lane));
        let lane = if self.lanes.get(self.current).is_some_and(|lane| is_new((self.current, lane))) {
            self.current
        } else if let Some(lane) = self.lanes.iter().enumerate().position(is_new) {
            lane
        } else if let Some(idle) = self.lanes.iter().position(|lane| lane.users.is_empty()) {
            self.renew(idle, generation)
        } else if self.lanes.len() < MAX_LANES {
            self.add(generation)
        } else {
            // Shared with transfers that began under older rules.
            self.lanes.iter().enumerate().position(fits)?
        };
        self.current = lane;
        self.lanes.get_mut(lane)?.users.push(resource);
        Some(Lane(lane))
    }

    /// Returns a lane.
    pub fn release(&mut self, lane: Lane, resource: Option<u64>) {
        self.has_released = true;
        if let Some(lane) = self.lanes.get_mut(lane.0)
            && let Some(at) = lane.users.iter().position(|user| *user == resource)
        {
            lane.users.swap_remove(at);
        }
    }

    /// Whether a lane was released since the last call.
    pub const fn take_released(&mut self) -> bool {
        core::mem::replace(&mut self.has_released, false)
    }

    /// Whether there is an identifier for a message that goes this way, as far as is known before byway has it.
    #[must_use]
    pub fn has_ids(&self, now: Instant, way: Way) -> bool {
        self.place(way).is_none_or(|place| self.has_ids_at(now, place.alternative))
    }

    /// Whether there is an identifier for a message from this alternative endpoint.
    #[must_use]
    pub fn has_ids_at(&self, now: Instant, alternative: SocketAddrV4) -> bool {
        self.ids.any(alternative, now)
    }

    /// The identifier of the next message from this alternative endpoint. `None` if it has none left.
    pub fn next_id(&mut self, now: Instant, alternative: SocketAddrV4) -> Option<u16> {
        self.ids.take(alternative, now)
    }

    /// Has byway translate a packet with this datagram, and says from where to where it goes. byway counts it as sent, so send it
    /// there ([`send_to`](Self::send_to)). It may be changed before, but not its length: which message identifier it can have
    /// depends on where it goes from. `None` if byway drops it.
    pub fn route(&mut self, way: Way, datagram: &[u8]) -> Option<Place> {
        let port = self.lanes.get(way.lane.0)?.port;
        let mut packet = carrier::packet(SocketAddrV4::new(way.client, port), way.origin, datagram);
        if packet.len() > MTU {
            return None;
        }
        let now = self.now;
        match self.translator_mut().translate(now, &mut packet) {
            Verdict::ToServer | Verdict::Pass => {}
            Verdict::ToClient | Verdict::Hold | Verdict::Drop(_) => return None,
        }
        let (alternative, server, _) = carrier::datagram(&packet)?;
        Some(Place { alternative, server, generation: self.generation() })
    }

    /// Sends a datagram to the server of a place, past byway. False if there is no room.
    pub fn send_to(&mut self, place: Place, datagram: &[u8]) -> bool {
        let now = timestamp(self.now);
        self.device.inner_mut().send(now, place, datagram)
    }

    /// Sends a datagram with the next [`poll`](Self::poll). False if there is no room.
    pub fn send(&mut self, way: Way, datagram: &[u8]) -> bool {
        let Some(lane) = self.lanes.get(way.lane.0) else {
            return false;
        };
        let meta = udp::UdpMetadata {
            endpoint: IpEndpoint::new((*way.origin.ip()).into(), way.origin.port()),
            local_address: Some(way.client.into()),
            meta: Default::default(),
        };
        self.sockets.get_mut::<udp::Socket<'_>>(lane.handle).send_slice(datagram, meta).is_ok()
    }

    /// Takes a datagram that has come into `buffer`.
    pub fn receive(&mut self, buffer: &mut Vec<u8>) -> Option<Way> {
        for (number, lane) in self.lanes.iter().enumerate() {
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(lane.handle);
            while let Ok((datagram, meta)) = socket.recv() {
                let IpAddress::Ipv4(origin) = meta.endpoint.addr;
                let Some(IpAddress::Ipv4(client)) = meta.local_address else {
                    continue;
                };
                buffer.clear();
                buffer.extend_from_slice(datagram);
                let origin = SocketAddrV4::new(origin, meta.endpoint.port);
                return Some(Way { lane: Lane(number), client, origin });
            }
        }
        None
    }

    /// The server that byway has this way's last packet sent to.
    pub fn server(&self, way: Way) -> Option<SocketAddrV4> {
        Some(self.place(way)?.server)
    }

    /// Where byway has this way's packets go to, and from.
    pub fn place(&self, way: Way) -> Option<Place> {
        let port = self.lanes.get(way.lane.0)?.port;
        let client = SocketAddrV4::new(way.client, port);
        let (connection, _) = self.translator().connection(Protocol::Udp, client, way.origin)?;
        let (alternative, server) = (connection.server_side.source, connection.server());
        Some(Place { alternative, server, generation: self.generation() })
    }

    /// Lets the answers of this place's server bypass byway from the next instruction on, for one more transfer, until it
    /// [`leave`](Self::leave)s.
    pub fn stay(&mut self, place: Place, way: Way) {
        self.device.inner_mut().stay(place, way);
    }

    /// A transfer does not stay any more.
    pub fn leave(&mut self, place: Place, way: Way) {
        self.device.inner_mut().leave(place, way);
    }

    /// The places that transfers stay at, and how often they have changed.
    pub fn places(&self) -> (u64, impl Iterator<Item = Place>) {
        self.device.inner().places()
    }

    /// Sends a datagram to the server of this place, wherever byway would lead it now. False if there is no room.
    pub fn send_from(&mut self, place: Place, way: Way, datagram: &[u8]) -> bool {
        if place.generation == self.generation() {
            return self.send(way, datagram);
        }
        self.send_to(place, datagram)
    }

    /// Takes a packet that a server has sent to this alternative endpoint and that has not come by the device: another process
    /// has translated it, or has left it as it was because a transfer stays there. [`receive_past`](Self::receive_past) gives
    /// its datagram. False if it is not whole, or for nobody.
    pub fn hand_in(&mut self, server: SocketAddrV4, alternative: SocketAddrV4, packet: &[u8]) -> bool {
        let Some((from, to, payload)) = carrier::datagram(packet).filter(|_| carrier::is_intact(packet)) else {
            return false;
        };
        let (place, way) = if (from, to) == (server, alternative) {
            let Some(found) = self.device.inner().find(server, alternative) else {
                return false;
            };
            found
        } else {
            let Some(lane) = self.lanes.iter().position(|lane| lane.port == to.port()) else {
                return false;
            };
            let way = Way { lane: Lane(lane), client: *to.ip(), origin: from };
            (Place { alternative, server, generation: self.generation() }, way)
        };
        self.device.inner_mut().hand_in(place, way, payload.to_vec());
        true
    }

    /// Takes a datagram that has come past byway, from the server of a place, or that was [handed in](Self::hand_in).
    pub fn receive_past(&mut self, buffer: &mut Vec<u8>) -> Option<(Way, Place)> {
        let (place, way, datagram) = self.device.inner_mut().receive()?;
        *buffer = datagram;
        Some((way, place))
    }

    /// Passes a datagram that has come past byway back to it, since it is for no transfer that stays there.
    pub fn give_back(&mut self, place: Place, datagram: &[u8]) {
        self.device.inner_mut().give_back(place, datagram);
    }

    /// Whether something was given back that byway gets with the next [`poll`](Self::poll).
    pub fn has_returned(&self) -> bool {
        self.device.inner().has_returned()
    }

    /// How many lanes there are.
    pub const fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn add(&mut self, generation: u32) -> usize {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; WAITING], vec![0; WAITING * MTU]);
        let handle = self.sockets.add(udp::Socket::new(buffer(), buffer()));
        self.lanes.push(LaneSocket { handle, port: 0, generation, users: Vec::new() });
        self.renew(self.lanes.len() - 1, generation)
    }

    /// Gives a lane a new port, so that byway opens a new connection for it.
    fn renew(&mut self, lane: usize, generation: u32) -> usize {
        let port = self.free_port();
        if let Some(lane) = self.lanes.get_mut(lane) {
            (lane.port, lane.generation) = (port, generation);
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(lane.handle);
            socket.close();
            // It is closed, and the port is not zero.
            let _ = socket.bind(port);
        }
        lane
    }

    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
            // There are far more ports than lanes.
            if self.lanes.iter().all(|lane| lane.port != port) {
                return port;
            }
        }
    }
}

impl<D: fmt::Debug> fmt::Debug for Far<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Far").field("device", &self.device).field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

fn timestamp(now: Instant) -> Timestamp {
    Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
