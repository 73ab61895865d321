//! Random sequences of operations against the naive model in `tests/model/`: contracts 1 to 3, 5, 6, 8 and 9 of the
//! crate's documentation, checked after each step. `PROPTEST_CASES` says how many sequences.
//!
//! The operations and what is checked are those of the fuzz target `operations`, which searches where this one rolls
//! dice.

mod cases;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use proptest::collection::vec;
use proptest::prelude::*;
use targets::operations::{STRETCH, explain, run};

proptest! {
    #![proptest_config(cases::config(2_000, Some("tests/model.proptest-regressions")))]

    /// Some operations, each a stretch of octets, after the settings.
    #[test]
    fn the_translator_does_what_the_model_says(
        settings in any::<[u8; STRETCH]>(),
        stretches in vec(any::<[u8; STRETCH]>(), 1..100),
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
