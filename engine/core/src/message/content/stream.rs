//! Content codings that are undone as the bytes of a body come.
//!
//! A collected body is decoded at its end ([`Decoders`](super::Decoders)). One that is a stream of messages, or of which the end
//! is kept behind its limit, is decoded here instead, so that the time of each message is known and nothing has to be collected.
//! The bounds are the same: [`CODING_RATIO_MAX`] for what comes out, and the memory of open exchanges for what the decoders
//! hold ([`StreamDecoder::memory`]), of which a window counts as far as it is filled.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{Coding, Codings, inner_coding, is_zlib};
use crate::limits::{
    CODED_BYTES_MIN, CODING_RATIO_MAX, CODINGS_MAX, DECODER_STATE_BYTES, INFLATE_STATE_BYTES,
    INFLATE_WINDOW_BYTES, ZSTD_WINDOW_LOG_MAX,
};

/// Bytes that one decoder writes at once.
const PIECE_BYTES: usize = 4096;

/// Bytes by which a decoder is chosen: the longest mark at the start of a coding.
const MARK_BYTES: usize = 3;

/// Log2 of the window of deflate.
const WINDOW_BITS: u8 = 15;

/// Undoes the codings of one body.
#[derive(Debug)]
pub(in crate::message) struct StreamDecoder {
    /// In the order in which they are undone.
    stages: Vec<Stage>,
    /// Bytes received.
    taken: u64,
    /// Bytes of the body without codings.
    made: u64,
    end: Option<Stop>,
}

/// Why a decoder stopped before the end of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::message) enum Stop {
    /// The input is wrong, or something of it is missing.
    Broken,
    /// More came out than [`CODING_RATIO_MAX`] allows.
    Expanded,
    /// There was no memory for it.
    Memory,
}

/// One coding.
#[derive(Debug)]
struct Stage {
    label: Coding,
    /// The first bytes, until they show which decoder it takes.
    mark: Vec<u8>,
    decoder: Option<Decoder>,
    made: u64,
    /// The coded stream has ended with its own mark.
    is_complete: bool,
}

/// A decoder of one coding.
enum Decoder {
    /// RFC 1950 or 1951, or RFC 1952 with any number of members.
    Inflate {
        inflate: Decompress,
        is_gzip: bool,
    },
    Zstd(DCtx<'static>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inflate { .. } => "Inflate",
            Self::Zstd(_) => "Zstd",
            Self::Brotli(_) => "Brotli",
        })
    }
}

/// What the decoders of one shard write to.
#[derive(Debug, Default)]
pub(in crate::message) struct Space(Vec<u8>);

impl Space {
    fn of_stages(&mut self, stages: usize) -> &mut [u8] {
        let bytes = stages * PIECE_BYTES;
        if self.0.len() < bytes {
            self.0.resize(bytes, 0);
        }
        &mut self.0
    }
}

impl StreamDecoder {
    /// None if there is nothing to undo, or a coding is not supported.
    pub(in crate::message) fn new(codings: &Codings) -> Option<Self> {
        if codings.is_identity() || codings.is_unknown() {
            return None;
        }
        let labels = codings.list.iter().flatten().rev();
        Some(Self {
            stages: labels.map(|label| Stage::new(*label)).collect(),
            taken: 0,
            made: 0,
            end: None,
        })
    }

    /// Memory that it holds.
    pub(in crate::message) fn memory(&self) -> usize {
        let stages = self.stages.iter().map(Stage::memory);
        size_of::<Self>() + stages.sum::<usize>()
    }

    /// Undoes the codings of the next bytes, and passes what they hold to `sink` in pieces. Nothing comes after a stop.
    pub(in crate::message) fn feed(
        &mut self,
        bytes: &[u8],
        space: &mut Space,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), Stop> {
        if self.end.is_some() || bytes.is_empty() {
            return Ok(());
        }
        self.taken += bytes.len() as u64;
        let most = self.taken.max(CODED_BYTES_MIN as u64) * CODING_RATIO_MAX as u64;
        let space = space.of_stages(self.stages.len());
        let made = &mut self.made;
        let result = run(&mut self.stages, bytes, most, space, &mut |piece| {
            *made += piece.len() as u64;
            sink(piece);
        });
        if let Err(stop) = result {
            self.stop(stop);
        }
        result
    }

