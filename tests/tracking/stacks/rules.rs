//! The rules: what must hold at any time, and what at the end of a run.

use core::net::SocketAddrV4;

use byway::{Connection, Record, State};

use super::host::{Leg, Quality};
use super::world::{Couple, Doubt, ESTABLISHED, SECOND, TRANSITORY, Violation, World};
use byway_testing::talk::ORIGINAL;
use byway_testing::truth::{End, Numbers, Passed, SYN, Segment, are_paired, is_long_lived, numbers_of, permitted};
use byway_testing::{at, tcp};

/// How many segments with data each end must have sent, and have had acknowledged, before numbers that were in doubt must
/// be known again.
const CERTAIN_AFTER: u32 = 12;

impl World {
    /// Whether the receiver of this RST expects just this number, so that it obeys (RFC 5961, section 3.2), and the
    /// translator cannot but know so: the RST ends a connection, or answers a challenge or an old SYN+ACK.
    pub(super) fn is_exact(&self, from_client: bool, segment: &Segment) -> bool {
        let Some(Couple { connection, client, server, host }) = self.pair() else {
            return false;
        };
        let (sender, receiver) = if from_client { (client, server) } else { (server, client) };
        let answers = from_client && sender == End::SynSent && receiver >= End::SynReceived;
        if self.doubt.is_some() || !(answers || client.is_synchronized() && server.is_synchronized()) {
            return false;
        }
        let numbers = match from_client {
            true => self.hosts[host].numbers(connection.server_side.source),
            false => self.hosts[0].numbers(connection.client_side.destination),
        };
        numbers.is_some_and(|n| n.acknowledged == Some(segment.sequence))
    }

    /// Counts the segments that end a doubt about numbers.
    pub(super) fn agree(&mut self, from_client: bool, segment: &Segment, acknowledged: (u32, u32)) {
        let Some(doubt) = &mut self.doubt else {
            return;
        };
        if segment.has(SYN) {
            // A new attempt has numbers of its own; those of the one before do not matter any more.
            if segment.flags == SYN && from_client && doubt.start != Some(segment.sequence) {
                self.doubt = None;
            }
            return;
        }
        let acknowledged = [acknowledged.0, acknowledged.1];
        for (side, acknowledged) in acknowledged.into_iter().enumerate() {
            if doubt.ahead[side] != acknowledged && acknowledged != 0 {
                doubt.ahead[side] = acknowledged;
                doubt.agreed[side] += 1;
            }
        }
        if doubt.agreed.iter().all(|n| *n >= CERTAIN_AFTER) {
            self.doubt = None;
            self.note("numbers must be certain again".into());
        }
    }

    /// The connection with the host and state of both ends, if both have a part in it.
    pub(super) fn pair(&self) -> Option<Couple> {
        let connection = self.connection()?;
        let host = self.host_of(connection.server());
        let socket = self.hosts[host].with(connection.server_side.source)?;
        Some(Couple { connection, client: self.hosts[0].state(0), server: self.hosts[host].state(socket), host })
    }

