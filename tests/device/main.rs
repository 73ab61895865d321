//! The smoltcp device.

mod frames;
mod full_queue;
