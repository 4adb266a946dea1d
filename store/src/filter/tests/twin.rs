//! A slow twin: random trees are written as text, parsed, and matched against random lines; an evaluator that looks at nothing but
//! the details must come to the same result.

use super::*;

/// A generator of the kind xorshift, enough for choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }
}

enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
    Word(String),
    /// Field, operator, values.
    Compare(&'static str, &'static str, Vec<&'static str>),
}

const NUMBERS: &[&str] = &["0", "1", "2", "7", "7.0", "200", "500"];
const TEXTS: &[&str] = &[
    "",
    "a",
    "B",
    "ab",
    "GET",
    "h",
    "h:1",
    "/v1/x",
    "text/html",
    "é \"q\" \\",
    "7",
];
const NUMBER_FIELDS: &[&str] = &["status", "took", "vni", "request_bytes"];
const TEXT_FIELDS: &[&str] = &[
    "method",
    "url",
    "host",
    "path",
    "type",
    "appliance",
    "operation",
];
const ANY_FIELDS: &[&str] = &["request_header:x", "fact.n"];

fn tree(dice: &mut Dice, depth: usize) -> Tree {
    let some = |dice: &mut Dice| {
        let count = 1 + dice.below(3);
        (0..count).map(|_| tree(dice, depth - 1)).collect()
    };
    match dice.below(if depth == 0 { 3 } else { 6 }) {
        0 => Tree::Word(dice.of(&["alpha", "get", "a b", "\"q\"", "v1"]).into()),
        1 | 2 => {
            let (field, operators, values): (_, &[&str], _) = match dice.below(3) {
                0 => (
                    dice.of(NUMBER_FIELDS),
                    &["==", "!=", "<", "<=", ">", ">=", "in"],
                    NUMBERS,
                ),
                1 => (dice.of(TEXT_FIELDS), &["==", "!=", "~", "!~", "in"], TEXTS),
                // Quoted, so texts; the order of numbers is that of their values.
                _ => match dice.below(2) {
                    0 => (dice.of(ANY_FIELDS), &["==", "!=", "in", "~"], TEXTS),
                    _ => (dice.of(ANY_FIELDS), &["<", "<=", ">", ">="], NUMBERS),
                },
            };
            let operator = operators[dice.below(operators.len())];
            let count = if operator == "in" {
                1 + dice.below(3)
            } else {
                1
            };
            let values = (0..count).map(|_| values[dice.below(values.len())]);
            Tree::Compare(field, operator, values.collect())
        }
        3 => Tree::And(some(dice)),
        4 => Tree::Or(some(dice)),
        _ => Tree::Not(Box::new(tree(dice, depth - 1))),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn write(tree: &Tree, dice: &mut Dice) -> String {
    let join = |parts: &[Tree], between: &[&str], dice: &mut Dice| {
        let mut text = String::from("(");
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                text += dice.of(between);
            }
            text += &write(part, dice);
        }
        text + ")"
    };
    match tree {
        Tree::And(parts) => join(parts, &[" and ", " ", " AND\t", "\n"], dice),
        Tree::Or(parts) => join(parts, &[" or ", " OR  "], dice),
        Tree::Not(part) => format!("{}({})", dice.of(&["not ", "NOT"]), write(part, dice)),
        Tree::Word(word) => quoted(word),
        Tree::Compare(field, operator, values) => {
            let is_number = NUMBERS.contains(&values[0]) && !TEXT_FIELDS.contains(field);
            let is_order = operator.starts_with(['<', '>']) || NUMBER_FIELDS.contains(field);
            let values: Vec<_> = values
                .iter()
                .map(|value| match is_number && is_order && dice.below(2) == 0 {
                    true => (*value).to_owned(),
                    false if *operator == "~" || *operator == "!~" => quoted(&regex::escape(value)),
                    false => quoted(value),
                })
                .collect();
            let blank = dice.of(&["", " ", "  "]);
            match *operator {
                "in" => format!(
                    "{field} in{blank}({blank}{})",
                    values.join(dice.of(&[",", " , "]))
                ),
                _ => format!("{field}{blank}{operator}{blank}{}", values[0]),
            }
        }
    }
}

type Details = Vec<(&'static str, &'static str)>;

fn details(dice: &mut Dice) -> Details {
    let mut details: Details = vec![("x", "alpha")];
    for _ in 0..dice.below(12) {
        let name = dice.of(&[
            "request_method",
            "request_url",
            "response_code",
            "interval",
            "interval_millis",
            "request_body",
            "request_header:host",
            "request_header:x",
            "response_header:content-type",
            "custom_field:vni",
            "custom_field:n",
            "custom_field:operation",
            "host",
        ]);
        let value = match name {
            "request_url" => dice.of(&[
                "http://h/v1/x",
                "http://u@h:1",
                "/v1/x",
                "http:///v1/x",
                "h",
            ]),
            "response_header:content-type" => dice.of(&["Text/HTML; a=b", "ab", ";", ""]),
            _ if dice.below(2) == 0 => dice.of(NUMBERS),
            _ => dice.of(TEXTS),
        };
        details.push((name, value));
    }
    details
}

