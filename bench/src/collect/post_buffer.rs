//! A buffer for received POSTs, which are checked after the traffic, so that checks take no CPU during a measurement.
//!
//! The head and body of a POST are read from the socket straight to their final place, in memory that was touched
//! before, so that a measurement sees no page faults and no copies; the answer is 204. A POST that does not fit is
//! answered with 507 and counted. Only POSTs of HTTP/1.1 with a `Content-Length` are handled here; any other connection
//! goes back to the caller, with the bytes that were read from it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Memory is allocated in chunks of this size; a longer POST does not fit.
const CHUNK_BYTES: usize = 64 << 20;
/// The most bytes of a head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most header fields of a POST.
const HEADERS_MAX: usize = 32;
const STORED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const FULL: &[u8] =
    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// One POST in the buffer.
#[derive(Clone, Debug)]
pub(super) struct StoredPost {
    chunk: usize,
    head: Range<usize>,
    body: Range<usize>,
    /// When the last byte was read.
    pub(super) arrived: SystemTime,
}

/// The buffer, shared by the connections that fill it and the collector that checks it. Several collectors can use it
/// one after the other, so that its memory is allocated only once.
#[derive(Clone, Debug)]
pub struct PostBuffer(Arc<Mutex<Contents>>);

/// The memory of a [`PostBuffer`], and the POSTs in it.
#[derive(Debug)]
pub(super) struct Contents {
    chunks: Vec<Vec<u8>>,
    chunks_max: usize,
    /// Index of the chunk that is being filled.
    chunk: usize,
    /// Bytes used in that chunk.
    filled: usize,
    posts: Vec<StoredPost>,
    refused: u64,
}

impl PostBuffer {
    /// A buffer of `bytes_max` bytes at most; no memory is allocated yet.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Contents {
            chunks: Vec::new(),
            chunks_max: bytes_max / CHUNK_BYTES,
            chunk: 0,
            filled: 0,
            posts: Vec::new(),
            refused: 0,
        })))
    }

    /// Allocates memory for `bytes` bytes and touches it. Returns whether they fit.
    pub fn allocate(&self, bytes: usize) -> bool {
        let mut contents = self.contents();
        let chunks = bytes.div_ceil(CHUNK_BYTES);
        while contents.chunks.len() < chunks.min(contents.chunks_max) {
            contents.add_chunk();
        }
        chunks <= contents.chunks_max
    }

    /// Its capacity in bytes.
    pub fn bytes_max(&self) -> usize {
        self.contents().chunks_max * CHUNK_BYTES
    }

    pub(super) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

impl Contents {
    fn add_chunk(&mut self) {
        // Ones, since the kernel maps zeroed memory only when it is touched.
        self.chunks.push(vec![1; CHUNK_BYTES]);
    }

    /// Reserves memory for a POST: chunk and offset, or none if the buffer is full.
    fn reserve(&mut self, bytes: usize) -> Option<(usize, usize)> {
        if bytes > CHUNK_BYTES {
            return None;
        }
        if self.filled + bytes > CHUNK_BYTES {
            (self.chunk, self.filled) = (self.chunk + 1, 0);
        }
        if self.chunk == self.chunks.len() {
            if self.chunk == self.chunks_max {
                return None;
            }
            self.add_chunk();
        }
        let start = self.filled;
        self.filled += bytes;
        Some((self.chunk, start))
    }

    /// The POSTs, in the order in which they were completed.
    pub(super) fn posts(&self) -> &[StoredPost] {
        &self.posts
    }

    /// Head and body of a stored POST.
    pub(super) fn bytes(&self, post: &StoredPost) -> (&[u8], &[u8]) {
        let chunk = &self.chunks[post.chunk];
        (&chunk[post.head.clone()], &chunk[post.body.clone()])
    }

    /// Removes all POSTs and keeps the memory; returns how many were refused since the last call.
    pub(super) fn clear(&mut self) -> u64 {
        self.posts.clear();
        (self.chunk, self.filled) = (0, 0);
        std::mem::take(&mut self.refused)
    }
}

/// How the handling of a connection ended.
pub(super) enum Served {
    /// The connection is closed.
    Closed,
    /// The caller must continue with the connection; these bytes were read already.
    Unsupported(TcpStream, Vec<u8>),
}

