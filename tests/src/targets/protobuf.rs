//! Protobuf without a schema, compared with a slow reader that shares nothing with the engine's.

use std::fmt::Write as _;

use engine_core::limits::PROTOBUF_DEPTH_MAX;
use engine_core::message::protobuf::JsonWriter;

/// One message; by its first octet the whole of it, its beginning, or its text up to a limit.
pub(super) fn protobuf(input: &[u8]) {
    let Some((&kind, message)) = input.split_first() else {
        return;
    };
    let mut writer = JsonWriter::default();
    let mut write = |is_cut, bytes_max| {
        let mut out = Vec::new();
        writer.write(message, is_cut, bytes_max, &mut out);
        String::from_utf8(out).expect("JSON is text")
    };
    match kind % 4 {
        0 => {
            let bytes_max = usize::from(kind) * 4;
            let text = write(false, bytes_max);
            let longest = bytes_max + 6 * bytes_max + 64;
            let closing = 2 * PROTOBUF_DEPTH_MAX;
            let last = 6 * message.len();
            assert!(text.len() <= longest + closing + last, "{text:?}");
        }
        1 => assert_json(&write(true, usize::MAX)),
        _ => {
            let text = write(false, usize::MAX);
            assert_json(&text);
            assert_eq!(text, element(message, 0));
        }
    }
}

/// The nesting that the encoding allows is deeper than some readers go.
fn assert_json(text: &str) {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        assert!(error.to_string().contains("recursion"), "{error}: {text:?}");
    }
}

enum Value<'a> {
    Number(u64),
    Fixed(String),
    Bytes(&'a [u8]),
}

fn element(bytes: &[u8], depth: usize) -> String {
    let fields = fields(bytes).filter(|_| depth < PROTOBUF_DEPTH_MAX);
    let Some(fields) = fields else {
        return string(bytes);
    };
    let mut numbers: Vec<u64> = Vec::new();
    for (number, _) in &fields {
        if !numbers.contains(number) {
            numbers.push(*number);
        }
    }
    let members = numbers.iter().map(|number| {
        let values = fields.iter().filter(|(other, _)| other == number);
        let texts: Vec<_> = values.map(|(_, value)| value_text(value, depth)).collect();
        match texts.as_slice() {
            [one] => format!("\"{number}\":{one}"),
            several => format!("\"{number}\":[{}]", several.join(",")),
        }
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn value_text(value: &Value<'_>, depth: usize) -> String {
    match value {
        Value::Number(number) if *number < 1 << 53 => number.to_string(),
        Value::Number(number) => format!("\"{number}\""),
        Value::Fixed(text) => format!("\"{text}\""),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text)
                if !text
                    .chars()
                    .any(|c| c.is_ascii_control() && !"\t\r\n".contains(c)) =>
            {
                string(bytes)
            }
            _ => element(bytes, depth + 1),
        },
    }
}

fn string(bytes: &[u8]) -> String {
    let mut out = "\"".to_owned();
    for letter in String::from_utf8_lossy(bytes).chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' => write!(out, "\\u{:04x}", u32::from(letter)).expect("to a string"),
            _ => out.push(letter),
        }
    }
    out + "\""
}

fn fields(mut rest: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        if tag > u64::from(u32::MAX) || tag < 8 {
            return None;
        }
        let mut take = |length: u64| {
            let length = usize::try_from(length).ok()?;
            let (taken, left) = rest.split_at_checked(length)?;
            rest = left;
            Some(taken)
        };
        let value = match tag % 8 {
            0 => Value::Number(number(&mut rest)?),
            1 => {
                let octets = take(8)?.try_into().expect("eight octets");
                Value::Fixed(format!("0x{:016x}", u64::from_le_bytes(octets)))
            }
            5 => {
                let octets = take(4)?.try_into().expect("four octets");
                Value::Fixed(format!("0x{:08x}", u32::from_le_bytes(octets)))
            }
            2 => {
                let length = number(&mut rest)?;
                let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = left;
                Value::Bytes(taken)
            }
            _ => return None,
        };
        fields.push((tag / 8, value));
    }
    Some(fields)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let length = 1 + rest.iter().position(|octet| *octet < 0x80)?;
    let (octets, left) = rest.split_at(length);
    *rest = left;
    if length > 10 {
        return None;
    }
    let value = octets
        .iter()
        .rev()
        .fold(0_u128, |value, octet| value << 7 | u128::from(octet & 0x7f));
    u64::try_from(value).ok()
}
