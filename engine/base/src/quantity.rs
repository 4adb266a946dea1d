//! Quantities as people read them: counts in groups of three, bytes in decimal units, times in the largest units.

/// `1 call`, `18 204 calls`.
pub fn plural(count: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        thousands(count),
        if count == 1 { "" } else { "s" }
    )
}

/// Names that a line lists; a node may have hundreds of interfaces.
const NAMES_SHOWN: usize = 6;

/// `lo, eth0 and 117 more`: the first few names.
pub fn names<T: AsRef<str>>(all: &[T]) -> String {
    let shown: Vec<&str> = all.iter().take(NAMES_SHOWN).map(AsRef::as_ref).collect();
    match all.len() - shown.len() {
        0 => shown.join(", "),
        rest => format!("{} and {} more", shown.join(", "), thousands(rest as u64)),
    }
}

/// `18 204`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1.2 kB`: decimal units, three digits at most.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// `0:12:41`.
pub fn clock(seconds: u64) -> String {
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `12 m 41 s`.
pub fn spoken(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} m {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1_234_567, "1 234 567"),
        ] {
            assert_eq!(thousands(count), expected);
        }
        assert_eq!(names(&["lo", "eth0"]), "lo, eth0");
        assert_eq!(names(&["v"; 9]), "v, v, v, v, v, v and 3 more");
        for (count, expected) in [
            (999, "999 B"),
            (1_234, "1.2 kB"),
            (38_000, "38 kB"),
            (999_900, "1.0 MB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
