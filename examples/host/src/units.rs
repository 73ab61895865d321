//! Times as people write them.

use core::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The sum of numbers with units: `2h4m`, `300s`, `500ms`. `None` if the text is anything else, or the sum is zero.
#[must_use]
pub fn duration(word: &str) -> Option<Duration> {
    duration_or_zero(word).filter(|time| !time.is_zero())
}

/// The same, where zero is a time too: `0s`.
#[must_use]
pub fn duration_or_zero(mut word: &str) -> Option<Duration> {
    if word.is_empty() {
        return None;
    }
    let mut millis = 0_u64;
    while !word.is_empty() {
        let (digits, rest) = word.split_at(word.find(|c: char| !c.is_ascii_digit())?);
        let unit_ends = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit_ends);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(digits.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        word = rest;
    }
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let right = [("300s", 300_000), ("2h4m", 7_440_000), ("500ms", 500), ("1d", 86_400_000), ("1m1s1ms", 61_001)];
        for (word, millis) in right {
            assert_eq!(duration(word), Some(Duration::from_millis(millis)), "{word}");
            assert_eq!(duration_or_zero(word), duration(word), "{word}");
        }
        for word in ["", "5", "0s", "s", "5x", "-5s", "5s5", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration(word), None, "{word}");
            assert_eq!(duration_or_zero(word), (word == "0s").then_some(Duration::ZERO), "{word}");
        }
    }
}
