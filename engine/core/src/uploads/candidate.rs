//! A request with a marker, until the first bytes of its body have shown whether it is skipped.

use std::sync::Arc;

use flate2::{Decompress, FlushDecompress};

use super::config::Config;
use super::first_line::is_upload;
use super::marker::{Identity, Marker, Proof, Upload};
use super::senders::Sender;
use super::statement::{DECIDING_BYTES, Statement};
use crate::http::{Header, HeaderName, RequestHead};
use crate::limits::{UPLOAD_BEGINNING_BYTES_MAX, UPLOAD_HASHED_BYTES, UPLOAD_LINE_BYTES_MAX};
use crate::time::Timestamp;

/// How a body is compressed, as far as uploads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Zlib,
}

/// What the body of an upload is, as its head shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Calls, or a ledger.
    Lines(Coding),
    /// A statement for the database of a store.
    Statement(Statement),
}

impl Content {
    /// By the head of a `POST`; none for one that no upload has.
    fn of(head: &RequestHead<'_>) -> Option<Self> {
        let is_ndjson = HeaderName::ContentType
            .find(head.headers)
            .is_some_and(is_ndjson);
        match is_ndjson {
            true => coding(head.headers).map(Self::Lines),
            false => Statement::of(head).map(Self::Statement),
        }
    }
}

/// Why no more of the body will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is over.
    Complete,
    /// It was cut, or bytes of it are missing.
    Cut,
}

/// What a request with a marker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An upload of this process.
    Ours,
    /// An upload of another sniffer.
    Theirs(Sender),
    /// No upload, whatever its marker claims: it is a call.
    Neither,
}

/// A request with a marker.
#[derive(Debug)]
pub struct Candidate {
    marker: Marker,
    /// Its claim to be of this process holds as far as the head shows.
    ours: Option<(Arc<Identity>, Proof)>,
    idempotency_key: Box<[u8]>,
    content: Content,
    beginning: Vec<u8>,
}

impl Candidate {
    /// A request that came at `now`, if its head is that of an upload. `value` is that of its marker.
    pub fn new(
        value: &[u8],
        head: &RequestHead<'_>,
        now: Timestamp,
        config: &Config,
    ) -> Option<Self> {
        let marker = Marker::parse(value)?;
        if head.method != b"POST" {
            return None;
        }
        let mut candidate = Self {
            marker,
            ours: None,
            idempotency_key: named(head.headers, b"idempotency-key").into(),
            content: Content::of(head)?,
            beginning: Vec::new(),
        };
        let identity = config.identity.as_ref();
        if let Some(identity) = identity.filter(|identity| identity.is_claimed_by(&marker)) {
            // A process that captures sends no statements.
            let (Content::Lines(_), Some(proof)) = (candidate.content, marker.proof) else {
                return None;
            };
            let length = HeaderName::ContentLength.find(head.headers);
            let has_length =
                length.is_none_or(|length| length == proof.length.to_string().as_bytes());
            if !has_length || !identity.proves_head(&proof, &candidate.upload(&proof)) {
                return None;
            }
            // One that a proxy kept for so long counts as another sniffer's.
            if proof.is_recent(now) {
                candidate.ours = Some((identity.clone(), proof));
                return Some(candidate);
            }
        }
        (!config.include_others).then_some(candidate)
    }

    /// Bytes of memory beyond its own size.
    pub fn memory(&self) -> usize {
        self.beginning.capacity() + self.idempotency_key.len()
    }

    /// Takes bytes of the body. True when there are enough for [`Self::verdict`].
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let wanted = UPLOAD_BEGINNING_BYTES_MAX.saturating_sub(self.beginning.len());
        let taken = bytes.get(..wanted).unwrap_or(bytes);
        self.beginning.extend_from_slice(taken);
        let enough = match &self.ours {
            Some((_, proof)) => u64::min(proof.length, UPLOAD_HASHED_BYTES as u64),
            None => match self.content {
                Content::Lines(_) => UPLOAD_BEGINNING_BYTES_MAX as u64,
                Content::Statement(_) => DECIDING_BYTES as u64,
            },
        };
        self.beginning.len() as u64 >= enough
    }

    /// Decides by what was seen of the body; `end` if that is all there will be.
    pub fn verdict(&self, end: Option<End>) -> Verdict {
        let holds = match &self.ours {
            Some((identity, proof)) => {
                // Of an upload that was cut so early, only the head can be checked.
                let hashed = u64::min(proof.length, UPLOAD_HASHED_BYTES as u64);
                let is_short = (self.beginning.len() as u64) < hashed;
                if is_short {
                    end == Some(End::Cut)
                } else {
                    identity.proves_body(proof, &self.upload(proof))
                }
            }
            None => self.begins_as_upload(end == Some(End::Complete)),
        };
        match &self.ours {
            _ if !holds => Verdict::Neither,
            Some(_) => Verdict::Ours,
            None => Verdict::Theirs(self.marker.sender),
        }
    }

    fn upload(&self, proof: &Proof) -> Upload<'_> {
        Upload {
            time: proof.time,
            length: proof.length,
            key: &self.idempotency_key,
            beginning: &self.beginning,
        }
    }

    fn begins_as_upload(&self, whole: bool) -> bool {
        match self.content {
            Content::Statement(statement) => return statement.begins(&self.beginning),
            Content::Lines(Coding::Identity) => return is_upload(&self.beginning, whole),
            Content::Lines(Coding::Zlib) => {}
        }
        let mut line = Vec::with_capacity(UPLOAD_LINE_BYTES_MAX);
        let mut decoder = Decompress::new(true);
        let decoded = decoder.decompress_vec(&self.beginning, &mut line, FlushDecompress::Sync);
        let is_all = whole && line.len() < UPLOAD_LINE_BYTES_MAX;
        decoded.is_ok() && is_upload(&line, is_all)
    }
}

