//! Where finished lines go, and how they are compressed on the way.

use engine_core::bundle::Compression;
use engine_core::rules;

use super::Rules;
use super::folder_url::FolderUrl;
use super::kinds::CompressionChoice;
use super::settings::{RULES, Settings, row};
use super::value::Value;
use super::values::Values;
use crate::capture_url::{CaptureUrl, CaptureUrls};
use crate::diagnostic::{Code, Diagnostic};

/// What happens to finished lines.
#[derive(Clone, Debug)]
pub enum Destination {
    /// They are posted to the first of these URLs that takes them.
    Url(CaptureUrls),
    /// They are posted to the store of this all-in-one, which has this URL for others.
    Store(CaptureUrl),
    /// They are written to files in a folder.
    Folder(FolderUrl),
    /// They are written to standard output.
    Stdout,
    /// They are counted and discarded, because of this setting or rule.
    Nowhere(String),
}

pub(super) fn destination(
    settings: &Settings,
    values: &Values,
    rules: &Rules,
    embedded_store: bool,
) -> Result<Destination, Diagnostic> {
    if settings.no_send {
        let given = values.given(row::no_send());
        let name = given.map_or_else(|| row::no_send().long_flag(), |value| value.name.clone());
        return Ok(Destination::Nowhere(name));
    }
    if rules.set.skip_submission() {
        return Ok(Destination::Nowhere("the rule skip_submission".to_owned()));
    }
    let Some(value) = &settings.url else {
        return Err(Diagnostic::new(Code::E039, "USAGE_LOGGERS_URL is not set, so calls would go nowhere")
            .fix("--url https://HOST/message\n`sniffer all-in-one` has its own store; --no-send counts calls only"));
    };
    let urls = CaptureUrls::parse(&value.text).map_err(|reason| bad_url(value, &reason))?;
    if embedded_store {
        let url = CaptureUrl::parse(&value.text).map_err(|reason| bad_url(value, &reason))?;
        return Ok(Destination::Store(url));
    }
    if urls.iter().any(is_plain) && !rules.set.allow_http_url() {
        return Err(plain_http(value, rules, settings.rules.as_ref()));
    }
    Ok(Destination::Url(urls))
}

/// The destination of a sink that was named; `given` is the setting that has its rules.
pub(super) fn named(
    value: &Value,
    rules: &Rules,
    given: Option<&Value>,
) -> Result<Destination, Diagnostic> {
    if rules.set.skip_submission() {
        return Ok(Destination::Nowhere("the rule skip_submission".to_owned()));
    }
    let text = value.text.as_str();
    if text == "stdout:" {
        return Ok(Destination::Stdout);
    }
    if text.starts_with("file:") {
        let folder = FolderUrl::parse(text).map_err(|reason| {
            let what = format!("{} {:?}: {reason}", value.name, value.shown());
            Diagnostic::new(Code::E040, what).fix("NAME=file:///FOLDER?rotate=64M,1h&keep=1G,7d")
        })?;
        return Ok(Destination::Folder(folder));
    }
    let urls = CaptureUrls::parse(text).map_err(|reason| bad_url(value, &reason))?;
    if urls.iter().any(is_plain) && !rules.set.allow_http_url() {
        return Err(plain_http(value, rules, given));
    }
    Ok(Destination::Url(urls))
}

/// `auto` compresses what leaves this machine; for a collector on the same machine it would cost both ends time.
pub(super) fn compression(choice: CompressionChoice, destination: &Destination) -> Compression {
    match (choice, destination) {
        // Lines are written as they are, or compressed by the sink itself.
        (_, Destination::Folder(_) | Destination::Stdout) => Compression::Off,
        (CompressionChoice::Fixed(compression), _) => compression,
        (CompressionChoice::Auto, Destination::Store(_)) => Compression::Off,
        (CompressionChoice::Auto, Destination::Url(urls)) if urls.are_loopback() => {
            Compression::Off
        }
        (CompressionChoice::Auto, _) => Compression::Fast,
    }
}

/// Whether lines would be on the network as they are.
fn is_plain(url: &CaptureUrl) -> bool {
    !url.is_https() && url.socket().is_none()
}

fn plain_http(value: &Value, rules: &Rules, given: Option<&Value>) -> Diagnostic {
    Diagnostic::new(
        Code::E041,
        "the rules forbid plain http, so nothing would be sent",
    )
    .cause(format!(
        "{} begins with http:, and there is no rule allow_http_url (rules: {})",
        value.name, rules.name
    ))
    .fix(allow_http(given))
}

/// How to allow plain http with the rules that are in use, where they were given.
fn allow_http(rules: Option<&Value>) -> String {
    let text = rules.map_or(RULES, |rules| rules.text.as_str());
    if let Some(path) = rules::file_reference(text) {
        return format!("printf '\\nallow_http_url\\n' >> {path}\nor use an https:// URL");
    }
    // As a shell takes it: in single quotes, of which one inside is written outside of them.
    let text = text.trim_end().replace('\n', "\\n").replace('\'', "'\\''");
    let quoted = format!("'{text}\\nallow_http_url'");
    let written = rules.map_or_else(
        || format!("--rules {quoted}"),
        |rules| rules.written_with(&quoted),
    );
    format!("{written}\nor use an https:// URL")
}

