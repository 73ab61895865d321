//! The decisions of the monitor.

mod decisions;
mod late;
mod load;
mod readings;
mod returns;
mod samples;
mod undo;
