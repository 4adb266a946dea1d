//! The kinds of settings: how the text of each is read, and how its default is shown.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine_core::bundle::Compression;
use engine_core::decap::{Encap, EncapSet, MirrorSources, VniFilter};
use engine_core::http::PortSet;
use engine_core::message::Schemas;
use engine_sys::packet::Expression;

use super::guess::guess;
use super::mode::CaptureMode;
use super::setting::{Form, Kind};
use super::value::Value;
use crate::diagnostic::{Code, Diagnostic};
use crate::limits::DESCRIPTORS_BYTES_MAX;

/// On or off, in the words of the reference loggers and a few more.
pub struct Switch;

impl Kind for Switch {
    type Checked = bool;

    const FORM: Form = Form::Switch;

    fn check(value: &Value) -> Result<bool, Diagnostic> {
        match lower(value).as_str() {
            "1" | "t" | "true" | "yes" | "y" | "on" => Ok(true),
            "0" | "f" | "false" | "no" | "n" | "off" => Ok(false),
            _ => Err(value.expected("true or false")),
        }
    }

    fn show(checked: &bool) -> String {
        if *checked { "on" } else { "off" }.to_owned()
    }
}

/// A whole number within bounds.
pub struct Number<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> Kind for Number<MIN, MAX> {
    type Checked = usize;

    fn check(value: &Value) -> Result<usize, Diagnostic> {
        let number = value.text.trim().parse().ok();
        number
            .filter(|number| (MIN..=MAX).contains(number))
            .ok_or_else(|| value.expected(&format!("a number from {MIN} to {MAX}")))
    }

    fn show(checked: &usize) -> String {
        checked.to_string()
    }
}

/// A size of memory, with K, M or G for powers of 1024.
pub struct Bytes<const MIN: usize, const MAX: usize = { usize::MAX }>;

impl<const MIN: usize, const MAX: usize> Kind for Bytes<MIN, MAX> {
    type Checked = usize;

