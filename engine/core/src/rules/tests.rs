//! The reference loggers' results, and the fast path against a slow obvious one.

use std::path::Path;

use serde_json::Value;

use super::pattern::Pattern;
use super::set::Action;
use super::*;
use crate::limits::{BUFFER_KEPT_BYTES, RULES_MAX, WORK_BYTES_MAX};

/// The vectors of one file in `tests/vectors`.
pub(crate) fn vectors(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let Value::Object(mut file) = serde_json::from_str(&text).unwrap() else {
        panic!("{name} is no object")
    };
    let Some(Value::Array(vectors)) = file.remove("vectors") else {
        panic!("{name} has no vectors")
    };
    vectors
}

fn details(value: &Value) -> Vec<(String, Vec<u8>)> {
    let pairs = value.as_array().unwrap().iter();
    pairs
        .map(|pair| {
            (
                pair[0].as_str().unwrap().to_owned(),
                pair[1].as_str().unwrap().as_bytes().to_vec(),
            )
        })
        .collect()
}

/// The result of a vector in the form that the files use for one logger's output.
fn outcome(rules: &str, details_in: &Value) -> Value {
    match RuleSet::parse(rules) {
        Err(error) => serde_json::json!({ "error": error.class.name() }),
        Ok(rules) => {
            let left = apply_all(&rules, &details(details_in), &mut Sampler::new(1));
            let left = left.map(|left| {
                let pairs = left
                    .into_iter()
                    .map(|(key, value)| vec![key, String::from_utf8(value).unwrap()]);
                pairs.collect::<Vec<_>>()
            });
            serde_json::json!({ "out": left })
        }
    }
}

fn expected(vector: &Value) -> Value {
    match vector.get("expected_error") {
        Some(class) => serde_json::json!({ "error": class }),
        None => serde_json::json!({ "out": vector["expected_out"] }),
    }
}

