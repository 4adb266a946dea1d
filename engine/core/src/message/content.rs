//! Content codings (RFC 9110 §8.4): which ones a body has, and the decoding of a collected body. The compressing transfer
//! codings (RFC 9112 §7.2) are decoded with them; `chunked` was decoded before.
//!
//! Source: `docs/contract.md`, section 1.6 with M3 and M4. What decodes before an error or a missing end is kept; a coding
//! that fails at once gives nothing. Output is bounded, in bytes by the body limit and by [`CODING_RATIO_MAX`] as a multiple of
//! what was sent, so a decompression bomb costs no more than other bodies of its size. Only the declared codings count: content
//! without a coding is not inspected. A name that is no coding (`utf-8`, `none`, `binary`)
//! leaves the content as it is, and marks it.

mod stream;

pub(super) use stream::{Space, Stop, StreamDecoder};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::http::{Header, HeaderName, HeaderNames};
use crate::limits::{
    CODED_BYTES_MIN, CODED_OVERHEAD_BYTES, CODING_RATIO_MAX, CODINGS_MAX, ZSTD_WINDOW_LOG_MAX,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    fn of(name: &[u8]) -> Option<Self> {
        const NAMES: [(&str, Coding); 7] = [
            ("gzip", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("zlib", Coding::Deflate),
            ("deflated", Coding::Deflate),
            ("br", Coding::Brotli),
            ("zstd", Coding::Zstd),
        ];
        let named = NAMES
            .iter()
            .find(|(other, _)| name.eq_ignore_ascii_case(other.as_bytes()));
        named.map(|(_, coding)| *coding)
    }
}

/// The codings of one body, in the order in which they were applied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Codings {
    list: [Option<Coding>; CODINGS_MAX],
    unknown: bool,
    /// A name among them is no coding.
    mislabelled: bool,
}

impl Codings {
    /// Those of a message with these names among its headers; most have none.
    #[inline]
    pub(super) fn of_message(headers: &[Header<'_>], names: HeaderNames) -> Self {
        if names.has(HeaderName::ContentEncoding) || names.has(HeaderName::TransferEncoding) {
            Self::read(headers)
        } else {
            Self::default()
        }
    }

    /// From all Content-Encoding lines, and from what Transfer-Encoding names before `chunked`.
    fn read(headers: &[Header<'_>]) -> Self {
        let mut codings = Self::default();
        let names = |known| {
            headers
                .iter()
                .filter(move |header| header.is(known))
                .flat_map(|header| header.value.split(|byte| *byte == b','))
                .map(<[u8]>::trim_ascii)
        };
        names(HeaderName::ContentEncoding).for_each(|name| codings.push(name));
        for name in names(HeaderName::TransferEncoding) {
            if name.eq_ignore_ascii_case(b"chunked") {
                break;
            }
            // An unknown transfer coding is ignored: such bodies are commonly not coded at all.
            if let Some(coding) = Coding::of(name) {
                codings.add(coding);
            }
        }
        codings
    }

    /// From one list of names.
    pub(super) fn of_list(value: &[u8]) -> Self {
        let mut codings = Self::default();
        let names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.for_each(|name| codings.push(name));
        codings
    }

    /// Those that are left once all were undone.
    pub(super) fn undone(&self) -> Self {
        Self {
            mislabelled: self.mislabelled,
            ..Self::default()
        }
    }

    /// Those of a body that cannot be decoded.
    pub(super) fn undecodable(&self) -> Self {
        Self {
            unknown: true,
            ..*self
        }
    }

    fn push(&mut self, name: &[u8]) {
        match Coding::of(name) {
            Some(coding) => self.add(coding),
            None if name.is_empty() || name.eq_ignore_ascii_case(b"identity") => {}
            None if is_coding(name) => self.unknown = true,
            None => self.mislabelled = true,
        }
    }

    fn add(&mut self, coding: Coding) {
        match self.list.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(coding),
            None => self.unknown = true,
        }
    }

    /// Whether the body has no coding.
    pub(super) fn is_identity(&self) -> bool {
        !self.unknown && self.list.iter().all(Option::is_none)
    }

    /// Whether a name that is no coding was among them.
    pub(super) fn is_mislabelled(&self) -> bool {
        self.mislabelled
    }

    /// Whether one of them is not supported.
    pub(super) fn is_unknown(&self) -> bool {
        self.unknown
    }
}

/// Whether a name that is not supported is one of a coding all the same: those of the registry (RFC 9110 §8.4.1), and those
/// that servers were seen to use.
#[cold]
fn is_coding(name: &[u8]) -> bool {
    const NAMES: [&str; 21] = [
        "aes128gcm",
        "bz2",
        "bzip2",
        "compress",
        "dcb",
        "dcz",
        "exi",
        "lz4",
        "lzma",
        "lzw",
        "pack200-gzip",
        "peerdist",
        "sdch",
        "snappy",
        "x-bzip2",
        "x-compress",
        "x-lzma",
        "x-snappy",
        "x-xz",
        "xpress",
        "xz",
    ];
    let mut names = NAMES.iter();
    names.any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// How a coded stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At its own end mark.
    Complete,
    /// The output reached its limit.
    Limit,
    /// Input ran out or was wrong.
    Broken,
}

/// The result of decoding a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Its length without the limit, as far as known.
    pub(super) full_len: u64,
    /// Something is missing after what was decoded, and not because of a bound.
    pub(super) broken: bool,
    /// It was cut at the limit.
    pub(super) limited: bool,
    /// It was cut because it is longer than [`CODING_RATIO_MAX`] allows for what was sent.
    pub(super) expanded: bool,
}

