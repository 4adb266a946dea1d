//! The sinks of a capture: the one of the capture URL, those that were named, and the rule sets that they share.
//!
//! Sinks share lines where their rules have the same source: the same file, or the same rules in the setting itself. Two files
//! are two rule sets whatever they contain, since a reload may change one of them alone.

use std::path::PathBuf;

use engine_core::bundle::Compression;
use engine_core::limits::RULE_SETS_AT_ONCE_MAX;
use engine_core::rules::file_reference;

use super::credentials::Credentials;
use super::destination::{Destination, named};
use super::rules::{ReadFile, Rules, rules};
use super::setting::Row;
use super::settings::{Settings, row};
use super::sink_list::DEFAULT;
use super::value::Value;
use super::values::Values;
use crate::diagnostic::{Code, Diagnostic};

/// One sink as the settings have it.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// Its name in settings, status and metrics.
    pub name: String,
    /// Where lines go.
    pub destination: Destination,
    /// What the destination needs for that.
    pub credentials: Credentials,
    /// How bundles are compressed for it.
    pub compression: Compression,
    /// The number of its rule set.
    pub rule_set: usize,
}

/// What the settings have of one sink, before its rules are known.
pub(super) struct Given<'a> {
    pub(super) name: &'a str,
    /// None for the sink of the capture URL.
    pub(super) url: Option<&'a Value>,
    /// The setting that has its rules; none for those that are used where none are given.
    pub(super) rules: Option<&'a Value>,
}

/// All sinks that were given, that of the capture URL first; it is there, too, where no other one is.
pub(super) fn given<'a>(
    settings: &'a Settings,
    values: &'a Values,
    embedded_store: bool,
) -> Result<Vec<Given<'a>>, Diagnostic> {
    let has_default = embedded_store || settings.url.is_some() || settings.sinks.is_empty();
    let default = has_default.then_some(Given {
        name: DEFAULT,
        url: None,
        rules: settings.rules.as_ref(),
    });
    let named = settings.sinks.iter().map(|sink| Given {
        name: &sink.name,
        url: Some(&sink.url),
        rules: (values.of_sink(row::sink_rules(), &sink.name)).or(settings.rules.as_ref()),
    });
    let families: [&Row; 6] = [
        row::sink_rules(),
        row::sink_headers(),
        row::sink_ca(),
        row::sink_tls_cert(),
        row::sink_tls_key(),
        row::sink_tls_server_name(),
    ];
    for family in families {
        let is_known = |name: &str| {
            let mut sinks = settings.sinks.iter();
            sinks.any(|sink| family.name_of(&sink.name) == name)
        };
        if let Some(value) = values.of_family(family).find(|(name, _)| !is_known(name)) {
            return Err(without_sink(family, value, settings));
        }
    }
    Ok(default.into_iter().chain(named).collect())
}

/// A setting of a sink that is not there. It may be a misspelt privacy rule, which must not pass unnoticed.
fn without_sink(family: &Row, (name, value): (&str, &Value), settings: &Settings) -> Diagnostic {
    let names: Vec<&str> = settings
        .sinks
        .iter()
        .map(|sink| sink.name.as_str())
        .collect();
    let known = match names.as_slice() {
        [] => "no sink is named".to_owned(),
        names => format!("the named sinks are {}", names.join(", ")),
    };
    let is_default = family.name_of(DEFAULT) == name;
    let problem = Diagnostic::new(
        Code::E001,
        format!("{}: there is no such sink; {known}", value.name),
    );
    match is_default {
        true => problem.fix(
            "the settings of the sink default have no name of a sink in theirs: USAGE_LOGGERS_RULES, SNIFFER_HEADERS",
        ),
        false => problem.fix("SNIFFER_SINKS='NAME=https://HOST/message'"),
    }
}

/// The rules of all sinks.
pub(super) struct RuleSets {
    /// Each set once.
    pub(super) sets: Vec<Rules>,
    /// By sink: the number of its set, and its own rules.
    pub(super) of_sinks: Vec<(usize, Rules)>,
}