fn bad_url(value: &Value, reason: &impl std::fmt::Display) -> Diagnostic {
    let shown = value.shown();
    let text = shown.trim();
    let known = ["http://", "https://", "unix://"];
    let what = if known.iter().any(|scheme| text.starts_with(scheme)) {
        format!("{} {text:?}: {reason}", value.name)
    } else {
        format!("{} {text:?}: missing http:// or https://", value.name)
    };
    Diagnostic::new(Code::E040, what).fix(value.written_with("https://HOST[:PORT]/message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::capture;
    use crate::config::tests::{check_error, values};

    #[test]
    fn plain_http_needs_the_rule_or_the_embedded_store() {
        let url = ("USAGE_LOGGERS_URL", "http://localhost:7701/message");
        check_error(
            &[url],
            Code::E041,
            "the rules forbid plain http, so nothing would be sent",
        );
        check_error(
            &[url, ("USAGE_LOGGERS_RULES", "include default")],
            Code::E041,
            "the rules forbid plain http, so nothing would be sent",
        );
        for rules in ["include debug", "include default\\nallow_http_url"] {
            assert!(capture(&values(&[url, ("USAGE_LOGGERS_RULES", rules)]), false).is_ok());
        }
        let config = capture(&values(&[url]), true).unwrap();
        assert_eq!(config.rule_sets[0].name, "include debug");
        let disabled = capture(&values(&[url, ("USAGE_LOGGERS_DISABLE", "true")]), false).unwrap();
        let Destination::Nowhere(reason) = &disabled.sinks[0].destination else {
            panic!("it is sent nowhere");
        };
        assert_eq!(reason, "USAGE_LOGGERS_DISABLE");
        let mut flag = values(&[url]);
        flag.set(row::no_send(), "true");
        let disabled = capture(&flag, false).unwrap();
        let disabled = &disabled.sinks[0].destination;
        assert!(matches!(disabled, Destination::Nowhere(reason) if reason == "--no-send"));
    }

    #[test]
    fn the_fix_for_plain_http_keeps_the_rules_and_where_they_were_given() {
        let fix = |rules: Option<&Value>| allow_http(rules).lines().next().unwrap().to_owned();
        let value = |name: &str, text: &str| Value {
            name: name.to_owned(),
            text: text.to_owned(),
            source: crate::config::value::Source::Flag,
            is_secret: false,
        };
        assert_eq!(fix(None), "--rules 'include default\\nallow_http_url'");
        let flag = value("--rules", "include standard");
        assert_eq!(
            fix(Some(&flag)),
            "--rules 'include standard\\nallow_http_url'"
        );
        let variable = value("USAGE_LOGGERS_RULES", "include strict\n/it's/ remove\n");
        assert_eq!(
            fix(Some(&variable)),
            "USAGE_LOGGERS_RULES='include strict\\n/it'\\''s/ remove\\nallow_http_url'"
        );
        let file = value("--rules", "file:///etc/rules.txt");
        assert_eq!(
            fix(Some(&file)),
            "printf '\\nallow_http_url\\n' >> /etc/rules.txt"
        );
        // What is advised works.
        let url = ("USAGE_LOGGERS_URL", "http://host/message");
        let advised = ("USAGE_LOGGERS_RULES", "include standard\\nallow_http_url");
        assert!(capture(&values(&[url, advised]), false).is_ok());
    }

    #[test]
    fn compression_is_auto_off_or_a_level() {
        let compression = |url, rules, value| {
            let settings = [
                ("USAGE_LOGGERS_URL", url),
                ("USAGE_LOGGERS_RULES", rules),
                ("SNIFFER_COMPRESSION", value),
            ];
            capture(&values(&settings), false).map(|config| config.sinks[0].compression)
        };
        let (near, far) = ("http://127.0.0.1:7701/message", "https://lake.example/m");
        let rules = "include debug\nallow_http_url";
        for (url, value, expected) in [
            (near, "auto", Compression::Off),
            (far, "AUTO", Compression::Fast),
            (near, "on", Compression::Fast),
            (far, "off", Compression::Off),
            (far, "1", Compression::Level(1)),
            (near, "9", Compression::Level(9)),
        ] {
            let is = compression(url, rules, value).unwrap();
            assert_eq!(is, expected, "{url} {value}");
        }
        for value in ["10", "-1", "fast", "1.5"] {
            assert!(compression(far, rules, value).is_err(), "{value}");
        }
        let plain = "include debug\nskip_compression";
        assert_eq!(compression(far, plain, "9").unwrap(), Compression::Off);
    }
}
