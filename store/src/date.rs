//! Dates of RFC 3339 and milliseconds since 1970, both ways.

/// Milliseconds since 1970 of a date of RFC 3339, or of the beginning of one: `2026-01-31`, `2026-01-31T12:00`,
/// `2026-01-31T12:00:00.5+01:00`. Without a zone it is UTC.
pub fn parse(text: &str) -> Option<f64> {
    let (day, time) = match text.split_once(['T', 't', ' ']) {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = parts(day, '-')?;
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let within = time.map_or(Some(0.0), milliseconds_of_day)?;
    Some(days as f64 * 8.64e7 + within)
}

fn milliseconds_of_day(text: &str) -> Option<f64> {
    let (clock, zone) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => text.split_at(at),
        None => (text, "Z"),
    };
    let offset_minutes = match zone.strip_prefix(['Z', 'z']) {
        Some("") => 0,
        Some(_) => return None,
        None => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let [hours, minutes] = parts(zone.get(1..)?, ':')?;
            (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))?
        }
    };
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            (clock, format!("0.{digits}").parse::<f64>().ok()?)
        }
        Some(_) => return None,
        None => (clock, 0.0),
    };
    let [hours, minutes, seconds] =
        parts(clock, ':').or_else(|| parts(clock, ':').map(|[h, m]| [h, m, 0]))?;
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let whole = (hours * 60 + minutes - offset_minutes) * 60 + seconds;
    Some((whole as f64 + fraction) * 1e3)
}

/// Exactly so many numbers of two to four digits.
fn parts<const COUNT: usize>(text: &str, separator: char) -> Option<[i64; COUNT]> {
    let mut numbers = [0; COUNT];
    let mut parts = text.split(separator);
    for number in &mut numbers {
        let part = parts.next()?;
        let is_number =
            (2..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_number)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days of the Gregorian calendar, in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 719_469
}

/// The date of a time in milliseconds since 1970, in UTC: `2026-01-31T12:00:00.500Z`. A time beyond the year 9999 or before 0 is
/// written as the nearest that has four digits.
pub fn format(ms: i64) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    let ms = ms.clamp(FIRST, LAST);
    let (days, within) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = day_of(days);
    let (seconds, fraction) = (within / 1000, within % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}Z")
}

/// Year, month and day of a number of days since 1970.
fn day_of(days: i64) -> (i64, i64, i64) {
    // Days since the first of March of the year 0, in cycles of 400 years.
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    (cycle * 400 + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_milliseconds() {
        for (text, expected) in [
            ("1970-01-01", 0.0),
            ("2000-02-29", 951_782_400_000.0),
            ("2000-03-01", 951_868_800_000.0),
            ("2023-11-14T22:13:20.5Z", 1_700_000_000_500.0),
            ("2023-11-14 22:13", 1_699_999_980_000.0),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000.0),
            ("2023-11-14T21:43:20-00:30", 1_700_000_000_000.0),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in [
            "2023-02-29",
            "1900-02-29",
            "2023-13-01",
            "2023-1-1",
            "2023-11-14T",
            "2023-11-14T25:00",
            "2023-11-14T22:13:20.x",
            "2023-11-14T22:13Zulu",
            "2023-11-14T22:13+1",
            "yesterday",
            "é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// Against counting days one by one.
    #[test]
    fn days_are_counted_as_one_by_one() {
        let mut expected = 0;
        for year in 1970..2105 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    assert_eq!(days_since_1970(year, month, day), expected);
                    assert_eq!(day_of(expected), (year, month, day));
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn times_are_written_as_dates() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_500, "2023-11-14T22:13:20.500Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(format(ms), expected);
            if (0..2_000_000_000_000).contains(&ms) {
                assert_eq!(parse(expected), Some(ms as f64));
            }
        }
    }
}
