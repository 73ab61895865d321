//! The control protocol: instructions, and who may give them.

mod attacks;
mod dissector;
mod floods;
mod fuzz;
#[cfg(feature = "naming")]
mod generation;
mod instructions;
mod lead;
mod limits;
mod measurements;
#[cfg(feature = "naming")]
mod names;
mod network;
mod python;
mod shards;
mod size;
mod support;
mod vectors;
