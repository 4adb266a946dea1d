//! The names of files: `lake-20261130T130812Z-000007.ndjson`, of the sink, the second in which the file was begun, and a number
//! that grows. So names in their order are files in their order, and no two are the same.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the name of a file that still grows ends with.
pub(super) const PART: &str = ".part";

/// Name of the file that one process at a time has locked.
pub(super) const LOCK: &str = "lock";

/// The name of a complete file.
pub(super) fn name(sink: &str, begun: SystemTime, number: u64, is_compressed: bool) -> String {
    let since = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = if is_compressed {
        ".ndjson.zst"
    } else {
        ".ndjson"
    };
    format!("{sink}-{}-{number:06}{end}", stamp(since))
}

/// The number in a name of a file of this sink, complete or not; none in any other name, whose file is not ours.
pub(super) fn number(sink: &str, name: &str) -> Option<u64> {
    let name = name.strip_suffix(PART).unwrap_or(name);
    let stem = name
        .strip_suffix(".ndjson.zst")
        .or_else(|| name.strip_suffix(".ndjson"))?;
    let rest = stem.strip_prefix(sink)?.strip_prefix('-')?;
    let (stamp, number) = rest.split_once('-')?;
    let is_stamp = stamp.len() == 16
        && stamp.bytes().enumerate().all(|(index, byte)| match index {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let is_number = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_stamp && is_number).then(|| number.parse().ok())?
}

/// `20261130T130812Z`.
fn stamp(since: Duration) -> String {
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days of eras of 400 years that begin in March (Hinnant, "chrono-compatible low-level date algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_second_and_its_number() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (1_796_044_092, "20261130T130812Z"),
        ] {
            let begun = UNIX_EPOCH + Duration::from_secs(seconds);
            let name = name("lake-2", begun, 7, true);
            assert_eq!(name, format!("lake-2-{expected}-000007.ndjson.zst"));
            assert_eq!(number("lake-2", &name), Some(7));
            assert_eq!(number("lake-2", &format!("{name}{PART}")), Some(7));
            assert_eq!(number("lake", &name), None, "of another sink");
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for other in [
            "lock",
            "lake-20261130T120812Z-000007.json",
            "lake-20261130-000007.ndjson",
            "lake-20261130T120812Z-7.ndjson",
            "lake-20261130T120812Z-00000x.ndjson",
            "notes.ndjson",
        ] {
            assert_eq!(number("lake", other), None, "{other}");
        }
    }
}
