//! The list of sinks, and the settings of one of them, as they are given.

use super::setting::{Form, Kind};
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic};
use crate::limits::{SINK_NAME_BYTES_MAX, SINKS_MAX};

/// The name of the sink that the capture URL is.
pub const DEFAULT: &str = "default";

/// A name and a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUrl {
    /// Of the sink.
    pub name: String,
    /// Where it delivers to, as it was given. Several capture URLs have line ends between them.
    pub url: Value,
}

/// Sinks, `NAME=URL` each. A name that comes again has a further URL of its sink.
pub struct SinkList;

impl Kind for SinkList {
    type Checked = Vec<NamedUrl>;

    const FORM: Form = Form::Repeated;

    fn check(value: &Value) -> Result<Vec<NamedUrl>, Diagnostic> {
        let mut sinks: Vec<NamedUrl> = Vec::new();
        for item in value.text.split_whitespace() {
            let bad = |reason: &str| {
                Diagnostic::new(Code::E002, format!("{}: {reason}", value.written()))
                    .fix(value.written_with("NAME=https://HOST/message"))
            };
            let (name, url) = item
                .split_once('=')
                .ok_or_else(|| bad("expected NAME=URL"))?;
            if !is_name(name) {
                return Err(bad(&format!(
                    "{name:?} is no name of a sink: a letter, then letters, digits and hyphens, all lower case, at most {SINK_NAME_BYTES_MAX}"
                )));
            }
            if name == DEFAULT {
                return Err(bad("the sink default is that of --url"));
            }
            if let Some(known) = sinks.iter_mut().find(|sink| sink.name == name) {
                if !is_capture_url(&known.url.text) || !is_capture_url(url) {
                    let two = format!(
                        "there are two sinks {name}, and only capture URLs may be several of one sink"
                    );
                    return Err(bad(&two));
                }
                known.url.text.push('\n');
                known.url.text.push_str(url);
                continue;
            }
            let url = Value {
                text: url.to_owned(),
                ..value.clone()
            };
            sinks.push(NamedUrl {
                name: name.to_owned(),
                url,
            });
        }
        // One place is that of the capture URL.
        if sinks.len() >= SINKS_MAX {
            let what = format!("expected at most {} sinks", SINKS_MAX - 1);
            return Err(Diagnostic::new(
                Code::E002,
                format!("{}: {what}", value.written()),
            ));
        }
        Ok(sinks)
    }

    fn show(checked: &Vec<NamedUrl>) -> String {
        if checked.is_empty() {
            return "none".to_owned();
        }
        let each = checked.iter().flat_map(|sink| {
            let shown = sink.url.shown();
            let urls = shown.lines().map(|url| format!("{}={url}", sink.name));
            urls.collect::<Vec<_>>()
        });
        each.collect::<Vec<_>>().join(" ")
    }
}

/// Whether it is none of the other kinds. What is wrong with one is found where it is used.
fn is_capture_url(url: &str) -> bool {
    !url.starts_with("file:") && url != "stdout:"
}

/// Lower case, so that the name in a variable is clear; no underscore, so that no two names give the same one.
fn is_name(name: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    name.len() <= SINK_NAME_BYTES_MAX
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.as_bytes().iter().all(is_inner)
}

/// A setting of one sink, which its name is a part of: [`Values::of_sink`] has the text.
pub struct OfSink;

impl Kind for OfSink {
    type Checked = ();

    const FORM: Form = Form::Named;

    fn check(_: &Value) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn show((): &()) -> String {
        "none".to_owned()
    }
}