    fn check(value: &Value) -> Result<usize, Diagnostic> {
        match parse_bytes(&value.text) {
            None => Err(value.expected("a number of bytes, with K, M or G if you like")),
            Some(bytes) if bytes < MIN => {
                Err(value.expected(&format!("{} or more", show_bytes(MIN))))
            }
            Some(bytes) if bytes > MAX => {
                Err(value.expected(&format!("{} or less", show_bytes(MAX))))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    fn show(checked: &usize) -> String {
        show_bytes(*checked)
    }
}

/// A size of memory; 0 stands for the default.
pub struct BytesOrDefault<const MIN: usize>;

impl<const MIN: usize> Kind for BytesOrDefault<MIN> {
    type Checked = usize;

    fn check(value: &Value) -> Result<usize, Diagnostic> {
        <Bytes<MIN> as Kind>::check(value)
    }

    fn show(checked: &usize) -> String {
        show_bytes(*checked)
    }

    fn is_default(text: &str) -> bool {
        parse_bytes(text) == Some(0)
    }
}

/// A length of time.
pub struct Time;

impl Kind for Time {
    type Checked = Duration;

    fn check(value: &Value) -> Result<Duration, Diagnostic> {
        parse_time(&value.text).ok_or_else(|| value.expected("a time such as 500ms, 5s or 1m"))
    }

    fn show(checked: &Duration) -> String {
        show_time(*checked)
    }
}

/// A time as a user would write it.
pub(super) fn show_time(time: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match (time.subsec_millis(), time.as_secs()) {
        (0, seconds) if seconds > 0 && seconds % DAY == 0 => format!("{}d", seconds / DAY),
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// An address to listen on. `:PORT` and `PORT` mean all addresses.
pub struct Address;

impl Kind for Address {
    type Checked = SocketAddr;

    fn check(value: &Value) -> Result<SocketAddr, Diagnostic> {
        let text = value.text.trim();
        let complete = match text.strip_prefix(':').unwrap_or(text) {
            port if port.parse::<u16>().is_ok() => format!("[::]:{port}"),
            _ => text.replace("localhost:", "127.0.0.1:"),
        };
        complete
            .parse()
            .map_err(|_| value.expected("ADDRESS:PORT or :PORT"))
    }

    fn show(checked: &SocketAddr) -> String {
        if checked.ip() == Ipv6Addr::UNSPECIFIED {
            format!(":{}", checked.port())
        } else {
            checked.to_string()
        }
    }
}

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// What to listen on.
    pub address: SocketAddr,
    /// The user gave it, so a port that is taken is an error.
    pub is_named: bool,
}

/// An address of metrics, or `off`.
pub struct MetricsAddress;

impl Kind for MetricsAddress {
    type Checked = Option<Metrics>;

    fn check(value: &Value) -> Result<Option<Metrics>, Diagnostic> {
        if matches!(lower(value).as_str(), "off" | "false" | "no" | "none" | "0") {
            return Ok(None);
        }
        Ok(Some(Metrics {
            address: Address::check(value)?,
            is_named: true,
        }))
    }

    fn show(checked: &Option<Metrics>) -> String {
        checked.map_or_else(
            || "off".to_owned(),
            |metrics| Address::show(&metrics.address),
        )
    }
}

/// Text without the blanks around it.
pub struct Text;

impl Kind for Text {
    type Checked = String;

    fn check(value: &Value) -> Result<String, Diagnostic> {
        Ok(value.text.trim().to_owned())
    }

    fn show(checked: &String) -> String {
        checked.clone()
    }
}

/// A path of a file or folder.
pub struct Path;

impl Kind for Path {
    type Checked = PathBuf;

    fn check(value: &Value) -> Result<PathBuf, Diagnostic> {
        Ok(PathBuf::from(&value.text))
    }

    fn show(checked: &PathBuf) -> String {
        checked.display().to_string()
    }
}

/// Names, separated by commas or blanks.
pub struct Names;

impl Kind for Names {
    type Checked = Vec<String>;

    const FORM: Form = Form::List;

    fn check(value: &Value) -> Result<Vec<String>, Diagnostic> {
        Ok(list(&value.text).map(str::to_owned).collect())
    }

    fn show(checked: &Vec<String>) -> String {
        checked.join(",")
    }
}

/// A setting that may be missing.
pub struct Optional<K>(std::marker::PhantomData<K>);

impl<K: Kind> Kind for Optional<K> {
    type Checked = Option<K::Checked>;

    const FORM: Form = K::FORM;

    fn check(value: &Value) -> Result<Self::Checked, Diagnostic> {
        K::check(value).map(Some)
    }

    fn show(checked: &Self::Checked) -> String {
        checked
            .as_ref()
            .map_or_else(|| "none".to_owned(), |checked| K::show(checked))
    }
}

/// A URL as it was given.
pub struct Url;

impl Kind for Url {
    type Checked = Value;

    fn check(value: &Value) -> Result<Value, Diagnostic> {
        Ok(value.clone())
    }

    fn show(checked: &Value) -> String {
        checked.shown().into_owned()
    }
}

/// Capture URLs as they were given, with blanks between them. [`Destination`](super::Destination) is made from them together
/// with the rules.
pub struct Urls;

impl Kind for Urls {
    type Checked = Value;

    const FORM: Form = Form::Repeated;

    fn check(value: &Value) -> Result<Value, Diagnostic> {
        Ok(value.clone())
    }

    fn show(checked: &Value) -> String {
        checked.shown().into_owned()
    }
}

/// Headers as they were given: one a line. [`Credentials`](super::credentials::Credentials) are made from them.
pub struct HeaderLines;

impl Kind for HeaderLines {
    type Checked = Value;

    const FORM: Form = Form::Repeated;

    fn check(value: &Value) -> Result<Value, Diagnostic> {
        Ok(value.clone())
    }

    fn show(checked: &Value) -> String {
        checked.shown().into_owned()
    }
}

/// Rules as they were given: text, or a file that has to be read again on a reload.
pub struct RulesText;

impl Kind for RulesText {
    type Checked = Value;

    const FORM: Form = Form::Lines;

    fn check(value: &Value) -> Result<Value, Diagnostic> {
        Ok(value.clone())
    }

    fn show(checked: &Value) -> String {
        checked.text.clone()
    }
}

/// A set with the text that it was read from, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worded<T> {
    /// The set.
    pub set: T,
    /// Its text.
    pub text: String,
}

impl<T: Default> Worded<T> {
    /// The set without any bound, in words.
    pub fn unbounded(words: &str) -> Self {
        Self {
            set: T::default(),
            text: words.to_owned(),
        }
    }
}

impl<T> Worded<T> {
    /// The set that `parse` reads from a list such as `example`.
    fn read<E: fmt::Display>(
        value: &Value,
        parse: impl Fn(&str) -> Result<T, E>,
        example: &str,
    ) -> Result<Self, Diagnostic> {
        let set = parse(&value.text)
            .map_err(|reason| value.bad_list(&reason, example, |text| parse(text).is_ok()))?;
        Ok(Self {
            set,
            text: value.text.trim().to_owned(),
        })
    }
}

/// TCP ports whose connections are read.
pub struct Ports;

impl Kind for Ports {
    type Checked = Worded<PortSet>;

    fn check(value: &Value) -> Result<Self::Checked, Diagnostic> {
        Worded::read(value, PortSet::parse, "80,8000-8100")
    }

    fn show(checked: &Self::Checked) -> String {
        checked.text.clone()
    }

    fn is_default(text: &str) -> bool {
        means_all(text)
    }
}

/// Virtual networks.
pub struct Vnis;

impl Kind for Vnis {
    type Checked = Worded<VniFilter>;

    const FORM: Form = Form::Hyphenated;

    fn check(value: &Value) -> Result<Self::Checked, Diagnostic> {
        Worded::read(value, VniFilter::parse, "123,456")
    }

    fn show(checked: &Self::Checked) -> String {
        checked.text.clone()
    }

    fn is_default(text: &str) -> bool {
        means_all(text)
    }
}

/// Hosts and networks whose tunnels are read.
pub struct Sources;

impl Kind for Sources {
    type Checked = Worded<MirrorSources>;

    fn check(value: &Value) -> Result<Self::Checked, Diagnostic> {
        Worded::read(value, MirrorSources::parse, "10.0.0.0/8,192.0.2.7")
    }

    fn show(checked: &Self::Checked) -> String {
        checked.text.clone()
    }
}

/// Which tunnels are removed: `auto` (all), `off`, or a list of encapsulations.
pub struct Encapsulations;

impl Kind for Encapsulations {
    type Checked = Worded<EncapSet>;

    fn check(value: &Value) -> Result<Self::Checked, Diagnostic> {
        let text = lower(value);
        let set = match text.as_str() {
            "auto" => EncapSet::ALL,
            "off" => EncapSet::NONE,
            list => list
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .try_fold(EncapSet::NONE, |set, word| {
                    // The words are those of annotations, so that what one shows can be given here.
                    let encap = Encap::ALL.iter().find(|encap| encap.label() == Some(word));
                    encap.map(|encap| set.with(*encap))
                })
                .ok_or_else(|| {
                    value.expected("auto, off, or some of vxlan,geneve,gre,erspan,ipip,other")
                })?,
        };
        Ok(Worded { set, text })
    }

    fn show(checked: &Self::Checked) -> String {
        checked.text.clone()
    }
}

/// UDP ports of a tunnel.
pub struct UdpPorts;

impl Kind for UdpPorts {
    type Checked = Vec<u16>;

    fn check(value: &Value) -> Result<Vec<u16>, Diagnostic> {
        let parse = |text: &str| {
            let ports: Option<Vec<u16>> = list(text)
                .map(|port| port.parse().ok().filter(|&port| port > 0))
                .collect();
            ports.filter(|ports| !ports.is_empty())
        };
        let is_valid = |text: &str| parse(text).is_some();
        parse(&value.text)
            .ok_or_else(|| value.bad_list(&"not a list of ports from 1 to 65535", "4789", is_valid))
    }

    fn show(checked: &Vec<u16>) -> String {
        let ports: Vec<String> = checked.iter().map(ToString::to_string).collect();
        ports.join(",")
    }
}

/// The word for a capture mode, also those of network-sniffer 1.x.
pub struct Mode;

/// The words for a mode; those for files have none.
const MODES: [(&str, Option<CaptureMode>); 7] = [
    ("auto", Some(CaptureMode::Interfaces)),
    ("af_packet", Some(CaptureMode::Interfaces)),
    ("libpcap", Some(CaptureMode::Interfaces)),
    ("raw_socket", Some(CaptureMode::Interfaces)),
    ("vxlan", Some(CaptureMode::Mirror)),
    ("mirror", Some(CaptureMode::Mirror)),
    ("pcap_file", None),
];

impl Kind for Mode {
    type Checked = CaptureMode;

    fn check(value: &Value) -> Result<CaptureMode, Diagnostic> {
        let word = lower(value);
        if word == "k8s" {
            return Err(Diagnostic::new(
                Code::E060,
                format!(
                    "{} is not supported: this version looks up no pods",
                    value.written()
                ),
            )
            .fix(format!(
                "{}    captures on the interfaces of the node",
                value.written_with("auto")
            )));
        }
        match MODES.iter().find(|(known, _)| *known == word) {
            Some((_, Some(mode))) => Ok(*mode),
            Some((_, None)) => Err(Diagnostic::new(
                Code::E060,
                format!("{} does not take files", value.written()),
            )
            .fix("sniffer read FILE...")),
            None => {
                let hint = guess(&word, MODES.iter().map(|(known, _)| *known))
                    .map(|guess| format!("; did you mean {guess}?"))
                    .unwrap_or_default();
                Err(value.expected(&format!("one of vxlan, mirror, af_packet, auto{hint}")))
            }
        }
    }

    fn show(checked: &CaptureMode) -> String {
        let word = MODES.iter().find(|(_, mode)| *mode == Some(*checked));
        word.map_or(String::new(), |(word, _)| (*word).to_owned())
    }
}

/// A filter in the language of tcpdump.
pub struct Filter;

impl Kind for Filter {
    type Checked = Expression;

    fn check(value: &Value) -> Result<Expression, Diagnostic> {
        Expression::parse(value.text.trim()).map_err(|error| {
            value
                .expected("a filter such as \"tcp port 80 and not net 10.0.0.0/8\"")
                .cause(error.to_string())
        })
    }

    fn show(checked: &Expression) -> String {
        format!("{checked:?}")
    }
}

/// How much the bodies of POSTs are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionChoice {
    /// As it suits the destination.
    Auto,
    /// As given.
    Fixed(Compression),
}

/// `auto`, `on`, `off` or a level of compression.
pub struct CompressionLevel;

impl Kind for CompressionLevel {
    type Checked = CompressionChoice;

    fn check(value: &Value) -> Result<CompressionChoice, Diagnostic> {
        Ok(CompressionChoice::Fixed(match lower(value).as_str() {
            "auto" => return Ok(CompressionChoice::Auto),
            "on" | "true" | "t" | "yes" | "y" => Compression::Fast,
            "off" | "false" | "f" | "no" | "n" | "0" => Compression::Off,
            level => match level.parse() {
                Ok(level @ 1..=9) => Compression::Level(level),
                _ => return Err(value.expected("auto, off, on, or a level from 1 to 9")),
            },
        }))
    }

    fn show(checked: &CompressionChoice) -> String {
        match checked {
            CompressionChoice::Auto => "auto".to_owned(),
            CompressionChoice::Fixed(Compression::Off) => "off".to_owned(),
            CompressionChoice::Fixed(Compression::Fast) => "on".to_owned(),
            CompressionChoice::Fixed(Compression::Level(level)) => level.to_string(),
        }
    }
}

/// A file with a `FileDescriptorSet`, read and understood.
pub struct DescriptorSet;

/// What is in such a file.
#[derive(Clone, Debug)]
pub struct ReadDescriptors {
    /// The types.
    pub schemas: Arc<Schemas>,
    /// The path that the user gave.
    pub path: String,
}

impl Kind for DescriptorSet {
    type Checked = ReadDescriptors;

    fn check(value: &Value) -> Result<ReadDescriptors, Diagnostic> {
        let expected = |why: String| {
            let what = "a file with a FileDescriptorSet (protoc --include_imports --descriptor_set_out=FILE)";
            value.expected(what).cause(why)
        };
        let file = File::open(&value.text).map_err(|error| expected(error.to_string()))?;
        let mut bytes = Vec::new();
        file.take(DESCRIPTORS_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| expected(error.to_string()))?;
        if bytes.len() > DESCRIPTORS_BYTES_MAX {
            return Err(expected("it is too large".to_owned()));
        }
        let schemas = Schemas::read(&bytes).map_err(expected)?;
        Ok(ReadDescriptors {
            schemas: Arc::new(schemas),
            path: value.text.clone(),
        })
    }

    fn show(checked: &ReadDescriptors) -> String {
        checked.path.clone()
    }
}

/// `json` or `raw`: whether bytes of protobuf stay as they are.
pub struct ProtobufForm;

impl Kind for ProtobufForm {
    type Checked = bool;

    fn check(value: &Value) -> Result<bool, Diagnostic> {
        match lower(value).as_str() {
            "json" => Ok(false),
            "raw" => Ok(true),
            _ => Err(value.expected("json or raw")),
        }
    }

    fn show(is_raw: &bool) -> String {
        if *is_raw { "raw" } else { "json" }.to_owned()
    }
}

fn lower(value: &Value) -> String {
    value.text.trim().to_ascii_lowercase()
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\n'])
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn means_all(text: &str) -> bool {
    matches!(text.trim(), "all" | "any" | "*")
}

/// `64M`, `64 MiB`, `65536`.
pub(super) fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) = number_and_unit(&text);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// `64M`: the largest unit of which it is a multiple.
pub(super) fn show_bytes(bytes: usize) -> String {
    let mut rest = bytes;
    let mut unit = "";
    for larger in ["K", "M", "G"] {
        if rest == 0 || !rest.is_multiple_of(1024) {
            break;
        }
        rest /= 1024;
        unit = larger;
    }
    format!("{rest}{unit}")
}

pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text.trim());
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(60 * 60).map(Duration::from_secs),
        "d" => number.checked_mul(24 * 60 * 60).map(Duration::from_secs),
        _ => None,
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Source;