    /// Frees its memory: nothing more is decoded.
    pub(in crate::message) fn stop(&mut self, stop: Stop) {
        self.end.get_or_insert(stop);
        self.stages = Vec::new();
    }

    /// Whether it has stopped.
    pub(in crate::message) fn is_stopped(&self) -> bool {
        self.end.is_some()
    }

    /// Whether nothing was ever decoded of what was received.
    pub(in crate::message) fn has_failed(&self) -> bool {
        self.taken > 0 && self.made == 0 && !self.is_complete()
    }

    /// Whether something is missing at the end, and not because of a bound.
    pub(in crate::message) fn is_cut(&self) -> bool {
        self.taken > 0 && !self.is_complete() && self.end != Some(Stop::Expanded)
    }

    /// Whether the coded body has ended with its own mark.
    pub(in crate::message) fn is_complete(&self) -> bool {
        self.end.is_none() && self.stages.iter().all(|stage| stage.is_complete)
    }
}

/// Passes bytes through the stages, the first of them first.
fn run(
    stages: &mut [Stage],
    bytes: &[u8],
    most: u64,
    space: &mut [u8],
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), Stop> {
    let Some((stage, later)) = stages.split_first_mut() else {
        sink(bytes);
        return Ok(());
    };
    let Some((own, space)) = space.split_at_mut_checked(PIECE_BYTES) else {
        return Err(Stop::Broken);
    };
    stage.feed(bytes, most, own, &mut |piece| {
        run(later, piece, most, space, sink)
    })
}

impl Stage {
    fn new(label: Coding) -> Self {
        Self {
            label,
            mark: Vec::new(),
            decoder: None,
            made: 0,
            is_complete: false,
        }
    }

    fn memory(&self) -> usize {
        let filled = usize::try_from(self.made).unwrap_or(usize::MAX);
        let decoder = match &self.decoder {
            None => 0,
            Some(Decoder::Inflate { .. }) => INFLATE_STATE_BYTES + INFLATE_WINDOW_BYTES,
            Some(Decoder::Zstd(context)) => context
                .sizeof()
                .min(DECODER_STATE_BYTES.saturating_add(filled)),
            Some(Decoder::Brotli(state)) => {
                let window = 1_usize.checked_shl(state.window_bits).unwrap_or(usize::MAX);
                DECODER_STATE_BYTES.saturating_add(window.min(filled))
            }
        };
        size_of::<Self>() + decoder
    }

