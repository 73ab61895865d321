//! The hosts around the machine, and how packets get from one to another.

use core::error::Error;
use core::net::Ipv4Addr;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::{dns, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{DnsQueryType, IpAddress, IpEndpoint};

use crate::machine::Machine;
use byway_examples::host::Host;

const CLIENT: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
/// What the DNS server answers to everything.
pub(crate) const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);

const DNS: u16 = 53;
/// Where the mirrors wait for the number of a block.
const BLOCKS: u16 = 7000;
const BLOCK: usize = 1024;

/// How long a step of the simulation is, and how many the client waits for something.
const STEP: i64 = 1;
const PATIENCE: u32 = 10_000;

/// A host with a socket that answers.
struct Service {
    address: Ipv4Addr,
    host: Host,
    socket: SocketHandle,
    served: u32,
}

pub(crate) struct Network {
    pub(crate) machine: Machine,
    client: Host,
    resolver: SocketHandle,
    /// The DNS server, then the mirrors.
    services: Vec<Service>,
    now: Instant,
    /// The packets that the client got.
    seen: Vec<Vec<u8>>,
}

impl Network {
    pub(crate) fn new(mirrors: &[Ipv4Addr]) -> Result<Self, Box<dyn Error>> {
        let mut client = Host::new(CLIENT, 1);
        let resolver = client.sockets.add(dns::Socket::new(&[SERVER.into()], vec![]));
        let mut services = Vec::new();
        for (number, address) in [SERVER].iter().chain(mirrors).enumerate() {
            let mut host = Host::new(*address, number as u64 + 2);
            let mut socket = udp_socket();
            socket.bind(if number == 0 { DNS } else { BLOCKS }).map_err(|error| format!("bind: {error}"))?;
            let socket = host.sockets.add(socket);
            services.push(Service { address: *address, host, socket, served: 0 });
        }
        Ok(Self { machine: Machine::new()?, client, resolver, services, now: Instant::ZERO, seen: Vec::new() })
    }

    pub(crate) fn millis(&self) -> i64 {
        self.now.total_millis()
    }

    /// How many queries the DNS server got.
    pub(crate) fn asked_at_server(&self) -> u32 {
        self.services[0].served
    }

    /// How many blocks each mirror served.
    pub(crate) fn served(&self) -> Vec<u32> {
        self.services[1..].iter().map(|service| service.served).collect()
    }

    /// Whether one of these addresses was in anything that the client got: in a header, in an answer, anywhere.
    pub(crate) fn client_has_seen(&self, addresses: &[Ipv4Addr]) -> bool {
        let has = |packet: &[u8], address: &Ipv4Addr| packet.windows(4).any(|bytes| bytes == address.octets());
        self.seen.iter().any(|packet| addresses.iter().any(|address| has(packet, address)))
    }

    /// The client's own resolver asks for a name.
    pub(crate) fn resolve(&mut self, name: &str) -> Result<Ipv4Addr, Box<dyn Error>> {
        let resolver = self.client.sockets.get_mut::<dns::Socket<'_>>(self.resolver);
        let query = resolver
            .start_query(self.client.interface.context(), name, DnsQueryType::A)
            .map_err(|error| format!("{name}: {error}"))?;
        for _ in 0..PATIENCE {
            self.step();
            let resolver = self.client.sockets.get_mut::<dns::Socket<'_>>(self.resolver);
            match resolver.get_query_result(query) {
                Ok(addresses) => {
                    let [IpAddress::Ipv4(address)] = addresses[..] else {
                        return Err(format!("{name} has the addresses {addresses:?}").into());
                    };
                    return Ok(address);
                }
                Err(dns::GetQueryResultError::Pending) => {}
                Err(error) => return Err(format!("{name}: {error}").into()),
            }
        }
        Err(format!("{name}: no answer").into())
    }

    /// Lets a millisecond pass: each host does what it has to, and what it sends arrives.
    fn step(&mut self) {
        self.now += smoltcp::time::Duration::from_millis(STEP as u64);
        self.client.poll(self.now);
        let mut sent = core::mem::take(&mut self.client.plug.sent);
        for service in &mut self.services {
            service.host.poll(self.now);
            service.answer();
            service.host.poll(self.now);
            sent.append(&mut service.host.plug.sent);
        }
        let now = byway::Instant::from_millis(self.now.total_millis() as u64);
        for packet in sent {
            for packet in self.machine.forward(now, packet) {
                self.deliver(packet);
            }
        }
    }

