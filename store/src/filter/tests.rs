//! Tests of the whole filter: text search, comparisons, errors with their places, and a slow twin.

use super::*;
use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_PATTERNS_MAX, FILTER_TERMS_MAX};
use crate::line::Columns;

mod twin;

const LINE: &str = r#"[["request_method","POST"],["request_url","http://Shop.example:8000/v1/a_b"],["response_code","201"],["request_header:x-id","7"],["request_header:x-id","eight"],["response_header:content-type","Application/JSON; charset=utf-8"],["response_body","{\"rate\":\"5%\",\"Straße\":\"a\\b\"} .*"],["now","1700000000500"],["interval","1200"],["custom_field:exchange_id","0503abcdef"],["custom_field:vni","77"],["custom_field:rpc_service","pay.v1.Pay"],["custom_field:sse_events","6"],["custom_field:request_started","1700000000502000000"],["host","box"]]"#;

/// Whether the call above matches, with and without its columns.
#[track_caller]
fn check(text: &str, expected: bool) {
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => panic!("{text}: {error}"),
    };
    assert_eq!(filter.matches(LINE), expected, "{text}");
    let columns = Columns::read(LINE).expect("a line");
    assert_eq!(filter.matches_known(&columns, LINE), expected, "{text}");
    let decided = filter.decide(&columns).unwrap_or(expected);
    assert_eq!(decided, expected, "{text}, by columns");
}

#[test]
fn words_are_plain_text() {
    for text in [
        "",
        "  ",
        "post",
        "POST 201",
        "shop.EXAMPLE:8000/v1",
        "a_b",
        "5%",
        ".*",
        "straße",
        "box",
        "\"\"",
        "\"} .*\"",
        "in",
        "post in",
        "order or post",
    ] {
        check(text, true);
    }
    for text in [
        "get",
        "post 404",
        "a%b",
        "axb",
        "o.t",
        "[a-z]+",
        "STRASSE",
        "'",
        "' and 1 --",
        "\"post 201\"",
        "not post",
        "NOT post",
    ] {
        check(text, false);
    }
}

