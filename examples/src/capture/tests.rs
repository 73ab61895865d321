//! Files that are built byte by byte.

use super::*;

type Words = (fn(u16) -> [u8; 2], fn(u32) -> [u8; 4], fn(u64) -> [u8; 8]);
const LITTLE: Words = (u16::to_le_bytes, u32::to_le_bytes, u64::to_le_bytes);
const BIG: Words = (u16::to_be_bytes, u32::to_be_bytes, u64::to_be_bytes);

/// The header of a pcap file of raw IP.
const PCAP: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0, 101];

fn block((_, word, _): Words, kind: u32, body: &[u8]) -> Vec<u8> {
    let body = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
    let length = word(body.len() as u32 + 12);
    [&word(kind)[..], &length, &body, &length].concat()
}

fn section(words: Words) -> Vec<u8> {
    let (half, word, long) = words;
    block(words, 0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &half(1), &half(0), &long(u64::MAX)].concat())
}

/// An interface with a link type, the most that is captured of a packet, a resolution and an offset.
fn interface(words: Words, link: u16, snaplen: u32, (resolution, offset): (u8, i64)) -> Vec<u8> {
    let (half, word, long) = words;
    let options = [&half(9)[..], &half(1), &[resolution, 0, 0, 0], &half(14), &half(8), &long(offset as u64)];
    block(words, 1, &[&half(link)[..], &half(0), &word(snaplen), &options.concat(), &[0; 4]].concat())
}

fn packet(words: Words, interface: u32, time: u64, length: u32, data: &[u8]) -> Vec<u8> {
    let word = words.1;
    let numbers = [interface, (time >> 32) as u32, time as u32, data.len() as u32, length].map(word).concat();
    block(words, 6, &[&numbers, data].concat())
}

fn simple_packet(words: Words, length: u32, data: &[u8]) -> Vec<u8> {
    block(words, 3, &[&words.1(length), data].concat())
}

/// The body of an old Packet Block.
fn old_packet(
    (half, word, _): Words,
    interface: u16,
    time: u64,
    (captured, length): (u32, u32),
    data: &[u8],
) -> Vec<u8> {
    let words = [(time >> 32) as u32, time as u32, captured, length].map(word).concat();
    [&half(interface)[..], &half(0xffff), &words, data].concat()
}

/// Time, link layer, frame, and whether it was cut.
type Seen = (Duration, Result<Link, i32>, Vec<u8>, bool);

/// All records of a file as far as it can be read, and why no further.
fn read(file: &[u8]) -> (Vec<Seen>, Option<CaptureError>) {
    let mut records = Vec::new();
    let mut capture = match Capture::open(file) {
        Ok(capture) => capture,
        Err(error) => return (records, Some(error)),
    };
    loop {
        match capture.next_record() {
            Ok(Some(r)) => records.push((r.time, r.link, r.frame.to_vec(), r.cut)),
            Ok(None) => return (records, None),
            Err(error) => return (records, Some(error)),
        }
    }
}

#[test]
fn pcapng_with_several_interfaces_clocks_and_sections() {
    let file: Vec<u8> = [LITTLE, BIG]
        .into_iter()
        .flat_map(|words| {
            [
                section(words),
                interface(words, 1, 4, (9, 0)),
                interface(words, 101, 0, (0x80 | 10, -50)),
                packet(words, 0, 7_000_000_009, 5, b"abcde"),
                block(words, 0x0bad, b"something else"),
                packet(words, 1, 100 * 1024 + 512, 9, b"fgh"),
                simple_packet(words, 6, b"ijkl"),
                block(words, 2, &old_packet(words, 1, 101 * 1024, (5, 7), b"mnopq\0\0\0options!")),
            ]
            .concat()
        })
        .collect();
    let section = [
        (Duration::new(7, 9), Ok(Link::Ethernet), b"abcde".to_vec(), false),
        (Duration::new(50, 500_000_000), Ok(Link::Raw), b"fgh".to_vec(), true),
        (Duration::new(50, 500_000_000), Ok(Link::Ethernet), b"ijkl".to_vec(), true),
        (Duration::new(51, 0), Ok(Link::Raw), b"mnopq".to_vec(), true),
    ];
    assert_eq!(read(&file), ([section.clone(), section].concat(), None));
}

