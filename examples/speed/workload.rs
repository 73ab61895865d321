//! The flows: 16 for each client host of 10.0.0.0/8, to 251 originals with 4 ports each.
//!
//! A flow is arithmetic on its number, and one byte: the state of the code under test shall be what the caches
//! have to fetch, not that of the benchmark.

use core::net::{Ipv4Addr, SocketAddrV4};

use ::byway::Prefix;
use byway_testing::Dice;

use crate::labels::Protocol;
use crate::packet::Pair;

/// More flows would run into the alternative address, 10.10.10.10.
pub(crate) const MOST_FLOWS: u32 = 10_000_000;

pub(crate) const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);

const FIRST_HOST: u32 = 0x0a00_0000;

const REMOTES: u32 = 251;
const PORTS: [u16; 4] = [53, 80, 443, 8080];

#[derive(Debug)]
pub(crate) struct Flows {
    pub(crate) protocol: Protocol,
    /// For each flow, how often its client port had to be chosen again until it suited.
    tries: Vec<u8>,
    /// The client hosts; all of 10.0.0.0/8 in turn if there are none.
    hosts: Vec<Ipv4Addr>,
}

impl Flows {
    /// `count` flows, each of which `suits` has accepted.
    ///
    /// The limits keep each flow at a fixed place that its hash names, so no two flows may share one.
    pub(crate) fn new(
        count: u32,
        protocol: Protocol,
        mut suits: impl FnMut(Protocol, Pair) -> bool,
    ) -> Result<Self, String> {
        let mut flows = Self { protocol, tries: vec![0; count as usize], hosts: Vec::new() };
        for flow in 0..count {
            while !suits(protocol, flows.client_side(flow)) {
                let tries = &mut flows.tries[flow as usize];
                *tries = tries.checked_add(1).ok_or("no client port suits the limits")?;
            }
        }
        Ok(flows)
    }

    /// `count` flows of hosts that `is_ours` accepts.
    pub(crate) fn of_hosts(count: u32, protocol: Protocol, is_ours: impl Fn(Ipv4Addr) -> bool) -> Result<Self, String> {
        let all = (FIRST_HOST..ALTERNATIVE.to_bits()).map(Ipv4Addr::from_bits);
        let hosts: Vec<Ipv4Addr> = all.filter(|host| is_ours(*host)).take(count.div_ceil(16) as usize).collect();
        if (hosts.len() as u32) < count.div_ceil(16) {
            return Err(format!("--flows: too few hosts for {count} flows of each core"));
        }
        Ok(Self { protocol, tries: vec![0; count as usize], hosts })
    }

    pub(crate) fn count(&self) -> u32 {
        self.tries.len() as u32
    }

    /// The client, and the destination that it asks for.
    pub(crate) fn client_side(&self, flow: u32) -> Pair {
        let host = self.hosts.get(flow as usize / 16).copied();
        let host = host.unwrap_or(Ipv4Addr::from_bits(FIRST_HOST + flow / 16));
        let port = 4096 + u16::from(self.tries[flow as usize]) * 16 + (flow % 16) as u16;
        Pair { source: SocketAddrV4::new(host, port), destination: original(remote_of(flow)) }
    }

    /// The server to which the flow is diverted.
    pub(crate) fn server(&self, flow: u32) -> SocketAddrV4 {
        server(remote_of(flow))
    }
}

/// How many originals there are, ports counted.
pub(crate) const ORIGINALS: u32 = REMOTES * PORTS.len() as u32;

/// A prefix that holds all of them.
pub(crate) const ORIGINALS_PREFIX: Prefix = match Prefix::new(Ipv4Addr::new(198, 18, 0, 0), 24) {
    Some(prefix) => prefix,
    None => Prefix::ALL,
};

/// How many rules there are beside packets that none of them matches.
pub(crate) const FEW: u32 = 64;

/// An endpoint that clients ask for.
pub(crate) fn original(number: u32) -> SocketAddrV4 {
    let address = Ipv4Addr::from_bits(0xc612_0001 + number / 4); // 198.18.0.1 and on
    SocketAddrV4::new(address, PORTS[(number % 4) as usize])
}

/// The server that stands in for `original(number)`.
pub(crate) fn server(number: u32) -> SocketAddrV4 {
    let address = Ipv4Addr::from_bits(0xc613_0001 + number / 4); // 198.19.0.1 and on
    SocketAddrV4::new(address, 8000 + (number % 4) as u16)
}

/// A destination that no rule speaks of: somewhere in 80.0.0.0/8, seldom the same for two flows.
pub(crate) fn elsewhere(flow: u32) -> SocketAddrV4 {
    let address = 0x5000_0000 | (flow.wrapping_mul(0x9e37_79b1) >> 8);
    SocketAddrV4::new(Ipv4Addr::from_bits(address), PORTS[(flow % 4) as usize])
}

/// Every number below `count` once, each far from the one before: the order in which connections come and go.
pub(crate) fn scattered(count: u32) -> impl Iterator<Item = u32> {
    // A prime above every count, and so without a divisor in common with it.
    (0..u64::from(count)).map(move |number| (number * 2_654_435_761 % u64::from(count)) as u32)
}

fn remote_of(flow: u32) -> u32 {
    let mixed = u64::from(flow).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((mixed * u64::from(ORIGINALS)) >> 32) as u32
}

/// A number below `bound`, uniform but for one part in 2^32 / `bound`, without a division.
pub(crate) const fn below(dice: &mut Dice, bound: u32) -> u32 {
    (((dice.number() >> 32) * bound as u64) >> 32) as u32
}
