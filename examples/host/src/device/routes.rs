//! The routes to the device: a routing table of its own, which is not used for packets that come from the device.
//!
//! So packets that pass untranslated cannot come back: a packet from the device is routed as if the device were not there. With
//! routes in the main table such a packet would go round until its TTL runs out.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Child, Command, Stdio};

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
    let rules = rules_of_byway(&ip(&["-o", "-4", "rule", "show", "priority", &table.to_string()], None)?);
    if let Some(Rule { name: other, .. }) = rules.iter().find(|rule| rule.name != *name && rule.is_attached) {
        let advice = format!("take another, or remove what is left of it (ip link del {other})");
        return Err(format!("device.table {table}: it is that of device {other}, which is there: {advice}"));
    }
    if !rules.iter().any(|rule| rule.name == *name) {
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

/// What an earlier configuration has left, and an `ip` that waits for the word to remove it. That keeps the right to do so, while
/// byway gives up its own. If the word never comes, everything stays.
#[derive(Debug)]
pub struct LeftOver {
    ip: Option<Child>,
    lines: String,
}

/// Finds routes that an earlier configuration has left in the table, and rules for another device or another table. What is of
/// other programs stays.
///
/// # Errors
/// One line with the error of `ip`.
pub fn left_over(device: &Device) -> Result<Option<LeftOver>, String> {
    let routes = |table: u32| ip(&["-o", "-4", "route", "show", "table", &table.to_string()], None);
    let mut lines = Vec::new();
    for Rule { name, table, .. } in rules_of_byway(&ip(&["-o", "-4", "rule", "show"], None)?) {
        let remove = format!("rule del not iif {name} lookup {table} priority {table}");
        match (name == device.name, table == device.table) {
            (false, true) => lines.push(remove),
            (true, false) => {
                lines.push(remove);
                let before = Device { routes: Vec::new(), table, ..device.clone() };
                lines.extend(other_routes(&before, &routes(table)?));
            }
            (true, true) => {}
            // Of another byway, which may come back.
            (false, false) => tracing::warn!(
                "table {table} is that of device {name}; if no byway has it any more, let nothing go there: ip {remove}"
            ),
        }
    }
    lines.extend(other_routes(device, &routes(device.table)?));
    if lines.is_empty() {
        return Ok(None);
    }
    Ok(Some(LeftOver { ip: Some(start(&["-4", "-batch", "-"])?), lines: lines.join("\n") }))
}

impl LeftOver {
    /// Removes it.
    ///
    /// # Errors
    /// One line with the error of `ip`.
    pub fn remove(mut self) -> Result<(), String> {
        let ip = self.ip.take();
        ip.map_or(Ok(()), |ip| finish(ip, &["-4", "-batch", "-"], &self.lines).map(drop))
    }
}

impl Drop for LeftOver {
    fn drop(&mut self) {
        // It ends when it can hear nothing any more.
        if let Some(ip) = self.ip.take() {
            let _ = ip.wait_with_output();
        }
    }
}

/// A rule that leads to a table of byway's: for everything but what comes from its device.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    table: u32,
    /// Whether the device is there.
    is_attached: bool,
}

/// The rules among these that byway has made: their priority is the number of the table.
fn rules_of_byway(shown: &str) -> Vec<Rule> {
    let rule = |line: &str| {
        // 7207: not from all iif byway0 [detached] lookup 7207
        let (priority, rest) = line.split_once(':')?;
        let rest = rest.trim().strip_prefix("not from all iif ")?;
        let (name, rest) = rest.split_once(' ')?;
        let (is_attached, rest) = rest.strip_prefix("[detached] ").map_or((true, rest), |rest| (false, rest));
        let (table, to) = (priority.trim().parse().ok()?, rest.strip_prefix("lookup ")?.trim());
        // A table can have a name.
        let is_own = to.parse().map_or(!to.contains(' '), |to: u32| to == table);
        is_own.then(|| Rule { name: name.into(), table, is_attached })
    };
    shown.lines().filter_map(rule).collect()
}

/// The commands that remove the routes of a table that byway has set and that the configuration does not contain: those to its
/// device, and its blackholes.
fn other_routes(device: &Device, shown: &str) -> Vec<String> {
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
    finish(start(arguments)?, arguments, input.unwrap_or_default())
}

fn not_run(error: &std::io::Error) -> String {
    format!("ip: {error}: install iproute2, or set up the device yourself and say device.configure = false")
}

fn start(arguments: &[&str]) -> Result<Child, String> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| not_run(&error))
}

fn finish(mut child: Child, arguments: &[&str], input: &str) -> Result<String, String> {
    if let Some(mut stdin) = child.stdin.take() {
        // If `ip` has ended, its output says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| not_run(&error))?;
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
        assert_eq!(other_routes(&device, shown), wanted);
        device.blackhole = false;
        assert_eq!(other_routes(&device, shown).len(), 3);
    }

    #[test]
    fn own_rules_are_known_by_their_form() {
        let shown = "0:\tfrom all lookup local\n7207:\tnot from all iif byway0 lookup 7207\n\
                     7207:\tnot from all iif old0 [detached] lookup 7207\n100:\tnot from all iif eth0 lookup 200\n\
                     7208:\tnot from all iif byway0 lookup named\n7209:\tnot from all iif byway0 lookup 7209 suppress_prefixlength 0\n\
                     7210:\tfrom all iif byway0 lookup 7210\n32766:\tfrom all lookup main\n";
        let rule = |name: &str, table, is_attached| Rule { name: name.into(), table, is_attached };
        let own = [rule("byway0", 7207, true), rule("old0", 7207, false), rule("byway0", 7208, true)];
        assert_eq!(rules_of_byway(shown), own);
    }
}
