//! What translators have answered to a change.

use byway::control::RefusedBy;

/// Why a translator has refused something.
pub(super) fn refusal(why: &RefusedBy) -> String {
    why.code.map_or_else(|| format!("refused with code {}", why.number), |code| format!("refused: {code}"))
}

/// Lines, of which one that comes many times in a row is kept once: a change can be a thousand requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Results(Vec<(String, u32)>);

impl Results {
    /// Adds a line. Returns whether it is another one than the last.
    pub(super) fn add(&mut self, line: String) -> bool {
        match self.0.last_mut() {
            Some((last, times)) if *last == line => {
                *times = times.saturating_add(1);
                false
            }
            _ => {
                self.0.push((line, 1));
                true
            }
        }
    }

    /// The lines, as they are shown and stored.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(line, times): &(String, u32)| if *times == 1 { line.clone() } else { format!("{line} ({times} times)") };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_counted() {
        let mut results = Results::default();
        let new = ["a: 3 changes", "a: 3 changes", "b: refused", "a: 3 changes"].map(|line| results.add(line.into()));
        assert_eq!(new, [true, false, true, true]);
        assert_eq!(results.lines(), ["a: 3 changes (2 times)", "b: refused", "a: 3 changes"]);
    }
}