impl Decoded {
    /// Whether a bound cut it.
    fn is_cut(self) -> bool {
        self.limited || self.expanded
    }
}

/// The decoders of one writer, reused for every body (brotli's has no reset and is made anew).
pub(super) struct Decoders {
    inflate: Decompress,
    zstd: DCtx<'static>,
    spare: Vec<u8>,
}

impl Decoders {
    pub(super) fn new() -> Self {
        let mut zstd = DCtx::create();
        // A frame may require a window of 2 GiB. Refusing the parameter would leave the library's own bound, 128 MiB.
        let _ = zstd.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX));
        Self {
            inflate: Decompress::new(false),
            zstd,
            spare: Vec::new(),
        }
    }

    /// Decodes `body` in place, up to `limit` bytes; `whole` when nothing of it is missing. None when nothing
    /// decodes.
    pub(super) fn undo(
        &mut self,
        codings: &Codings,
        body: &mut Vec<u8>,
        whole: bool,
        limit: usize,
    ) -> Option<Decoded> {
        let mut decoded = Decoded {
            full_len: body.len() as u64,
            broken: false,
            limited: false,
            expanded: false,
        };
        let by_ratio = body.len().max(CODED_BYTES_MIN) * CODING_RATIO_MAX;
        let mut stages = codings.list.iter().flatten().rev().peekable();
        while let Some(label) = stages.next() {
            let coding = inner_coding(*label, body);
            let last = stages.peek().is_none();
            let limit = if last {
                limit
            } else {
                limit + CODED_OVERHEAD_BYTES
            };
            let most = limit.min(by_ratio);
            let whole = whole && !decoded.is_cut();
            self.spare.clear();
            // One byte more shows whether there is more.
            let end = match coding {
                Coding::Gzip => self.gunzip(body, most + 1),
                Coding::Deflate => self.undeflate(body, most + 1),
                Coding::Brotli => unbrotli(body, &mut self.spare, most + 1),
                Coding::Zstd => self.unzstd(body, most + 1),
            };
            if self.spare.is_empty() && end == End::Broken {
                return None;
            }
            // The end of what we have cut ourselves is nothing that is missing.
            decoded.broken |= end == End::Broken && !decoded.is_cut();
            decoded.full_len = self.spare.len() as u64;
            if end == End::Complete && self.spare.len() <= most {
                (decoded.limited, decoded.expanded) = (false, false);
            }
            if self.spare.len() > most {
                decoded.expanded |= by_ratio < limit;
                decoded.limited |= by_ratio >= limit;
                if whole {
                    let promised = promised_len(coding, body).unwrap_or_default();
                    decoded.full_len = decoded.full_len.max(promised);
                }
            }
            self.spare.truncate(most);
            std::mem::swap(body, &mut self.spare);
        }
        Some(decoded)
    }

    /// Frees the memory that one long body took.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.spare.clear();
        self.spare.shrink_to(bytes);
    }

    /// RFC 1952: any number of members.
    fn gunzip(&mut self, mut input: &[u8], limit: usize) -> End {
        loop {
            let Some(deflated) = gzip_header(input) else {
                // Garbage after a member was never part of the content.
                return if self.spare.is_empty() {
                    End::Broken
                } else {
                    End::Complete
                };
            };
            self.inflate.reset(false);
            let (end, used) = inflate(&mut self.inflate, deflated, &mut self.spare, limit);
            if end != End::Complete {
                return end;
            }
            // CRC and length are not checked: a body with a few wrong bytes is still worth keeping.
            input = deflated.get(used + 8..).unwrap_or_default();
            if input.is_empty() {
                return End::Complete;
            }
        }
    }

    /// RFC 1950, or the bare RFC 1951 stream that many servers send under the same name.
    fn undeflate(&mut self, input: &[u8], limit: usize) -> End {
        let wrapped = is_zlib(input);
        self.inflate.reset(wrapped);
        let (end, _) = inflate(&mut self.inflate, input, &mut self.spare, limit);
        if wrapped && end == End::Broken && self.spare.is_empty() {
            self.inflate.reset(false);
            return inflate(&mut self.inflate, input, &mut self.spare, limit).0;
        }
        end
    }

    /// RFC 8878: any number of frames.
    fn unzstd(&mut self, input: &[u8], limit: usize) -> End {
        if self.zstd.reset(ResetDirective::SessionOnly).is_err() {
            return End::Broken;
        }
        let mut input = InBuffer::around(input);
        loop {
            if self.spare.len() >= limit {
                return End::Limit;
            }
            reserve_within(&mut self.spare, limit);
            let (before, consumed) = (self.spare.len(), input.pos());
            let mut output = OutBuffer::around_pos(&mut self.spare, before);
            let Ok(hint) = self.zstd.decompress_stream(&mut output, &mut input) else {
                return End::Broken;
            };
            let written = output.pos() - before;
            if input.pos() == input.src.len() && hint == 0 {
                return End::Complete;
            }
            if written == 0 && input.pos() == consumed {
                return End::Broken;
            }
        }
    }
}

