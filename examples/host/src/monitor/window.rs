//! Times of day, in the local time of some place.

use jiff::tz::TimeZone;
use jiff::Timestamp;

/// The days of the week, as they are written.
pub const DAYS: [(&str, usize); 7] =
    [("mon", 0), ("tue", 1), ("wed", 2), ("thu", 3), ("fri", 4), ("sat", 5), ("sun", 6)];

/// Some hours of some days of the week, in a time zone. It is open while a clock there shows a time from `from` on and before
/// `to`. Where `to` is not after `from` it ends on the day after.
///
/// On the day when clocks are set forward an hour is missing, and what would begin or end within it does so when it would
/// have begun or ended on that clock: at the end of the gap. On the day when they are set back an hour is there twice, and
/// so is what lies within it.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    days: [bool; 7],
    from: u16,
    to: u16,
    zone: TimeZone,
    name: String,
}

impl Window {
    /// `from` and `to` are minutes of the day.
    ///
    /// # Errors
    /// There is no such time zone.
    pub fn new(days: [bool; 7], from: u16, to: u16, zone: &str) -> Result<Self, String> {
        let found = TimeZone::get(zone).map_err(|_| format!("there is no time zone \"{zone}\""))?;
        Ok(Self { days, from, to, zone: found, name: zone.into() })
    }

    /// The minute of the day that a text like `22:00` names.
    #[must_use]
    pub fn minute(text: &str) -> Option<u16> {
        let (hour, minute) = text.split_once(':')?;
        let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(hour) || !is_number(minute) {
            return None;
        }
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        let all = hour * 60 + minute;
        (minute < 60 && all <= 24 * 60).then_some(all % (24 * 60))
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        let shown = self.zone.to_datetime(at);
        let minute = shown.hour() as u16 * 60 + shown.minute() as u16;
        let today = shown.weekday().to_monday_zero_offset() as usize % 7;
        let yesterday = (today + 6) % 7;
        if self.from < self.to {
            return self.days[today] && (self.from..self.to).contains(&minute);
        }
        // Over midnight; the whole day if both are the same.
        (self.days[today] && minute >= self.from) || (self.days[yesterday] && minute < self.to && self.from != self.to)
    }
}

impl core::fmt::Display for Window {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let days: Vec<_> = DAYS.iter().filter(|(_, day)| self.days[*day]).map(|(name, _)| *name).collect();
        let days = if days.len() == 7 { "every day".into() } else { days.join(", ") };
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{days} from {} to {} ({})", time(self.from), time(self.to), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn window(days: &[usize], from: &str, to: &str, zone: &str) -> Window {
        let mut open = [days.is_empty(); 7];
        days.iter().for_each(|day| open[*day] = true);
        Window::new(open, Window::minute(from).unwrap(), Window::minute(to).unwrap(), zone).unwrap()
    }

    #[test]
    fn hours_are_those_of_the_place() {
        // 26 November 2026 is a Thursday.
        let office = window(&[0, 1, 2, 3, 4], "09:00", "17:00", "America/New_York");
        for (time, open) in [
            ("2026-11-26T13:59:59Z", false),
            ("2026-11-26T14:00:00Z", true),
            ("2026-11-26T21:59:59Z", true),
            ("2026-11-26T22:00:00Z", false),
            ("2026-11-28T15:00:00Z", false),
            // In summer it begins an hour earlier.
            ("2026-07-02T13:00:00Z", true),
        ] {
            assert_eq!(office.is_open(at(time)), open, "{time}");
        }
        assert_eq!(office.to_string(), "mon, tue, wed, thu, fri from 09:00 to 17:00 (America/New_York)");
    }

    #[test]
    fn a_night_belongs_to_the_day_that_it_begins_on() {
        let night = window(&[4], "22:00", "06:00", "UTC");
        for (time, open) in [
            ("2026-11-27T21:59:59Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T05:59:59Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-28T22:00:00Z", false),
            ("2026-11-27T05:00:00Z", false),
        ] {
            assert_eq!(night.is_open(at(time)), open, "{time}");
        }
        let day = window(&[5], "00:00", "24:00", "UTC");
        assert!(day.is_open(at("2026-11-28T23:59:59Z")) && !day.is_open(at("2026-11-29T00:00:00Z")));
    }

    /// On 29 March 2026 clocks in Berlin go from 02:00 to 03:00 at 01:00 UTC, and on 25 October from 03:00 to 02:00.
    #[test]
    fn the_two_odd_days_of_the_year() {
        let hours = |window: &Window, day: &str| -> Vec<u32> {
            let start: Timestamp = at(&format!("{day}T00:00:00Z"));
            (0..12 * 60)
                .filter(|minute| window.is_open(start + jiff::SignedDuration::from_mins(i64::from(*minute))))
                .collect()
        };
        let (spring, autumn) = ("2026-03-29", "2026-10-25");
        // It lies in the hour that is missing: that day it never opens.
        let missing = window(&[], "02:00", "03:00", "Europe/Berlin");
        assert_eq!(hours(&missing, spring), [] as [u32; 0]);
        // The same hour is there twice: 00:00 to 02:00 UTC.
        assert_eq!(hours(&missing, autumn), (0..120).collect::<Vec<_>>());
        // What begins in the gap begins when it ends, and what ends in it has ended.
        let begins = window(&[], "02:30", "05:00", "Europe/Berlin");
        assert_eq!(hours(&begins, spring), (60..180).collect::<Vec<_>>());
        let ends = window(&[], "01:00", "02:30", "Europe/Berlin");
        assert_eq!(hours(&ends, spring), (0..60).collect::<Vec<_>>());
        // A night is an hour shorter, or longer.
        let night = window(&[], "00:00", "06:00", "Europe/Berlin");
        let lengths = [spring, autumn].map(|day| {
            let start: Timestamp = at(&format!("{day}T00:00:00Z"));
            let minute = |minute: i64| start + jiff::SignedDuration::from_mins(minute);
            (-180..600).filter(|n| night.is_open(minute(*n))).count()
        });
        assert_eq!(lengths, [5 * 60, 7 * 60]);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "9:00", "24:01", "25:00", "12:60", "12", "+9:00", "-1:00", "12:00:00"] {
            assert_eq!(Window::minute(text), None, "{text}");
        }
        assert!(Window::new([true; 7], 0, 60, "Atlantis").is_err());
    }
}
