//! The routes to the device: a routing table of its own, which is not used for packets that come from the device.
//!
//! So packets that pass untranslated cannot come back: a packet from the device is routed as if the device were not there. With
//! routes in the main table such a packet would go round until its TTL runs out.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::config::Device;

/// The metric of byway's blackholes: worse than that of the routes beside them.
const BLACKHOLE_METRIC: &str = "4096";

/// Sets up the device's link and routes. Routes that exist already stay.
///
/// # Errors
/// One line with the error of `ip`.
pub fn add_routes(device: &Device) -> Result<(), String> {
    let Device { name, mtu, table, queue_length, .. } = device;
    let mut lines = vec![format!("link set dev {name} mtu {mtu} txqueuelen {queue_length} up")];
    match device.address.map_or_else(|| first_address(name), |address| Ok(Some(address.to_string())))? {
        // For the kernel's own ICMP errors: it sends them from this address, and accepts what comes back from a device that has
        // an address.
        Some(address) => lines.push(format!("address replace {address}/32 dev {name}")),
        None => tracing::warn!("this machine has no address: say device.address, for the kernel's own ICMP errors"),
    }
    for route in &device.routes {
        lines.push(format!("route replace {route} dev {name} table {table}"));
        if device.blackhole {
            // The blackhole takes over when the device is gone.
            lines.push(format!("route replace blackhole {route} table {table} metric {BLACKHOLE_METRIC}"));
        }
    }
    let rules = ip(&["-o", "-4", "rule", "show", "priority", &table.to_string()], None)?;
    if !rules.contains(&format!("not from all iif {name} ")) {
        lines.push(format!("rule add not iif {name} lookup {table} priority {table}"));
    }
    ip(&["-4", "-batch", "-"], Some(&lines.join("\n")))?;
    accept_own_errors(name);
    Ok(())
}

/// Lets the kernel accept its own ICMP errors: one about a packet from the device comes back out of the device translated, with
/// one of the machine's own addresses as its source. Without these settings it would be taken for spoofed.
fn accept_own_errors(name: &str) {
    // The kernel's own IPv6 messages must not go through this device. The kernel may have no IPv6.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
    // Strict reverse-path filtering also checks the device, and these addresses belong to another one. 2 is loose.
    for (setting, value) in [("accept_local", "1"), ("rp_filter", "2")] {
        let setting = format!("/proc/sys/net/ipv4/conf/{name}/{setting}");
        if let Err(error) = std::fs::write(&setting, value) {
            tracing::warn!("{setting}: {error}: ICMP errors of the kernel about translated packets will not arrive");
        }
    }
}

/// The first address of another device.
fn first_address(name: &str) -> Result<Option<String>, String> {
    // NUMBER: DEVICE inet ADDRESS/LENGTH ...
    let all = ip(&["-o", "-4", "address", "show", "scope", "global"], None)?;
    let mut addresses = all.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let device = words.next()?;
        (device != name).then(|| words.nth(1)?.split('/').next().map(String::from))?
    });
    Ok(addresses.next())
}

/// Removes routes that an earlier configuration has left in the table. Routes of other programs stay.
///
/// # Errors
/// One line with the error of `ip`.
pub fn remove_other_routes(device: &Device) -> Result<(), String> {
    let shown = ip(&["-o", "-4", "route", "show", "table", &device.table.to_string()], None)?;
    let lines = left_over(device, &shown);
    if lines.is_empty() { Ok(()) } else { ip(&["-4", "-batch", "-"], Some(&lines.join("\n"))).map(drop) }
}

/// The commands that remove the routes of a table that byway has set and that the configuration does not contain: those to its
/// device, and its blackholes.
fn left_over(device: &Device, shown: &str) -> Vec<String> {
    let Device { name, table, .. } = device;
    let wanted: HashSet<String> = device.routes.iter().map(ToString::to_string).collect();
    let mut lines = Vec::new();
    for line in shown.lines() {
        let blackhole = line.strip_prefix("blackhole ");
        let words: Vec<_> = blackhole.unwrap_or(line).split_whitespace().collect();
        let own = if blackhole.is_some() { ["metric", BLACKHOLE_METRIC] } else { ["dev", name.as_str()] };
        if !words.windows(2).any(|pair| pair == own) {
            continue;
        }
        let prefix = match words.first().copied().unwrap_or_default() {
            "default" => "0.0.0.0/0".into(),
            address if !address.contains('/') => format!("{address}/32"),
            prefix => prefix.to_string(),
        };
        if !wanted.contains(&prefix) || (blackhole.is_some() && !device.blackhole) {
            let kind = if blackhole.is_some() { "blackhole " } else { "" };
            lines.push(format!("route del {kind}{prefix} {} {} table {table}", own[0], own[1]));
        }
    }
    lines
}

/// Runs `ip`; returns what it says.
pub(super) fn ip(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| {
        format!("ip: {error}: install iproute2, or set up the device yourself and say device.configure = false")
    };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If `ip` has ended, its output says why.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "; ");
    // An empty table of routes is "FIB table does not exist".
    let nothing_there = arguments.contains(&"show") && said(&output.stderr).contains("does not exist");
    if output.status.success() || nothing_there {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {}: {}", arguments.join(" "), said(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// In a table that others use too, such as the main one, routes that lead elsewhere are not byway's to remove.
    #[test]
    fn only_own_routes_are_removed() {
        let text = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = [\"10.10.10.10\"]\n";
        let mut device = Config::parse(Path::new("byway.toml"), text.into()).unwrap().device;
        let shown = "default via 192.0.2.254 dev eth0 \n10.9.9.9 dev byway0 scope link \n10.7.7.7 dev byway0 scope link \n\
                     blackhole 10.7.7.7 metric 4096 \nblackhole 10.9.9.9 metric 4096 \nblackhole 203.0.113.0/24 \n\
                     192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.1 \nunreachable 10.0.0.0/8 metric 4096 \n";
        let wanted = ["route del 10.7.7.7/32 dev byway0 table 7207", "route del blackhole 10.7.7.7/32 metric 4096 table 7207"];
        assert_eq!(left_over(&device, shown), wanted);
        device.blackhole = false;
        assert_eq!(left_over(&device, shown).len(), 3);
    }
}
