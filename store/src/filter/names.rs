//! The names that a filter has for what is in a call: the fields of [`crate::fields`], the details of a line by their names, and
//! short names of some details. `docs/filter.md` shows them all, which a test compares.

use crate::fields::{FIELDS, Field, Kind};

/// What a comparison reads of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A field: one value, or none.
    Field(Field),
    /// The details with this name, as the line has it: any number of them. Of annotations the first counts.
    Detail(String),
}

impl Source {
    /// How its values are compared; `None`: as numbers where a value without quotation marks is one, as texts otherwise.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Field(field) => Some(field.kind()),
            Self::Detail(detail) => {
                let mut named = DETAILS.iter();
                named
                    .find(|named| named.detail == detail)
                    .map(|named| named.kind)
            }
        }
    }
}

impl Source {
    /// Whether it is in the annotations of a line.
    pub fn is_annotation(&self) -> bool {
        match self {
            Self::Field(field) => matches!(
                field,
                Field::FirstByte
                    | Field::Operation
                    | Field::OperationKind
                    | Field::Protocol
                    | Field::Vni
                    | Field::Client
                    | Field::ClientPort
                    | Field::Server
                    | Field::ServerPort
                    | Field::Connection
                    | Field::Note
            ),
            Self::Detail(detail) => detail.starts_with(ANNOTATION),
        }
    }
}

/// The prefix of annotations and facts in a line.
pub const ANNOTATION: &str = "custom_field:";

/// A detail with a name of its own.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// The detail.
    pub detail: &'static str,
    /// How it is compared.
    pub kind: Kind,
}

const fn named(name: &'static str, detail: &'static str, kind: Kind) -> Named {
    Named { name, detail, kind }
}

/// Details with names of their own.
pub const DETAILS: [Named; 13] = [
    named("request_body", "request_body", Kind::Text),
    named("response_body", "response_body", Kind::Text),
    named("call_index", "custom_field:call_index", Kind::Number),
    named("exchange_id", "custom_field:exchange_id", Kind::Text),
    named("half", "custom_field:half", Kind::Text),
    named("incomplete", "custom_field:incomplete", Kind::Text),
    named("missing_bytes", "custom_field:missing_bytes", Kind::Bytes),
    named("rpc_system", "custom_field:rpc_system", Kind::Text),
    named("rpc_service", "custom_field:rpc_service", Kind::Text),
    named("rpc_method", "custom_field:rpc_method", Kind::Text),
    named("rpc_status", "custom_field:rpc_status", Kind::Text),
    named(
        "rpc_status_code",
        "custom_field:rpc_status_code",
        Kind::Number,
    ),
    named(
        "application_errors",
        "custom_field:application_errors",
        Kind::Number,
    ),
];

/// Details of one kind: what stands before their name in a line, and what may stand there in a filter.
pub const FAMILIES: [(&str, &[&str]); 5] = [
    ("request_header:", &["req:"]),
    ("response_header:", &["res:"]),
    ("request_param:", &["param:"]),
    ("session_field:", &[]),
    (ANNOTATION, &["fact."]),
];

/// What is in a call under a name, in upper or lower case.
pub fn find(name: &str) -> Option<Source> {
    if let Some(field) = Field::find(name) {
        return Some(Source::Field(field));
    }
    // Names of details have no upper case.
    let name = name.to_ascii_lowercase();
    if let Some(named) = DETAILS.iter().find(|named| named.name == name) {
        return Some(Source::Detail(named.detail.into()));
    }
    let detail = FAMILIES.iter().find_map(|(prefix, aliases)| {
        let mut prefixes = std::iter::once(prefix).chain(*aliases);
        let rest = prefixes.find_map(|known| name.strip_prefix(known))?;
        Some(format!("{prefix}{rest}"))
    })?;
    Some(match field_of(&detail) {
        Some(field) => Source::Field(field),
        None => Source::Detail(detail),
    })
}

/// The field that has what would be in a detail.
fn field_of(detail: &str) -> Option<Field> {
    match detail {
        // It is no detail: the host is in the URL.
        "request_header:host" => Some(Field::Host),
        "custom_field:operation" => Some(Field::Operation),
        "custom_field:operation_kind" => Some(Field::OperationKind),
        "custom_field:vni" => Some(Field::Vni),
        "custom_field:client_address" => Some(Field::Client),
        "custom_field:client_port" => Some(Field::ClientPort),
        "custom_field:server_address" => Some(Field::Server),
        "custom_field:server_port" => Some(Field::ServerPort),
        "custom_field:connection_id" => Some(Field::Connection),
        _ => None,
    }
}

