//! The network of the document's figure 3: a client, a proxy, and two mirrors that nobody but the proxy knows.

use core::net::{Ipv4Addr, SocketAddrV4};

use super::space::Space;

/// The client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);
/// The proxy, as the client's router.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 1);
/// The source address of byway's own messages.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
/// What the client asks for. Nobody has this address.
pub const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
/// What the mirrors see in the client's place.
pub const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
/// The first mirror.
pub const A: Ipv4Addr = Ipv4Addr::new(123, 45, 67, 89);
/// The second mirror.
pub const B: Ipv4Addr = Ipv4Addr::new(123, 45, 67, 90);
/// Where byway takes instructions.
pub const CONTROL: SocketAddrV4 = SocketAddrV4::new(PROXY, 5213);

/// Four namespaces, and the cables between them.
#[derive(Clone, Debug)]
pub struct Network {
    /// The client's.
    pub client: Space,
    /// The proxy's: `to-client`, `to-a` and `to-b` are its ends of the cables.
    pub proxy: Space,
    /// The first mirror's.
    pub a: Space,
    /// The second mirror's.
    pub b: Space,
}

impl Network {
    /// Lays the cables, and tells each machine where the others are.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn build() -> Result<Self, String> {
        let [client, proxy, a, b] = ["client", "proxy", "a", "b"].map(Space::new);
        let (client, proxy, a, b) = (client?, proxy?, a?, b?);
        proxy.set(&[("ip_forward", "1"), ("conf/all/rp_filter", "1"), ("conf/default/rp_filter", "1")])?;
        proxy.ip("link set lo up")?;
        for (space, address) in [(&client, CLIENT), (&a, A), (&b, B)] {
            let name = space.name();
            proxy.ip(&format!("link add name to-{name} type veth peer name eth0 netns {name}"))?;
            // Each is alone on its cable, so that there is no ARP for addresses that nobody has.
            space.ip(&format!(
                "link set lo up
                 address add {address}/32 dev eth0
                 link set eth0 up
                 route add {PROXY}/32 dev eth0
                 route add default via {PROXY} dev eth0"
            ))?;
            proxy.ip(&format!(
                "address add {PROXY}/32 dev to-{name}
                 link set to-{name} up
                 route add {address}/32 dev to-{name} src {PROXY}"
            ))?;
        }
        Ok(Self { client, proxy, a, b })
    }
}
