//! The options of a TCP header (RFC 9293, section 3.1; RFC 7323; RFC 2018).

use super::tcp::HEADER;

const END: u8 = 0;
pub(crate) const NOP: u8 = 1;
pub(crate) const MSS: u8 = 2;
pub(crate) const WINDOW_SCALE: u8 = 3;
pub(crate) const SACK_PERMITTED: u8 = 4;
pub(crate) const SACK: u8 = 5;
pub(crate) const TIMESTAMPS: u8 = 8;
/// TCP MD5 signatures (RFC 2385).
const MD5: u8 = 19;
/// The TCP authentication option (RFC 5925).
const AUTHENTICATION: u8 = 29;
/// Multipath TCP (RFC 8684).
pub(crate) const MULTIPATH: u8 = 30;

/// The largest window scale (RFC 7323, section 2.3).
pub(crate) const LARGEST_SCALE: u8 = 14;

/// One option: its kind, and where its value lies in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpOption {
    pub(crate) kind: u8,
    /// Where the value begins, after kind and length.
    pub(crate) at: usize,
    /// Bytes of the value.
    pub(crate) length: usize,
}

/// The options of a segment, up to the first that is malformed. Padding is skipped.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a> {
    header: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// The options of the segment that begins with this TCP header.
    pub(crate) fn of(segment: &'a [u8]) -> Self {
        let length = segment.get(12).map_or(0, |offset| usize::from(offset >> 4) << 2);
        Self { header: segment.get(..length).unwrap_or_default(), at: HEADER }
    }
}

impl Iterator for Options<'_> {
    type Item = TcpOption;

    fn next(&mut self) -> Option<TcpOption> {
        loop {
            let kind = *self.header.get(self.at)?;
            match kind {
                END => return None,
                NOP => self.at += 1,
                kind => {
                    let length = usize::from(*self.header.get(self.at + 1)?);
                    let end = self.at + length;
                    if length < 2 || end > self.header.len() {
                        return None;
                    }
                    let option = TcpOption { kind, at: self.at + 2, length: length - 2 };
                    self.at = end;
                    return Some(option);
                }
            }
        }
    }
}

/// What the options of a SYN offer or agree to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The maximum segment size.
    pub(crate) mss: u16,
    /// The window scale.
    pub(crate) scale: Option<u8>,
    /// Selective acknowledgements.
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    /// Each segment is signed (RFC 2385, RFC 5925).
    pub(crate) signed: bool,
}

impl Offer {
    /// The offer of a SYN without options; 536 is the default maximum segment size (RFC 9293, section 3.7.1).
    pub(crate) const NONE: Self = Self { mss: 536, scale: None, sack: false, timestamps: false, signed: false };

    /// What the segment that begins with this TCP header offers.
    pub(crate) fn of(segment: &[u8]) -> Self {
        let mut offer = Self::NONE;
        for option in Options::of(segment) {
            match (option.kind, segment.get(option.at..option.at + option.length)) {
                (MSS, Some(&[high, low])) => offer.mss = u16::from_be_bytes([high, low]),
                (WINDOW_SCALE, Some(&[scale])) => offer.scale = Some(scale.min(LARGEST_SCALE)),
                (SACK_PERMITTED, Some([])) => offer.sack = true,
                (TIMESTAMPS, Some([_, _, _, _, _, _, _, _])) => offer.timestamps = true,
                (MD5 | AUTHENTICATION, _) => offer.signed = true,
                _ => {}
            }
        }
        offer
    }
}

/// Whether a segment begins with timestamps as nearly every sender puts them (RFC 7323, appendix A): TSval is at
/// [`USUAL_TIMESTAMPS`].
#[inline(always)]
pub(crate) fn has_usual_timestamps(segment: &[u8]) -> bool {
    matches!(segment.get(HEADER..).and_then(<[u8]>::first_chunk), Some([NOP, NOP, TIMESTAMPS, 10]))
        && segment.get(12).is_some_and(|offset| *offset >> 4 >= 8)
}

/// Where TSval lies in such a segment.
pub(crate) const USUAL_TIMESTAMPS: usize = HEADER + 4;

/// Where TSval and TSecr lie in a segment, if it carries timestamps.
#[cfg_attr(target_pointer_width = "64", inline)]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) fn timestamps(segment: &[u8]) -> Option<usize> {
    if has_usual_timestamps(segment) {
        return Some(USUAL_TIMESTAMPS);
    }
    Options::of(segment).find(|option| option.kind == TIMESTAMPS && option.length == 8).map(|option| option.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn segment(options: &[u8]) -> Vec<u8> {
        let mut segment = vec![0; HEADER];
        segment.extend(options);
        segment.resize(segment.len().next_multiple_of(4), END);
        segment[12] = (segment.len() as u8 / 4) << 4;
        segment.extend([9; 8]);
        segment
    }

    #[test]
    fn options_are_read_up_to_the_first_that_is_malformed() {
        let kinds =
            |options: &[u8]| Options::of(&segment(options)).map(|o| (o.kind, o.at, o.length)).collect::<Vec<_>>();
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&[MSS, 4, 5, 180, SACK_PERMITTED, 2]), [(MSS, 22, 2), (SACK_PERMITTED, 26, 0)]);
        assert_eq!(kinds(&[NOP, NOP, NOP, WINDOW_SCALE, 3, 7]), [(WINDOW_SCALE, 25, 1)]);
        assert_eq!(kinds(&[END, MSS, 4, 5, 180]), []);
        // A length of zero or one would never end; one beyond the header would read data.
        for length in [0, 1, 9, 255] {
            assert_eq!(kinds(&[SACK_PERMITTED, 2, 77, length]), [(SACK_PERMITTED, 22, 0)]);
        }
        // The data offset is beyond the segment.
        assert_eq!(Options::of(&[0xf0; 20]).next(), None);
    }

    #[test]
    fn timestamps_are_found_anywhere() {
        let ts = [TIMESTAMPS, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(timestamps(&segment(&[&[NOP, NOP], &ts[..]].concat())), Some(24));
        assert_eq!(timestamps(&segment(&ts)), Some(22));
        assert_eq!(timestamps(&segment(&[&[NOP], &ts[..]].concat())), Some(23));
        assert_eq!(timestamps(&segment(&[NOP, NOP, TIMESTAMPS, 9, 1, 2, 3, 4, 5, 6, 7])), None);
        // What looks like timestamps is data.
        let mut data = segment(&[]);
        data.splice(20.., [NOP, NOP, TIMESTAMPS, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(timestamps(&data), None);
    }
}