#[test]
fn quotes_and_backslashes_are_found_escaped() {
    check(r#""\"rate\":\"5%\"""#, true);
    check(r"a\b", true);
    check(r#""a\\b""#, true);
    check(r#""[\"request_method\",\"POST\"]""#, true);
    check(r#""\"rate\":\"6%\"""#, false);
}

#[test]
fn the_time_stamp_is_no_text() {
    for text in ["500", "1700000000500", "502"] {
        check(text, false);
    }
    check("1200", true);
    check("77", true);
}

#[test]
fn only_long_words_match_ids() {
    check("503", false);
    check("0503ABCDEF", true);
}

#[test]
fn comparisons() {
    for text in [
        "status==201",
        "status == 201",
        "response_code>=201 and status<=201 status<202 status>200",
        "status in (200, 201)",
        "status in(201)",
        "not status in (200,404)",
        "method==POST",
        "method in (GET,\"POST\")",
        "host==Shop.example:8000",
        "host~shop",
        r#"path~"/v1/""#,
        r#"path ~ "^/V1/[a-z]_b$""#,
        r#"path !~ "(?-i)^/V1""#,
        "path!~v2",
        "took>1s",
        "took>=1.2s",
        "took==1200ms",
        "interval<0.5min",
        r#"request_header:x-id=="7""#,
        "request_header:X-ID==eight",
        "req:x-id > 6",
        "req:x-id == 7.0",
        "request_header:x-id ~ \"\"",
        "request_header:host ~ example",
        "type==application/json",
        "vni==77",
        "fact.vni in (77)",
        r#"rpc_service=="pay.v1.Pay""#,
        "fact.rpc_service ~ pay",
        "fact.sse_events > 5",
        "custom_field:sse_events == 6",
        "fact.sse_events == \"6\"",
        "appliance == box",
        "response_bytes > 10B response_bytes < 1KiB",
        "response_body ~ straße",
        "time > 2023-11-14 and time < 2023-11-15",
        "time == 2023-11-14T22:13:20.5Z",
        "STATUS == 201",
        "status==201 or status==404 and post get",
        "(status==404 or status==201) and post",
        "not (status==404 or get)",
        "NOT not status==201",
        "url == http://Shop.example:8000/v1/a_b",
        "(method==POST)",
    ] {
        check(text, true);
    }
    for text in [
        "status!=201",
        "status>201",
        "method==post",
        "took>1.2s",
        "fact.sse_events == \"06\"",
        "request_header:x-id == \"7.0\"",
        "request_header:x-id != 7",
        "request_header:x-other ~ \"\"",
        "fact.absent > 0",
        "host==shop.example:8000",
        "(status==404 or status==201) and get",
        "status in (1,2)",
        "type==\"application/json; charset=utf-8\"",
    ] {
        check(text, false);
    }
}

#[test]
fn what_is_missing_is_not_equal() {
    for text in ["client", "fact.absent", "session_field:a"] {
        check(&format!("{text} == a"), false);
        check(&format!("{text} != a"), true);
        check(&format!("{text} ~ a"), false);
        check(&format!("{text} !~ a"), true);
    }
}

/// The part of the filter that an error is about, and its sentence.
#[track_caller]
fn check_error(text: &str, part: &str, sentence: &str) {
    let error = Filter::parse(text).expect_err(text);
    assert_eq!(text.get(error.position..error.end), Some(part), "{text}");
    assert_eq!(error.to_string(), sentence, "{text}");
}

#[test]
fn errors_have_their_place_and_a_guess() {
    let missing = "a word or a comparison is missing here";
    let no_value = "a value is missing here";
    for (text, part, sentence) in [
        (
            "a statsu>=500",
            "statsu",
            "there is no field \"statsu\"; did you mean status?",
        ),
        ("zzzzzz in (1)", "zzzzzz", "there is no field \"zzzzzz\""),
        (
            "status=500",
            "=",
            "= is no operator; text that has it needs quotation marks; did you mean ==?",
        ),
        (
            "path=~a",
            "=~",
            "=~ is no operator; text that has it needs quotation marks; did you mean ~?",
        ),
        (
            "status <> 5",
            "<>",
            "<> is no operator; text that has it needs quotation marks; did you mean !=?",
        ),
        ("status>=", "", no_value),
        ("status>= )", "", no_value),
        ("status in ()", "", no_value),
        ("status in (1,)", "", no_value),
        (
            "status in (1 2)",
            "(1 ",
            "a list has commas between its values and ends with )",
        ),
        ("é status==abc", "abc", "a number is expected, such as 500"),
        (
            "took>5mss",
            "5mss",
            "a duration is expected, such as 250ms, 1.5s or 2min; did you mean 5ms?",
        ),
        (
            "request_bytes>\"1 kB\"",
            "\"1 kB\"",
            "a number of bytes is expected, such as 512, 10kB or 1MiB; did you mean 1kB?",
        ),
        (
            "status~5",
            "~",
            "this field is a number: compare it with == != < > <= >= or in",
        ),
        (
            "path >= a",
            ">=",
            "this field is text: compare it with == != ~ !~ or in",
        ),
        (
            "==5",
            "==",
            "the name of a field is missing before the operator",
        ),
        ("a \"b", "\"", "this quotation mark is not closed"),
        ("(a", "(", "this parenthesis is not closed"),
        ("a)", ")", "this parenthesis was not opened"),
        ("()", "", missing),
        ("a and", "", missing),
        ("or a", "", missing),
        ("not", "", missing),
        ("a and or b", "", missing),
        (
            "path~\"a[\"",
            "\"a[\"",
            "this is no regular expression: unclosed character class",
        ),
    ] {
        check_error(text, part, sentence);
    }
    let error = Filter::parse(r"path~\pL{999}").expect_err("large");
    assert_eq!(error.reason, Reason::PatternTooLarge);
    assert_eq!(error.position, 5);
}

#[test]
fn everything_is_bounded() {
    let reason = |text: &str| Filter::parse(text).map(drop).map_err(|error| error.reason);
    assert_eq!(
        reason(&"x".repeat(FILTER_BYTES_MAX + 1)),
        Err(Reason::TooLong)
    );
    assert_eq!(reason(&"é".repeat(FILTER_BYTES_MAX / 2)), Ok(()));
    for open in ["(", "not "] {
        let close = if open == "(" { ")" } else { "" };
        let nested = |depth| format!("{}a{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(reason(&nested(FILTER_DEPTH_MAX - 1)), Ok(()));
        assert_eq!(reason(&nested(FILTER_DEPTH_MAX)), Err(Reason::TooDeep));
    }
    assert_eq!(reason(&"a ".repeat(FILTER_TERMS_MAX)), Ok(()));
    assert_eq!(
        reason(&"a ".repeat(FILTER_TERMS_MAX + 1)),
        Err(Reason::TooManyTerms)
    );
    let list = |values: usize| format!("status in (1{})", ",1".repeat(values - 1));
    assert_eq!(reason(&list(FILTER_TERMS_MAX)), Ok(()));
    assert_eq!(
        reason(&list(FILTER_TERMS_MAX + 1)),
        Err(Reason::TooManyTerms)
    );
    assert_eq!(
        reason(&"path~a ".repeat(FILTER_PATTERNS_MAX + 1)),
        Err(Reason::TooManyPatterns)
    );
}

#[test]
fn columns_spare_the_line() {
    let columns = Columns::read(LINE).expect("a line");
    for (text, expected) in [
        ("status==201 took>1s", Some(true)),
        ("status==404 and word", Some(false)),
        ("status==201 and word", None),
        ("status==201 or word", Some(true)),
        ("not (status==404 and word)", Some(true)),
        ("req:x-id==7 or path~b", Some(true)),
        ("req:x-id==7", None),
        ("", Some(true)),
    ] {
        let filter = Filter::parse(text).expect(text);
        assert_eq!(filter.decide(&columns), expected, "{text}");
    }
}

#[test]
fn a_text_that_was_cut_is_read_in_the_line() {
    let url = format!("http://h/{}end", "x".repeat(5000));
    let line = serde_json::json!([["request_url", url]]).to_string();
    let columns = Columns::read(&line).expect("a line");
    let filter = Filter::parse("path~end$").expect("a filter");
    assert_eq!(filter.decide(&columns), None);
    assert!(filter.matches_known(&columns, &line));
}

#[test]
fn what_is_no_line_has_no_fields() {
    let filter = Filter::parse("status==201").expect("a filter");
    assert!(!filter.matches("{"));
    let filter = Filter::parse("status!=201 {").expect("a filter");
    assert!(filter.matches("{"));
}

#[test]
fn texts_let_through_whatever_matches() {
    for text in [
        "shop.example",
        r#""\"rate\":\"5%\"""#,
        r"a\b",
        "straße",
        "0503ABCDEF",
    ] {
        let filter = Filter::parse(text).expect(text);
        let Expression::Word(word) = filter.expression() else {
            panic!("{text} is a word");
        };
        let folded = LINE.to_lowercase();
        let mut texts = word.texts();
        assert!(
            texts.any(|text| folded.contains(&text.to_lowercase())),
            "{text}"
        );
    }
}