    fn feed(
        &mut self,
        bytes: &[u8],
        most: u64,
        space: &mut [u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if self.decoder.is_some() {
            return self.decode(bytes, most, space, sink);
        }
        let wanted = MARK_BYTES.saturating_sub(self.mark.len()).min(bytes.len());
        let (mark, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
        self.mark.extend_from_slice(mark);
        if self.mark.len() < MARK_BYTES {
            return Ok(());
        }
        let mark = std::mem::take(&mut self.mark);
        self.decoder = Some(Decoder::of(inner_coding(self.label, &mark), &mark)?);
        self.decode(&mark, most, space, sink)?;
        self.decode(rest, most, space, sink)
    }

    fn decode(
        &mut self,
        mut rest: &[u8],
        most: u64,
        space: &mut [u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        let mut is_full = false;
        while !rest.is_empty() || is_full {
            if self.is_complete && (rest.is_empty() || !decoder.begin_anew(rest)) {
                // Garbage behind the last member was never part of the content.
                return Ok(());
            }
            let step = decoder.step(rest, space)?;
            rest = rest.get(step.taken..).unwrap_or_default();
            let piece = space.get(..step.made).unwrap_or_default();
            self.made += piece.len() as u64;
            let excess = self.made.saturating_sub(most);
            let excess = usize::try_from(excess).unwrap_or(usize::MAX);
            let fits = piece.len().saturating_sub(excess);
            if let Some(piece) = piece.get(..fits).filter(|piece| !piece.is_empty()) {
                sink(piece)?;
            }
            if excess > 0 {
                return Err(Stop::Expanded);
            }
            self.is_complete = step.is_complete;
            is_full = step.made == space.len();
            if step.taken == 0 && step.made == 0 && !step.is_complete {
                return if rest.is_empty() {
                    Ok(())
                } else {
                    Err(Stop::Broken)
                };
            }
        }
        Ok(())
    }
}

/// What one call of a decoder did.
struct Step {
    taken: usize,
    made: usize,
    is_complete: bool,
}

impl Decoder {
    fn of(coding: Coding, mark: &[u8]) -> Result<Self, Stop> {
        Ok(match coding {
            Coding::Gzip => Self::Inflate {
                inflate: Decompress::new_gzip(WINDOW_BITS),
                is_gzip: true,
            },
            Coding::Deflate => Self::Inflate {
                inflate: Decompress::new(is_zlib(mark)),
                is_gzip: false,
            },
            Coding::Zstd => {
                let mut context = DCtx::try_create().ok_or(Stop::Memory)?;
                let bound = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                context.set_parameter(bound).map_err(|_| Stop::Broken)?;
                Self::Zstd(context)
            }
            Coding::Brotli => Self::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
        })
    }

    /// Whether a further member begins behind one that is complete.
    fn begin_anew(&mut self, rest: &[u8]) -> bool {
        match self {
            Self::Inflate { inflate, is_gzip } => {
                let is_member = *is_gzip && rest.first() == Some(&0x1f);
                if is_member {
                    *inflate = Decompress::new_gzip(WINDOW_BITS);
                }
                is_member
            }
            Self::Zstd(_) => true,
            Self::Brotli(_) => false,
        }
    }

    fn step(&mut self, input: &[u8], space: &mut [u8]) -> Result<Step, Stop> {
        match self {
            Self::Inflate { inflate, .. } => {
                let (taken, made) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, space, FlushDecompress::Sync);
                let bytes = |count: u64| usize::try_from(count).map_err(|_| Stop::Broken);
                let step = Step {
                    taken: bytes(inflate.total_in() - taken)?,
                    made: bytes(inflate.total_out() - made)?,
                    is_complete: matches!(status, Ok(Status::StreamEnd)),
                };
                match status {
                    Err(_) if step.made == 0 => Err(Stop::Broken),
                    _ => Ok(step),
                }
            }
            Self::Zstd(context) => {
                let (mut input, mut output) = (InBuffer::around(input), OutBuffer::around(space));
                let hint = context.decompress_stream(&mut output, &mut input);
                let hint = hint.map_err(|_| Stop::Broken)?;
                Ok(Step {
                    taken: input.pos(),
                    made: output.pos(),
                    is_complete: hint == 0,
                })
            }
            Self::Brotli(state) => {
                let (mut input_left, mut taken, mut total) = (input.len(), 0, 0);
                let (mut room_left, mut made) = (space.len(), 0);
                let result = BrotliDecompressStream(
                    &mut input_left,
                    &mut taken,
                    input,
                    &mut room_left,
                    &mut made,
                    space,
                    &mut total,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure if made == 0 => Err(Stop::Broken),
                    result => Ok(Step {
                        taken,
                        made,
                        is_complete: matches!(result, BrotliResult::ResultSuccess),
                    }),
                }
            }
        }
    }
}

const _: () = assert!(CODINGS_MAX * PIECE_BYTES <= 1 << 16);

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::http::Header;

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

    fn brotli(text: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        let params = brotli::enc::BrotliEncoderParams {
            quality: 2,
            ..Default::default()
        };
        brotli::BrotliCompress(&mut &text[..], &mut coded, &params).unwrap();
        coded
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(text, 3).unwrap()
    }

    /// What comes out of slices of `length` bytes, and whether that is all.
    fn decoded(names: &str, coded: &[u8], length: usize) -> (Vec<u8>, Result<bool, Stop>) {
        let codings = Codings::read(&[Header::new(b"Content-Encoding", names.as_bytes())]);
        let mut decoder = StreamDecoder::new(&codings).expect("a coding");
        let (mut space, mut out) = (Space::default(), Vec::new());
        for slice in coded.chunks(length) {
            let result = decoder.feed(slice, &mut space, |piece| out.extend_from_slice(piece));
            if let Err(stop) = result {
                return (out, Err(stop));
            }
        }
        let is_complete = decoder.is_complete();
        (out, Ok(is_complete))
    }

    fn every_coding(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let (first, second) = text.split_at(text.len() / 3);
        vec![
            ("gzip", gzip(text)),
            (
                "gzip",
                [gzip(first), gzip(second), b"garbage".to_vec()].concat(),
            ),
            ("deflate", zlib(text)),
            ("deflate", zlib(text)[2..].to_vec()),
            ("deflate", gzip(text)),
            ("gzip", zlib(text)),
            ("zstd", zstd(text)),
            ("zstd", [zstd(first), zstd(second)].concat()),
            ("br", brotli(text)),
            ("br, zstd, gzip", gzip(&zstd(&brotli(text)))),
        ]
    }

    #[test]
    fn any_slices_give_the_whole() {
        let text: Vec<u8> = (0..900_u32)
            .flat_map(|n| format!("data: {}\n\n", n.wrapping_mul(2_654_435_761) >> 20).into_bytes())
            .collect();
        for (names, coded) in every_coding(&text) {
            for length in [1, 2, 3, 1000, usize::MAX] {
                let (out, end) = decoded(names, &coded, length);
                assert!(out == text, "{names} in slices of {length}");
                assert_eq!(end, Ok(true), "{names} in slices of {length}");
            }
        }
    }

    #[test]
    fn what_ends_early_or_breaks_is_kept_up_to_there() {
        let text: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes())
            .collect();
        for (names, coded) in every_coding(&text) {
            let (out, end) = decoded(names, &coded[..coded.len() / 2], 100);
            assert!(text.starts_with(&out) && out.len() > 1000, "{names}");
            assert_eq!(end, Ok(false), "{names}");
        }
        for names in ["gzip", "deflate", "br", "zstd"] {
            for length in [1, usize::MAX] {
                let (out, end) = decoded(names, b"\xff\xff not coded at all", length);
                assert_eq!((out.len(), end), (0, Err(Stop::Broken)), "{names}");
            }
        }
    }