#[test]
fn what_cannot_be_read_is_named() {
    let file = |blocks: &[Vec<u8>]| [section(LITTLE), blocks.concat()].concat();
    let ethernet = || interface(LITTLE, 1, 0, (6, 0));
    for (file, error) in [
        (Vec::new(), CaptureError::Empty),
        (vec![0x5a; 64], CaptureError::NoCapture),
        (section(LITTLE)[..9].to_vec(), CaptureError::NoCapture),
        (file(&[packet(LITTLE, 0, 0, 1, b"a")]), CaptureError::NoInterface { record: 1, interface: 0 }),
        (file(&[ethernet(), packet(LITTLE, 7, 0, 1, b"a")]), CaptureError::NoInterface { record: 1, interface: 7 }),
        (file(&[interface(LITTLE, 1, 0, (99, 0))]), CaptureError::TimeResolution { interface: 0, exponent: 99 }),
        (file(&[ethernet(), block(LITTLE, 2, &[0; 16])]), CaptureError::Damaged { record: 1 }),
        (
            file(&[ethernet(), block(LITTLE, 2, &old_packet(LITTLE, 0, 0, (9, 9), b"12345678"))]),
            CaptureError::Damaged { record: 1 },
        ),
        (
            file(&[ethernet(), block(LITTLE, 2, &old_packet(LITTLE, 1, 0, (1, 1), b"a"))]),
            CaptureError::NoInterface { record: 1, interface: 1 },
        ),
        (file(&[ethernet(), packet(LITTLE, 0, 0, 1, b"a")[..30].to_vec()]), CaptureError::EndsWithin { record: 1 }),
    ] {
        assert_eq!(read(&file), (vec![], Some(error)), "{error}");
    }
}

/// Frames of a link layer that we do not read are handed over all the same, so that they are counted; a file that has no
/// others is refused at its end, whatever the order of its interfaces.
#[test]
fn a_file_is_refused_for_its_link_layers_only_if_it_has_no_other() {
    let [wireless, can, ethernet] = [127, 227, 1].map(|link| interface(LITTLE, link, 0, (6, 0)));
    let frames = |interfaces: &[u32]| -> Vec<u8> {
        interfaces.iter().flat_map(|interface| packet(LITTLE, *interface, 0, 1, b"a")).collect()
    };
    let start = [section(LITTLE), wireless, can, ethernet].concat();
    let refused = |record, number| Some(CaptureError::LinkType { record, number });
    for (interfaces, error) in [
        (&[][..], None),
        (&[0], refused(1, 127)),
        (&[1, 0, 1], refused(1, 227)),
        (&[2, 1], None),
        (&[1, 0, 2], None),
        (&[2], None),
    ] {
        let (seen, why) = read(&[start.clone(), frames(interfaces)].concat());
        let links: Vec<_> = interfaces.iter().map(|i| [Err(127), Err(227), Ok(Link::Ethernet)][*i as usize]).collect();
        assert_eq!((seen.into_iter().map(|seen| seen.1).collect::<Vec<_>>(), why), (links, error), "{interfaces:?}");
    }
}

#[test]
fn a_record_may_be_larger_than_the_buffer() {
    let header = PCAP.map(u32::to_le_bytes).concat();
    let data = vec![0x45; BUFFER + 5];
    let length = data.len() as u32;
    let record = [&[3, 4, length, length].map(u32::to_le_bytes).concat()[..], &data].concat();
    let expected = (Duration::new(3, 4_000), Ok(Link::Raw), data, false);
    let file = [&header[..], &record, &record].concat();
    assert_eq!(read(&file), (vec![expected.clone(), expected], None));
}

#[test]
fn a_time_that_cannot_be_written_is_the_nearest_one() {
    let interface = Interface { link: Linktype(1), resolution: 1, offset: -5, snaplen: 0 };
    assert_eq!(interface.time(3), Duration::ZERO);
    assert_eq!(Interface { offset: 5, ..interface }.time(u128::from(u64::MAX)), Duration::new(u64::MAX, 0));
    assert_eq!(Interface { resolution: 10_u128.pow(38), ..interface }.time(u128::MAX).as_secs(), 0);
}

#[test]
fn a_record_that_claims_too_much_is_not_read_for_ever() {
    let pcap = [&PCAP[..], &[0, 0, 0x7fff_ffff, 0]].concat();
    let pcapng = [section(LITTLE), [6_u32, 0x7fff_fff0].map(u32::to_le_bytes).concat()].concat();
    for file in [pcap.into_iter().flat_map(u32::to_le_bytes).collect(), pcapng] {
        let mut capture = Capture::open(file.chain(io::repeat(0))).unwrap();
        assert_eq!(capture.next_record().unwrap_err(), CaptureError::TooLarge { record: 1 });
    }
}
