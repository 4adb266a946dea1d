//! Names as common readers have them, where they are not those that were sent.
//!
//! Receivers differ in what they make of an odd name. PHP skips blanks in front, ends a name at a NUL and writes `_` for
//! blanks and dots, servers behind CGI do so for the hyphens of a header, and many take white space off that is not
//! ASCII. A rule for a name also applies where one of these readers has that name. None of this concerns names of
//! letters, digits, `-` and `[ ]`.

/// The name in lower case, as readers compare it that ignore case. Go's `encoding/json` folds by Unicode, where the long s is an s and
/// the Kelvin sign a k; the latter is so in lower case, too.
pub(super) fn folded(name: &str) -> String {
    const LONG_S: char = '\u{17f}';
    let lower = name.to_lowercase();
    if lower.contains(LONG_S) {
        lower.replace(LONG_S, "s")
    } else {
        lower
    }
}

/// The name without what some readers take off at its ends.
pub(super) fn bare(name: &str) -> &str {
    // A replacement character was a byte that is not UTF-8, such as the no-break space of Latin-1.
    let is_odd = |letter: char| {
        letter.is_whitespace()
            || letter.is_control()
            || matches!(letter, '\u{feff}' | '\u{fffd}' | '"' | '\'')
    };
    let name = name.trim_start_matches(|letter| is_odd(letter) || letter == '?');
    let name = name.split('\0').next().unwrap_or_default();
    name.trim_end_matches(is_odd)
}

/// The name without what some readers leave out of it, if it differs from `name`, which is [`bare`]: control characters, and
/// bytes that are no text.
pub(super) fn squeezed(name: &str) -> Option<String> {
    let is_odd = |letter: char| letter.is_control() || letter == '\u{fffd}';
    name.contains(is_odd).then(|| name.replace(is_odd, ""))
}

/// The name of a field as PHP has it, if it differs from `name`, which is [`bare`].
pub(super) fn underscored(name: &str) -> Option<String> {
    let (base, rest) = match name.find('[') {
        Some(at) if name.contains(']') => name.split_at_checked(at)?,
        _ => (name, ""),
    };
    base.contains([' ', '.', '['])
        .then(|| base.replace([' ', '.', '['], "_") + rest)
}

/// The other keys that a detail with the key `key` has for common readers. Most have none.
pub(super) fn other_keys(key: &str) -> Vec<String> {
    let Some((kind, name)) = key.split_once(':') else {
        return Vec::new();
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.bytes().all(is_plain) {
        return Vec::new();
    }
    let bare = bare(name);
    let of_reader = match kind {
        "request_header" => bare.contains('_').then(|| bare.replace('_', "-")),
        "request_param" => underscored(bare),
        _ => None,
    };
    // Where a CR ends a line, the name is what is behind it.
    let line = bare.rsplit('\r').next().filter(|line| *line != bare);
    let others = [
        line.map(|line| self::bare(line).to_owned()),
        (bare != name).then(|| bare.to_owned()),
        squeezed(bare),
        of_reader,
    ];
    let others = others.into_iter().flatten();
    others.map(|name| format!("{kind}:{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, expected: &[&str]) {
        assert_eq!(other_keys(key), expected, "{key:?}");
    }

    #[test]
    fn letters_are_folded_as_go_folds_them() {
        for (name, expected) in [
            ("PassWord", "password"),
            ("pa\u{17f}\u{17f}word", "password"),
            ("to\u{212a}en", "token"),
            ("GR\u{d6}SSE", "gr\u{f6}sse"),
        ] {
            assert_eq!(folded(name), expected);
        }
    }

    #[test]
    fn odd_names_have_those_of_other_readers_too() {
        check("request_body", &[]);
        check("request_header:x-api-key", &[]);
        check("request_header:x_api_key", &["request_header:x-api-key"]);
        for odd in [
            "authorization\0",
            "authorization\u{b}",
            "authorization\u{a0}",
            "authorization\u{fffd}",
            "\0authorization",
            "authorization\0junk",
        ] {
            check(
                &format!("request_header:{odd}"),
                &["request_header:authorization"],
            );
        }
        check("response_header:x_y", &[]);
        check("request_param: password", &["request_param:password"]);
        check("request_param:?password", &["request_param:password"]);
        check("request_param:a b.c", &["request_param:a_b_c"]);
        check("request_param:a.b[c.d]", &["request_param:a_b[c.d]"]);
        check("request_param:a[b", &["request_param:a_b"]);
        check(
            "request_param:\u{feff}a b\0c",
            &["request_param:a b", "request_param:a_b"],
        );
        check("request_param:", &[]);
        check(
            "request_header:author\u{1}ization",
            &["request_header:authorization"],
        );
        check(
            "request_header:x\r authorization",
            &[
                "request_header:authorization",
                "request_header:x authorization",
            ],
        );
    }
}
