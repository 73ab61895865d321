//! Random sequences of operations against the naive model in `testing/src/targets/model/`: contracts 1 to 3, 5, 6, 8 and 9 of the
//! crate's documentation, checked after each step. `PROPTEST_CASES` says how many sequences.
//!
//! The operations and what is checked are those of the fuzz target `operations`, which searches where this one rolls
//! dice.

use byway_testing::{Dice, is_emulated, targets};
use proptest::collection::vec;
use proptest::prelude::*;
use targets::operations::{PLAIN, SEGMENT, STRETCH, explain, run};

/// An operation; every second one is a TCP segment with numbers that are nearly right, and of these a third has ACK alone.
fn stretch() -> impl Strategy<Value = [u8; STRETCH]> {
    (0..6, any::<[u8; STRETCH]>()).prop_map(|(kind, mut stretch)| {
        if kind >= 3 {
            stretch[0] = SEGMENT;
        }
        if kind == 5 {
            stretch[3] = PLAIN;
        }
        stretch
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: byway_testing::cases(2_000), ..ProptestConfig::default() })]

    /// Some operations, each a stretch of bytes, after the settings.
    #[test]
    fn the_translator_does_what_the_model_says(
        settings in any::<[u8; STRETCH]>(),
        stretches in vec(stretch(), 1..100),
    ) {
        let mut input = settings.to_vec();
        input.extend(stretches.iter().flatten());
        let failed = std::panic::catch_unwind(|| run(&input)).err();
        if let Some(failed) = failed {
            let why = failed.downcast_ref::<String>().cloned().unwrap_or_else(|| {
                failed.downcast_ref::<&str>().map_or_else(String::new, |s| (*s).to_owned())
            });
            return Err(TestCaseError::fail(format!("{why}\n{}", explain(&input))));
        }
    }
}

/// The first bytes of other operations.
const FRAGMENT: u8 = 28;
const WAIT: u8 = 0;
const REDIVERT: u8 = 7;
const TRANSMIT: u8 = 10;

/// Thousands of sequences about one connection meet every rule of the model.
#[test]
fn every_rule_is_met() {
    if is_emulated() {
        return;
    }
    let mut dice = Dice(1);
    targets::model::tcp::take_met();
    for number in 0..5_000_u32 {
        // The rules of the first original alone, and whatever else the settings say.
        let mut input = vec![0; STRETCH];
        for (at, byte) in input.iter_mut().enumerate() {
            *byte = if at == 8 { 1 } else { dice.below(256) as u8 };
        }
        if number % 5 == 0 {
            // Connections are taken up in the middle, and the server's segments come in fragments.
            (input[1], input[9]) = (1, 0);
        }
        let operations = 10 + dice.below(90);
        for operation in 0..operations {
            let mut stretch = [(); STRETCH].map(|()| dice.below(256) as u8);
            stretch[0] = match dice.below(20) {
                // A client begins, seldom more than one.
                0 => 12,
                // In every fifth there are fragments.
                1..=3 if number % 5 == 0 => FRAGMENT,
                4 => WAIT,
                7 if number % 2 == 0 => WAIT,
                // In every sixth connections are reset from here now and then.
                5 if number % 6 == 0 => REDIVERT,
                6 if number % 6 == 0 => TRANSMIT,
                _ => SEGMENT,
            };
            if stretch[0] == WAIT {
                // For a tick, for a second, or for half a minute.
                (stretch[1], stretch[2]) = (1 + stretch[1] % 3, 1);
            }
            if stretch[0] == REDIVERT {
                // Reset, from one mirror to the other.
                let from = stretch[2] % 2;
                stretch[1..6].copy_from_slice(&[2, from, 1, 1 - from, 1]);
            }
            if stretch[0] == 12 || stretch[0] == SEGMENT && number % 4 == 0 {
                // TCP of the first client to the first original.
                stretch[1..7].fill(0);
                stretch[1] = 1;
                stretch[6] = if number % 5 == 0 { 2 } else { 0 };
            }
            if stretch[0] == FRAGMENT {
                (stretch[1], stretch[3], stretch[4]) = (0, [0, 2][dice.index(2)], 0);
            }
            if stretch[0] == SEGMENT {
                stretch[1] = 0;
                if number % 5 == 0 {
                    stretch[2] = 0;
                    if dice.below(16) == 0 {
                        // A RST of the server, of which no whole segment was heard, with a number of nobody.
                        stretch[2..5].copy_from_slice(&[1, 10, 15]);
                    }
                }
                // In every seventh two sides repeat their handshake.
                if number % 7 == 0 && dice.below(2) != 0 {
                    stretch[3] = [0, 2, PLAIN, PLAIN][dice.index(4)];
                }
                // In as many, clients begin anew within a conversation, and the server answers; then come segments with
                // numbers of nobody.
                if number % 7 == 3 && operation > 12 && dice.below(8) != 0 {
                    match operation % 8 {
                        0 => stretch[2..7].copy_from_slice(&[0, 0, 0, 3, 0]),
                        1 => stretch[2..8].copy_from_slice(&[1, 2, 13, 0, 9, 0]),
                        _ if dice.below(2) == 0 => stretch[2..6].copy_from_slice(&[0, PLAIN, 14, 0]),
                        _ => stretch[3] = [PLAIN, PLAIN, 2, 10][dice.index(4)],
                    }
                }
                // In every third both sides go on to talk, with whatever numbers.
                if number % 3 == 0 && number % 7 != 3 && operation > 12 && dice.below(16) != 0 {
                    stretch[3] = PLAIN;
                }
                // In some there is a RST, and then both sides go on with other numbers.
                if number % 20 == 1 && operation > 30 {
                    let back = (operation % 2) as u8;
                    let goes_on = if operation == 31 { [back, 10, 7, 0, 0, 0] } else { [back, PLAIN, 14, 0, 9, 0] };
                    stretch[2..8].copy_from_slice(&goes_on);
                }
            }
            input.extend(stretch);
        }
        run(&input);
    }
    let met = targets::model::tcp::take_met();
    let rare: Vec<_> = met.iter().filter(|(_, count)| **count < 5).collect();
    assert!(rare.is_empty(), "rules that were hardly met: {rare:?}");
}
