//! Both ends of `scripts/balancers.py`: servers whose service time is known, and clients whose requests do not wait for each
//! other.
//!
//! ```text
//! balancers servers SPEED@MILLISECONDS...      one server on port 80 of 20.0.0.1, 20.0.0.2, ...
//! balancers clients KEY=VALUE...               see `clients::Plan`
//! ```

#[cfg(target_os = "linux")]
mod clients;
#[cfg(target_os = "linux")]
#[cfg(target_os = "linux")]
mod servers;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), String> {
    let mut words = std::env::args().skip(1);
    let role = words.next();
    let words: Vec<String> = words.collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    match role.as_deref() {
        Some("servers") => runtime.block_on(servers::run(&words)),
        Some("clients") => runtime.block_on(clients::run(&words)),
        _ => Err("balancers servers SPEED@MILLISECONDS..., or balancers clients KEY=VALUE...".into()),
    }
}
