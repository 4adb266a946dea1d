//! Delegates: each does one fixed thing for a capture that has confined itself and may no longer do it.
//!
//! One looks up the name in the capture URL, which takes datagrams to name servers and the C library's own files. One reads
//! the file of the rules again, which takes its folder, since an editor or a mount replaces the file; another one does so for
//! certificates and keys. One connects to the Unix socket in the capture URL. What a delegate does is set by its command line,
//! before the capture has read any packet: an attacker who has taken over the capture can only have the same name looked up,
//! the same files read again, and the same socket connected to. A delegate has no capability and a sandbox of its own, and
//! ends when its input does.
//!
//! The capture writes a byte, whatever its value. The answer is `+` or `-`, a length of four bytes, the higher first, and
//! that many bytes: what was found, or four bytes with the number of the system's error, 0 if it is none, and its text.
//! Several files are their lengths and contents, one behind the other. A connected socket comes over the input, which is a
//! socket then, before the answer.

mod client;
mod server;

pub use client::Delegate;
pub use server::command;

use std::io;

/// The first byte of an answer.
const FOUND: u8 = b'+';
const FAILED: u8 = b'-';

/// An answer as it is sent.
fn encode(answer: io::Result<Vec<u8>>) -> Vec<u8> {
    let (kind, bytes) = match answer {
        Ok(bytes) => (FOUND, bytes),
        Err(error) => {
            let mut bytes = error.raw_os_error().unwrap_or(0).to_be_bytes().to_vec();
            bytes.extend(error.to_string().as_bytes());
            (FAILED, bytes)
        }
    };
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut encoded = vec![kind];
    encoded.extend(length.to_be_bytes());
    encoded.extend(bytes);
    encoded
}

/// Several contents as one: the length of each, of four bytes, before it.
fn join(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for content in contents {
        joined.extend(
            u32::try_from(content.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        joined.extend(content);
    }
    joined
}

/// The contents that [`join`] made one.
fn split(mut joined: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut contents = Vec::new();
    while let Some((length, rest)) = joined.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let (content, rest) = rest
            .split_at_checked(length)
            .ok_or(io::ErrorKind::InvalidData)?;
        contents.push(content.to_owned());
        joined = rest;
    }
    Ok(contents)
}

/// The next answer of `from`.
fn decode(from: &mut impl io::Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    if kind == FOUND {
        return Ok(bytes);
    }
    let (number, text) = bytes.split_at_checked(4).unwrap_or_default();
    Err(match number.try_into().map(i32::from_be_bytes) {
        Ok(number @ 1..) => io::Error::from_raw_os_error(number),
        _ => io::Error::other(String::from_utf8_lossy(text).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let through = |answer, most| decode(&mut encode(answer).as_slice(), most);
        assert_eq!(through(Ok(b"text".to_vec()), 4).unwrap(), b"text");
        let too_long = through(Ok(b"text".to_vec()), 3).unwrap_err();
        assert_eq!(too_long.kind(), io::ErrorKind::InvalidData);
        let missing = through(Err(io::Error::from_raw_os_error(libc::ENOENT)), 99).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        let other = through(Err(io::Error::other("no such name")), 99).unwrap_err();
        assert_eq!(other.to_string(), "no such name");
        let contents = vec![b"a".to_vec(), Vec::new(), b"bc".to_vec()];
        assert_eq!(split(&join(&contents)).unwrap(), contents);
        assert!(split(&[0, 0, 0, 9, 1]).is_err());
        assert!(decode(&mut [FOUND, 0, 0, 0, 9].as_slice(), 99).is_err());
        assert!(decode(&mut [FAILED, 0, 0, 0, 1, 7].as_slice(), 99).is_err());
    }
}
