//! What a user sets: a file in TOML, the command line, or both.

use core::net::{Ipv4Addr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::{Path, PathBuf};

use byway::{Divert, Heap, Prefix, Protocol, Target, Translator, Weighted};
use serde::Deserialize;

use crate::far::carrier::{Carrier, Ports};
use crate::far::outside::Outside;
use crate::http::host::Hosts;
use crate::map::uri::Origin;
use crate::session::Pace;

/// Usage of the program.
pub const USAGE: &str = "\
HTTP clients read from and write to CoAP servers; byway diverts them, in the middle of a body too.

  byway-mediator [--config FILE] [OPTIONS]
  byway-mediator demo [--moves N] [--mib N]
  byway-mediator portion --tun NAME --alternative ADDRESS:LOW-HIGH --portion FOLDER

  --listen ADDRESS:PORT        where HTTP clients connect (repeatable; 127.0.0.1:8080)
  --origin [/PREFIX=]coap://HOST[:PORT][/PATH]
                               a CoAP origin, for paths with this prefix (repeatable)
  --host NAME                  a name of the service, as clients write it in URLs; * for any (repeatable; addresses and
                               localhost always work)
  --divert RULE                a rule of byway: ORIGINAL=SERVER[*WEIGHT][,SERVER...] (repeatable)
  --control ADDRESS:PORT       where `byway ctl` gives instructions; needs a key
  --key FILE                   a number and 64 hexadecimal digits (repeatable)
  --alternative ADDRESS:LOW-HIGH
                               the address and the UDP ports that servers see; without it the system chooses them
  --bind ADDRESS               with which address to send, if the system chooses the ports (0.0.0.0)
  --ports N                    how many ports, if the system chooses them (256)
  --tun NAME                   send packets over this TUN device instead of sockets (Linux)
  --portion FOLDER             another process, `byway-mediator portion`, translates what servers send
  --block BYTES                the largest block, 16 to 1024 (1024)
  --nstart N                   requests to an origin at once that are neither acknowledged nor answered (1)
  --connections N              HTTP clients at once (4096)
  --per-client N               connections of one address at once (a quarter of all; behind another proxy all have its address)
  --patience SECONDS           how long a client may be silent when it is its turn, or take for the head of a request (60)
  --min-rate BYTES             bytes a second that a client sends or reads when it is its turn, in the long run; it may be as
                               far behind as --patience says; 0 for any (240)
  --counters SECONDS           print what was counted, so often and if it has changed

In byway's rules 198.18.x.y stands for 127.0.x.y, since a translator must not divert to loopback addresses.
";

/// The alternative address, when it is only a name: in the range for benchmarks, RFC 2544.
const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// The first alternative port, when it is only a name.
const FIRST_PORT: u16 = 40_000;
/// How many rules and servers there is room for.
const RULES: usize = 256;
/// The most servers of one rule in a file.
const GROUP: usize = 64;

/// The settings, as they are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Where HTTP clients connect.
    pub listen: Vec<SocketAddr>,
    /// `[/PREFIX=]coap://HOST[:PORT][/PATH]`.
    pub origins: Vec<String>,
    /// The names that the service has, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Rules, as [`Divert::parse`] reads them.
    pub diverts: Vec<String>,
    /// Where instructions come.
    pub control: Option<SocketAddr>,
    /// Files with the keys of those who may give instructions.
    pub keys: Vec<PathBuf>,
    /// `ADDRESS:LOW-HIGH`: what the sockets towards servers are bound to.
    pub alternative: Option<String>,
    /// What they are bound to if the system chooses the ports.
    pub bind: Ipv4Addr,
    /// How many of them there are then.
    pub ports: u16,
    /// The TUN device that packets are sent over, instead of sockets.
    pub tun: Option<String>,
    /// The folder in which two portions meet, if another process translates what servers send.
    pub portion: Option<PathBuf>,
    /// The largest block, in bytes.
    pub block: u16,
    /// `NSTART`.
    pub nstart: usize,
    /// HTTP clients at once.
    pub connections: usize,
    /// Connections of one client address. A quarter of all if it is not given.
    pub per_client: Option<usize>,
    /// How long an HTTP client may be silent when it is its turn, in seconds.
    pub patience: u64,
    /// How many bytes a second it must move then, in the long run. Zero: any number.
    pub min_rate: u32,
    /// How often to print what was counted, if it has changed, in seconds. Zero: never.
    pub counters: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            origins: Vec::new(),
            hosts: Vec::new(),
            diverts: Vec::new(),
            control: None,
            keys: Vec::new(),
            alternative: None,
            bind: Ipv4Addr::UNSPECIFIED,
            ports: 256,
            tun: None,
            portion: None,
            block: 1024,
            nstart: 1,
            connections: 4096,
            per_client: None,
            patience: 60,
            min_rate: 240,
            counters: 0,
        }
    }
}

