//! The end of a hand-over, after which exactly one of the two processes goes on.

use core::time::Duration;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::receive;

/// What the new process says when it could begin at once, and what it waits for then.
const READY: &[u8] = b"ready\n";
const YOURS: &[u8] = b"yours\n";
/// What an older one says, which waits for nothing.
const TAKEN: &[u8] = b"taken\n";

/// The new process's half of the agreement: it goes on if this is `Ok`.
pub(super) fn claim(stream: &UnixStream, answers: bool, patience: Duration) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the other byway has not let go, and goes on: {error}");
    let mut out = stream;
    if !answers {
        return out.write_all(TAKEN).map_err(failed);
    }
    // In one piece, so that it is there as a whole or not at all.
    out.write_all(READY).map_err(failed)?;
    match last_word(stream, patience).map_err(failed)? {
        answer if answer.as_bytes() == YOURS => Ok(()),
        answer => Err(format!("the other byway goes on: {}", answer.trim_end())),
    }
}

/// The old process's half: it ends if this is `Ok`.
pub(super) fn let_go(stream: &UnixStream, patience: Duration) -> Result<(), String> {
    match last_word(stream, patience) {
        Ok(answer) if answer.as_bytes() == TAKEN => Ok(()),
        Ok(answer) if answer.as_bytes() == READY => {
            let mut out = stream;
            out.write_all(YOURS).map_err(|error| format!("it waits no longer: {error}"))
        }
        Ok(answer) => Err(answer.trim_end().into()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err("it has ended".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The line that the other process says, if it says so in time. If not, it fails from then on when it says anything.
fn last_word(stream: &UnixStream, patience: Duration) -> std::io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    let received = receive(stream).or_else(|error| {
        stream.shutdown(Shutdown::Read)?;
        // What came before that counts.
        receive(stream).map_err(|_| error)
    });
    received.map(|(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::super::PATIENCE;
    use super::*;

    /// Both halves of the agreement, each after a while; what each says it does.
    fn agreement(new: (Duration, Duration), old: (Duration, Duration)) -> (Result<(), String>, Result<(), String>) {
        let (one, other) = UnixStream::pair().unwrap();
        let new = std::thread::spawn(move || {
            std::thread::sleep(new.0);
            claim(&one, true, new.1)
        });
        std::thread::sleep(old.0);
        let old = let_go(&other, old.1);
        if old.is_err() {
            other.shutdown(Shutdown::Both).unwrap();
        }
        (new.join().unwrap(), old)
    }

    /// Whenever they speak and however long they wait, the old one goes on or the new one, and never both.
    #[test]
    fn exactly_one_goes_on() {
        let ms = Duration::from_millis;
        let (new, old) = agreement((ms(0), ms(5000)), (ms(0), ms(5000)));
        assert_eq!((new, old), (Ok(()), Ok(())), "the usual");
        // The new one is ready after the old one has gone on.
        let (new, old) = agreement((ms(300), ms(5000)), (ms(0), ms(20)));
        assert!(old.is_err() && new.clone().unwrap_err().contains("goes on"), "{new:?} {old:?}");
        // The old one answers after the new one has ended.
        let (new, old) = agreement((ms(0), ms(20)), (ms(300), ms(5000)));
        assert!(new.is_err() && old.clone().unwrap_err().contains("it waits no longer"), "{new:?} {old:?}");
        // Both at about the same time.
        let mut gone_on = [0; 2];
        for n in 0..300 {
            let (new, old) = agreement((ms(n % 20), ms(1 + n % 7 * 2)), (ms(n % 13), ms(1 + n % 5 * 2)));
            assert_eq!(new.is_ok(), old.is_ok(), "{n}: {new:?} {old:?}");
            gone_on[usize::from(new.is_ok())] += 1;
        }
        assert!(gone_on.iter().all(|count| *count > 10), "either happens: {gone_on:?}");
    }

    #[test]
    fn an_older_one_says_taken_and_wants_no_answer() {
        let (one, other) = UnixStream::pair().unwrap();
        assert_eq!(claim(&one, false, PATIENCE), Ok(()));
        drop(one);
        assert_eq!(let_go(&other, PATIENCE), Ok(()));
        let (one, other) = UnixStream::pair().unwrap();
        (&one).write_all(b"there is no room\n").unwrap();
        assert_eq!(let_go(&other, PATIENCE), Err("there is no room".into()));
    }
}
