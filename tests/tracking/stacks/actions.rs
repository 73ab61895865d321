//! What hosts, operators and an attacker do.

use byway::{Record, Redivert, State};

use super::host::Host;
use super::world::{Couple, Doubt, SECOND, Told, Violation, World, translator};
use byway_testing::talk::{CLIENT, ORIGINAL, OTHER, SERVER};
use byway_testing::truth::{ACK, End, FIN, PSH, RST, SYN, are_paired, is_long_lived};
use byway_testing::{at, crc, tcp};

impl World {
    /// One thing that somebody does.
    pub fn step(&mut self) -> Result<(), Violation> {
        let mut pause = [1_000, 20_000, 300_000, 2 * SECOND, 8 * SECOND][self.dice.below(5) as usize];
        if self.plan.idle && self.dice.below(6) == 0 {
            pause = [600, 3_600][self.dice.below(2) as usize] * SECOND;
        }
        match self.dice.below(100) {
            0 => {
                self.note("client aborts".into());
                self.hosts[0].socket(0).abort();
            }
            1..3 => self.with_server("aborts", |host, n| host.socket(n).abort()),
            3..6 if self.hosts[0].state(0) != End::SynReceived => {
                self.note("client closes".into());
                self.hosts[0].socket(0).close();
            }
            6..9 => self.with_server("closes", |host, n| {
                if host.state(n) != End::SynReceived {
                    host.socket(n).close();
                }
            }),
            9 => {
                self.note("client restarts".into());
                let seed = self.dice.below(u64::MAX);
                self.hosts[0] = Host::new(at(CLIENT), 1, seed, self.setup);
                self.told = None;
            }
            10 => {
                let host = 1 + self.dice.below(2) as usize;
                self.note(format!("server {host} restarts"));
                let seed = self.dice.below(u64::MAX);
                self.hosts[host] = Host::new(at([SERVER, OTHER][host - 1]), 3, seed, self.setup);
                self.told = None;
            }
            11..14 if self.plan.moved => self.redivert(),
            14..17 if self.plan.restarted => self.restart(),
            17..30 if self.plan.attacked => self.attack()?,
            30..36 => self.open_from_the_server(),
            36..60 => {
                let length = self.some_length();
                self.hosts[0].send(0, length);
            }
            60..85 => {
                let length = self.some_length();
                let host = self.target;
                let number = self.dice.below(self.hosts[host].count() as u64) as usize;
                self.hosts[host].send(number, length);
            }
            _ => {}
        }
        self.routine()?;
        self.turn()?;
        self.run_until(self.now + pause)
    }

    pub(super) fn some_length(&mut self) -> usize {
        [1, 100, 1_460, 5_000, 30_000][self.dice.below(5) as usize]
    }

    /// What applications do anyway: read, connect, listen.
    pub(super) fn routine(&mut self) -> Result<(), Violation> {
        let limit = [0, 500, 1 << 18, 1 << 18][self.dice.below(4) as usize];
        let mut good = self.hosts[0].receive(0, at(SERVER).port(), limit);
        for host in 1..3 {
            for number in 0..self.hosts[host].count() {
                good &= self.hosts[host].receive(number, at(CLIENT).port(), limit);
                if self.hosts[host].state(number) == End::Closed && self.dice.below(3) == 0 {
                    self.hosts[host].listen(number);
                }
            }
        }
        if !good {
            return Err(self.fail("data arrived that was not sent"));
        }
        if self.hosts[0].state(0) == End::Closed && self.dice.below(2) == 0 && self.hosts[0].connect(0, at(ORIGINAL)) {
            self.note("client connects".into());
            if self.dice.below(5) == 0 {
                // The server's SYN crosses the client's.
                self.turn()?;
                self.run_until(self.now + self.legs[0].quality.delay + 60)?;
                self.open_from_the_server();
            }
        }
        Ok(())
    }

    pub(super) fn with_server(&mut self, what: &str, act: impl FnOnce(&mut Host, usize)) {
        let host = self.target;
        let open =
            (0..self.hosts[host].count()).find(|n| !matches!(self.hosts[host].state(*n), End::Listen | End::Closed));
        if let Some(number) = open {
            self.note(format!("server {host} {what}"));
            act(&mut self.hosts[host], number);
        }
    }