fn named<'a>(headers: &[Header<'a>], name: &[u8]) -> &'a [u8] {
    let mut named = headers.iter();
    let found = named.find(|header| header.name.eq_ignore_ascii_case(name));
    found.map_or(b"", |header| header.value)
}

fn is_ndjson(value: &[u8]) -> bool {
    let media = value.split(|byte| *byte == b';').next().unwrap_or_default();
    let media = media.trim_ascii();
    media.eq_ignore_ascii_case(b"application/ndjson")
        || media.eq_ignore_ascii_case(b"application/x-ndjson")
}

/// None for one that no upload has.
fn coding(headers: &[Header<'_>]) -> Option<Coding> {
    match HeaderName::ContentEncoding.find(headers) {
        None | Some(b"" | b"identity") => Some(Coding::Identity),
        Some(value) => {
            let mut zlib = [&b"deflated"[..], b"deflate", b"zlib"].into_iter();
            let is_zlib = zlib.any(|name| value.eq_ignore_ascii_case(name));
            is_zlib.then_some(Coding::Zlib)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::ZlibEncoder;

    use super::*;
    use crate::http::Version;

    const LINE: &[u8] = b"[[\"request_method\",\"GET\"],[\"host\",\"h\"]]\n";

    /// What becomes of a request with these headers, whose body comes in two pieces.
    fn verdict(
        method: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        end: End,
        config: &Config,
    ) -> Option<Verdict> {
        let fields = headers.iter();
        let fields = fields.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
        let fields: Vec<_> = fields.collect();
        let marker = HeaderName::UploadMarker.find(&fields)?;
        let target = fields.iter().find(|field| field.name == b":path");
        let target = target.map_or(&b"/"[..], |field| field.value);
        let head = RequestHead::new(method.as_bytes(), target, Version::Http11, &fields);
        let mut candidate = Candidate::new(marker, &head, NOW, config)?;
        let (first, second) = body.split_at(body.len() / 2);
        let is_decided = candidate.push(first) || candidate.push(second);
        Some(candidate.verdict((!is_decided).then_some(end)))
    }

    const NOW: Timestamp = Timestamp::from_parts(1_700_000_000, 0);
    const FOREIGN: &str = "v1; instance=a1; sender=web-3";

    fn theirs() -> Option<Verdict> {
        Some(Verdict::Theirs(Sender::new(b"web-3")))
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn another_sniffers_marker_hides_only_what_is_an_upload() {
        let config = Config::default();
        let marker = ("Sniffer-Upload-Marker", FOREIGN);
        let ndjson = ("content-type", "application/NDJSON; charset=UTF-8");
        let check = |method, headers: &[(&str, &str)], body: &[u8], expected| {
            let is = verdict(method, headers, body, End::Complete, &config);
            assert_eq!(is, expected, "{method} {headers:?}");
        };
        check("POST", &[marker, ndjson], LINE, theirs());
        check("POST", &[ndjson, marker], &LINE.repeat(9999), theirs());
        for coding in ["deflated", "Deflate"] {
            let coded = [marker, ndjson, ("content-encoding", coding)];
            check("POST", &coded, &zlib(LINE), theirs());
            check("POST", &coded, &zlib(&LINE.repeat(9999)), theirs());
            check("POST", &coded, LINE, Some(Verdict::Neither));
            check("POST", &coded, &zlib(b"{}\n"), Some(Verdict::Neither));
        }
        for body in [
            &b""[..],
            b"{\"a\":1}\n",
            b"[[\"request_method\",\"GET\"]",
            b"secret",
        ] {
            check("POST", &[marker, ndjson], body, Some(Verdict::Neither));
        }
        check("POST", &[ndjson], LINE, None);
        check("PUT", &[marker, ndjson], LINE, None);
        check("GET", &[marker, ndjson], b"", None);
        check(
            "POST",
            &[marker, ("content-type", "text/plain")],
            LINE,
            None,
        );
        check("POST", &[marker], LINE, None);
        check(
            "POST",
            &[marker, ndjson, ("content-encoding", "br")],
            LINE,
            None,
        );
        check(
            "POST",
            &[("sniffer-upload-marker", "yes"), ndjson],
            LINE,
            None,
        );
    }

    #[test]
    fn a_statement_of_a_store_is_no_call() {
        let config = Config::default();
        let marker = ("sniffer-upload-marker", FOREIGN);
        let octets = ("content-type", "application/octet-stream");
        let user = ("x-clickhouse-user", "writer");
        let plain = (":path", "/?wait_end_of_query=1");
        let insert = (
            ":path",
            "/?wait_end_of_query=1&query=INSERT%20INTO%20calls%20%28time%2C%20bundle%2C%20line_no%2C%20received",
        );
        let check = |method, headers: &[(&str, &str)], body: &[u8], expected| {
            let is = verdict(method, headers, body, End::Complete, &config);
            assert_eq!(is, expected, "{method} {headers:?}");
        };
        let mut row = 1_700_000_000_000_i64.to_le_bytes().to_vec();
        row.extend(u64::MAX.to_le_bytes());
        row.extend(0_u32.to_le_bytes());
        row.extend(b"more of it");
        check("POST", &[marker, octets, user, insert], &row, theirs());
        check(
            "POST",
            &[marker, octets, user, plain],
            b"SELECT 1",
            theirs(),
        );
        let refused = Some(Verdict::Neither);
        check("POST", &[marker, octets, user, plain], &row, refused);
        check(
            "POST",
            &[marker, octets, user, insert],
            b"SELECT 1",
            refused,
        );
        check("POST", &[marker, octets, user, insert], &row[..19], refused);
        check(
            "POST",
            &[marker, octets, user, insert],
            b"a secret of twenty bytes",
            refused,
        );
        check(
            "POST",
            &[marker, octets, user, plain],
            b"{\"sql\":\"SELECT 1\"}",
            refused,
        );
        check("POST", &[marker, octets, plain], b"SELECT 1", None);
        check("POST", &[marker, user, plain], b"SELECT 1", None);
        check(
            "POST",
            &[marker, octets, user, (":path", "/upload?x")],
            b"SELECT 1",
            None,
        );
        check("GET", &[marker, octets, user, plain], b"", None);
        check("POST", &[octets, user, plain], b"SELECT 1", None);
        // No process that captures sends one, so none can be its own.
        let identity = Arc::new(Identity::new(0xa1, [3; 16], "web-3"));
        let own = Config {
            identity: Some(identity),
            include_others: false,
        };
        let headers = [marker, octets, user, plain];
        let is = verdict("POST", &headers, b"SELECT 1", End::Complete, &own);
        assert_eq!(is, None);
    }

    #[test]
    fn what_is_seen_of_a_cut_upload_decides() {
        let config = Config::default();
        let headers = [
            ("sniffer-upload-marker", FOREIGN),
            ("content-type", "application/ndjson"),
        ];
        let check = |body: &[u8], expected| {
            assert_eq!(verdict("POST", &headers, body, End::Cut, &config), expected);
        };
        check(&LINE[..20], theirs());
        check(b"", Some(Verdict::Neither));
        check(b"secret", Some(Verdict::Neither));
        let shown = Config {
            include_others: true,
            ..Config::default()
        };
        assert_eq!(verdict("POST", &headers, LINE, End::Complete, &shown), None);
    }

    #[test]
    fn a_marker_of_this_process_holds_for_what_it_sent_only() {
        let identity = Arc::new(Identity::new(0xa1, [3; 16], "web-3"));
        let config = Config {
            identity: Some(identity.clone()),
            include_others: true,
        };
        let body = LINE.repeat(9);
        let length = body.len().to_string();
        let mark = |time| {
            identity.mark(&Upload {
                time,
                length: body.len() as u64,
                key: b"k1",
                beginning: &body,
            })
        };
        let own = mark(NOW);
        let check = |method, marker: &str, length: &str, key, body: &[u8], expected| {
            let headers = [
                ("content-type", "application/ndjson"),
                ("content-length", length),
                ("idempotency-key", key),
                ("sniffer-upload-marker", marker),
            ];
            let is = verdict(method, &headers, body, End::Complete, &config);
            assert_eq!(is, expected, "{method} {length} {key}");
        };
        let ours = Some(Verdict::Ours);
        check("POST", &own, &length, "k1", &body, ours);
        check("GET", &own, &length, "k1", &body, None);
        check("POST", &own, "9", "k1", &body, None);
        check("POST", &own, &length, "k2", &body, None);
        let other = vec![b'x'; body.len()];
        check("POST", &own, &length, "k1", &other, Some(Verdict::Neither));
        check("POST", &own, &length, "k1", b"", Some(Verdict::Neither));
        check("POST", FOREIGN, &length, "k1", &body, None);
        let forged = Identity::new(0xa1, [4; 16], "web-3").mark(&Upload {
            time: NOW,
            length: body.len() as u64,
            key: b"k1",
            beginning: &body,
        });
        check("POST", &forged, &length, "k1", &body, None);
        // What a proxy kept for an hour is no longer this process's, and read here because others are.
        check(
            "POST",
            &mark(NOW.before(std::time::Duration::from_secs(3600))),
            &length,
            "k1",
            &body,
            None,
        );
    }
}
