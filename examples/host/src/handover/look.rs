//! Somebody looks at one rule's packets, over the socket where the next process comes to.

use core::time::Duration;
use std::io::{BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;

use byway::{Match, ParseError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::PATIENCE;
use crate::metrics::Handles;
use crate::shard::Handle;
use crate::tap::{self, Reader, Seen};

/// How often packets so far are shown, and how soon it is noticed that the reader has gone.
const OFTEN: Duration = Duration::from_millis(200);
/// The longest capture.
const DAY: u64 = 86_400;

/// Lets somebody look at a rule's packets: the request is `SECONDS MATCH`, and the answer a capture.
///
/// # Errors
/// One line for whoever asked.
pub(super) fn look(stream: &UnixStream, wanted: &str, shards: &Handles) -> Result<(), String> {
    let (seconds, matches) = wanted.split_once(' ').ok_or("say for how many seconds, and what")?;
    let seconds = seconds.parse::<u64>().map_err(|_| format!("{seconds}: it must be a number of seconds"))?;
    let matches: Match = matches.parse().map_err(|error: ParseError| error.to_string())?;
    let end = Instant::now() + Duration::from_secs(seconds.min(DAY));
    let (sender, seen) = sync_channel(tap::WAITING);
    let all = shards.lock().map_err(|_| "byway is ending")?.shards.clone();
    let taps = Taps { shards: &all, reader: Reader::default() };
    taps.set(matches, &sender)?;
    drop(sender);
    // The capture also ends if nobody reads it any more.
    let _ = record(stream, end, &seen);
    Ok(())
}

/// The taps of one reader in all shards. None of them is left once this is dropped.
struct Taps<'a> {
    shards: &'a [Handle],
    reader: Reader,
}

impl Taps<'_> {
    fn set(&self, matches: Match, sender: &SyncSender<Seen>) -> Result<(), String> {
        for shard in self.shards {
            let tap = self.reader.tap(matches, sender.clone());
            let done = shard.ask(move |router| {
                if router.tap.as_ref().is_some_and(tap::Tap::has_reader) {
                    return Err("somebody is looking already");
                }
                router.tap = Some(tap);
                Ok(())
            });
            done.ok_or("byway is ending")??;
        }
        Ok(())
    }
}

impl Drop for Taps<'_> {
    fn drop(&mut self) {
        let reader = &self.reader;
        for shard in self.shards {
            // Not another reader's.
            let _ = shard.ask(|router| router.tap.take_if(|tap| tap.is_of(reader)));
        }
    }
}

/// Writes the capture until its time is over or the reader has gone.
fn record(stream: &UnixStream, end: Instant, seen: &Receiver<Seen>) -> std::io::Result<()> {
    let mut out = BufWriter::new(stream);
    stream.set_write_timeout(Some(PATIENCE))?;
    tap::begin(&mut out)?;
    let mut shown = Instant::now();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        match seen.recv_timeout(left.min(OFTEN)) {
            Ok(one) => tap::write(&mut out, &one)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Also where a packet comes now and then.
        if shown.elapsed() >= OFTEN {
            shown = Instant::now();
            out.flush()?;
            // Without packets nothing is written, so that nothing else would tell.
            if has_gone(stream)? {
                break;
            }
        }
    }
    out.flush()
}

/// Whether the other end is closed.
fn has_gone(stream: &UnixStream) -> std::io::Result<bool> {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => Ok(fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixDatagram;
    use std::sync::{Arc, Mutex};

    use byway::{Config, Heap, Sharding, Translator};

    use super::*;
    use crate::clock::Clock;
    use crate::device::Queue;
    use crate::listeners::Listeners;
    use crate::metrics::Threaded;
    use crate::router::{Router, Settings};
    use crate::shard;

    /// Shards without threads: a lock is all that a look needs.
    fn shards(count: usize) -> Vec<Handle> {
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let sharding = Sharding::new(&config, count).unwrap();
        let parts = (0..count).map(|number| {
            let translator = Translator::new(sharding.config(&config, number).unwrap(), Heap::new(64, 16)).unwrap();
            let address = [10, 9, 9, 9].into();
            let settings = Settings { address, mtu: 1500, errors_per_second: 10, held: 4, resumable: None, early: None };
            let (near, _) = UnixDatagram::pair().unwrap();
            (Queue::new(near.into(), true), Box::new(Router::new(translator, settings)))
        });
        let clock = Clock::new(byway::Instant::from_secs(10));
        let all = shard::shards(parts.collect::<Vec<_>>(), &Listeners::default(), sharding, clock).unwrap();
        all.into_iter().map(|(_, handle)| handle).collect()
    }

    fn handles(shards: &[Handle]) -> Handles {
        Arc::new(Mutex::new(Threaded { shards: shards.to_vec(), ..Threaded::default() }))
    }

    fn is_tapped(shard: &Handle) -> bool {
        shard.ask(|router| router.tap.is_some()).unwrap()
    }

    /// A reader that goes while no packet comes keeps nobody out until its time is over.
    #[test]
    fn a_reader_that_has_gone_is_noticed_without_packets() {
        let shards = shards(2);
        let (near, mut far) = UnixStream::pair().unwrap();
        let shared = handles(&shards);
        let first = std::thread::spawn(move || look(&near, "3600 100.1.1.1", &shared));
        let mut begun = [0; 4];
        far.read_exact(&mut begun).unwrap();
        assert!(shards.iter().all(is_tapped));
        let (other, _keeps) = UnixStream::pair().unwrap();
        let refused = look(&other, "3600 100.1.1.1", &handles(&shards));
        assert_eq!(refused, Err("somebody is looking already".into()));
        assert!(shards.iter().all(is_tapped), "the refusal takes nothing from the one who looks");
        drop(far);
        let until = Instant::now() + 20 * OFTEN;
        while !first.is_finished() && Instant::now() < until {
            std::thread::sleep(OFTEN / 10);
        }
        assert!(first.is_finished(), "it goes on for nobody");
        assert_eq!(first.join().unwrap(), Ok(()));
        assert!(!shards.iter().any(is_tapped));
        assert_eq!(look(&other, "0 100.1.1.1", &handles(&shards)), Ok(()));
    }

    /// If one shard refuses, no other keeps a tap that nobody reads, and the one that was there stays.
    #[test]
    fn a_refusal_leaves_no_tap_behind() {
        let shards = shards(3);
        let (sender, _seen) = sync_channel(1);
        let somebody = Reader::default();
        let tap = somebody.tap("100.1.1.1".parse().unwrap(), sender);
        shards[1].ask(|router| router.tap = Some(tap)).unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let refused = look(&near, "3600 100.1.1.1", &handles(&shards));
        assert_eq!(refused, Err("somebody is looking already".into()));
        assert_eq!(shards.iter().map(is_tapped).collect::<Vec<_>>(), [false, true, false]);
        // Nobody reads it any more, though no packet has shown that.
        drop(somebody);
        assert_eq!(look(&near, "0 100.1.1.1", &handles(&shards)), Ok(()));
        assert!(!shards.iter().any(is_tapped));
    }
}