    /// Simultaneous open: the server sends a SYN from its port, without having seen the client's.
    pub(super) fn open_from_the_server(&mut self) {
        // Over bad lines, and under attack, one in a few thousand of these is not followed to its end: see docs/fuzzing.md.
        if self.plan.attacked || self.plan.restarted || !self.plan.clean {
            return;
        }
        let Some(connection) = self.connection().filter(|c| c.state == State::Opening) else {
            return;
        };
        let host = self.host_of(connection.server());
        if self.hosts[host].with(connection.server_side.source).is_some() {
            return;
        }
        // The first socket is asked first what it makes of a segment. In a real stack one with this peer comes before those
        // that listen.
        if matches!(self.hosts[host].state(0), End::Listen | End::Closed) {
            self.hosts[host].socket(0).abort();
            if self.hosts[host].connect(0, connection.server_side.source) {
                self.checked.simultaneous += 1;
                self.note("server connects from its port".into());
            }
        }
    }

    pub(super) fn redivert(&mut self) {
        let how = [Redivert::Switch, Redivert::Reset, Redivert::Reset][self.dice.below(3) as usize];
        let (from, to) = (self.target, 3 - self.target);
        self.told = None;
        if how == Redivert::Reset
            && self.plan.clean
            && self.doubt.is_none()
            && let Some(Couple { connection, client, server, host }) = self.pair()
            && let Some(client_numbers) = self.hosts[0].numbers(at(ORIGINAL))
            && let Some(server_numbers) = self.hosts[host].numbers(connection.server_side.source)
            && are_paired(&client_numbers, &server_numbers)
            && client.is_synchronized()
            && server.is_synchronized()
            && connection.server() == at([SERVER, OTHER][from - 1])
            && !matches!(connection.state, State::TimeWait | State::Resetting | State::Closing)
        {
            let (server, alternative) = (host, connection.server_side.source);
            let (client_start, server_start) = (client_numbers.start, server_numbers.start);
            self.told = Some(Told { at: self.now, client_start, server, alternative, server_start });
        }
        self.note(format!("re-divert from {from} to {to}: {how:?}"));
        let servers = [SERVER, OTHER];
        self.translator.redivert(at(servers[from - 1]), at(servers[to - 1]), how).expect("two good servers");
        self.target = to;
    }

    /// The translator is restarted with a snapshot, whose numbers may be far behind: that stands for more than 16 MiB
    /// that went another way.
    pub(super) fn restart(&mut self) {
        if self.connection().is_none_or(|c| !is_long_lived(c.state)) || self.told.is_some() {
            return;
        }
        let shift = [0, 0, 20 << 20, 0x4000_0000][self.dice.below(4) as usize];
        let snapshot: Vec<_> = self.translator.records().map(|record| *record.as_bytes()).collect();
        let mut fresh = translator(&self.config, self.measured, self.target);
        for mut bytes in snapshot {
            for place in [36, 40, 44, 48] {
                let number = u32::from_be_bytes(bytes[place..place + 4].try_into().expect("four bytes"));
                if number != 0 {
                    bytes[place..place + 4].copy_from_slice(&number.wrapping_sub(shift).to_be_bytes());
                }
            }
            let checksum = crc(&bytes[..52]);
            bytes[52..].copy_from_slice(&checksum.to_be_bytes());
            let record = Record::from_bytes(&bytes).expect("a good record");
            let _ = fresh.import(self.instant(), &record);
        }
        self.translator = fresh;
        self.note(format!("the translator is restarted; numbers {shift:#x} behind"));
        if shift != 0 {
            self.doubt = Some(Doubt { agreed: [0; 2], ahead: [0; 2], start: None });
        }
    }

    /// Packets of an attacker that knows addresses and ports and does not see numbers.
    pub(super) fn attack(&mut self) -> Result<(), Violation> {
        let Some(connection) = self.connection() else {
            return Ok(());
        };
        let classic = self.dice.below(3) == 0;
        let sides = self.dice.below(3);
        for turn in 0..self.dice.below(12) {
            let all = [SYN, FIN | ACK, ACK, RST, RST | ACK, SYN | ACK, PSH | ACK, FIN, FIN | PSH | ACK];
            let flags = match (classic, turn) {
                (true, 0 | 1) => FIN | ACK,
                (true, 2) => SYN,
                _ => all[self.dice.below(all.len() as u64) as usize],
            };
            let from_client = match (classic, turn, sides) {
                (true, 0 | 2, _) | (_, _, 0) => true,
                (true, 1, _) | (_, _, 1) => false,
                _ => self.dice.below(2) == 0,
            };
            let numbers = (flags, self.dice.below(1 << 32) as u32, self.dice.below(1 << 32) as u32);
            let data = if flags & PSH != 0 { &b"forged"[..] } else { b"" };
            let packet = if from_client {
                tcp(connection.client_side.source, connection.client_side.destination, numbers, data)
            } else {
                tcp(connection.server(), connection.server_side.source, numbers, data)
            };
            self.translate(packet, true)?;
        }
        Ok(())
    }
}
