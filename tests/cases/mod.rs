//! How many cases a property test tries, and where it keeps those that failed.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::{FailurePersistence, FileFailurePersistence};

/// So many cases as the environment asks for (`PROPTEST_CASES`), or else `usual`; failures are shrunk, and `kept` in a
/// file if one is named.
pub(crate) fn config(usual: u32, kept: Option<&'static str>) -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { usual };
    let kept = kept.map(|file| Box::new(FileFailurePersistence::Direct(file)) as Box<dyn FailurePersistence>);
    ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: kept, ..ProptestConfig::default() }
}
