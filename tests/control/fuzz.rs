//! The fuzzers' targets on bytes that look random, and on the test vectors with a few bytes changed.

use byway_testing::Dice;
use byway_testing::targets::control as fuzz;

/// The datagrams of the vectors.
fn vectors() -> Vec<Vec<u8>> {
    let text = include_str!("../../docs/control-vectors.txt");
    let lines = text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once(" = "));
    let bytes =
        |hex: &str| (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    lines.filter(|(_, hex)| hex.len() > 64).map(|(_, hex)| bytes(hex)).collect()
}

fn changed(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..dice.index(4) {
        if bytes.is_empty() {
            break;
        }
        let at = dice.index(bytes.len());
        match dice.index(4) {
            0 => bytes[at] = dice.index(256) as u8,
            1 => bytes[at] = bytes[at].wrapping_add(1),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, 0),
        }
    }
    bytes
}

#[test]
fn parsers() {
    let (dice, vectors) = (&mut Dice(1), vectors());
    for round in 0..3_000 {
        let noise: Vec<u8> = (0..dice.index(600)).map(|_| dice.index(256) as u8).collect();
        let vector = vectors[dice.index(vectors.len())].clone();
        // The vectors' session is another one, so that even unchanged ones are strangers here.
        fuzz::parsers(&if round % 4 == 0 { noise } else { changed(dice, vector) });
    }
}

#[test]
fn answers() {
    let (dice, vectors) = (&mut Dice(2), vectors());
    for round in 0..3_000 {
        let noise: Vec<u8> = (0..dice.index(1168)).map(|_| dice.index(256) as u8).collect();
        let vector = &vectors[dice.index(vectors.len())];
        let body = vector[16..vector.len() - 16].to_vec();
        fuzz::answers(&if round % 4 == 0 { noise } else { changed(dice, body) });
    }
}

#[test]
fn sessions() {
    let (dice, vectors) = (&mut Dice(3), vectors());
    let bodies: Vec<&[u8]> = vectors.iter().filter(|v| v[3] == 4).map(|v| &v[16..v.len() - 16]).collect();
    for _ in 0..1_500 {
        let mut data = Vec::new();
        for _ in 0..dice.index(12) {
            if dice.index(4) == 0 {
                data.extend([dice.index(4) as u8, dice.index(256) as u8]);
                continue;
            }
            let body = bodies[dice.index(bodies.len())].to_vec();
            let mut body = if dice.index(3) == 0 { changed(dice, body) } else { body };
            if body.len() % 2 == 1 {
                body.push(0);
            }
            data.extend([4, (body.len() / 2) as u8]);
            data.extend(body);
        }
        fuzz::session(&data);
    }
}
