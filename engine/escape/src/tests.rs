//! Every version against the slow obvious one: at every length and alignment, on random and on hard texts.

type Version = (&'static str, fn(&[u8], &mut Vec<u8>) -> bool);

const VERSIONS: &[Version] = &[
    ("chosen", crate::escape),
    ("portable", crate::portable::escape),
];

/// The slow obvious twin.
fn naive(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in text {
        match byte {
            b'"' => out.extend(b"\\\""),
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0..0x20 => out.extend(format!("\\u{byte:04x}").bytes()),
            byte => out.push(*byte),
        }
    }
    out
}

#[track_caller]
fn check(text: &[u8]) {
    let expected = [b"before", &*naive(text)].concat();
    for (name, version) in VERSIONS {
        let mut out = b"before".to_vec();
        assert_eq!(
            version(text, &mut out),
            text.is_ascii(),
            "{name}: {text:x?}"
        );
        assert_eq!(out, expected, "{name}: {text:x?}");
    }
    let mut out = b"before".to_vec();
    assert_eq!(
        crate::enclose(b"[", text, b"\"],", &mut out),
        text.is_ascii()
    );
    let enclosed = [b"before[", &*naive(text), b"\"],"].concat();
    assert_eq!(out, enclosed, "enclosed: {text:x?}");
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Lengths around the steps' and starts off their alignment: few enough for Miri, which looks at what is written.
#[test]
fn a_few_of_each_kind() {
    for text in [
        &b"plain text "[..],
        b"a\"\\\n\r\t",
        b"a\xc3\xa9\x80\x01\x7f",
    ] {
        let text = text.repeat(20);
        for len in [0, 1, 15, 16, 17, 33, 64, 100] {
            for start in [0, 1, 9] {
                check(&text[start..start + len]);
            }
        }
    }
}

#[test]
fn every_byte_at_every_place() {
    for len in 0..=50 {
        for at in 0..len {
            for byte in 0..=255 {
                let mut text = vec![b'x'; len];
                text[at] = byte;
                check(&text);
            }
        }
    }
}

#[test]
fn every_mask_of_special_bytes() {
    for special in [b'"', b'\\', b'\n', b'\x01', b'\xe9'] {
        for mask in 0..1_u32 << 16 {
            let text: Vec<u8> = (0..16)
                .map(|bit| if mask >> bit & 1 == 1 { special } else { b'.' })
                .collect();
            check(&text);
        }
    }
}

#[test]
fn random_texts_of_every_length_and_alignment() {
    let mut state = 7;
    // From mostly plain to nothing but special bytes.
    for alphabet in [
        &b"abcdefghijklmnopqrstuvwxyz0123456789 ,:{}[]\""[..],
        b"abc\"\\",
        b"a\"\\\n\r\t",
        b"ab\"\x01\x1f\x20\x00",
        b"a\xc3\xa9\x80\xff\"\x7f",
    ] {
        for len in 0..300 {
            let text: Vec<u8> = (0..len + 16)
                .map(|_| alphabet[(random(&mut state) >> 16) as usize % alphabet.len()])
                .collect();
            for start in 0..16 {
                check(&text[start..start + len]);
            }
        }
        for _ in 0..50 {
            let len = (random(&mut state) >> 16) as usize % 5000;
            let text: Vec<u8> = (0..len)
                .map(|_| alphabet[(random(&mut state) >> 16) as usize % alphabet.len()])
                .collect();
            check(&text);
        }
    }
    for _ in 0..500 {
        let len = (random(&mut state) >> 16) as usize % 400;
        let text: Vec<u8> = (0..len).map(|_| (random(&mut state) >> 16) as u8).collect();
        check(&text);
    }
}