    /// Every host is on the machine's doorstep.
    fn deliver(&mut self, packet: Vec<u8>) {
        let destination = packet.get(16..20).and_then(|bytes| bytes.first_chunk::<4>()).map(|b| Ipv4Addr::from(*b));
        if destination == Some(CLIENT) {
            self.seen.push(packet.clone());
            self.client.plug.received.push_back(packet);
        } else if let Some(service) = self.services.iter_mut().find(|s| Some(s.address) == destination) {
            service.host.plug.received.push_back(packet);
        }
    }
}

impl Service {
    /// Answers what has come: a query with an address, the number of a block with the block.
    fn answer(&mut self) {
        let is_dns = self.address == SERVER;
        let socket = self.host.sockets.get_mut::<udp::Socket<'_>>(self.socket);
        while let Ok((request, meta)) = socket.recv() {
            let answer = if is_dns { dns_answer(request) } else { block(request) };
            // A full buffer loses the answer, as a network would.
            if let Some(answer) = answer
                && socket.send_slice(&answer, meta.endpoint).is_ok()
            {
                self.served += 1;
            }
        }
    }
}

/// The DNS server's answer: the query, made a response, and one record.
fn dns_answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut answer = query.to_vec();
    answer.get_mut(2..4)?.copy_from_slice(&[0x81, 0x80]);
    answer.get_mut(6..8)?.copy_from_slice(&[0, 1]);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend(OTHER_ADDRESS.octets());
    Some(answer)
}

/// A block of what the mirrors have: its number, and bytes that follow from it.
fn block(request: &[u8]) -> Option<Vec<u8>> {
    let number = u32::from_be_bytes(*request.first_chunk()?);
    let bytes = (0..BLOCK as u32).map(|at| (number.wrapping_mul(0x9e37_79b9) ^ at.wrapping_mul(0x85eb_ca6b)) as u8);
    Some(number.to_be_bytes().into_iter().chain(bytes).collect())
}

fn udp_socket() -> udp::Socket<'static> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 8 * (BLOCK + 4)]);
    udp::Socket::new(buffer(), buffer())
}

/// A transfer over UDP: the client asks for block after block, from one socket and always the same address.
pub(crate) struct Transfer {
    socket: SocketHandle,
    from: IpEndpoint,
    blocks: u32,
    is_intact: bool,
}

impl Transfer {
    pub(crate) fn begin(network: &mut Network, address: Ipv4Addr) -> Self {
        let mut socket = udp_socket();
        let port = 40_000 + network.millis() as u16 % 10_000;
        socket.bind(port).expect("the port is not zero");
        let socket = network.client.sockets.add(socket);
        Self { socket, from: IpEndpoint::new(address.into(), BLOCKS), blocks: 0, is_intact: true }
    }

    /// How many blocks have come.
    pub(crate) const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Whether each of them was what the mirrors have.
    pub(crate) const fn is_intact(&self) -> bool {
        self.is_intact
    }

    /// Fetches so many blocks more.
    pub(crate) fn run(&mut self, network: &mut Network, blocks: u32) -> Result<(), Box<dyn Error>> {
        for _ in 0..blocks {
            let request = self.blocks.to_be_bytes();
            let socket = network.client.sockets.get_mut::<udp::Socket<'_>>(self.socket);
            socket.send_slice(&request, self.from).map_err(|error| format!("send: {error}"))?;
            let mut patience = PATIENCE;
            loop {
                network.step();
                let socket = network.client.sockets.get_mut::<udp::Socket<'_>>(self.socket);
                if let Ok((answer, meta)) = socket.recv() {
                    self.is_intact &= meta.endpoint == self.from && block(&request).as_deref() == Some(answer);
                    break;
                }
                patience = patience.checked_sub(1).ok_or_else(|| format!("block {} did not come", self.blocks))?;
            }
            self.blocks += 1;
        }
        Ok(())
    }
}