/// Which of the two wrappers of deflate a body labelled with one of them has: servers confuse them, and their first bytes
/// distinguish them.
fn inner_coding(label: Coding, body: &[u8]) -> Coding {
    match (label, body) {
        (Coding::Deflate, [0x1f, 0x8b, 8, ..]) => Coding::Gzip,
        (Coding::Gzip, body) if !body.starts_with(&[0x1f, 0x8b]) && is_zlib(body) => {
            Coding::Deflate
        }
        _ => label,
    }
}

/// Whether the first two bytes are the header of RFC 1950.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flg, ..] if cmf & 15 == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)) % 31 == 0)
}

/// The length of the content by its own account, for content that was not decoded to its end.
fn promised_len(coding: Coding, body: &[u8]) -> Option<u64> {
    match coding {
        // ISIZE, the last four octets of a member: exact for one member under 4 GiB.
        Coding::Gzip => body
            .last_chunk()
            .map(|size| u64::from(u32::from_le_bytes(*size))),
        Coding::Zstd => zstd_safe::get_frame_content_size(body).ok().flatten(),
        Coding::Deflate | Coding::Brotli => None,
    }
}

/// Grows the buffer without going far past `limit`.
fn reserve_within(out: &mut Vec<u8>, limit: usize) {
    let more = out
        .len()
        .clamp(4096, 256 * 1024)
        .min(limit.saturating_sub(out.len()).max(1));
    out.reserve(more);
}

