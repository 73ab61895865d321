//! Reports to collectors.

mod events;
mod exporter;
mod support;
