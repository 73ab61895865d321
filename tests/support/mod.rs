//! What the tests share: `byway-testing`, under the name by which they know it.

#![allow(unused_imports, unreachable_pub, reason = "each test uses a part of it")]

pub use byway_testing::*;
