//! `byway run` answers names.

mod answers;
mod pool;
mod relay;
