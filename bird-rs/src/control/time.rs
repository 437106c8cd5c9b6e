//! Times as `timeformat` wants them. Local time zones are not known here: times are UTC.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tortie_bgp::config::TimeFormat;

/// Of BIRD's short formats: older times are shown as dates.
const RECENT: Duration = Duration::from_secs(20 * 3600);

/// What `route` and `protocol` times have when the configuration says nothing.
pub(crate) const SHORT: TimeFormat = TimeFormat::Iso { long: false, digits: 3 };
/// What `base` times have.
pub(crate) const LONG: TimeFormat = TimeFormat::Iso { long: true, digits: 3 };

/// A time since 1970, as seen at another.
pub(crate) fn show(format: &TimeFormat, unix_ms: i64, now_unix_ms: i64) -> String {
    let age = u64::try_from(now_unix_ms.saturating_sub(unix_ms)).unwrap_or(0);
    let is_older = |limit: Duration| Duration::from_millis(age) > limit;
    let pattern = match format {
        TimeFormat::Iso { long: false, .. } if is_older(RECENT) => "%F".to_owned(),
        TimeFormat::Iso { long, digits } => {
            let date = if *long { "%F " } else { "" };
            let fraction = if *digits == 0 {
                String::new()
            } else {
                format!(".%{digits}f")
            };
            format!("{date}%T{fraction}")
        }
        TimeFormat::Custom {
            older: Some((limit, older)),
            ..
        } if is_older(*limit) => older.clone(),
        TimeFormat::Custom { format, .. } => format.clone(),
    };
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let zoned = time.to_zoned(TimeZone::UTC);
    // A format that this program's library does not know is shown as it is.
    jiff::fmt::strtime::format(&pattern, &zoned).unwrap_or(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_bird_prints_them() {
        let at = 1_700_000_000_123;
        let hours = |hours: i64| at + hours * 3_600_000;
        assert_eq!(show(&LONG, at, hours(100)), "2023-11-14 22:13:20.123");
        assert_eq!(show(&SHORT, at, hours(20)), "22:13:20.123");
        assert_eq!(show(&SHORT, at, hours(21)), "2023-11-14");
        let whole = TimeFormat::Iso { long: false, digits: 0 };
        assert_eq!(show(&whole, at, at), "22:13:20");
        let custom = TimeFormat::Custom {
            format: "%H:%M".to_owned(),
            older: Some((Duration::from_secs(60), "%d.%m.%Y".to_owned())),
        };
        assert_eq!(show(&custom, at, at + 60_000), "22:13");
        assert_eq!(show(&custom, at, at + 61_000), "14.11.2023");
    }
}
