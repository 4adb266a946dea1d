//! Search for ASCII text without regard to case.

/// Where `needle`, which is lower-case, begins in `text`.
pub(super) fn find_ignoring_case(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        let at = from + memchr::memchr2(first, first.to_ascii_uppercase(), rest)?;
        let found = text.get(at..at + needle.len())?;
        if found.eq_ignore_ascii_case(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_any_case() {
        for (text, expected) in [
            ("charset", Some(0)),
            ("cCHARSETc", Some(1)),
            ("chars; ChArSeT", Some(7)),
            ("charse", None),
            ("", None),
        ] {
            assert_eq!(find_ignoring_case(text.as_bytes(), b"charset"), expected);
        }
    }
}