/// Where the sockets towards servers are.
#[derive(Clone, Debug)]
pub struct Alternative {
    address: Ipv4Addr,
    ports: RangeInclusive<u16>,
    bind: Ipv4Addr,
    which: Ports,
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {}", file.display(), error.to_string().trim_end()))
    }

    /// The exponent of the largest block.
    ///
    /// # Errors
    /// There is no such block.
    pub fn exponent(&self) -> Result<u8, String> {
        (0..=6)
            .find(|size| 16 << size == self.block)
            .ok_or_else(|| format!("block {}: expected 16, 32, 64, 128, 256, 512 or 1024 bytes", self.block))
    }

    /// The origins.
    ///
    /// # Errors
    /// One cannot be read, or there is none.
    pub fn origins(&self) -> Result<Vec<Origin>, String> {
        if self.origins.is_empty() {
            return Err("origins: expected at least one coap://HOST".into());
        }
        let mut origins: Vec<Origin> = Vec::new();
        for text in &self.origins {
            let origin: Origin = text.parse().map_err(|error| format!("{error}"))?;
            if origins.iter().any(|other| other.prefix == origin.prefix) {
                let prefix = &origin.prefix;
                return Err(format!(
                    "origin {text}: there is another one for {prefix}; servers of one origin are a rule's"
                ));
            }
            origins.push(origin);
        }
        Ok(origins)
    }

    /// Where the sockets towards servers are.
    ///
    /// # Errors
    /// A value that cannot be read.
    pub fn alternative(&self) -> Result<Alternative, String> {
        let Some(text) = &self.alternative else {
            let last = (self.ports > 0).then(|| FIRST_PORT.checked_add(self.ports - 1)).flatten();
            let last = last.ok_or_else(|| format!("ports {}: expected 1 to {}", self.ports, u16::MAX - FIRST_PORT))?;
            let (bind, which) = (self.bind, Ports::Any);
            return Ok(Alternative { address: ALTERNATIVE, ports: FIRST_PORT..=last, bind, which });
        };
        let wrong = || format!("alternative {text}: expected ADDRESS:LOW-HIGH");
        let (address, ports) = text.split_once(':').ok_or_else(wrong)?;
        let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let ports = low.parse().map_err(|_| wrong())?..=high.parse().map_err(|_| wrong())?;
        if ports.is_empty() || *ports.start() == 0 {
            return Err(wrong());
        }
        Ok(Alternative { address: crate::far::carrier::inside(address), ports, bind: address, which: Ports::Same })
    }

    /// byway with the rules: those that were given, and for each origin without a rule one that replaces only the source, so that
    /// the origin itself serves. To move such an origin, a monitor diverts it (for what comes) and re-diverts it (for what is in
    /// flight).
    ///
    /// # Errors
    /// A rule cannot be read, or is not possible.
    pub fn translator(
        &self,
        alternative: &Alternative,
        origins: &[Origin],
        secret: [u8; 32],
    ) -> Result<Translator<Heap>, String> {
        let config = alternative.config(byway::Config::new(secret)).tell_changes(self.portion.is_some());
        // Measured, for monitors that decide by it.
        let storage = Heap::new(alternative.connections(), RULES).measured();
        let mut translator = Translator::new(config, storage).map_err(|error| error.to_string())?;
        for text in &self.diverts {
            let mut group = [Weighted { target: Target::Same, weight: 0 }; GROUP];
            let hint = if text.contains("127.") { "; 198.18.x.y stands for 127.0.x.y in rules" } else { "" };
            let divert = Divert::parse(text, &mut group).map_err(|error| format!("divert {text}: {error}{hint}"))?;
            translator.divert(divert).map_err(|error| format!("divert {text}: {error}{hint}"))?;
        }
        for origin in origins {
            let is_covered = translator.diverts().any(|rule| {
                let matches = rule.matches();
                matches.destination().contains(*origin.at.ip())
                    && matches.port().is_none_or(|port| port == origin.at.port())
                    && matches.limited_to().is_none_or(|protocol| protocol == Protocol::Udp)
                    && matches.from_clients() == Prefix::ALL
            });
            if !is_covered {
                translator.divert(Divert::new(origin.at)).map_err(|error| format!("origin {}: {error}", origin.at))?;
            }
        }
        Ok(translator)
    }

    /// What byway's packets go over.
    ///
    /// # Errors
    /// What cannot be opened, or which settings do not go together.
    pub fn outside(&self, alternative: &Alternative) -> Result<Outside, String> {
        let Some(name) = &self.tun else {
            return match self.portion {
                None => alternative.carrier().map(Outside::Sockets),
                Some(_) => Err("portion: expected a TUN device too, since sockets are of one process".into()),
            };
        };
        if self.alternative.is_none() {
            return Err(format!("tun {name}: expected an alternative address, which is routed to it"));
        }
        #[cfg(target_os = "linux")]
        return crate::far::tun::Tun::open(name).map(Outside::Tun).map_err(|error| error.to_string());
        #[cfg(not(target_os = "linux"))]
        Err(format!("tun {name}: only on Linux"))
    }

    /// The mediator's part of the settings.
    ///
    /// # Errors
    /// A value that is not possible.
    pub fn mediator(&self, origins: Vec<Origin>, entropy: [u8; 32]) -> Result<crate::mediator::Config, String> {
        let mut config = crate::mediator::Config::new(origins, entropy);
        config.hosts = Hosts::new(self.hosts.iter().map(String::as_str))?;
        config.block = self.exponent()?;
        config.connections = self.connections;
        config.per_client = self.per_client.unwrap_or(self.connections.div_ceil(4));
        config.pace = Pace { patience: Duration::from_secs(self.patience), min_rate: self.min_rate };
        let numbers = [
            ("nstart", self.nstart == 0),
            ("connections", self.connections == 0),
            ("per-client", self.per_client == Some(0)),
            ("patience", self.patience == 0),
        ];
        if let Some((name, _)) = numbers.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(format!("{name} 0: expected at least 1"));
        }
        config.coap.nstart = self.nstart;
        Ok(config)
    }
}

