//! Server cookies (RFC 7873) in the form that servers of different vendors share (RFC 9018, section 4).

use core::net::Ipv4Addr;

use crate::table::hash::sip;

/// The length of a client's cookie and ours together, in bytes.
pub(super) const COOKIES: usize = 24;

/// The only version (RFC 9018, section 4.1), and three reserved bytes.
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// A cookie from more than five minutes in the future, or older than an hour, is not valid (RFC 9018, section 4.3). In
/// seconds.
const FUTURE: i32 = 5 * 60;
const OLD: i32 = 60 * 60;

/// A client's cookie, and the server cookie that it gets at this time: version and time, and their hash.
pub(super) fn create(secret: (u64, u64), client: Ipv4Addr, cookie: [u8; 8], seconds: u32) -> [[u8; 8]; 3] {
    let [v0, v1, v2, v3] = VERSION;
    let [t0, t1, t2, t3] = seconds.to_be_bytes();
    let start = [v0, v1, v2, v3, t0, t1, t2, t3];
    // Client cookie, version, reserved, time and client: 20 bytes, the last word of which has the length in its top byte.
    let last = u64::from(u32::from_le_bytes(client.octets())) | 20 << 56;
    let words = [u64::from_le_bytes(cookie), u64::from_le_bytes(start), last];
    // SipHash-2-4.
    [cookie, start, sip(secret, words, (2, 4)).to_le_bytes()]
}

/// Whether the server cookie after a client's cookie was given to this client and has not expired.
pub(super) fn is_valid(secret: (u64, u64), client: Ipv4Addr, cookies: &[u8], seconds: u32) -> bool {
    let (&[cookie, start, hash], []) = cookies.as_chunks::<8>() else { return false };
    let [_, _, _, _, time @ ..] = start;
    let time = u32::from_be_bytes(time);
    // Serial number arithmetic (RFC 1982).
    let age = seconds.wrapping_sub(time) as i32;
    let [_, own_start, own_hash] = create(secret, client, cookie, time).map(u64::from_ne_bytes);
    // The comparison takes the same time whichever byte differs.
    let differs = own_start ^ u64::from_ne_bytes(start) | own_hash ^ u64::from_ne_bytes(hash);
    differs == 0 && (-FUTURE..=OLD).contains(&age)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: [u8; 16]) -> (u64, u64) {
        let (words, _) = bytes.as_chunks::<8>();
        (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]))
    }

    /// The server cookie alone.
    fn server(secret: (u64, u64), client: Ipv4Addr, cookie: [u8; 8], seconds: u32) -> [u8; 16] {
        create(secret, client, cookie, seconds).as_flattened()[8..].try_into().unwrap()
    }

    /// RFC 9018, appendix A.1 and A.2.
    #[test]
    fn the_vectors_of_rfc_9018() {
        let key = secret(0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes());
        let client = 0x2464_c4ab_cf10_c957_u64.to_be_bytes();
        let address = Ipv4Addr::new(198, 51, 100, 100);
        let cookie = server(key, address, client, 1_559_731_985);
        assert_eq!(cookie, 0x0100_0000_5cf7_9f11_1f81_30c3_eee2_9480_u128.to_be_bytes());
        let later = server(key, address, client, 1_559_734_385);
        assert_eq!(later, 0x0100_0000_5cf7_a871_d4a5_64a1_442a_ca77_u128.to_be_bytes());
        assert!(is_valid(key, address, &[client.as_slice(), &cookie].concat(), 1_559_734_385));
    }

    #[test]
    fn a_cookie_lasts_an_hour_and_is_for_one_client() {
        let (key, client, made) = ((1, 2), [7; 8], 5_u32);
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let cookies = create(key, address, client, made);
        let cookies = cookies.as_flattened();
        for (at, valid) in [(0, true), (made + 3600, true), (made + 3601, false), (made.wrapping_sub(301), false)] {
            assert_eq!(is_valid(key, address, cookies, at), valid, "{at}");
        }
        assert!(!is_valid(key, Ipv4Addr::new(192, 0, 2, 2), cookies, made));
        assert!(!is_valid((1, 3), address, cookies, made));
        for at in 0..COOKIES {
            let mut forged = cookies.to_vec();
            forged[at] ^= 1;
            // The client's cookie and the time are part of what is hashed, and so is the version.
            assert!(!is_valid(key, address, &forged, made), "{at}");
            assert!(!is_valid(key, address, &cookies[..at], made), "{at}");
        }
        assert!(!is_valid(key, address, &[cookies, &[0]].concat(), made));
    }
}