/// The values of a field, as texts.
fn values(field: &str, details: &Details) -> Vec<String> {
    let all = |name: &str| -> Vec<String> {
        let found = details.iter().filter(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned()).collect()
    };
    let first = |name: &str| -> Vec<String> {
        all(name)
            .into_iter()
            .filter(|value| !value.is_empty())
            .take(1)
            .collect()
    };
    let first_integer = |name: &str| -> Vec<String> {
        all(name)
            .into_iter()
            .filter(|value| value.parse::<i64>().is_ok())
            .take(1)
            .collect()
    };
    let url = first("request_url").pop().unwrap_or_default();
    let (host, path) = match url.as_str() {
        "http://h/v1/x" => ("h", "/v1/x"),
        "http://u@h:1" => ("h:1", ""),
        "/v1/x" | "http:///v1/x" => ("", "/v1/x"),
        "h" => ("h", ""),
        _ => ("", ""),
    };
    let some = |text: &str| Vec::from_iter((!text.is_empty()).then(|| text.to_owned()));
    match field {
        "method" => first("request_method"),
        "url" => first("request_url"),
        "host" if host.is_empty() => first("request_header:host"),
        "host" => some(host),
        "path" => some(path),
        "status" => first_integer("response_code"),
        "vni" => first_integer("custom_field:vni"),
        "took" => {
            let mut numbers = details
                .iter()
                .filter(|(name, _)| name.starts_with("interval"))
                .filter_map(|(_, value)| value.parse::<f64>().ok());
            let first = numbers
                .next()
                .map(|number| number.max(1.0).floor().to_string());
            Vec::from_iter(first)
        }
        "request_bytes" => all("request_body")
            .iter()
            .take(1)
            .map(|body| body.len().to_string())
            .collect(),
        "type" => all("response_header:content-type")
            .iter()
            .map(|value| value.split(';').next().unwrap().to_lowercase())
            .filter(|value| !value.is_empty())
            .take(1)
            .collect(),
        "appliance" => first("host"),
        "operation" => first("custom_field:operation"),
        "fact.n" => all("custom_field:n").into_iter().take(1).collect(),
        name => all(name),
    }
}

fn evaluate(tree: &Tree, details: &Details) -> bool {
    match tree {
        Tree::And(parts) => parts.iter().all(|part| evaluate(part, details)),
        Tree::Or(parts) => parts.iter().any(|part| evaluate(part, details)),
        Tree::Not(part) => !evaluate(part, details),
        Tree::Word(word) => {
            let line = serde_json::to_string(details).unwrap().to_lowercase();
            let escaped = serde_json::to_string(word).unwrap();
            line.contains(word.as_str()) || line.contains(&escaped[1..escaped.len() - 1])
        }
        Tree::Compare(field, operator, constants) => {
            let number = |text: &str| text.parse::<f64>().ok();
            let is_number = NUMBER_FIELDS.contains(field);
            let any = |passes: &dyn Fn(&str) -> bool| {
                values(field, details).iter().any(|value| passes(value))
            };
            let equal = |value: &str| {
                constants.iter().any(|constant| match is_number {
                    true => number(value) == number(constant),
                    false => value == *constant,
                })
            };
            let contains =
                |value: &str| value.to_lowercase().contains(&constants[0].to_lowercase());
            let order = |holds: fn(f64, f64) -> bool| {
                any(&|value| {
                    number(value).is_some_and(|left| holds(left, number(constants[0]).unwrap()))
                })
            };
            match *operator {
                "==" | "in" => any(&equal),
                "!=" => !any(&equal),
                "~" => any(&contains),
                "!~" => !any(&contains),
                "<" => order(|left, right| left < right),
                "<=" => order(|left, right| left <= right),
                ">" => order(|left, right| left > right),
                _ => order(|left, right| left >= right),
            }
        }
    }
}

#[test]
fn random_filters_match_as_their_twins() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut matched, mut decided) = (0, 0);
    for _ in 0..3_000 {
        let tree = tree(&mut dice, 3);
        let text = write(&tree, &mut dice);
        let filter = match Filter::parse(&text) {
            Ok(filter) => filter,
            Err(error) if text.len() > FILTER_BYTES_MAX => {
                assert_eq!(error.reason, Reason::TooLong);
                continue;
            }
            Err(Error {
                reason: Reason::TooManyPatterns | Reason::TooManyTerms,
                ..
            }) => continue,
            Err(error) => panic!("{text}: {error}"),
        };
        let details = details(&mut dice);
        let expected = evaluate(&tree, &details);
        let line = serde_json::to_string(&details).unwrap();
        assert_eq!(filter.matches(&line), expected, "{text}\n{line}");
        let columns = Columns::read(&line).unwrap();
        assert_eq!(
            filter.matches_known(&columns, &line),
            expected,
            "{text}\n{line}"
        );
        if let Some(by_columns) = filter.decide(&columns) {
            assert_eq!(by_columns, expected, "{text}\n{line}, by columns");
            decided += 1;
        }
        matched += usize::from(expected);
    }
    // Neither side of anything is rare.
    assert!((500..2_500).contains(&matched), "{matched}");
    assert!(decided > 500, "{decided}");
}
