//! Percent-encoding of addresses (RFC 3986, section 2.1).

/// The octets that a text stands for; none if a % in it is not followed by two hexadecimal digits.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_are_decoded() {
        for (text, expected) in [
            ("", Some("")),
            ("a%20b%2f%2F", Some("a b//")),
            ("%C3%A9", Some("é")),
            ("%", None),
            ("%4", None),
            ("%+1", None),
            ("%zz", None),
            ("é%", None),
            ("%é", None),
        ] {
            let expected = expected.map(|text| text.as_bytes().to_vec());
            assert_eq!(decoded(text), expected, "{text}");
        }
    }
}
