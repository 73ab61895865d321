//! The table of connections: ports, limits, eviction, records, counters, measurements.

mod any_port;
mod churn;
mod counters_and_events;
mod forgetting;
mod full_table;
mod long_time;
mod measured;
mod measurements;
mod ports;
mod rates;
mod records;
mod records_of_shards;
mod restoring;
mod server_ports;