/// The rule sets of the sinks, and the number of each sink's with its own rules: what they say of a destination
/// (`allow_http_url` and its like) is no part of a rule set, and may differ between sinks that share one.
pub(super) fn rule_sets(
    given: &[Given<'_>],
    default_rules: &str,
    read: ReadFile<'_>,
) -> Result<RuleSets, Diagnostic> {
    let mut sets: Vec<(Option<PathBuf>, Rules)> = Vec::new();
    let mut numbers = Vec::new();
    for sink in given {
        let file = sink.rules.and_then(file_of);
        let found = rules(sink.rules, default_rules, read)?;
        let is_same = |(path, other): &(Option<PathBuf>, Rules)| match &file {
            Some(_) => *path == file,
            None => path.is_none() && other.set.fingerprint() == found.set.fingerprint(),
        };
        let number = match sets.iter().position(is_same) {
            Some(number) => number,
            None => {
                sets.push((file, found.clone()));
                sets.len() - 1
            }
        };
        numbers.push((number, found));
    }
    if sets.len() > RULE_SETS_AT_ONCE_MAX {
        let what = format!(
            "the sinks have {} different rule sets: at most {RULE_SETS_AT_ONCE_MAX} are possible",
            sets.len()
        );
        return Err(Diagnostic::new(Code::E002, what)
            .cause("lines are made once for each rule set; two files are two rule sets")
            .fix("give some of the sinks the same rules"));
    }
    Ok(RuleSets {
        sets: sets.into_iter().map(|(_, rules)| rules).collect(),
        of_sinks: numbers,
    })
}

/// The files that the rules of the sinks are in, each once.
pub fn rules_files(values: &Values) -> Vec<PathBuf> {
    let of_sinks = values.of_family(row::sink_rules());
    let given = values.given(row::rules()).into_iter();
    let given = given.chain(of_sinks.map(|(_, value)| value));
    let mut files: Vec<PathBuf> = given.filter_map(file_of).collect();
    files.sort();
    files.dedup();
    files
}

fn file_of(value: &Value) -> Option<PathBuf> {
    file_reference(&value.text).map(PathBuf::from)
}

/// The destination of a named sink under these rules; `given` is the setting that has them.
pub(super) fn destination(
    url: &Value,
    rules: &Rules,
    given: Option<&Value>,
    settings: &Settings,
) -> Result<Destination, Diagnostic> {
    if settings.no_send {
        return Ok(Destination::Nowhere(row::no_send().long_flag()));
    }
    named(url, rules, given)
}

/// What two sinks may not share: a folder, and standard output.
pub(super) fn check_places(sinks: &[SinkConfig], embedded_store: bool) -> Result<(), Diagnostic> {
    let mut named = sinks.iter();
    if embedded_store
        && let Some(sink) = named.find(|sink| matches!(sink.destination, Destination::Stdout))
    {
        let what = format!(
            "the sink {}: stdout: is possible in `sniffer run` alone",
            sink.name
        );
        return Err(Diagnostic::new(Code::E060, what)
            .cause("in an all-in-one the capture has no standard output of its own")
            .fix("NAME=file:///FOLDER"));
    }
    let is_same =
        |one: &SinkConfig, other: &SinkConfig| match (&one.destination, &other.destination) {
            (Destination::Folder(one), Destination::Folder(other)) => one.folder == other.folder,
            (one, other) => matches!((one, other), (Destination::Stdout, Destination::Stdout)),
        };
    for (number, sink) in sinks.iter().enumerate() {
        let others = sinks.iter().take(number);
        if let Some(other) = others.into_iter().find(|other| is_same(other, sink)) {
            let what = format!(
                "the sinks {} and {} write to the same place",
                other.name, sink.name
            );
            return Err(Diagnostic::new(Code::E040, what).fix("one of them, or a folder for each"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{URL, check_error, values};
    use crate::config::{Capture, capture};
    use crate::limits::SINKS_MAX;

    fn config(pairs: &[(&str, &str)]) -> Result<Capture, Diagnostic> {
        capture(&values(pairs), false)
    }

    /// Name and rule set of each sink.
    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: &[(&str, usize)]) {
        let config = config(pairs).unwrap();
        let sinks = config.sinks.iter();
        let found: Vec<(&str, usize)> = sinks
            .map(|sink| (sink.name.as_str(), sink.rule_set))
            .collect();
        assert_eq!(found, expected);
        let sets = expected.iter().map(|(_, set)| set + 1).max().unwrap();
        assert_eq!(config.rule_sets.len(), sets);
    }

    #[test]
    fn sinks_with_equal_rules_share_a_set() {
        let two = (
            "SNIFFER_SINKS",
            "a=https://a.example/m\\nb-2=https://b.example/m",
        );
        check(&[URL], &[("default", 0)]);
        check(&[two], &[("a", 0), ("b-2", 0)]);
        check(&[URL, two], &[("default", 0), ("a", 0), ("b-2", 0)]);
        let other = ("SNIFFER_SINK_B_2_RULES", "include debug");
        check(&[URL, two, other], &[("default", 0), ("a", 0), ("b-2", 1)]);
        // Other words, the same rules.
        let same = ("SNIFFER_SINK_B_2_RULES", "\\n# a comment\\ninclude default");
        check(&[URL, two, same], &[("default", 0), ("a", 0), ("b-2", 0)]);
    }

    #[test]
    fn two_files_are_two_sets_and_one_file_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "include debug").unwrap();
            format!("file://{}", path.display())
        };
        let (one, other) = (file("one"), file("other"));
        let two = (
            "SNIFFER_SINKS",
            "a=https://a.example/m b=https://b.example/m",
        );
        let a = ("SNIFFER_SINK_A_RULES", one.as_str());
        let same = ("SNIFFER_SINK_B_RULES", one.as_str());
        let different = ("SNIFFER_SINK_B_RULES", other.as_str());
        check(&[URL, two, a, same], &[("default", 0), ("a", 1), ("b", 1)]);
        let pairs = [URL, two, a, different];
        check(&pairs, &[("default", 0), ("a", 1), ("b", 2)]);
        let files = rules_files(&values(&pairs));
        assert_eq!(
            files,
            [folder.path().join("one"), folder.path().join("other")]
        );
    }

    #[test]
    fn rules_of_a_sink_that_is_not_there_are_an_error() {
        let sink = ("SNIFFER_SINKS", "lake=https://a.example/m");
        check_error(
            &[URL, sink, ("SNIFFER_SINK_LAEK_RULES", "include strict")],
            Code::E001,
            "SNIFFER_SINK_LAEK_RULES: there is no such sink; the named sinks are lake",
        );
        check_error(
            &[URL, ("SNIFFER_SINK_DEFAULT_RULES", "include strict")],
            Code::E001,
            "SNIFFER_SINK_DEFAULT_RULES: there is no such sink; no sink is named",
        );
    }

    #[test]
    fn each_sink_has_its_own_rule_on_plain_http() {
        let sink = ("SNIFFER_SINKS", "near=http://127.0.0.1:1/m");
        let allowed = ("SNIFFER_SINK_NEAR_RULES", "include strict\\nallow_http_url");
        assert_eq!(config(&[URL, sink]).unwrap_err().code, Code::E041);
        config(&[URL, sink, allowed]).unwrap();
        // What one sink may do, no other one may.
        let far = ("USAGE_LOGGERS_URL", "http://lake.example/m");
        assert_eq!(config(&[far, sink, allowed]).unwrap_err().code, Code::E041);
    }

    #[test]
    fn the_headers_of_one_destination_reach_no_other() {
        let config = config(&[
            URL,
            ("SNIFFER_HEADERS", "Authorization: Bearer first"),
            (
                "SNIFFER_SINKS",
                "a=https://a.example/m b=https://b.example/m",
            ),
            ("SNIFFER_SINK_A_HEADERS", "Authorization: Bearer second"),
        ]);
        let config = config.unwrap();
        let headers = config.sinks.iter().map(|sink| {
            let headers = sink.credentials.headers.iter();
            let texts = headers.map(|(_, text)| text.to_str().unwrap().to_owned());
            texts.collect::<Vec<_>>()
        });
        let headers: Vec<_> = headers.collect();
        assert_eq!(
            headers,
            [vec!["Bearer first"], vec!["Bearer second"], vec![]]
        );
    }

    #[test]
    fn urls_of_one_name_are_those_of_one_sink() {
        let list = "a=https://one.example/m b=https://b.example/m a=https://two.example/m";
        let config = config(&[URL, ("SNIFFER_SINKS", list)]).unwrap();
        let urls = config.sinks.iter().map(|sink| match &sink.destination {
            Destination::Url(urls) => urls.iter().map(ToString::to_string).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        });
        let urls: Vec<_> = urls.collect();
        assert_eq!(
            urls[1..],
            [
                vec!["https://one.example:443/m", "https://two.example:443/m"],
                vec!["https://b.example:443/m"]
            ]
        );
        // Plain http is allowed for all of them or for none.
        let plain = (
            "SNIFFER_SINKS",
            "a=https://one.example/m a=http://two.example/m",
        );
        assert_eq!(self::config(&[URL, plain]).unwrap_err().code, Code::E041);
    }

    /// Certificates of the capture URL are no other sink's, but for the authorities where a sink has none of its own.
    #[test]
    fn each_sink_has_its_own_certificates() {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        };
        let ours = file("-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n");
        let (ca, other_ca) = (
            file("-----BEGIN CERTIFICATE-----\n1\n"),
            file("-----BEGIN CERTIFICATE-----\n2\n"),
        );
        let [ours, ca, other_ca] =
            [&ours, &ca, &other_ca].map(|file| file.path().display().to_string());
        let pairs = [
            URL,
            (
                "SNIFFER_SINKS",
                "a=https://a.example/m b=https://b.example/m",
            ),
            ("SNIFFER_CA", ca.as_str()),
            ("SNIFFER_TLS_CERT", ours.as_str()),
            ("SNIFFER_TLS_SERVER_NAME", "lake"),
            ("SNIFFER_SINK_B_CA", other_ca.as_str()),
            ("SNIFFER_SINK_B_TLS_CERT", ours.as_str()),
            ("SNIFFER_SINK_B_TLS_SERVER_NAME", "b"),
        ];
        let found = config(&pairs).unwrap();
        let found = found.sinks.iter().map(|sink| {
            let Credentials {
                files, server_name, ..
            } = &sink.credentials;
            let shown = files.list();
            let shown = shown.iter().map(|path| path.display().to_string());
            (shown.collect::<Vec<_>>(), server_name.as_deref())
        });
        let all = [
            (vec![ca.clone(), ours.clone(), ours.clone()], Some("lake")),
            (vec![ca.clone()], None),
            (
                vec![other_ca.clone(), ours.clone(), ours.clone()],
                Some("b"),
            ),
        ];
        assert_eq!(found.collect::<Vec<_>>(), all);
        let alone = [URL, pairs[1], ("SNIFFER_SINK_A_TLS_KEY", ours.as_str())];
        let problem = config(&alone).unwrap_err();
        assert_eq!(problem.what, "SNIFFER_SINK_A_TLS_KEY needs a certificate");
        assert_eq!(problem.fix.as_deref(), Some("--sink-tls-cert NAME=FILE"));
        let nobody = [URL, pairs[1], ("SNIFFER_SINK_C_CA", ours.as_str())];
        assert_eq!(config(&nobody).unwrap_err().code, Code::E001);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_refused() {
        for (text, expected) in [
            ("https://a.example/m", "expected NAME=URL"),
            ("lake", "expected NAME=URL"),
            ("Lake=https://a.example/m", "no name of a sink"),
            ("default=https://a.example/m", "that of --url"),
            ("a=https://a.example/m a=file:///b", "two sinks a"),
            ("a=stdout: a=https://b.example/m", "two sinks a"),
            ("a=https://u:hunter2@a.example/m A=x", "no name of a sink"),
        ] {
            let problem = config(&[("SNIFFER_SINKS", text)]).unwrap_err();
            assert!(problem.what.contains(expected), "{text}: {}", problem.what);
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
        let many: Vec<String> = (0..SINKS_MAX)
            .map(|number| format!("s{number}=https://a.example/m"))
            .collect();
        let problem = config(&[("SNIFFER_SINKS", &many.join(" "))]).unwrap_err();
        assert!(problem.what.contains("at most"), "{}", problem.what);
        let sets: Vec<String> = (0..5)
            .map(|number| format!("SNIFFER_SINK_S{number}_RULES"))
            .collect();
        let rules: Vec<String> = (1..6).map(|number| format!("sample {number}")).collect();
        let mut pairs: Vec<(&str, &str)> = vec![];
        let list = many[..5].join(" ");
        pairs.push(("SNIFFER_SINKS", &list));
        pairs.extend(
            sets.iter()
                .map(String::as_str)
                .zip(rules.iter().map(String::as_str)),
        );
        let problem = config(&pairs).unwrap_err();
        assert!(
            problem.what.contains("5 different rule sets"),
            "{}",
            problem.what
        );
    }
}