/// The known name nearest to one that is unknown, if at most a third of its letters differ.
pub fn guess(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    if let Some((prefix, rest)) = name
        .split_once([':', '.'])
        .filter(|(_, rest)| !rest.is_empty())
    {
        let known = FAMILIES
            .iter()
            .flat_map(|(prefix, aliases)| std::iter::once(prefix).chain(*aliases).copied());
        let prefix = name.get(..=prefix.len())?;
        return Some(format!("{}{rest}", nearest(prefix, known)?));
    }
    let fields = FIELDS
        .iter()
        .flat_map(|spec| std::iter::once(spec.name).chain(spec.aliases.iter().copied()));
    let details = DETAILS.iter().map(|named| named.name);
    nearest(&name, fields.chain(details)).map(str::to_owned)
}

/// The text nearest to `text`, if at most a third of its letters differ. A swap of neighbours counts as one.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = known
        .map(|known| (strsim::osa_distance(text, known), known))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= (text.chars().count() / 3).max(1)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What values of a kind are called.
    fn kind_name(kind: Option<Kind>) -> &'static str {
        match kind {
            Some(Kind::Number) => "number",
            Some(Kind::Bytes) => "bytes",
            Some(Kind::Duration) => "duration",
            Some(Kind::Time) => "time",
            Some(Kind::Text) => "text",
            None => "text or number",
        }
    }

    fn detail(name: &str) -> Option<Source> {
        Some(Source::Detail(name.into()))
    }

    #[test]
    fn details_have_names() {
        assert_eq!(find("STATUS"), Some(Source::Field(Field::Status)));
        assert_eq!(find("Rpc_Service"), detail("custom_field:rpc_service"));
        assert_eq!(find("request_header:X-Id"), detail("request_header:x-id"));
        assert_eq!(find("req:x-id"), detail("request_header:x-id"));
        assert_eq!(find("fact.sse_events"), detail("custom_field:sse_events"));
        assert_eq!(find("request_param:"), detail("request_param:"));
        for name in ["", "statsu", "x:y", "facts.a", ":", "."] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn a_field_has_the_name_of_its_detail_as_well() {
        for (name, field) in [
            ("req:host", Field::Host),
            ("fact.vni", Field::Vni),
            ("custom_field:client_port", Field::ClientPort),
        ] {
            assert_eq!(find(name), Some(Source::Field(field)), "{name}");
        }
        let half = find("fact.half").expect("a name");
        assert_eq!((half.kind(), find("half")), (Some(Kind::Text), Some(half)));
    }

    #[test]
    fn a_misspelt_name_has_a_guess() {
        for (name, expected) in [
            ("statsu", Some("status")),
            ("Hosts", Some("host")),
            ("request_heder:x-id", Some("request_header:x-id")),
            ("facts.a", Some("fact.a")),
            ("zzzzzz", None),
            ("zzz:a", None),
            ("é:a", None),
            ("", None),
        ] {
            assert_eq!(guess(name).as_deref(), expected, "{name}");
        }
    }

    /// The beginning of each row of the tables.
    #[test]
    fn the_document_has_every_name() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/filter.md");
        let text = std::fs::read_to_string(path).expect("the document");
        let row = |name: &str, aliases: &[&str], behind: &str, kind| {
            let quoted: Vec<_> = aliases
                .iter()
                .map(|alias| format!("`{alias}{behind}`"))
                .collect();
            let quoted = quoted.join(", ");
            format!("| `{name}{behind}` | {quoted} | {} |", kind_name(kind))
        };
        let mut rows: Vec<_> = FIELDS
            .iter()
            .map(|spec| row(spec.name, spec.aliases, "", Some(spec.kind)))
            .collect();
        rows.extend(
            DETAILS
                .iter()
                .map(|named| row(named.name, &[], "", Some(named.kind))),
        );
        rows.extend(
            FAMILIES
                .iter()
                .map(|(prefix, aliases)| row(prefix, aliases, "NAME", None)),
        );
        let missing: Vec<_> = rows
            .iter()
            .map(String::as_str)
            .filter(|row| !text.contains(row))
            .collect();
        assert!(
            missing.is_empty(),
            "the document lacks\n{}",
            missing.join("\n")
        );
    }
}
