//! Random input: sequences of operations against a model, texts. `PROPTEST_CASES` says how many cases.

mod model;
mod sharded;
mod texts;
