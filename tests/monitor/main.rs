//! The decisions of the monitor.

mod beside;
mod decisions;
mod late;
mod load;
mod readings;
mod returns;
mod samples;
mod undo;
