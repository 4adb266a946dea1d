//! The search against `fancy-regex`, whose parser it shares.

use super::*;

const PIECES: [&str; 40] = [
    "a",
    "b",
    "ab",
    ".",
    "[ab]",
    "[^a]",
    "a*",
    "a+",
    "a+?",
    "b*?",
    "a?",
    "[ab]{1,2}",
    "(?:ab)*",
    "(?:a|ab)+",
    "(?:a?b?)*",
    "(a|b)",
    "(a*)",
    "(?:b|)",
    "(?i:aB)",
    "(?i:é)",
    "é",
    "[é-ü]",
    "^",
    "$",
    "(?m:^)",
    "(?m:$)",
    "(?=a)",
    "(?=.*b)",
    "(?!a)",
    "(?!.*b)",
    "(?<=a)",
    "(?<!b)",
    "(?<=a.)",
    "(?<!a*b)",
    "(?>a+)",
    "(?>a|ab)",
    "b++",
    "\\1",
    "(?(1)a|b)",
    "(?:(?!b).)*",
];

const TEXTS: [&str; 8] = ["a", "b", "ab", "é", "É", "c", "\n", "aa"];

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }
}

/// The first match, with its groups.
#[test]
fn it_finds_what_the_other_engine_finds() {
    let mut random = Random(5);
    let (mut matched, mut missed) = (0, 0);
    for _ in 0..6000 {
        let mut pattern = String::new();
        for _ in 0..=random.below(5) {
            pattern.push_str(PIECES[random.below(PIECES.len())]);
            if random.below(9) == 0 {
                pattern.push('|');
            }
        }
        let Ok(twin) = fancy_regex::Regex::new(&pattern) else {
            continue;
        };
        let ours = Backtracking::new(&pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        if ours.groups() == 1 && pattern.contains("(1)") {
            // The other engine takes another position for that of the group that does not exist.
            continue;
        }
        for _ in 0..12 {
            let text: String = (0..random.below(9))
                .map(|_| TEXTS[random.below(TEXTS.len())])
                .collect();
            let expected = twin.captures(&text).unwrap();
            let mut work = Work::default();
            let found = ours.find(&text, 0, &mut work).unwrap();
            let places = |groups: &Groups| {
                (0..ours.groups())
                    .map(|number| groups.get(number))
                    .collect::<Vec<_>>()
            };
            let twins = expected.as_ref().map(|groups| {
                (0..ours.groups())
                    .map(|number| groups.get(number).map(|group| group.range()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(found.as_ref().map(places), twins, "{pattern:?} in {text:?}");
            assert!(
                found.is_none() || ours.may_match(&text),
                "{pattern:?} in {text:?}"
            );
            matched += usize::from(found.is_some());
            missed += usize::from(found.is_none());
        }
    }
    assert!(matched > 10_000 && missed > 10_000, "{matched} {missed}");
}

/// A leading run that fails is not tried again at each of its characters, and bounded matches are found by the linear
/// engine.
#[test]
fn work_is_linear_where_it_can_be() {
    #[track_caller]
    fn check(pattern: &str, unit: &str) {
        let pattern = Backtracking::new(pattern).unwrap();
        let work = |times: usize| {
            let (text, mut work) = (unit.repeat(times), Work::default());
            work.grant(1 << 23, 1);
            assert!(pattern.find(&text, 0, &mut work).unwrap().is_none());
            work.spent()
        };
        let (once, twice) = (work(20_000), work(40_000));
        assert!(twice < once * 5 / 2, "{once} {twice}");
    }
    check(r"[\w.]+@(?!x)y", "ab.");
    check(r"(\d+)(?!\d|-)x", "12");
    check(r"(?<!\d)\d{4,6}(?!\d)", "1234567 ");
    check(r"^(?!a*$)b*c", "a");
    check(r"(?=.*secret)(?=.*password)", "secret\n");
}

#[test]
fn groups_have_names() {
    let pattern = Backtracking::new("(?<one>a)(b)(?<two>c)(?!d)").unwrap();
    assert_eq!(
        pattern.names().collect::<Vec<_>>(),
        [None, Some("one"), None, Some("two")]
    );
    assert_eq!(pattern.groups(), 4);
}

#[test]
fn places_to_return_to_are_bounded() {
    let pattern = Backtracking::new("<(?:(?!>).)*>").unwrap();
    let ends = |bytes: usize| {
        let (text, mut work) = ("<".to_owned() + &"a".repeat(bytes) + ">", Work::default());
        work.grant(1 << 23, 1);
        pattern
            .find(&text, 0, &mut work)
            .map(|found| found.is_some())
    };
    assert_eq!(ends(100_000), Ok(true));
    assert_eq!(ends(BACKTRACK_PLACES_MAX), Err(Spent));
}