    fn value(text: &str) -> Value {
        Value {
            name: "SNIFFER_UI".to_owned(),
            text: text.to_owned(),
            source: Source::Environment,
            is_secret: false,
        }
    }

    #[test]
    fn sizes_times_and_addresses() {
        let sizes = [
            ("0", Some(0)),
            ("64", Some(64)),
            ("64b", Some(64)),
            ("64k", Some(65536)),
            ("4 MiB", Some(4 << 20)),
            ("4x", None),
            ("4i", None),
            ("", None),
        ];
        for (text, expected) in sizes {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
        assert_eq!(parse_time("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_time("5"), Some(Duration::from_secs(5)));
        assert_eq!(parse_time("5 years"), None);
        let days = Duration::from_hours(72);
        assert_eq!(
            (parse_time("3d"), parse_time("72 h")),
            (Some(days), Some(days))
        );
        assert_eq!(Time::show(&days), "3d");
        let addresses = [
            (":7711", "[::]:7711"),
            ("7711", "[::]:7711"),
            ("localhost:7", "127.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
        ];
        for (text, expected) in addresses {
            let read = Address::check(&value(text)).unwrap();
            assert_eq!(read.to_string(), expected);
        }
    }

    #[test]
    fn a_value_is_shown_as_it_can_be_written() {
        for text in ["0", "1", "1000", "512K", "1M", "3G", "1025K"] {
            assert_eq!(show_bytes(parse_bytes(text).unwrap()), text);
        }
        for text in ["5s", "1500ms", "60s"] {
            assert_eq!(Time::show(&Time::check(&value(text)).unwrap()), text);
        }
        for text in [":7701", "127.0.0.1:7702"] {
            assert_eq!(Address::show(&Address::check(&value(text)).unwrap()), text);
        }
        for text in ["auto", "off", "on", "7"] {
            let choice = CompressionLevel::check(&value(text)).unwrap();
            assert_eq!(CompressionLevel::show(&choice), text);
        }
    }
}