    #[test]
    fn bombs_stop_at_the_ratio_and_hold_little() {
        let zeros = vec![0; 1 << 20];
        for (names, coded) in every_coding(&zeros) {
            let most = coded.len().max(CODED_BYTES_MIN) * CODING_RATIO_MAX;
            let (out, end) = decoded(names, &coded, usize::MAX);
            if most < zeros.len() {
                assert_eq!(end, Err(Stop::Expanded), "{names}");
                assert!(out.len() <= most, "{names}: {}", out.len());
            }
        }
        let codings = Codings::read(&[Header::new(b"content-encoding", b"br,zstd,gzip")]);
        let mut decoder = StreamDecoder::new(&codings).unwrap();
        let coded = gzip(&zstd(&brotli(&zeros)));
        let _ = decoder.feed(&coded, &mut Space::default(), |_| {});
        assert!(decoder.memory() < 1 << 10, "freed: {}", decoder.memory());
    }

    #[test]
    fn memory_is_the_window_as_far_as_it_is_filled() {
        for (name, most) in [("gzip", 100 << 10), ("br", 9 << 20), ("zstd", 9 << 20)] {
            let noise: Vec<u8> = (0..1 << 16_u32)
                .flat_map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes())
                .collect();
            let coded = match name {
                "gzip" => gzip(&noise),
                "br" => brotli(&noise),
                _ => zstd(&noise),
            };
            let codings = Codings::read(&[Header::new(b"content-encoding", name.as_bytes())]);
            let mut decoder = StreamDecoder::new(&codings).unwrap();
            let mut space = Space::default();
            decoder.feed(&coded[..2000], &mut space, |_| {}).unwrap();
            let at_first = decoder.memory();
            assert!(
                at_first < DECODER_STATE_BYTES + (64 << 10),
                "{name}: {at_first}"
            );
            decoder.feed(&coded[2000..], &mut space, |_| {}).unwrap();
            let at_last = decoder.memory();
            assert!(at_last <= most, "{name}: {at_last}");
        }
    }
}
