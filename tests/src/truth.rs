//! Comparison of what was sent with what is reported.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use bench::collect::{Row, value};
use bench::traffic::Exchange;

/// Details that the packets and the machine decide, not the exchange.
const NOT_COMPARED: [&str; 3] = ["now", "interval", "host"];

/// The details of a row in an order of their own: by name; the values of one name stay in wire order.
fn comparable(row: &Row) -> Vec<(String, String)> {
    let kept = row.iter().filter(|(key, _)| {
        !NOT_COMPARED.contains(&key.as_str()) && !key.starts_with("custom_field:")
    });
    let mut details: Vec<_> = kept
        .map(|(key, value)| (key.clone(), without_runs(value)))
        .collect();
    details.sort_by(|(left, _), (right, _)| left.cmp(right));
    details
}

/// How many replacement characters stand for one run of bytes that are no UTF-8 is left open by the contract (`docs/contract.md` 1.5).
fn without_runs(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        if character != char::REPLACEMENT_CHARACTER || !text.ends_with(char::REPLACEMENT_CHARACTER)
        {
            text.push(character);
        }
    }
    text
}

/// Rows by the number that their request carried; an error if one has none or two have the same.
pub fn by_number(rows: &[Row]) -> Result<BTreeMap<u64, &Row>> {
    let mut numbered = BTreeMap::new();
    for row in rows {
        let number = value(row, "request_header:x-call-number")
            .with_context(|| format!("no number: {row:?}"))?;
        if numbered.insert(number.parse()?, row).is_some() {
            bail!("call {number} was reported twice");
        }
    }
    Ok(numbered)
}

/// How a row differs from what its exchange was, or nothing.
pub fn difference(exchange: &Exchange, row: &Row) -> Option<String> {
    compare(exchange, comparable(&exchange.details()), comparable(row))
}

/// The same without the bodies: what must be right even where bytes of a body were never captured.
pub fn difference_of_heads(exchange: &Exchange, row: &Row) -> Option<String> {
    let heads = |mut details: Vec<(String, String)>| {
        details.retain(|(key, _)| key != "request_body" && key != "response_body");
        details
    };
    compare(
        exchange,
        heads(comparable(&exchange.details())),
        heads(comparable(row)),
    )
}

fn compare(
    exchange: &Exchange,
    expected: Vec<(String, String)>,
    reported: Vec<(String, String)>,
) -> Option<String> {
    if expected == reported {
        return None;
    }
    let missing: Vec<_> = expected
        .iter()
        .filter(|detail| !reported.contains(detail))
        .map(shortened)
        .collect();
    let extra: Vec<_> = reported
        .iter()
        .filter(|detail| !expected.contains(detail))
        .map(shortened)
        .collect();
    Some(format!(
        "call {}: missing {missing:?}, extra {extra:?}",
        exchange.number
    ))
}

fn shortened((key, value): &(String, String)) -> String {
    let start: String = value.chars().take(120).collect();
    format!("{key} = {start} ({} bytes)", value.len())
}

/// Everything that was sent must be reported, once, unchanged, and nothing else.
pub fn check_all<'a>(
    exchanges: impl IntoIterator<Item = &'a Exchange>,
    rows: &[Row],
) -> Result<()> {
    let mut numbered = by_number(rows)?;
    let mut wrong = Vec::new();
    for exchange in exchanges {
        match numbered.remove(&exchange.number) {
            None => wrong.push(format!(
                "call {} is missing: {} {}",
                exchange.number, exchange.method, exchange.path
            )),
            Some(row) => wrong.extend(difference(exchange, row)),
        }
    }
    wrong.extend(
        numbered
            .keys()
            .map(|number| format!("call {number} was never made")),
    );
    if !wrong.is_empty() {
        bail!("{} differences, the first: {}", wrong.len(), wrong[0]);
    }
    Ok(())
}

/// Lines of NDJSON as rows.
pub fn rows(lines: &str) -> Result<Vec<Row>> {
    let parse = |line: &str| {
        let mut bytes = line.as_bytes().to_vec();
        simd_json::from_slice::<Row>(&mut bytes)
            .with_context(|| format!("no array of pairs: {line:.200}"))
    };
    lines.lines().map(parse).collect()
}
