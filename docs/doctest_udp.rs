// For examples in documentation, which include this file: a UDP datagram without data and without a checksum.
|from: SocketAddrV4, to: SocketAddrV4| {
    let mut packet = [0; 28];
    (packet[0], packet[3], packet[8], packet[9], packet[25]) = (0x45, 28, 64, 17, 8);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet
}
