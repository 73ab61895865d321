//! The page's API, asked from the command line.

use core::time::Duration;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::Failure;
use crate::config::monitor::Monitor;

fn ask(config: &Monitor, head: &str, body: &str) -> Result<Value, Failure> {
    let at = config.page.ok_or((2, "the configuration names no page: monitor.page, or --page".to_string()))?;
    let token = std::fs::read_to_string(&config.token)
        .map_err(|error| (2, format!("monitor.token {}: {error}", config.token.display())))?;
    let failed = |error: std::io::Error| (1, format!("no monitor at {at}: {error}"));
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
    let request = format!(
        "{head} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        token.trim(),
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(failed)?;
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_default();
    let told: Value = serde_json::from_str(body).map_err(|_| (1, format!("{at} is no monitor")))?;
    if head.starts_with("HTTP/1.1 200 ") {
        return Ok(told);
    }
    Err((1, told["error"].as_str().unwrap_or("it was refused").into()))
}

/// Fetches the state.
///
/// # Errors
/// There is no monitor, or it refuses.
pub fn get(config: &Monitor) -> Result<Value, Failure> {
    ask(config, "GET /api/state", "")
}

/// Sends a command.
///
/// # Errors
/// There is no monitor, or it refuses.
pub fn post(config: &Monitor, command: &Value) -> Result<Value, Failure> {
    ask(config, "POST /api/command", &command.to_string())
}

/// The state, in words.
#[must_use]
pub fn show(state: &Value) -> String {
    let mut said = String::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
    if state["dry_run"] == true {
        said += "dry run: nothing is sent\n";
    }
    if let Some(why) = state["watching"].as_str() {
        said += &format!("{why}\n");
    }
    if let Some(count) = state["unshared"].as_u64().filter(|count| *count != 0) {
        said += &format!("what operators have set for {count} services is not told to watching monitors: no room\n");
    }
    for translator in list(&state["translators"]) {
        let open = if translator["open"] == true { "open" } else { "away" };
        said += &format!("translator {} ({}): {open}, {} reports lost", word(&translator["name"]), word(&translator["at"]), translator["missed"]);
        for (field, what) in [("unknown", "about servers that no service names"), ("malformed", "that cannot be read to the end")] {
            if translator[field].as_u64().is_some_and(|count| count != 0) {
                said += &format!("; {} reports {what}", translator[field]);
            }
        }
        for (why, count) in translator["distrusted"].as_object().into_iter().flatten() {
            said += &format!("; {count} not believed: {why}");
        }
        if let Some(why) = translator["watching"].as_str() {
            said += &format!("; watching: {why}");
        }
        said += "\n";
    }
    for load in list(&state["loads"]) {
        said += &format!("load of {} ({}): ", word(&load["server"]), word(&load["url"]));
        said += &match (load["load"].as_f64(), load["age"].as_f64()) {
            (Some(share), Some(age)) => format!("{:.0} %, {age:.0} s ago", share * 100.0),
            _ => "not known".to_string(),
        };
        for (why, count) in load["refused"].as_object().into_iter().flatten() {
            said += &format!("; {count} not used: {why}");
        }
        if let Some(wrong) = load["wrong"].as_str() {
            said += &format!("; now: {wrong}");
        }
        said += "\n";
    }
    for service in list(&state["services"]) {
        said += &format!("service {}: {}\n", word(&service["name"]), word(&service["divert"]));
        for server in list(&service["servers"]) {
            let number = |field: &str| server[field].as_f64().unwrap_or_default();
            let note = match (&server["ejected"], server["excluded_by"].as_str()) {
                (_, Some(by)) => format!(", nothing because of {by}"),
                (Value::Bool(true), _) => ", ejected".into(),
                _ => String::new(),
            };
            said += &format!(
                "  {:21} share {:3.0} %, proposed {:3.0} %, connections {}, waiting {}, median {:.1} ms, p99 {:.1} ms, capacity {:.0}/s{note}\n",
                word(&server["name"]),
                number("share") * 100.0,
                number("proposed") * 100.0,
                server["connections"],
                server["waiting"],
                number("median"),
                number("p99"),
                number("capacity")
            );
        }
        for rule in list(&service["left_out"]) {
            said += &format!("  left out, since nobody would be left: {}\n", word(&rule));
        }
    }
    said
}

/// What a command has done, or would do, in words.
#[must_use]
pub fn told(told: &Value) -> String {
    let mut said = match told["decision"].as_u64() {
        Some(number) => format!("decision {number}: {}\n", told["text"].as_str().unwrap_or_default()),
        None => format!("would be: {}\n", told["text"].as_str().unwrap_or_default()),
    };
    for (field, name) in [("before", "before"), ("after", "after")] {
        let weights: Vec<_> =
            told[field].as_object().into_iter().flatten().map(|(server, weight)| format!("{server} {weight}")).collect();
        if !weights.is_empty() {
            said += &format!("  weights {name}: {}\n", weights.join(", "));
        }
    }
    for line in told["translators"].as_array().into_iter().flatten() {
        said += &format!("  {}\n", line.as_str().unwrap_or_default());
    }
    said
}
