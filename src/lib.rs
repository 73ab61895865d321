//! byway: an embeddable address translator that can move live connections.
#![no_std]