/// Inflates one stream; how it ended and how much of the input it took.
fn inflate(
    decompress: &mut Decompress,
    input: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> (End, usize) {
    let used =
        |decompress: &Decompress| usize::try_from(decompress.total_in()).unwrap_or(usize::MAX);
    loop {
        if out.len() >= limit {
            return (End::Limit, used(decompress));
        }
        reserve_within(out, limit);
        let (before, consumed) = (out.len(), used(decompress));
        let rest = input.get(consumed..).unwrap_or_default();
        match decompress.decompress_vec(rest, out, FlushDecompress::None) {
            Ok(Status::StreamEnd) => return (End::Complete, used(decompress)),
            Ok(_) if out.len() > before || used(decompress) > consumed => {}
            _ => return (End::Broken, used(decompress)),
        }
    }
}

/// Skips the header of a gzip member (RFC 1952 §2.3).
fn gzip_header(input: &[u8]) -> Option<&[u8]> {
    const HCRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let (&[0x1f, 0x8b, 8, flags, ..], mut rest) = input.split_first_chunk::<10>()? else {
        return None;
    };
    if flags & EXTRA != 0 {
        let (len, extra) = rest.split_first_chunk()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            rest = rest.get(memchr::memchr(0, rest)? + 1..)?;
        }
    }
    if flags & HCRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// RFC 7932, without the large-window extension, whose window nobody bounds.
fn unbrotli(input: &[u8], out: &mut Vec<u8>, limit: usize) -> End {
    let mut state = BrotliState::new_strict(
        StandardAlloc::default(),
        StandardAlloc::default(),
        StandardAlloc::default(),
    );
    let (mut input_left, mut input_at, mut total) = (input.len(), 0, 0);
    loop {
        let before = out.len();
        if before >= limit {
            return End::Limit;
        }
        let room = before.clamp(4096, 256 * 1024).min(limit - before);
        out.resize(before + room, 0);
        let (mut room_left, mut written) = (room, 0);
        let space = out.get_mut(before..).unwrap_or_default();
        let result = BrotliDecompressStream(
            &mut input_left,
            &mut input_at,
            input,
            &mut room_left,
            &mut written,
            space,
            &mut total,
            &mut state,
        );
        out.truncate(before + written);
        match result {
            BrotliResult::ResultSuccess => return End::Complete,
            BrotliResult::NeedsMoreOutput if written > 0 => {}
            _ => return End::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder =
            flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[track_caller]
    fn check(names: &str, body: &[u8], limit: usize, expected: Option<(&[u8], u64)>) {
        let header = Header::new(b"Content-Encoding", names.as_bytes());
        let codings = Codings::read(&[header]);
        let mut decoders = Decoders::new();
        // Twice: a decoder that was left in the middle of a stream must not remember it.
        for _ in 0..2 {
            let mut body = body.to_vec();
            let decoded = decoders.undo(&codings, &mut body, true, limit);
            assert_eq!(
                decoded.map(|decoded| (body.as_slice(), decoded.full_len)),
                expected
            );
            assert!(decoded.is_none_or(|decoded| !decoded.broken));
        }
    }

    #[test]
    fn every_coding_alone_and_stacked() {
        let text = b"one two three ".repeat(100);
        let whole = Some((text.as_slice(), text.len() as u64));
        let zstd = zstd::bulk::compress(&text, 3).unwrap();
        check("GZIP", &gzip(&text), 1 << 20, whole);
        check(
            "x-gzip",
            &[gzip(&text[..700]), gzip(&text[700..]), b"garbage".to_vec()].concat(),
            1 << 20,
            whole,
        );
        check("deflate", &zlib(&text), 1 << 20, whole);
        check("deflated", &zlib(&text)[2..], 1 << 20, whole);
        check("deflate", &gzip(&text), 1 << 20, whole);
        check("gzip", &zlib(&text), 1 << 20, whole);
        check("zstd", &zstd, 1 << 20, whole);
        check(
            "zstd",
            &[
                zstd::bulk::compress(&text[..9], 3).unwrap(),
                zstd::bulk::compress(&text[9..], 3).unwrap(),
            ]
            .concat(),
            1 << 20,
            whole,
        );
        check("zstd, gzip , identity", &gzip(&zstd), 1 << 20, whole);
        check("br", b"\x0b\x02\x80hello\x03", 1 << 20, Some((b"hello", 5)));
    }

    #[test]
    fn compressing_transfer_codings_are_undone_before_content_codings() {
        let text = b"one two three ".repeat(100);
        let header = |name: &'static str, value: &'static str| {
            Header::new(name.as_bytes(), value.as_bytes())
        };
        let codings = Codings::read(&[
            header("Transfer-Encoding", "gzip, Chunked"),
            header("Content-Encoding", "deflate"),
        ]);
        let mut body = gzip(&zlib(&text));
        assert!(
            Decoders::new()
                .undo(&codings, &mut body, true, 1 << 20)
                .is_some()
        );
        assert_eq!(body, text);
        for plain in ["chunked", "chunked, gzip", "xchunked", "identity"] {
            assert!(
                Codings::read(&[header("transfer-encoding", plain)]).is_identity(),
                "{plain}"
            );
        }
    }

    #[test]
    fn what_decodes_is_kept_and_what_fails_at_once_is_not() {
        let text: Vec<u8> = (0..100_000u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes())
            .collect();
        for (name, coded) in [
            ("gzip", gzip(&text)),
            ("deflate", zlib(&text)),
            ("zstd", zstd::bulk::compress(&text, 1).unwrap()),
        ] {
            let codings = Codings::read(&[Header::new(b"content-encoding", name.as_bytes())]);
            let mut body = coded[..coded.len() - 1000].to_vec();
            let decoded = Decoders::new().undo(&codings, &mut body, false, 1 << 20);
            assert!(
                decoded.is_some_and(|decoded| decoded.broken)
                    && body.len() > 1000
                    && text.starts_with(&body),
                "{name}"
            );
            check(name, b"not coded at all", 100, None);
        }
        check("br", b"\xff\xff not coded", 100, None);
        assert!(Codings::read(&[Header::new(b"content-encoding", b"gzip, sdch")]).is_unknown());
        assert!(
            Codings::read(&[Header::new(
                b"content-encoding",
                b"gzip,gzip,gzip,gzip,gzip"
            )])
            .is_unknown()
        );
        let identity = Codings::read(&[Header::new(b"content-encoding", b" Identity, ")]);
        assert!(identity.is_identity() && !identity.is_mislabelled());
    }

    #[test]
    fn a_name_that_is_no_coding_leaves_the_content_as_it_is() {
        for none in [
            "utf-8",
            "UTF8",
            "none",
            "binary",
            "application/json",
            "8bit",
            "iso-8859-1, None",
        ] {
            let codings = Codings::read(&[Header::new(b"content-encoding", none.as_bytes())]);
            assert!(codings.is_identity() && codings.is_mislabelled(), "{none}");
        }
        for listed in ["gzip, utf-8", "none, gzip"] {
            let codings = Codings::read(&[Header::new(b"content-encoding", listed.as_bytes())]);
            assert!(codings.is_mislabelled() && !codings.is_unknown());
            check(listed, &gzip(b"text"), 100, Some((b"text", 4)));
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let text = vec![b'x'; 1 << 20];
        check("gzip", &gzip(&text), 1000, Some((&text[..1000], 1 << 20)));
        check(
            "zstd",
            &zstd::bulk::compress(&text, 1).unwrap(),
            1000,
            Some((&text[..1000], 1 << 20)),
        );
        check(
            "gzip, gzip",
            &gzip(&gzip(&text)),
            1000,
            Some((&text[..1000], 1 << 20)),
        );
    }

    /// Decodes to `expected` bytes, and returns which bound cut it: the limit, or the ratio.
    #[track_caller]
    fn check_cut(names: &str, body: &[u8], limit: usize, expected: usize) -> (bool, bool) {
        let codings = Codings::read(&[Header::new(b"Content-Encoding", names.as_bytes())]);
        let mut body = body.to_vec();
        let decoded = Decoders::new().undo(&codings, &mut body, true, limit);
        let decoded = decoded.expect("it decodes");
        assert_eq!(body.len(), expected, "{names}");
        assert!(
            !decoded.broken,
            "{names}: nothing is missing that was not cut"
        );
        (decoded.limited, decoded.expanded)
    }

    #[test]
    fn a_body_is_no_more_than_a_multiple_of_what_was_sent() {
        const SMALLEST: usize = CODED_BYTES_MIN * CODING_RATIO_MAX;
        let zeros = vec![0; 1 << 20];
        let zstd = zstd::bulk::compress(&zeros, 19).unwrap();
        let nested = zlib(&zlib(&gzip(&zeros)));
        assert!(nested.len() < CODED_BYTES_MIN && zstd.len() < CODED_BYTES_MIN);
        let cut = (false, true);
        assert_eq!(check_cut("zstd", &zstd, 1 << 20, SMALLEST), cut);
        assert_eq!(
            check_cut("gzip, deflate, deflate", &nested, 1 << 20, SMALLEST),
            cut
        );
        let single = gzip(&zeros);
        assert_eq!(
            check_cut("gzip", &single, 1 << 20, single.len() * CODING_RATIO_MAX),
            cut
        );
        // The limit is the smaller bound.
        assert_eq!(check_cut("zstd", &zstd, 1000, 1000), (true, false));
        // What ends within the part of its wrapper that was kept is whole.
        let noise =
            (0..1 << 19).flat_map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes());
        let inner = [zlib(&zeros), noise.collect()].concat();
        assert_eq!(
            check_cut("deflate, gzip", &gzip(&inner), 1 << 20, 1 << 20),
            (false, false)
        );
        // Neither a list that repeats itself nor a short text is cut.
        let list = b"{\"id\":0,\"name\":\"\",\"tags\":[]},".repeat(3000);
        assert_eq!(
            check_cut("deflate", &zlib(&list), 1 << 20, list.len()),
            (false, false)
        );
    }

    #[test]
    fn what_has_the_length_of_the_limit_is_not_cut() {
        let text = b"one two three ".repeat(100);
        let brotli = |text: &[u8]| {
            let mut stream = Vec::new();
            // One uncompressed meta-block, and an empty last one (RFC 7932, section 9.2).
            let bits = ((text.len() - 1) as u32) << 4 | 1 << 20;
            stream.extend_from_slice(&bits.to_le_bytes()[..3]);
            stream.extend_from_slice(text);
            stream.push(3);
            stream
        };
        for (name, coded) in [
            ("gzip", gzip(&text)),
            ("deflate", zlib(&text)),
            ("zstd", zstd::bulk::compress(&text, 3).unwrap()),
            ("br", brotli(&text)),
        ] {
            for (limit, limited) in [
                (text.len() - 1, true),
                (text.len(), false),
                (text.len() + 1, false),
            ] {
                let expected = limit.min(text.len());
                assert_eq!(
                    check_cut(name, &coded, limit, expected),
                    (limited, false),
                    "{name} {limit}"
                );
            }
        }
    }
}
