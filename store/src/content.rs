//! The content coding of one POST, undone.
//!
//! The reference loggers write `deflated` and mean zlib (RFC 1950; `docs/contract.md`, section 2). `deflate`, `gzip` and no
//! coding are accepted too, and under the first two names also a bare deflate stream (RFC 1951). The output is bounded, whatever
//! the input claims.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Why a body cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// `Content-Encoding` names a coding that is not supported.
    Unknown,
    /// The bytes are not of the coding, or end early.
    Broken,
    /// The plain bytes are more than allowed.
    TooLarge,
}

/// Plain bytes of `body`, at most `bytes_max` of them.
///
/// # Errors
/// There are more, or the body is not of its coding.
pub fn decode(coding: &str, body: Bytes, bytes_max: usize) -> Result<Bytes, Error> {
    match coding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" if body.len() > bytes_max => Err(Error::TooLarge),
        "" | "identity" => Ok(body),
        "deflated" | "deflate" if is_zlib(&body) => read(ZlibDecoder::new(&*body), bytes_max),
        "deflated" | "deflate" => read(DeflateDecoder::new(&*body), bytes_max),
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(&*body), bytes_max),
        _ => Err(Error::Unknown),
    }
}

/// Bytes that a body of so many bytes may become at most: deflate makes 258 of two bits.
pub fn decoded_bytes_max(coding: &str, bytes: usize) -> usize {
    match coding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => bytes,
        _ => bytes.saturating_mul(1032),
    }
}

/// RFC 1950 section 2.2: method 8 and a header that is a multiple of 31. One of some hundred bare deflate streams looks the
/// same, and only if it starts with a stored or fixed block of an unusual kind.
fn is_zlib(body: &[u8]) -> bool {
    let Some(&[cmf, flg]) = body.first_chunk() else {
        return false;
    };
    cmf & 0x0f == 8 && u16::from_be_bytes([cmf, flg]).is_multiple_of(31)
}

/// The plain bytes. Room for them grows by half, so that there is not much more of it than bytes.
fn read(mut decoder: impl Read, bytes_max: usize) -> Result<Bytes, Error> {
    let mut plain: Vec<u8> = Vec::new();
    let mut length = 0;
    loop {
        if length == plain.len() {
            if length > bytes_max {
                return Err(Error::TooLarge);
            }
            // One byte more than allowed distinguishes "exactly full" from "too large".
            let next = (length + length / 2).max(ROOM_MIN).min(bytes_max + 1);
            plain.reserve_exact(next - length);
            plain.resize(next, 0);
        }
        match decoder.read(&mut plain[length..]) {
            Ok(0) => break,
            Ok(bytes) => length += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Error::Broken),
        }
    }
    plain.truncate(length);
    plain.shrink_to_fit();
    Ok(plain.into())
}

/// Room for plain bytes in the beginning.
const ROOM_MIN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = b"[[\"request_method\",\"GET\"]]\n";

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    #[track_caller]
    fn check(coding: &str, body: &[u8], expected: Result<&[u8], Error>) {
        let plain = decode(coding, Bytes::copy_from_slice(body), TEXT.len());
        assert_eq!(plain.as_deref(), expected.as_ref().copied());
    }

    #[test]
    fn every_coding() {
        check("", TEXT, Ok(TEXT));
        check("identity", TEXT, Ok(TEXT));
        check("deflated", &zlib(TEXT), Ok(TEXT));
        check(" Deflate ", &zlib(TEXT), Ok(TEXT));
        check("deflate", &deflate(TEXT), Ok(TEXT));
        check("gzip", &gzip(TEXT), Ok(TEXT));
        check(
            "gzip",
            &[gzip(&TEXT[..5]), gzip(&TEXT[5..])].concat(),
            Ok(TEXT),
        );
    }

    #[test]
    fn bodies_of_any_length_come_back_and_are_bounded_exactly() {
        for length in [0, 1, ROOM_MIN - 1, ROOM_MIN, ROOM_MIN + 1, 3 * ROOM_MIN + 7] {
            let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let body = Bytes::from(zlib(&text));
            assert!(decoded_bytes_max("deflate", body.len()) >= length);
            let decoded = decode("deflate", body.clone(), length);
            assert_eq!(decoded.as_deref(), Ok(&text[..]), "{length}");
            if length > 0 {
                assert_eq!(decode("deflate", body, length - 1), Err(Error::TooLarge));
            }
        }
    }

    #[test]
    fn faults() {
        check("br", TEXT, Err(Error::Unknown));
        check("gzip, deflate", TEXT, Err(Error::Unknown));
        check("gzip", TEXT, Err(Error::Broken));
        check("deflated", &zlib(TEXT)[..12], Err(Error::Broken));
        check("deflated", b"", Err(Error::Broken));
        check("", &[b'x'; 100], Err(Error::TooLarge));
        check("deflated", &zlib(&[b'x'; 1 << 20]), Err(Error::TooLarge));
        check("gzip", &gzip(&[b'x'; 1 << 20]), Err(Error::TooLarge));
    }
}
