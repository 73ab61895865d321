//! Random sequences of operations against the naive model in `tests/model/`: contracts 1 to 3, 5, 6, 8 and 9 of the
//! crate's documentation, checked after each step. `PROPTEST_CASES` says how many sequences.
//!
//! The operations and what is checked are those of the fuzz target `operations`, which searches where this one rolls
//! dice.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use targets::operations::{STRETCH, explain, run};

fn config() -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 2_000 };
    let kept = FileFailurePersistence::Direct("tests/model.proptest-regressions");
    ProptestConfig {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(kept)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

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
