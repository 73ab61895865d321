//! Where servers report their processing load: `[[load]]` in a monitor's file.

use core::net::SocketAddr;
use core::time::Duration;

use byway::Target;
use byway::monitor::LoadKind;

use super::document::{Fault, Value};
use super::monitor::Service;
use crate::monitor::exposition::Selector;

/// How one server reports its load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The server, as services name it.
    pub server: Target,
    /// Where the report is.
    pub url: String,
    /// The series of the report that say the load.
    pub metric: Selector,
    /// What their values mean.
    pub kind: LoadKind,
    /// The value of each series under full load, or its growth a second.
    pub full: f64,
    /// How often the report is fetched.
    pub interval: Duration,
}

const KINDS: [(&str, LoadKind); 3] =
    [("gauge", LoadKind::Gauge), ("busy-counter", LoadKind::Busy), ("idle-counter", LoadKind::Idle)];

impl Load {
    pub(super) fn read(value: &Value<'_>, services: &[Service]) -> Result<Self, Fault> {
        const SERVER: &str = "a server of a service: ADDRESS[:PORT]";
        const URL: &str = "http://ADDRESS[:PORT]/PATH; the address in numbers, so that no name has to be asked for";
        const METRIC: &str = "a metric, like \"node_cpu_seconds_total{mode=\\\"idle\\\"}\"";
        let table = value.table()?;
        let named = table.need("server", SERVER)?;
        let server: Target = named.read(SERVER)?;
        if !services.iter().flat_map(|service| &service.servers).any(|other| other.target == server) {
            return Err(named.fault(format!("{server} is a server of no service")));
        }
        let place = table.need("url", URL)?;
        let url = place.text(URL)?;
        if !is_url(url) {
            return Err(place.fault(format!("\"{url}\" found: expected {URL}")));
        }
        let load = Self {
            server,
            url: url.into(),
            metric: table.need("metric", METRIC)?.read(METRIC)?,
            kind: table.or("kind", LoadKind::Gauge, |value| value.choice(&KINDS))?,
            full: table.or("full", 1.0, Value::positive)?,
            interval: table.or("interval", Duration::from_secs(2), |value| {
                let interval = value.duration()?;
                let range = Duration::from_millis(500)..=Duration::from_secs(5);
                if range.contains(&interval) { Ok(interval) } else { Err(value.fault("expected a time from 500ms to 5s")) }
            })?,
        };
        table.finish()?;
        Ok(load)
    }
}

/// Whether a text is an `http` URL whose host is an IP address.
fn is_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    let is_host = host.parse::<SocketAddr>().is_ok_and(|at| at.port() != 0) || format!("{host}:80").parse::<SocketAddr>().is_ok();
    is_host && path.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::is_url;
    use crate::config::monitor::Monitor;

    /// A configuration with these tables, on two servers; its key file is there.
    fn config(loads: &str) -> Result<Monitor, String> {
        let folder = std::env::temp_dir().join(format!("byway-loads-{:?}", std::thread::current().id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("key"), format!("1 {}\n", "ab".repeat(32))).unwrap();
        let text = format!(
            "[[translator]]\nat = \"127.0.0.1:5213\"\nkey = \"key\"\n[[service]]\ndivert = \"100.100.100.100:80 tcp\"\n\
             servers = [\"20.0.0.1:80\", \"20.0.0.2:80\"]\n{loads}"
        );
        let read = Monitor::parse(&folder.join("monitor.toml"), &text).map_err(|error| error.to_string());
        std::fs::remove_dir_all(&folder).unwrap();
        read
    }

    const GOOD: &str = "[[load]]\nserver = \"20.0.0.1:80\"\nurl = \"http://20.0.0.1:9100/metrics\"\nmetric = \"a\"\n";

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let all = "metric = 'a{b=\"c\"}'\nkind = \"busy-counter\"\nfull = 8\ninterval = \"5s\"\n";
        let good = config(&(GOOD.replace("metric = \"a\"\n", all) + &GOOD.replace("20.0.0.1:80", "20.0.0.2:80"))).unwrap();
        assert_eq!((good.loads.len(), good.loads[0].full, good.loads[1].full), (2, 8.0, 1.0));
        for (right, wrong, said) in [
            ("20.0.0.1:80", "20.0.0.3:80", "load[1].server: 20.0.0.3:80 is a server of no service"),
            ("http:", "https:", "load[1].url: \"https://20.0.0.1:9100/metrics\" found: expected http://ADDRESS"),
            ("\"a\"", "\"a{\"", "load[1].metric: \"a{\" found: expected a metric"),
            ("metric = \"a\"\n", "", "load[1].metric: it is missing"),
            ("\"a\"", "\"a\"\nkind = \"counter\"", "expected one of \"gauge\", \"busy-counter\", \"idle-counter\""),
            ("\"a\"", "\"a\"\nfull = 0", "load[1].full: 0 found: expected a number above zero"),
            ("\"a\"", "\"a\"\nfull = -1.5", "load[1].full: -1.5 found: expected a number above zero"),
            ("\"a\"", "\"a\"\nfull = nan", "load[1].full: nan found: expected a number above zero"),
            ("\"a\"", "\"a\"\nfull = \"1\"", "load[1].full: string found: expected a number above zero"),
            ("\"a\"", "\"a\"\ninterval = \"6s\"", "load[1].interval: expected a time from 500ms to 5s"),
            ("\"a\"", "\"a\"\ntimeout = \"6s\"", "there is no such field: expected one of"),
        ] {
            let error = config(&GOOD.replacen(right, wrong, 1)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(config(&GOOD.repeat(2)).unwrap_err().contains("the load of 20.0.0.1:80 is said twice"));
    }

    #[test]
    fn urls() {
        for good in ["http://1.2.3.4", "http://1.2.3.4/", "http://1.2.3.4:9100/metrics?a=b&c=d%20", "http://[::1]:9100/m", "http://[::1]/m"] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "", "http://", "1.2.3.4", "https://1.2.3.4/", "http://a.example/", "http://1.2.3.4:0/", "http://1.2.3.4:x/", "http://a@1.2.3.4/",
            "http://1.2.3.4/ ", "http://1.2.3.4/\r\nX: y", "http://1.2.3.4/#a", "http://::1/m", "file:///etc", "http://1.2.3.4:65536/",
        ] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