#[test]
fn rules_do_what_the_reference_loggers_do() {
    let mut wrong = Vec::new();
    for vector in vectors("rules-vectors.json") {
        let ours = outcome(vector["rules"].as_str().unwrap(), &vector["details_in"]);
        let others = vector["outputs"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, output)| output);
        let allowed = if vector.get("latitude").is_some() {
            others.cloned().collect()
        } else {
            Vec::new()
        };
        if ours != expected(&vector) && !allowed.contains(&ours) {
            wrong.push(format!(
                "{}: {}\n  ours     {ours}\n  expected {}",
                vector["name"],
                vector["rules"],
                expected(&vector)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn lines_are_read_as_the_reference_loggers_read_them() {
    let mut wrong = Vec::new();
    for vector in vectors("rules-parse-vectors.json") {
        let text = vector["rule_text"].as_str().unwrap();
        // Blank text would be the default set; as one line of a set it is blank.
        let ours = match RuleSet::parse(&format!("#\n{text}")) {
            Ok(_) => Value::Null,
            Err(error) => error.class.name().into(),
        };
        let expected = vector.get("error").cloned().unwrap_or(Value::Null);
        if ours != expected && vector.get("latitude").is_none() {
            wrong.push(format!("{text:?}: ours {ours}, expected {expected}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A rule before it is text, for the slow twin.
struct Made {
    verb: Verb,
    text: String,
    scope: Pattern,
    param: Pattern,
    find: regex::Regex,
    with: &'static str,
}

impl Made {
    fn new(verb: Verb, scope: &str, param: &str, with: &'static str) -> Self {
        let name = verb.name();
        let text = match verb {
            Verb::Stop | Verb::Remove => format!("!{scope}! {name}"),
            Verb::Replace => format!("!{scope}! replace !{param}!, !{with}!"),
            _ => format!("!{scope}! {name} !{param}!"),
        };
        let finds = name.ends_with("_found");
        let matcher = if finds {
            Pattern::finding(param)
        } else {
            Pattern::matching(param)
        };
        Self {
            verb,
            text,
            scope: Pattern::matching(scope).unwrap(),
            param: matcher.unwrap(),
            find: regex::Regex::new(param).unwrap(),
            with,
        }
    }

    fn hits(&self, key: &str) -> bool {
        self.scope.test_name(key, &mut NameWork::default()) == pattern::Answer::Yes
    }

    /// Whether the parameter is found in, or matches, the value.
    fn matches(&self, value: &str) -> bool {
        self.param.test_name(value, &mut NameWork::default()) == pattern::Answer::Yes
    }
}

/// Section 4.4 of the contract, sentence by sentence.
fn slow(rules: &[Made], details: &[(String, String)]) -> Option<Vec<(String, String)>> {
    let of = |verb: Verb| rules.iter().filter(move |rule| rule.verb == verb);
    let hits = |rule: &&Made, test: bool| {
        details
            .iter()
            .filter(|(key, value)| rule.hits(key) && (!test || rule.matches(value)))
            .count()
    };
    if of(Verb::Stop).any(|rule| hits(&rule, false) > 0)
        || of(Verb::StopIfFound).any(|rule| hits(&rule, true) > 0)
        || of(Verb::StopIf).any(|rule| hits(&rule, true) > 0)
    {
        return None;
    }
    for verb in [Verb::StopUnlessFound, Verb::StopUnless] {
        let total: usize = of(verb).map(|rule| hits(&rule, true)).sum();
        if total != of(verb).count() {
            return None;
        }
    }
    let mut left = details.to_vec();
    for rule in of(Verb::Remove) {
        left.retain(|(key, _)| !rule.hits(key));
    }
    for (verb, removed_if) in [
        (Verb::RemoveUnlessFound, false),
        (Verb::RemoveIfFound, true),
        (Verb::RemoveUnless, false),
        (Verb::RemoveIf, true),
    ] {
        for rule in of(verb) {
            left.retain(|(key, value)| !(rule.hits(key) && rule.matches(value) == removed_if));
        }
    }
    if left.is_empty() {
        return None;
    }
    for rule in of(Verb::Replace) {
        for (key, value) in &mut left {
            if rule.hits(key) {
                *value = rule.find.replace_all(value, rule.with).into_owned();
            }
        }
    }
    left.retain(|(_, value)| !value.is_empty());
    (!left.is_empty()).then_some(left)
}

#[test]
fn random_sets_do_what_the_slow_twin_does() {
    const VERBS: [Verb; 11] = [
        Verb::Stop,
        Verb::StopIf,
        Verb::StopIfFound,
        Verb::StopUnless,
        Verb::StopUnlessFound,
        Verb::Remove,
        Verb::RemoveIf,
        Verb::RemoveIfFound,
        Verb::RemoveUnless,
        Verb::RemoveUnlessFound,
        Verb::Replace,
    ];
    const KEYS: [&str; 6] = [
        "request_url",
        "request_body",
        "request_header:a",
        "request_header:b",
        "response_body",
        "now",
    ];
    const SCOPES: [&str; 8] = [
        ".*",
        "request_body",
        "request_header:.*",
        "request_header:b|now",
        "(request|response)_body",
        "none",
        "response_body$",
        "request_(url|header:a)",
    ];
    const PARAMS: [&str; 9] = [
        ".*", "x", "y+", "^$", "(x)(y)?", "z|x", "[^x]", "xyz", "(x*)",
    ];
    const WITHS: [&str; 5] = ["", "$1", "<$0>", "y", "x${2}"];
    const VALUES: [&str; 8] = ["", "x", "y", "xyz", "zzz", "yxyx", "x\ny", "é"];

    let mut state = 1u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let (mut kept, mut dropped) = (0, 0);
    for _ in 0..250 {
        let rules: Vec<_> = (0..draw(5))
            .map(|_| {
                // Half of the rules mask, so that enough calls are left to compare.
                let verb = VERBS[if draw(2) == 0 { 10 - draw(6) } else { draw(11) }];
                Made::new(verb, SCOPES[draw(8)], PARAMS[draw(9)], WITHS[draw(5)])
            })
            .collect();
        let details: Vec<_> = (0..1 + draw(6))
            .map(|_| (KEYS[draw(6)].to_owned(), VALUES[draw(8)].to_owned()))
            .collect();
        let text: Vec<_> = rules.iter().map(|rule| rule.text.as_str()).collect();
        let text = text.join(
            "
",
        );
        let set = RuleSet::parse(&format!("#\n{text}")).unwrap();
        let bytes: Vec<_> = details
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into_bytes()))
            .collect();
        let fast = apply_all(&set, &bytes, &mut Sampler::new(0));
        let fast = fast.map(|left| {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            left.into_iter()
                .map(|(key, value)| (key, text(value)))
                .collect::<Vec<_>>()
        });
        let slow = slow(&rules, &details);
        assert_eq!(fast, slow, "\n{text}\n{details:?}");
        *(if slow.is_some() {
            &mut kept
        } else {
            &mut dropped
        }) += 1;
    }
    assert!(kept > 50 && dropped > 50, "{kept} kept, {dropped} dropped");
}

#[test]
fn samples_keep_their_share() {
    let set = RuleSet::parse("include debug\nsample 20").unwrap();
    let mut sampler = Sampler::new(3);
    let details = [("now".to_owned(), b"1".to_vec())];
    let kept = (0..10_000)
        .filter(|_| apply_all(&set, &details, &mut sampler).is_some())
        .count();
    assert!((1_800..2_200).contains(&kept), "{kept}");
}

#[test]
fn doubt_hides() {
    // Takes more steps than there are, on this value.
    const BOMB: &str = r"(a|aa)+\1$(?!b)";
    let value = "a".repeat(64) + "c";
    for (rule, stays) in [
        ("/request_body/ stop_if_found !BOMB!", None),
        ("/request_body/ stop_unless_found !BOMB!", None),
        ("/request_body/ remove_if_found !BOMB!", Some(1)),
        ("/request_body/ remove_unless_found !BOMB!", Some(1)),
        ("/request_body/ replace !BOMB!, //", Some(1)),
    ] {
        let set = RuleSet::parse(&rule.replace("!BOMB!", &format!("~{BOMB}~"))).unwrap();
        let details = [
            ("request_body".to_owned(), value.clone().into_bytes()),
            ("now".to_owned(), b"1".to_vec()),
        ];
        let left = apply_all(&set, &details, &mut Sampler::new(0));
        assert_eq!(left.map(|left| left.len()), stays, "{rule}");
    }
}

#[test]
fn secrets_beside_wrong_bytes_are_found() {
    let set = RuleSet::parse(r"/request_body/ replace /key=.*/, /key=*/").unwrap();
    let details = [(
        "request_body".to_owned(),
        b"\xffa key=\xfe\xc3secret".to_vec(),
    )];
    let left = apply_all(&set, &details, &mut Sampler::new(0)).unwrap();
    assert_eq!(
        String::from_utf8(left[0].1.clone()).unwrap(),
        "\u{fffd}a key=*"
    );
}

/// Applies `rules` to values of `request_body`: bytes looked at, doubts, unreadable bodies, and what is left of the last one.
fn cost(rules: &str, values: &[&str]) -> (u64, u32, u32, Option<String>) {
    let rules = RuleSet::parse(rules).unwrap();
    let (plan, mut findings) = (rules.plan("request_body"), Findings::default());
    let mut scratch = Scratch::default();
    let mut last = None;
    for value in values {
        let left = rules.apply(&plan, value.as_bytes(), &mut findings, &mut scratch);
        last = left.map(|left| String::from_utf8_lossy(left).into_owned());
        scratch.shrink_to(BUFFER_KEPT_BYTES);
        assert!(!scratch.exceeds(BUFFER_KEPT_BYTES));
    }
    (findings.work(), findings.doubts, findings.unreadable, last)
}

#[test]
fn a_call_has_one_budget_for_all_its_values() {
    let value = "a".repeat(29);
    let values = vec![value.as_str(); 1000];
    let rule = "/request_body/ remove_if_found /^(?:(?!x)a+)+(?=b)$/";
    let (work, doubts, _, left) = cost(rule, &values);
    assert_eq!((doubts, left), (1000, None));
    assert!(work <= WORK_BYTES_MAX);
    // A value that a prefilter rules out needs no work, so it is not in doubt.
    let rule = "/request_body/ remove_if_found /^@(?:(?!x)a+)+(?=b)$/\n/request_body/ replace /(?!x)@/, /y/";
    let (_, doubts, _, left) = cost(rule, &[&format!("@{value}"), "b"]);
    assert_eq!((doubts, left.as_deref()), (1, Some("b")));
}

/// Past the budget each verb hides.
#[test]
fn what_is_in_doubt_does_not_leave() {
    let digits = "1".repeat(200_000);
    for rule in [
        "replace /[0-9]+-[0-9]+|[0-9]/, /x/",
        "replace /(?!x)1+(?=2)/, /x/",
        "remove_if_found /(?!x)1+(?=2)/",
        "remove_unless_found /(?!x)1+(?=2)/",
        "stop_if_found /(?!x)1+(?=2)/",
        "replace /1/, /0123456789/",
    ] {
        let (_, doubts, _, left) = cost(&format!("/request_body/ {rule}"), &[&digits]);
        assert_eq!((doubts, left), (1, None), "{rule}");
        let (_, doubts, unreadable, left) = cost(
            &format!("/request_body:$.a/ {}", rule.replace("stop", "remove")),
            &[&format!(r#"{{"a":"{digits}","b":1}}"#)],
        );
        assert!(doubts > 0 && unreadable == 1 && left.is_none(), "{rule}");
    }
}

#[test]
fn fifty_masks_leave_a_body_of_a_mebibyte() {
    let mut rules = String::from("include standard\n");
    for number in 0..24 {
        rules += &format!("/request_body/ replace /secret-{number}-[0-9]+/, /x/\n");
        rules += &format!(
            "/request_body/ replace /[a-f]{{{},}}[0-9]-/, /x/\n",
            number + 4
        );
        rules += &format!("/request_body:$..secret{number}/ remove\n");
    }
    let mut body = String::from("[");
    while body.len() < 1 << 20 {
        body += &format!(
            r#"{{"id":{},"note":"abcd at the road","list":[1,2,{{"x":null}}]}},"#,
            body.len()
        );
    }
    body += "0]";
    let (work, doubts, unreadable, left) = cost(&rules, &[&body, &body]);
    assert_eq!((doubts, unreadable, left.as_ref()), (0, 0, Some(&body)));
    assert!(work < WORK_BYTES_MAX / 2, "{work}");
}

/// Patterns with more states than are kept, and values that are made for them: each letter may be the one before the
/// repetition. Past the budget the value is hidden; an ordinary value is as cheap as under any pattern.
#[test]
fn patterns_with_many_states_are_bounded() {
    let mut state = 7_u64;
    let mut letters = |bytes: usize| -> String {
        let letter = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state >> 63 == 0 { 'a' } else { 'b' }
        };
        (0..bytes).map(letter).collect()
    };
    let (long, short) = (letters(60_000), letters(300));
    for (pattern, found) in [
        ("[ab]*a[ab]{200}c", "ab".repeat(150) + "bc"),
        ("a.{150}z", "a".repeat(151) + "z"),
        ("(?i)a[\\pL\\pN]{80}!", "a".repeat(81) + "!"),
        ("(?:a|b)*a(?:a|b){150}(c|d)", "a".repeat(200) + "d"),
        ("c[ab]{200}a[ab]*$", "c".to_owned() + &"ab".repeat(150)),
    ] {
        for verb in [
            format!("replace /{pattern}/, /x/"),
            format!("replace /({pattern})/, /<$1>/"),
            format!("remove_if_found /{pattern}/"),
            format!("remove_unless_found /{pattern}/"),
            format!("stop_if_found /{pattern}/"),
        ] {
            let rule = format!("/request_body/ {verb}");
            let advice = RuleSet::parse(&rule).unwrap().advice();
            assert!(
                advice[0].text.contains("more states than are kept"),
                "{advice:?}"
            );
            let (work, doubts, _, left) = cost(&rule, &[&long]);
            assert!(work <= WORK_BYTES_MAX);
            // Some find nothing to begin with, and are not in doubt.
            let is_removed_without_match = verb.contains("unless");
            assert!(
                doubts == 1 || left.is_some() || is_removed_without_match,
                "{rule}"
            );
            for value in [&short, "ordinary"] {
                assert_eq!(cost(&rule, &[value]).1, 0, "{rule}");
            }
            // To follow each place of a large class for the groups is too much work also for this value.
            if rule.contains("pL") && rule.contains("$1") {
                continue;
            }
            let (_, doubts, _, left) = cost(&rule, &[&found]);
            assert_eq!(doubts, 0, "{rule}");
            let expected = match () {
                () if verb.contains("<$1>") => Some(format!("<{found}>")),
                () if verb.starts_with("replace") => Some("x".to_owned()),
                () if verb.contains("unless") => Some(found.clone()),
                () => None,
            };
            assert_eq!(left, expected, "{rule}");
        }
    }
    let rule = "/request_body/ replace /[ab]*a[ab]{500}c/, /x/";
    assert_eq!(
        cost(rule, &[&long]).1,
        1,
        "60 kB that are made for it is in doubt"
    );
}

/// The searches that count agree with the engine.
#[test]
fn counted_searches_find_what_the_engine_finds() {
    use super::automaton::Automaton;
    use super::counted::Counted;
    use super::searches::Work;
    use super::work::Budget;
    let (mut state, mut work) = (11_u64, Work::default());
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    for pattern in [
        "a+b",
        "ab|bc",
        "(?:ab)*c?",
        "^a|b$",
        "(?m)^b|a$",
        r"\bab",
        r"(?-u:\b)é?b",
        "a{2,3}?b",
        "(a|b){2}c*",
        "",
        r"(?-u:\B)",
        "[^a]b*",
        "é+",
    ] {
        let Ok(automaton) = Automaton::new(pattern) else {
            continue;
        };
        let Some(counted) = Counted::new(pattern) else {
            continue;
        };
        for _ in 0..2000 {
            let text: String = (0..draw(12))
                .map(|_| ['a', 'b', 'c', 'é', '\n', ' '][draw(6)])
                .collect();
            let mut at = draw(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let expected = work.find_at(&automaton.compiled, &text, at);
            let found = counted.searcher().next(&text, at, &mut Budget::default());
            assert_eq!(found, Ok(expected), "{pattern:?} in {text:?} from {at}");
        }
    }
}

#[test]
fn the_states_of_ordinary_patterns_are_few() {
    let many = |rules: &str| -> Vec<String> {
        let rules = RuleSet::parse(rules).unwrap();
        let params = rules.rules.iter().filter_map(|rule| match &rule.action {
            Action::Test(pattern) | Action::Replace { find: pattern, .. } => Some(pattern),
            Action::Always => None,
        });
        let patterns = params.chain(rules.rules.iter().map(|rule| &rule.scope));
        patterns
            .filter(|pattern| pattern.has_many_states())
            .map(|pattern| pattern.source().into())
            .collect()
    };
    assert_eq!(many("include standard"), [""; 0]);
    assert_eq!(many("include strict"), [""; 0]);
    // That of the texts of keys has a prefilter, which admits few values.
    let private = many("include private");
    assert!(
        private.len() == 1 && private[0].contains("AKIA"),
        "{private:?}"
    );
    let ordinary: String = [
        r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}",
        r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}",
        r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}",
        r"\b(\d[ -]?){13,16}\b",
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"gh[opsur]_[0-9A-Za-z]{36}",
        r#""(password|passwd|secret)"\s*:\s*"[^"]*""#,
    ]
    .map(|pattern| format!("!request_body! stop_if_found !{pattern}!\n"))
    .concat();
    assert_eq!(many(&ordinary), [""; 0]);
}

/// What the patterns of a set take is bounded.
#[test]
fn a_set_that_takes_too_much_memory_is_refused() {
    let rules: String = (0..200)
        .map(|number| format!("/request_body/ remove_if_found /{number}\\pL{{90}}/\n"))
        .collect();
    let error = RuleSet::parse(&rules).unwrap_err();
    assert_eq!(error.class, Class::InvalidRegex);
    assert!(
        error.message.contains("64 MiB") && error.line > 1,
        "{error}"
    );
}

/// Rules without a pattern of their own take no memory that is counted.
#[test]
fn a_set_of_too_many_rules_is_refused() {
    let rules = |number: usize| RuleSet::parse(&"/.*/ remove\n".repeat(number));
    assert!(rules(RULES_MAX).is_ok());
    let error = rules(RULES_MAX + 1).unwrap_err();
    assert_eq!(
        (error.class, error.line),
        (Class::InvalidRule, RULES_MAX + 1)
    );
    // Without a level of the stack for each.
    let includes = RuleSet::parse(&"include debug ".repeat(200_000)).unwrap_err();
    assert_eq!((includes.class, includes.line), (Class::InvalidRule, 1));
    let session = "copy_session_field /.*/\n".repeat(RULES_MAX) + "/.*/ remove";
    assert_eq!(RuleSet::parse(&session).unwrap_err().line, RULES_MAX + 1);
}

#[test]
fn paths_cost_what_they_may() {
    let words: String = "password passwd pwd secret token ssn pin card cvv iban"
        .split(' ')
        .map(|word| format!("/request_body:$..{word}/ remove\n"))
        .collect();
    let part = |text: &str, times: usize| "a".to_owned() + &text.repeat(times) + "=1";
    for (body, is_unreadable) in [
        (part(".a", 100), false),
        (part("[0]", 100), false),
        (part("[a]", 100) + "&" + &part("[]", 100_000), false),
        (part(".a", 500_000), true),
        (part("[0]", 330_000), true),
    ] {
        let (_, _, unreadable, left) = cost(&words, &[&body]);
        let expected = (!is_unreadable).then_some(body.as_str());
        assert_eq!(
            (unreadable == 1, left.as_deref()),
            (is_unreadable, expected)
        );
    }
    // 32 masks of 32 steps.
    let deep: String = (0..32)
        .map(|number| format!("/request_body:${}{number}/ remove\n", "..a".repeat(32)))
        .collect();
    let fields = "a=1&".repeat(250_000) + "b=2";
    let nested = r#"{"a":"#.repeat(100) + "1" + &"}".repeat(100);
    for body in [fields, nested.repeat(1500)] {
        let (work, doubts, _, left) = cost(&deep, &[&body]);
        assert!(work <= WORK_BYTES_MAX);
        assert!(left.is_none() == (doubts > 0), "{doubts}");
    }
}