/// Stores the POSTs of a connection for as long as `may_store` holds. Calls `arrived` for each POST before it is
/// answered, so that a client that has the answer finds it counted.
pub(super) async fn serve(
    mut stream: TcpStream,
    buffer: &PostBuffer,
    may_store: impl Fn() -> bool,
    arrived: impl Fn(),
) -> io::Result<Served> {
    let mut start = Vec::with_capacity(HEAD_BYTES_MAX);
    loop {
        let (head, body) = match lengths(&start) {
            // A change of behaviour applies to whole POSTs only.
            _ if !may_store() => return Ok(Served::Unsupported(stream, start)),
            Start::Other => return Ok(Served::Unsupported(stream, start)),
            Start::Partial => {
                if stream.read_buf(&mut start).await? == 0 {
                    return Ok(Served::Closed);
                }
                continue;
            }
            Start::Post { head, body } => (head, body),
        };
        let reserved = buffer.contents().reserve(head + body);
        let Some((chunk, at)) = reserved else {
            buffer.contents().refused += 1;
            arrived();
            stream.write_all(FULL).await?;
            return Ok(Served::Closed);
        };
        let mut read = start.len().min(head + body);
        buffer.contents().chunks[chunk][at..at + read].copy_from_slice(&start[..read]);
        // The rest is the start of the next POST.
        start.drain(..read);
        while read < head + body {
            stream.readable().await?;
            let more = {
                // The lock is free during the traffic; each read takes all bytes that have arrived.
                let mut contents = buffer.contents();
                stream.try_read(&mut contents.chunks[chunk][at + read..at + head + body])
            };
            match more {
                Ok(0) => return Ok(Served::Closed),
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        buffer.contents().posts.push(StoredPost {
            chunk,
            head: at..at + head,
            body: at + head..at + head + body,
            arrived: SystemTime::now(),
        });
        arrived();
        stream.write_all(STORED).await?;
    }
}

/// What a connection sends next.
enum Start {
    /// A head that is not complete yet.
    Partial,
    /// Anything else, or malformed bytes.
    Other,
    /// A POST, with the bytes of its head, including the empty line, and of its body.
    Post { head: usize, body: usize },
}

fn lengths(bytes: &[u8]) -> Start {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Start::Partial,
        _ => return Start::Other,
    };
    if (request.method, request.version) != (Some("POST"), Some(1)) {
        return Start::Other;
    }
    let mut body = None;
    for header in request.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let text = std::str::from_utf8(header.value).ok();
            // hyper decides about repeated lengths.
            match text.and_then(|text| text.parse().ok()) {
                Some(bytes) if body.is_none() => body = Some(bytes),
                _ => return Start::Other,
            }
        } else if ["transfer-encoding", "expect", "connection", "upgrade"]
            .into_iter()
            .any(is)
        {
            return Start::Other;
        }
    }
    body.map_or(Start::Other, |body| Start::Post { head, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, expected: &str) {
        let found = match lengths(head.replace('\n', "\r\n").as_bytes()) {
            Start::Partial => "partial".to_owned(),
            Start::Other => "other".to_owned(),
            Start::Post { body, .. } => body.to_string(),
        };
        assert_eq!(found, expected, "{head}");
    }

    #[test]
    fn only_posts_with_a_length_are_stored() {
        check(
            "POST /message HTTP/1.1\nHost: x\ncontent-LENGTH: 7\n\n",
            "7",
        );
        check("POST /message HTTP/1.1\nContent-Length: 7\n", "partial");
        check("POST /message HTTP/1.1\nHost: x\n\n", "other");
        check("GET / HTTP/1.1\nContent-Length: 7\n\n", "other");
        check("POST / HTTP/1.0\nContent-Length: 7\n\n", "other");
        check(
            "POST / HTTP/1.1\nContent-Length: 7\nContent-Length: 8\n\n",
            "other",
        );
        check("POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n", "other");
        check(
            "POST / HTTP/1.1\nExpect: 100-continue\nContent-Length: 7\n\n",
            "other",
        );
        check("\0", "other");
    }

    #[test]
    fn a_post_lies_within_one_chunk_and_the_last_chunk_is_the_end() {
        let buffer = PostBuffer::new(2 * CHUNK_BYTES + 5);
        assert!(!buffer.allocate(3 * CHUNK_BYTES));
        assert_eq!(buffer.bytes_max(), 2 * CHUNK_BYTES);
        let mut contents = buffer.contents();
        let most = CHUNK_BYTES - 10;
        assert_eq!(contents.reserve(most), Some((0, 0)));
        assert_eq!(contents.reserve(10), Some((0, most)));
        assert_eq!(contents.reserve(most), Some((1, 0)));
        assert_eq!(contents.reserve(11), None);
        assert_eq!(contents.reserve(CHUNK_BYTES + 1), None);
        contents.clear();
        assert_eq!(contents.reserve(11), Some((0, 0)));
    }
}
