//! Any frame at all.

use super::*;

/// xorshift64*; the seed is in the name of nothing: a failure prints the frame.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Damaged frames of every kind that the router reads, on both sides: nothing panics, and afterwards it still forwards.
#[test]
fn no_frame_makes_it_panic() {
    let mut bench = Bench::new().acquainted();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..200_000_u32 {
        let side = random.below(2);
        let (mac, host) = if side == 0 { (CLIENT_MAC, CLIENT) } else { (SERVER_MAC, SERVER) };
        let other = [CLIENT, SERVER, ROUTER[0], ROUTER[1], Ipv4Addr::from(random.next() as u32)][random.below(5)];
        let len = 28 + random.below(1473);
        let mut bytes = match random.below(6) {
            0 => arp(ArpOperation::Request, mac, host, EthernetAddress::BROADCAST, other),
            1 => arp(ArpOperation::Reply, mac, host, ROUTER_MACS[side], other),
            2 => frame(mac, ROUTER_MACS[side], &echo_request(host, other, random.next() as u8, &[7; 32])),
            3 => frame(mac, ROUTER_MACS[side], &udp(host, other, len, random.below(2) == 0)),
            4 => (0..random.below(MAX_FRAME + 40)).map(|_| random.next() as u8).collect(),
            _ => {
                // A header of random fields whose checksum is right, so that it gets past the first check.
                let mut bytes = udp(host, other, len, false);
                let header_len = 20 + 4 * random.below(11);
                let end = header_len.min(bytes.len());
                bytes[0] = 0x40 | (header_len / 4) as u8;
                for place in [1, 4, 5, 6, 7, 8, 9] {
                    bytes[place] = random.next() as u8;
                }
                bytes[20..end].iter_mut().for_each(|byte| *byte = random.next() as u8);
                bytes[10..12].fill(0);
                let sum = crate::ipv4::checksum(&bytes[..end]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
                frame(mac, ROUTER_MACS[side], &bytes)
            }
        };
        for _ in 0..[0, 0, 1, 3][random.below(4)] {
            // The link addresses stay right, or nothing would be read.
            if bytes.len() > 12 {
                let place = 12 + random.below(bytes.len() - 12);
                bytes[place] ^= 1 << random.below(8);
            }
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        bench.now += crate::Duration::from_micros(random.below(20_000) as u64);
        bench.receive(side, &bytes);
        if round % 16 == 0 {
            bench.poll();
        }
    }
    let mut bench = bench.acquainted();
    assert_eq!(packet_to(&bench.ip(0, &udp(CLIENT, SERVER, 100, false))[0], 1).dst_addr(), SERVER);
}
