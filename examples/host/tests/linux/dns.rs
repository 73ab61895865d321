//! A DNS server, queries for it, and what it answers.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::net::UdpSocket;
use std::path::Path;

use byway_host::lab::space::Space;

use crate::network::{FOLDER, PATIENCE, Program, command, content, wait_for_port};

/// Starts unbound, which has all that is said about the names, mirrors' addresses included, and is no other's client.
pub(crate) fn unbound(space: &Space, address: Ipv4Addr) -> Program {
    let folder = Path::new(FOLDER).join(format!("unbound-{address}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut data = String::new();
    for name in ["www.bt.com", "a.xyz.com", "b.a.xyz.com"] {
        for record in [
            "A 123.45.67.89",
            "A 123.45.67.90",
            "AAAA 2001:db8::89",
            "HTTPS 1 . ipv4hint=123.45.67.89 ipv6hint=2001:db8::89",
            "SVCB 1 . ipv4hint=123.45.67.90",
            "MX 10 mail.bt.com.",
            "TXT \"123.45.67.89\"",
        ] {
            data += &format!(" local-data: '{name}. 60 {record}'\n");
        }
    }
    let long: String = (0..15).map(|n| format!("\"{n:x}{}\" ", "x".repeat(199))).collect();
    let config = format!(
        "server:\n username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n\
         \x20interface: {address}\n access-control: 0.0.0.0/0 allow\n do-ip6: no\n module-config: \"iterator\"\n num-threads: 1\n\
         \x20rrset-roundrobin: no\n incoming-num-tcp: 100\n local-zone: \".\" static\n{data}\
         \x20local-data: 'name.test. 60 TXT \"behind\"'\n local-data: 'name.test. 60 A 198.51.100.1'\n local-data: 'long.test. 60 TXT {long}'\n\
         \x20local-data: 'alias.test. 60 CNAME alias2.test.'\n local-data: 'alias2.test. 60 CNAME www.bt.com.'\n\
         \x20local-data: 'bt.com. 60 A 198.51.100.2'\n local-data: 'xyz.com. 60 A 198.51.100.3'\n\
         remote-control:\n control-enable: no\n",
        folder = folder.display(),
    );
    std::fs::write(folder.join("conf"), config).unwrap();
    let program = Program::start(space, command(&format!("unbound -d -c {}/conf", folder.display())));
    wait_for_port(space, "tcp", 53, || "unbound".into());
    program
}

/// A query with this identifier, and with EDNS if `edns` is not zero: what it can take.
pub(crate) fn query(id: u16, name: &str, kind: u16, edns: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns != 0)]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    if edns != 0 {
        query.extend([0, 0, 41]);
        query.extend(edns.to_be_bytes());
        query.extend([0, 0, 0x80, 0, 0, 0]);
    }
    query
}

/// Queries for names that are not in the table.
pub(crate) fn queries(count: u16) -> Vec<Vec<u8>> {
    let names =
        ["name.test", "NAME.test", "long.test", "bt.com", "xyz.com", "www.bt.com.au", "wwww.bt.com", "", "axyz.com"];
    let kinds = [1, 2, 6, 15, 16, 28, 65, 255];
    let edns = [0, 512, 1232, 4096];
    let one = |n: u16| {
        let bytes = content(n.into(), 4);
        let name = match usize::from(bytes[0]) % (names.len() + 3) {
            place if place < names.len() => names[place].to_string(),
            _ => format!("x{:x}.{:x}.test", bytes[2], n),
        };
        query(n ^ 0x5a5a, &name, kinds[usize::from(bytes[1]) % kinds.len()], edns[usize::from(bytes[3]) % edns.len()])
    };
    (0..count).map(one).collect()
}

/// One after the other.
pub(crate) fn over_udp(server: Ipv4Addr, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(SocketAddrV4::new(server, 53)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 65_535];
    let ask = |query: &Vec<u8>| {
        socket.send(query).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    queries.iter().map(ask).collect()
}

/// How many are not the same, and how the first two begin that differ.
pub(crate) fn differences(some: &[Vec<u8>], others: &[Vec<u8>]) -> String {
    let all: Vec<_> = some.iter().zip(others).filter(|(one, other)| one != other).collect();
    let start = |bytes: &[u8]| bytes[..bytes.len().min(100)].escape_ascii().to_string();
    let first = all.first().map(|(one, other)| format!("{}\nnot\n{}", start(one), start(other)));
    format!("{} differ: {}", all.len(), first.unwrap_or_default())
}