    /// Everything that must hold at any time.
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        self.check_told()?;
        let now = self.instant();
        self.translator.poll(now);
        self.check_live()?;
        self.check_gone()
    }

    /// Two ends that talk with each other.
    pub(super) fn check_live(&mut self) -> Result<(), Violation> {
        // The server's end is found by the client's numbers, so that a connection which the translator has forgotten is
        // noticed too.
        let client = self.hosts[0].state(0);
        let Some(client_numbers) = self.hosts[0].numbers(at(ORIGINAL)) else {
            return Ok(());
        };
        let connection = self.connection();
        let (host, alternative) = match connection {
            Some(c) => (self.host_of(c.server()), c.server_side.source),
            None => {
                let paired = (1..3).find_map(|host| self.partner(host, &client_numbers).map(|_| host));
                let silent = self.now - self.last_passed > ESTABLISHED;
                return match paired {
                    Some(_) if client == End::Established && !silent => {
                        Err(self.fail("a live connection was forgotten"))
                    }
                    _ => Ok(()),
                };
            }
        };
        let Some(socket) = self.hosts[host].with(alternative) else {
            return Ok(());
        };
        let server = self.hosts[host].state(socket);
        let Some(server_numbers) = self.hosts[host].numbers(alternative) else {
            return Ok(());
        };
        let Some(connection) = connection else {
            return Ok(());
        };
        let state = connection.state;
        if state == State::Resetting {
            return Ok(());
        }
        let passed = self.passed.get(&(connection.server(), alternative)).copied().unwrap_or_default();
        let paired = match (client, server) {
            (End::SynSent, End::SynReceived) => {
                passed.answered
                    && passed.client.start == Some(client_numbers.start)
                    && passed.server.start == Some(server_numbers.start)
                    && server_numbers.acknowledged == Some(client_numbers.next)
            }
            (End::SynReceived, End::SynReceived) => are_paired(&client_numbers, &server_numbers),
            _ => are_paired(&client_numbers, &server_numbers),
        };
        if !paired {
            return Ok(());
        }
        // Two attempts over an older connection were both answered, and a RST of the client refused the first answer. The
        // translator kept only that one, so the ends of the other have to agree on their numbers before it knows them.
        let unknown = passed.over_another && passed.was_reset && !passed.answered;
        if unknown && passed.before == Some(client_numbers.start) {
            return Ok(());
        }
        if self.is_hidden(&connection, &passed, &client_numbers) {
            return Ok(());
        }
        let mut allowed = permitted(client, server);
        if allowed.is_empty() {
            return Ok(());
        }
        if passed.reset {
            allowed.push(State::Doubtful);
        }
        let established = (client, server) == (End::Established, End::Established);
        let opening = !client.is_synchronized() || !server.is_synchronized();
        // A late answer to an older attempt, and the RST with which the client refuses it, hide what was answered before; and one
        // of three attempts is not remembered. The time-out is the same. The server has not been heard then, and until it
        // is, a FIN counts as where one way is not seen.
        let remembered = passed.is_remembered(client_numbers.start);
        if opening && !(passed.answered && remembered) {
            allowed.push(State::Opening);
        }
        if !opening && !remembered {
            match (client.waits_for_its_fin(), server.waits_for_its_fin()) {
                (true, false) => allowed.push(State::ClientClosed),
                (false, true) => allowed.push(State::ServerClosed),
                (true, true) => allowed.extend([State::Closing, State::TimeWait]),
                (false, false) => {}
            }
        }
        if (self.doubt.is_some() && !established)
            || (opening && (passed.over_another || passed.was_reset || passed.server.start.is_none()))
        {
            return Ok(());
        }
        let shown = self.shown.get(&(connection.server(), alternative)).copied().unwrap_or_default().states();
        // Not the translator, but the test: what the segments show to somebody who knows the forged ones.
        if self.plan.check_shown && !shown.iter().any(|s| allowed.contains(s)) {
            return Err(self.fail(format!("TEST client {client:?}, server {server:?}: {shown:?}")));
        }
        self.checked.established += u64::from(established);
        self.checked.closing += u64::from(is_long_lived(state) && state != State::Established);
        if !self.plan.check_shown && !allowed.contains(&state) {
            return Err(self.fail(format!("client {client:?}, server {server:?}: translator {state:?}")));
        }
        // The numbers, once nothing is under way and both have had everything acknowledged.
        let quiet = self.legs.iter().all(Leg::is_empty)
            && client.is_synchronized()
            && server.is_synchronized()
            && !client.waits_for_its_fin()
            && !server.waits_for_its_fin()
            && self.hosts[0].get(0).send_queue() == 0
            && self.hosts[host].get(socket).send_queue() == 0
            && client_numbers.acknowledged == Some(server_numbers.next)
            && server_numbers.acknowledged == Some(client_numbers.next);
        if !quiet || self.doubt.is_some() {
            return Ok(());
        }
        let Some(record) = self.translator.record(&connection) else {
            return Ok(());
        };
        let wanted = [client_numbers.next, server_numbers.next, server_numbers.next, client_numbers.next];
        self.checked.numbers += 1;
        if self.plan.check_shown {
            let Passed { client, server, .. } = passed;
            let shown = [client.next, server.next, server.acknowledged, client.acknowledged];
            let other = client.start != Some(client_numbers.start) || server.start != Some(server_numbers.start);
            return match other || shown == wanted {
                true => Ok(()),
                false => Err(self.fail(format!("TEST numbers {shown:x?}, not {wanted:x?}"))),
            };
        }
        // One forged segment in a million fits by chance, and what was sent seems to be more than it was until the stream
        // has passed it. It is not acknowledged, so neither RST nor FIN is judged by it.
        let found = numbers_of(&record);
        let near = |n: usize| found[n].wrapping_sub(wanted[n]) < 1 << 24;
        let fits = found[2..] == wanted[2..] && if self.plan.attacked { near(0) && near(1) } else { found == wanted };
        if !fits {
            let found = numbers_of(&record);
            let unknown = wanted.iter().zip(found).all(|(wanted, found)| *wanted == found || found == 0);
            let rule = if unknown { "numbers that must be known are not" } else { "wrong numbers" };
            return Err(self.fail(format!("{rule}: client {client:?}, server {server:?}")));
        }
        Ok(())
    }

    /// Whether the translator takes the connection for over, because the last acknowledgement of the one before it came after
    /// the answer to this one's SYN: both FINs are acknowledged. The ends have to agree on their numbers then, from the first
    /// time on.
    fn is_hidden(&mut self, connection: &Connection, passed: &Passed, client: &Numbers) -> bool {
        let closed = |record: Record| record.as_bytes()[5] & 0b11_1100 == 0b11_1100;
        let old = passed.over_another && connection.state == State::TimeWait;
        if !old || !self.translator.record(connection).is_some_and(closed) {
            return false;
        }
        if self.hidden != Some(client.start) {
            self.hidden = Some(client.start);
            self.doubt = Some(Doubt::since(passed));
        }
        self.doubt.is_some()
    }

    /// A server's established socket that talks with the client.
    pub(super) fn partner(&self, host: usize, client: &Numbers) -> Option<usize> {
        let server = &self.hosts[host];
        (0..server.count()).find(|number| {
            server.state(*number) == End::Established
                && server.get(*number).remote_endpoint().is_some_and(|peer| {
                    let smoltcp::wire::IpAddress::Ipv4(address) = peer.addr;
                    let numbers = server.numbers(SocketAddrV4::new(address, peer.port));
                    numbers.is_some_and(|n| are_paired(client, &n))
                        && self.target == host
                        && self.hosts[0].get(0).remote_endpoint().is_some()
                })
        })
    }

    /// Two ends that are gone, as could be seen.
    pub(super) fn check_gone(&mut self) -> Result<(), Violation> {
        let Some(connection) = self.connection() else {
            return Ok(());
        };
        let host = self.host_of(connection.server());
        let alternative = connection.server_side.source;
        let is_gone = self.hosts[0].state(0).is_gone()
            && self.hosts[host].with(alternative).is_none_or(|n| self.hosts[host].state(n).is_gone());
        let quiet = self.legs.iter().all(Leg::is_empty);
        let passed = self.passed.get(&(connection.server(), alternative)).copied().unwrap_or_default();
        // A client that gives up an attempt over an entry that seems alive: without the server's answer it may be forged.
        let unseen = passed.over_another && !passed.answered;
        if !is_gone || !quiet || unseen || self.doubt.is_some() || !(passed.reset || passed.is_over()) {
            return Ok(());
        }
        self.checked.gone += 1;
        if is_long_lived(connection.state) {
            let how = if passed.reset { "reset" } else { "closed" };
            return Err(self.fail(format!("both ends are gone ({how}): translator {:?}", connection.state)));
        }
        Ok(())
    }

    /// A re-divert with `Reset` has told both ends.
    pub(super) fn check_told(&mut self) -> Result<(), Violation> {
        let Some(told) = self.told else {
            return Ok(());
        };
        // A round trip, one challenge that a stack may put off for a second, another round trip.
        let patience = 8 * self.legs[0].quality.delay + 1_200_000;
        if self.now < told.at + patience {
            return Ok(());
        }
        self.told = None;
        self.checked.told += 1;
        let client = self.hosts[0].state(0);
        let same = self.hosts[0].numbers(at(ORIGINAL)).is_some_and(|n| n.start == told.client_start);
        if same && client.is_synchronized() && !client.is_gone() {
            return Err(self.fail(format!("the client was not told of the re-divert: {client:?}")));
        }
        let host = &self.hosts[told.server];
        let Some(socket) = host.with(told.alternative) else {
            return Ok(());
        };
        let server = host.state(socket);
        let same = host.numbers(told.alternative).is_some_and(|n| n.start == told.server_start);
        if same && server.is_synchronized() && !server.is_gone() {
            return Err(self.fail(format!("the server was not told of the re-divert: {server:?}")));
        }
        Ok(())
    }

    /// The lines are good from now on; then the time-outs are what the states say.
    pub fn finish(&mut self) -> Result<(), Violation> {
        for leg in &mut self.legs {
            leg.quality = Quality { delay: leg.quality.delay, ..Quality::default() };
        }
        self.note("the lines are good from now on".into());
        for _ in 0..10 {
            self.turn()?;
            for (host, salt) in [(0, 80), (1, 40_000), (2, 40_000)] {
                for number in 0..self.hosts[host].count() {
                    self.hosts[host].receive(number, salt, 1 << 18);
                }
            }
            self.run_until(self.now + 12 * SECOND)?;
        }
        let Some(Couple { connection, client, server, host }) = self.pair() else {
            return self.finish_gone();
        };
        let numbers = (self.hosts[0].numbers(at(ORIGINAL)), self.hosts[host].numbers(connection.server_side.source));
        let paired = matches!(numbers, (Some(client), Some(server)) if are_paired(&client, &server));
        let open = |e| matches!(e, End::Established | End::CloseWait | End::FinWait2);
        if !paired || !open(client) || !open(server) || connection.state == State::Resetting {
            return self.finish_gone();
        }
        let passed =
            self.passed.get(&(connection.server(), connection.server_side.source)).copied().unwrap_or_default();
        let certain = self.doubt.is_none() || (client, server) == (End::Established, End::Established);
        // While numbers are in doubt only what both ends agree on is a sign of life.
        if passed.reset || !certain || self.doubt.is_some() {
            return Ok(());
        }
        // A flood of other clients' SYNs does not push it out.
        self.checked.flooded += 1;
        for number in 0..300 {
            let other = SocketAddrV4::new(core::net::Ipv4Addr::from_bits(0xc633_6400 + number), 1_000);
            let mut syn = tcp(other, at(ORIGINAL), (SYN, number, 0), b"");
            let _ = self.translator.translate(self.instant(), &mut syn);
        }
        if self.connection().is_none() {
            return Err(self.fail("a flood pushed a live connection out"));
        }
        // Neither does silence, up to the time-out.
        self.checked.idle += 1;
        let end = self.last_passed + ESTABLISHED - 2 * SECOND;
        while self.now < end {
            self.now = end.min(self.now + 60 * SECOND);
            let now = self.instant();
            self.translator.poll(now);
            if self.connection().is_none() {
                let idle = (self.now - self.last_passed) / SECOND;
                return Err(self.fail(format!("a live connection was forgotten after {} idle minutes", idle / 60)));
            }
        }
        Ok(())
    }

    /// Both ends are gone, and four minutes later the translator has forgotten them.
    pub(super) fn finish_gone(&mut self) -> Result<(), Violation> {
        let Some(connection) = self.connection() else {
            return Ok(());
        };
        let passed =
            self.passed.get(&(connection.server(), connection.server_side.source)).copied().unwrap_or_default();
        let host = self.host_of(connection.server());
        let gone = self.hosts[0].state(0).is_gone()
            && self.hosts[host].with(connection.server_side.source).is_none_or(|n| self.hosts[host].state(n).is_gone());
        let unseen = passed.over_another && !passed.answered;
        if !gone || unseen || self.doubt.is_some() || !(passed.reset || passed.is_over()) {
            return Ok(());
        }
        self.checked.expired += 1;
        let end = self.now + TRANSITORY + 2 * SECOND;
        while self.now < end {
            self.now += SECOND;
            let now = self.instant();
            self.translator.poll(now);
        }
        if self.connection().is_some() {
            return Err(self.fail(format!("both ends are gone for four minutes: translator {:?}", connection.state)));
        }
        Ok(())
    }
}