impl Alternative {
    /// A configuration of byway with this address and these ports.
    #[must_use]
    pub fn config(&self, config: byway::Config) -> byway::Config {
        config.alternative(self.address, self.ports.clone())
    }

    /// How many connections there is room for.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.ports.len() * 16
    }

    /// Opens the sockets.
    ///
    /// # Errors
    /// Which one cannot be opened, and why.
    pub fn carrier(&self) -> Result<Carrier, String> {
        Carrier::open(self.bind, self.address, self.ports.clone(), self.which).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_wrong_with_it() {
        let good = "listen = [\"127.0.0.1:80\"]\norigins = [\"coap://192.0.2.1\"]\nblock = 512\n";
        let settings: Settings = toml::from_str(good).unwrap();
        assert_eq!((settings.exponent(), settings.nstart), (Ok(5), 1));
        for (text, expected) in [("blok = 3", "blok"), ("block = \"x\"", "u16"), ("listen = [\"nowhere\"]", "socket")] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let settings = Settings { block: 100, ..Settings::default() };
        assert!(settings.exponent().unwrap_err().contains("100"));
        for text in ["1.2.3.4", "1.2.3.4:9-8", "1.2.3.4:0-8", "x:1-2", "1.2.3.4:1-70000"] {
            let settings = Settings { alternative: Some(text.into()), ..Settings::default() };
            assert!(settings.alternative().unwrap_err().contains(text));
        }
    }

    #[test]
    fn an_origin_without_a_rule_leads_to_itself_and_can_be_diverted() {
        let origins: Vec<Origin> = vec!["coap://192.0.2.1".parse().unwrap(), "coap://192.0.2.2".parse().unwrap()];
        let settings = Settings { diverts: vec!["192.0.2.0/31=203.0.113.1".into()], ..Settings::default() };
        let alternative = settings.alternative().unwrap();
        let mut translator = settings.translator(&alternative, &origins, [1; 32]).unwrap();
        let rules: Vec<_> = translator.diverts().map(|rule| rule.matches().to_string()).collect();
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(translator.find_divert(origins[1].at).is_some());
        let to: core::net::SocketAddrV4 = "192.0.2.9:5683".parse().unwrap();
        let moved = translator.divert(Divert::new(origins[1].at).to(to)).unwrap();
        assert!(moved.updated);
    }
}
