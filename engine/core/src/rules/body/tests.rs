//! Masks by path on texts of every syntax, and on random JSON against a slow obvious twin.

mod readers;

use serde_json::Value;

use super::super::{RuleSet, Sampler, apply_all};

fn parsed(rules: &str) -> RuleSet {
    RuleSet::parse(rules).unwrap_or_else(|error| panic!("{rules}: {error}"))
}

/// What `rules` leave of a request body; `None` when it is removed.
fn masked(rules: &RuleSet, body: &str) -> Option<String> {
    let details = [("request_body", body), ("now", "1")]
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    let left = apply_all(rules, &details, &mut Sampler::new(0)).expect("`now` is left");
    let body = left.into_iter().find(|(key, _)| key == "request_body");
    body.map(|(_, value)| String::from_utf8(value).unwrap())
}

#[track_caller]
fn check(rules: &str, body: &str, expected: Option<&str>) {
    assert_eq!(
        masked(&parsed(rules), body).as_deref(),
        expected,
        "{rules} on {body}"
    );
}

const REMOVE: &str = "/request_body:$..card/ remove";
const REPLACE: &str = "/request_body:$..card/ replace /[0-9]/, /*/";

#[test]
fn members_are_removed_and_the_rest_stays_as_it_was_sent() {
    check(
        REMOVE,
        r#"{"a": 1.0e+2, "card" : "4111", "b":[ ] }"#,
        Some(r#"{"a": 1.0e+2, "b":[ ] }"#),
    );
    check(
        REMOVE,
        r#"{"card":{"n":[1,{"x":"}"}]},"b":2}"#,
        Some(r#"{"b":2}"#),
    );
    check(REMOVE, r#"{"b":2,"card":null}"#, Some(r#"{"b":2}"#));
    check(REMOVE, r#"{"card":1}"#, Some("{}"));
    check(
        REMOVE,
        r#"[[{"CARD":1},{"c\u0061rd":2,"x":3}]]"#,
        Some(r#"[[{},{"x":3}]]"#),
    );
    check(REMOVE, r#"{"card":1,"card":2}"#, Some("{}"));
    check(REMOVE, "{\"card\":1}\n{\"b\":2}\n", Some("{}\n{\"b\":2}\n"));
    check("/request_body:$[1]/ remove", "[1,2,3]", Some("[1,3]"));
    check(
        "/request_body:$.a[*]/ remove",
        r#"{"a":[1,[2],{}]}"#,
        Some(r#"{"a":[]}"#),
    );
    check(
        "/request_body:$.a.*/ remove",
        r#"{"a":{"b":1}, "c":2}"#,
        Some(r#"{"a":{}, "c":2}"#),
    );
    check(
        "/(request|response)_body:$.a.b/ remove",
        r#"{"a":[{"b":1}],"b":2}"#,
        Some(r#"{"a":[{}],"b":2}"#),
    );
    check(
        "!request_body:$['a/b']! remove",
        r#"{"a\/b":1,"c":2}"#,
        Some(r#"{"c":2}"#),
    );
    check(REMOVE, "  ", Some("  "));
    check(REMOVE, "12", Some("12"));
    check(REMOVE, "\"text\"", Some("\"text\""));
}

#[test]
fn values_are_replaced() {
    check(
        REPLACE,
        r#"{"card":"41\u0031\"x"}"#,
        Some(r#"{"card":"***\"x"}"#),
    );
    check(REPLACE, r#"{"card":4111}"#, Some(r#"{"card":"****"}"#));
    check(REPLACE, r#"{"card":"none"}"#, Some(r#"{"card":"none"}"#));
    check(
        REPLACE,
        r#"{"card":{"a":"1","b":[2,{"c":"x3"}]},"d":4}"#,
        Some(r#"{"card":{"a":"*","b":["*",{"c":"x*"}]},"d":4}"#),
    );
    check(
        "/request_body:$.n/ replace /[1-9]/, /0/",
        r#"{"n":11.5}"#,
        Some(r#"{"n":"00.0"}"#),
    );
    check(
        "/request_body:$.n/ replace /7/, /8/",
        r#"{"n":17}"#,
        Some(r#"{"n":18}"#),
    );
    check(
        "/request_body:$.n/ replace /^.*$/, //",
        r#"{"n":"x"}"#,
        Some(r#"{"n":""}"#),
    );
    check(
        r"/request_body:$.n/ replace /(.).*/, /$1…/",
        r#"{"n":"secret"}"#,
        Some(r#"{"n":"s…"}"#),
    );
    check(
        "/request_body:$.n/ replace /a/, /b/\n/request_body:$..n/ replace /b/, /c/",
        r#"{"n":"a"}"#,
        Some(r#"{"n":"c"}"#),
    );
}

#[test]
fn values_are_tested() {
    check(
        "/request_body:$.a/ remove_if /4.*/",
        r#"{"a":"41"}"#,
        Some("{}"),
    );
    check(
        "/request_body:$.a/ remove_if /4/",
        r#"{"a":"41"}"#,
        Some(r#"{"a":"41"}"#),
    );
    check(
        "/request_body:$.a/ remove_if_found /1/",
        r#"{"a":[2,1]}"#,
        Some("{}"),
    );
    check(
        "/request_body:$.a/ remove_unless /ok/",
        r#"{"a":"no","b":"no"}"#,
        Some(r#"{"b":"no"}"#),
    );
    check(
        "/request_body:$.a/ remove_unless_found /o/",
        r#"{"a":"no"}"#,
        Some(r#"{"a":"no"}"#),
    );
}

#[test]
fn what_cannot_be_read_does_not_leave() {
    for text in [
        "card 4111",
        "<card>4111</card>",
        r#"{"card":"4111"#,
        r#"{"card":"4111"} x"#,
        r#"{card:4111}"#,
        r#"{'card':4111}"#,
        r#"{"x":1,}"#,
        r#"["\q"}"#,
        r#"{"c\u00":1}"#,
        r#"{"a" 1}"#,
        "{\"a\":1}card=4",
        "\u{feff}{}",
        "card%4=1",
        "a=1\nb=2",
        "--",
        "--b\r\ncard",
        "hello",
        ")]}'\n{}",
        r#"[1 2]"#,
        r#"{"a":'4111'}"#,
        "{\"a\":`4`}",
        "{\"a\":}",
        "[,]",
    ] {
        check(REMOVE, text, None);
        check(REPLACE, text, None);
    }
    check(
        REMOVE,
        &format!("{}{}", "[".repeat(200), "]".repeat(200)),
        None,
    );
    check(
        REMOVE,
        &format!("{}{}", "[".repeat(100), "]".repeat(100)),
        Some(&format!("{}{}", "[".repeat(100), "]".repeat(100))),
    );
    // More steps than there are.
    let bomb = format!(r#"{{"card":"{}c"}}"#, "a".repeat(64));
    check(
        "/request_body:$.card/ replace ~(a|aa)+\\1$(?!b)~, ~~",
        &bomb,
        None,
    );
    check(
        "/request_body:$.card/ remove_if_found ~(a|aa)+\\1$(?!b)~",
        &bomb,
        Some("{}"),
    );
}

#[test]
fn fields_of_forms() {
    check(REMOVE, "a=1&Card=4111&b=2", Some("a=1&b=2"));
    check(REMOVE, "c%61rd=4111", None);
    check(REMOVE, "c%61rd=4111&x", Some("x"));
    check(
        REPLACE,
        "a=1&card=41+%c3%a4&b=2",
        Some("a=1&card=**+%C3%A4&b=2"),
    );
    check(
        REMOVE,
        "a=1&user[card]=4&items[0][card]=5&items[].card=6&d=7",
        Some("a=1&d=7"),
    );
    check(
        "/request_body:$.items[1].card/ remove",
        "items[0][card]=1&items[1][card]=2",
        Some("items[0][card]=1"),
    );
    check(
        REMOVE,
        "payload=%7B%22card%22%3A4%2C%22a%22%3A1%7D",
        Some("payload=%7B%22a%22%3A1%7D"),
    );
    check(REMOVE, "payload=%7B%22card%22&a=1", Some("a=1"));
    check("/request_body:$.other/ remove", "payload={1&a=1", None);
    check(
        "/request_body:$.payload/ replace /1/, /2/",
        "payload=%5B1%5D&a=%5B",
        Some("payload=%5B2%5D&a=%5B"),
    );
    check(REMOVE, "a=1&b\r\n", Some("a=1&b\r\n"));
}

#[test]
fn parts_of_multipart_bodies() {
    let part = |name: &str, text: &str| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let body = |parts: &[(&str, &str)]| {
        parts
            .iter()
            .map(|(name, text)| part(name, text))
            .collect::<String>()
            + "--B--\r\n"
    };
    check(
        REMOVE,
        &body(&[("a", "1"), ("card", "41\r\n11"), ("b", "")]),
        Some(&body(&[("a", "1"), ("b", "")])),
    );
    check(
        REPLACE,
        &body(&[("card", "41\r\n1")]),
        Some(&body(&[("card", "**\r\n*")])),
    );
    check(
        REMOVE,
        &body(&[("meta", "{\"card\":1}")]),
        Some(&body(&[("meta", "{}")])),
    );
    check(REMOVE, &body(&[("user[card]", "1")]), Some("--B--\r\n"));
    let unread = [
        body(&[("card", "4111")]).replace("name=", "name*="),
        body(&[("card", "4111")]).replace("; name=\"card\"", ""),
        body(&[("card", "4111")]).replace("--B--", "--C--"),
        body(&[("card", "4111")]).replace("\r\n\r\n", "\r\n"),
        body(&[("card", "4111")])
            .replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        body(&[("card", "4111")]) + "card 4111",
        body(&[("card", "4111")]).replace("name=\"card\"", "name=\"x\"; name=\"card\""),
    ];
    for text in unread {
        check(REMOVE, &text, None);
    }
}

#[test]
fn masks_and_other_rules_compose() {
    let standard = "include standard\n/request_body:$.card/ remove";
    check(
        standard,
        r#"{"id":1234567890,"card":"4","m":"a@b.c"}"#,
        Some(r#"{"id":xyxy,"m":"x@y.com"}"#),
    );
    check(
        "/request_body:$.a/ remove\n/request_body/ remove",
        "{}",
        None,
    );
    check(
        "/request_body:$.a/ remove\n/request_body/ remove_if_found /secret/",
        r#"{"a":"secret"}"#,
        None,
    );
    let set = RuleSet::parse("/request_body:$.a/ stop").unwrap_err();
    assert_eq!(
        (set.line, set.column, set.class.name()),
        (1, 2, "invalid_expression")
    );
    let set = RuleSet::parse(" /request_body:$.a{/ remove").unwrap_err();
    assert_eq!((set.line, set.column), (1, 19));
}

/// A path as the twin has it: steps of any depth or not, each a name, `*`, `[*]` or a number.
type Steps = [(bool, &'static str)];

/// Whether a value at `way` (names, or `#` and a number) is one that `steps` mean.
fn means(steps: &Steps, way: &[String]) -> bool {
    let Some(((deep, step), later)) = steps.split_first() else {
        return way.is_empty();
    };
    let Some((first, rest)) = way.split_first() else {
        return false;
    };
    let element = first.strip_prefix('#');
    let here = match (*step, element) {
        ("*", _) => true,
        ("[*]", element) => element.is_some(),
        (name, None) => name == first,
        (number, Some(index)) => number == index,
    };
    let is_name = *step == "*" || (!step.starts_with('[') && step.parse::<usize>().is_err());
    (here && means(later, rest))
        || ((*deep || (element.is_some() && is_name)) && means(steps, rest))
}

fn slow(value: Value, way: &mut Vec<String>, removes: &Steps, replaces: &Steps) -> Option<Value> {
    if means(removes, way) {
        return None;
    }
    let mut inside = |step: String, value: Value| {
        way.push(step);
        let left = slow(value, way, removes, replaces);
        way.pop();
        left
    };
    Some(match value {
        Value::Object(members) => {
            let left = members
                .into_iter()
                .filter_map(|(name, value)| Some((name.clone(), inside(name, value)?)));
            Value::Object(left.collect())
        }
        Value::Array(elements) => {
            let left = elements
                .into_iter()
                .enumerate()
                .filter_map(|(index, value)| inside(format!("#{index}"), value));
            Value::Array(left.collect())
        }
        _ if (0..=way.len()).any(|len| means(replaces, &way[..len])) => "x".into(),
        scalar => scalar,
    })
}

#[test]
fn random_documents_lose_what_the_slow_twin_takes() {
    const PATHS: [(&str, &Steps); 12] = [
        (".a", &[(false, "a")]),
        ("..b", &[(true, "b")]),
        (".a.b", &[(false, "a"), (false, "b")]),
        (".a..c", &[(false, "a"), (true, "c")]),
        ("..a..a", &[(true, "a"), (true, "a")]),
        ("[1]", &[(false, "1")]),
        ("..[0].b", &[(true, "0"), (false, "b")]),
        (".*.c", &[(false, "*"), (false, "c")]),
        ("..*", &[(true, "*")]),
        (".c[*]", &[(false, "c"), (false, "[*]")]),
        ("..[*].*", &[(true, "[*]"), (false, "*")]),
        (".b.*.a", &[(false, "b"), (false, "*"), (false, "a")]),
    ];
    fn document(draw: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
        const SCALARS: [&str; 7] = [
            "1",
            "-2.5e3",
            "true",
            "null",
            "\"t\"",
            "\"a\\\"\\\\\\n\\u00e9\\ud83d\\ude00\"",
            "\"\"",
        ];
        match draw(if depth < 4 { 5 } else { 1 }) {
            0 => serde_json::from_str(SCALARS[draw(7)]).unwrap(),
            1 | 2 => (0..draw(4)).map(|_| document(draw, depth + 1)).collect(),
            _ => (0..draw(4))
                .map(|_| {
                    (
                        ["a", "b", "c", "d"][draw(4)].to_owned(),
                        document(draw, depth + 1),
                    )
                })
                .collect(),
        }
    }
    let mut state = 7u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut changed = 0;
    let mut sets = std::collections::HashMap::new();
    for _ in 0..3_000 {
        let value: Value = (0..draw(4))
            .map(|index| (["a", "b", "c"][index].to_owned(), document(&mut draw, 0)))
            .collect();
        let text = if draw(2) == 0 {
            value.to_string()
        } else {
            serde_json::to_string_pretty(&value).unwrap()
        };
        let (removes, replaces) = (PATHS[draw(12)], PATHS[draw(12)]);
        let rules = format!(
            "/request_body:${}/ remove\n/request_body:${}/ replace /^.*$|(?s)^.*$/, /x/",
            removes.0, replaces.0
        );
        let fast = masked(
            sets.entry(rules.clone()).or_insert_with(|| parsed(&rules)),
            &text,
        )
        .unwrap_or_else(|| panic!("unreadable: {text}"));
        let expected = slow(value.clone(), &mut Vec::new(), removes.1, replaces.1).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&fast).unwrap(),
            expected,
            "{rules}\n{text}\n{fast}"
        );
        changed += usize::from(expected != value);
    }
    assert!(changed > 1_000, "{changed}");
}

/// What a reader of JSON reads, we read; and nothing leaves that is neither read nor empty.
#[test]
fn broken_documents_are_read_or_withheld() {
    let text =
        r#"{"a":[1,-2.5e3,"x\"\\\u00e9",{"card":"4111"},true,null,{}],"card":[],"b":{"c":""}}"#;
    let rules = parsed(REMOVE);
    let mut state = 3u64;
    for _ in 0..10_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut broken = text.as_bytes().to_vec();
        let at = (state >> 20) as usize % broken.len();
        match state % 3 {
            0 => broken.truncate(at),
            1 => drop(broken.remove(at)),
            _ => broken[at] = b"{}[]\",:\\ a1\n"[(state >> 40) as usize % 12],
        }
        let broken = String::from_utf8(broken).unwrap();
        let read = serde_json::from_str::<Value>(&broken);
        let left = masked(&rules, &broken);
        if read.is_ok() {
            let left = left.unwrap_or_else(|| panic!("withheld: {broken}"));
            assert!(
                serde_json::from_str::<Value>(&left).is_ok(),
                "{broken} -> {left}"
            );
        }
    }
}

#[test]
fn the_data_of_events_is_masked_event_by_event() {
    check(
        REMOVE,
        "event: a\ndata: {\"card\":1,\"b\":2}\n\ndata:[{\"card\":1}]\r\n\r\ndata: [DONE]\n\n",
        Some("event: a\ndata: {\"b\":2}\n\ndata:[{}]\r\n\r\ndata: [DONE]\n\n"),
    );
    check(
        REPLACE,
        "data: {\"a\":\ndata: {\"card\":\"41\"}}\nid: 7\n\n: ping 12:30 - all well\n\ndata",
        Some("data: {\"a\":\ndata: {\"card\":\"**\"}}\nid: 7\n\n: ping 12:30 - all well\n\ndata"),
    );
    check(
        REMOVE,
        "data: some words\n\ndata: \"text\"\n\ndata: 12\n\ndata\n\n",
        Some("data: some words\n\ndata: \"text\"\n\ndata: 12\n\ndata\n\n"),
    );
    check(
        REMOVE,
        "\u{feff}data: {\"card\":1}\n\n",
        Some("\u{feff}data: {}\n\n"),
    );
    // Outside of JSON nothing that a mask may select leaves.
    for hidden in [
        "data: {\"card\": 4111\n\ndata: 1}\n\n",
        "data: x {\"card\": 4111}\n\n",
        "data: a=1&card=4111\n\n",
        ": {\"card\": 4111}\n\ndata: {}\n\n",
        "id: ?card=4111\ndata: {}\n\n",
        "data: {}\n\n{\"card\": 4111}\n",
    ] {
        check(REMOVE, hidden, None);
    }
}
