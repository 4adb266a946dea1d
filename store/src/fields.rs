//! The fields of a call: what columns a backend keeps apart from the line, what they are called, and what they hold.
//!
//! One table for the filter language, the API, exports and every backend. The first name of a field is that of its column; the
//! others are the names of the reference database and common short ones. What is not here can be a fact (`fact.NAME`, the
//! annotation `custom_field:NAME`) or any other detail of the line.

/// A field that is kept in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Field {
    /// When the call was: `now` of the line, or its arrival where that cannot be.
    Time,
    /// When the store received it.
    Received,
    /// `interval` of the line.
    Took,
    /// From the end of the request to the first byte of the response.
    FirstByte,
    /// Request method.
    Method,
    /// Authority of the URL, or the header `host`.
    Host,
    /// What follows the authority in the URL.
    Path,
    /// The URL as it stands in the line.
    Url,
    /// The path with ids as `*`.
    Endpoint,
    /// What the call asks for where the URL does not show it.
    Operation,
    /// Of which kind the operation is.
    OperationKind,
    /// Status code of the response.
    Status,
    /// Length of the logged request body.
    RequestBytes,
    /// Length of the logged response body.
    ResponseBytes,
    /// Media type of the response.
    ContentType,
    /// Protocol of the request.
    Protocol,
    /// Innermost number of a virtual network.
    Vni,
    /// Address of the client.
    Client,
    /// Port of the client.
    ClientPort,
    /// Address of the server.
    Server,
    /// Port of the server.
    ServerPort,
    /// The machine that captured it.
    Appliance,
    /// Who posted it.
    Sender,
    /// The connection on which it was.
    Connection,
    /// Remarks for the list.
    Note,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number,
    /// A number of bytes.
    Bytes,
    /// Milliseconds.
    Duration,
    /// Milliseconds since 1970-01-01 UTC.
    Time,
    /// A text.
    Text,
}

impl Kind {
    /// Whether a value is a number, in whatever unit.
    pub fn is_number(self) -> bool {
        self != Self::Text
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The field.
    pub field: Field,
    /// Its name in filters, answers and exports, and that of its column.
    pub name: &'static str,
    /// Other names in filters.
    pub aliases: &'static [&'static str],
    /// What it holds.
    pub kind: Kind,
}

const fn spec(
    field: Field,
    kind: Kind,
    name: &'static str,
    aliases: &'static [&'static str],
) -> Spec {
    Spec {
        field,
        name,
        aliases,
        kind,
    }
}

/// Number of fields.
pub const FIELD_COUNT: usize = 25;

/// All fields, in the order of [`Field`].
pub const FIELDS: [Spec; FIELD_COUNT] = [
    spec(Field::Time, Kind::Time, "time", &["now", "response_time"]),
    spec(Field::Received, Kind::Time, "received", &["received_ms"]),
    spec(
        Field::Took,
        Kind::Duration,
        "took",
        &["interval", "interval_millis", "duration", "latency"],
    ),
    spec(Field::FirstByte, Kind::Duration, "first_byte", &["ttfb"]),
    spec(Field::Method, Kind::Text, "method", &["request_method"]),
    spec(Field::Host, Kind::Text, "host", &["authority"]),
    spec(Field::Path, Kind::Text, "path", &[]),
    spec(Field::Url, Kind::Text, "url", &["request_url"]),
    spec(Field::Endpoint, Kind::Text, "endpoint", &["route"]),
    spec(Field::Operation, Kind::Text, "operation", &[]),
    spec(Field::OperationKind, Kind::Text, "operation_kind", &[]),
    spec(
        Field::Status,
        Kind::Number,
        "status",
        &["response_code", "code"],
    ),
    spec(
        Field::RequestBytes,
        Kind::Bytes,
        "request_bytes",
        &["request_size"],
    ),
    spec(
        Field::ResponseBytes,
        Kind::Bytes,
        "response_bytes",
        &["response_size", "size"],
    ),
    spec(
        Field::ContentType,
        Kind::Text,
        "content_type",
        &["type", "response_content_type"],
    ),
    spec(Field::Protocol, Kind::Text, "protocol", &[]),
    spec(Field::Vni, Kind::Number, "vni", &[]),
    spec(Field::Client, Kind::Text, "client", &["client_address"]),
    spec(Field::ClientPort, Kind::Number, "client_port", &[]),
    spec(Field::Server, Kind::Text, "server", &["server_address"]),
    spec(Field::ServerPort, Kind::Number, "server_port", &["port"]),
    spec(Field::Appliance, Kind::Text, "appliance", &[]),
    spec(Field::Sender, Kind::Text, "sender", &[]),
    spec(
        Field::Connection,
        Kind::Text,
        "connection",
        &["connection_id"],
    ),
    spec(Field::Note, Kind::Text, "note", &[]),
];

impl Field {
    /// The field of this name or alias, in any case.
    pub fn find(name: &str) -> Option<Self> {
        let spec = FIELDS.iter().find(|spec| {
            std::iter::once(&spec.name)
                .chain(spec.aliases)
                .any(|known| known.eq_ignore_ascii_case(name))
        });
        spec.map(|spec| spec.field)
    }

    /// Its row of the table.
    pub fn spec(self) -> &'static Spec {
        &FIELDS[self as usize]
    }

    /// Its first name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// What it holds.
    pub fn kind(self) -> Kind {
        self.spec().kind
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_fields_and_no_name_is_used_twice() {
        let mut names = HashSet::new();
        for (index, spec) in FIELDS.iter().enumerate() {
            assert_eq!(spec.field as usize, index, "{}", spec.name);
            for name in std::iter::once(&spec.name).chain(spec.aliases) {
                assert!(names.insert(*name), "{name} is used twice");
                assert_eq!(Field::find(name), Some(spec.field));
                assert_eq!(Field::find(&name.to_uppercase()), Some(spec.field));
            }
        }
        assert_eq!(Field::find("request_header:host"), None);
    }
}
