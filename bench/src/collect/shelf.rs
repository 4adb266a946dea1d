//! POSTs as they came, kept until the traffic is over: receiving costs what is measured as little as it can.
//!
//! In: connections of the [collector](super). Head and body of a POST go from the socket straight to where they stay,
//! in memory that was touched before, so that no page has to be found and no piece joined while somebody measures; the
//! answer is 204. Refused: what does not fit into the shelf any more, with 507, and counted. Not for us: anything but a
//! POST of HTTP/1.1 with a length; the caller gets such a connection back, with what was read of it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Memory is taken in pieces of this size; a longer POST does not fit.
const CHUNK_BYTES: usize = 64 << 20;
/// The longest head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a POST at most.
const HEADERS_MAX: usize = 32;
const KEPT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const FULL: &[u8] =
    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// One POST on the shelf.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    chunk: usize,
    head: Range<usize>,
    body: Range<usize>,
    /// When its last byte was read.
    pub(super) arrived: SystemTime,
}

/// A place for POSTs, shared by those who put them there and the one who checks them. It can serve one collector after
/// the other: memory is taken once.
#[derive(Clone, Debug)]
pub struct Shelf(Arc<Mutex<Places>>);

/// What is on a [`Shelf`].
#[derive(Debug)]
pub(super) struct Places {
    chunks: Vec<Vec<u8>>,
    chunks_max: usize,
    /// The chunk that is being filled, and how far.
    chunk: usize,
    filled: usize,
    posts: Vec<Kept>,
    refused: u64,
}

impl Shelf {
    /// For so many bytes at most, none of which are taken yet.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Places {
            chunks: Vec::new(),
            chunks_max: bytes_max / CHUNK_BYTES,
            chunk: 0,
            filled: 0,
            posts: Vec::new(),
            refused: 0,
        })))
    }

    /// Takes memory for so many bytes, and touches it. Whether they fit.
    pub fn make_ready(&self, bytes: usize) -> bool {
        let mut places = self.places();
        let chunks = bytes.div_ceil(CHUNK_BYTES);
        while places.chunks.len() < chunks.min(places.chunks_max) {
            places.add_chunk();
        }
        chunks <= places.chunks_max
    }

    /// Bytes that it takes at most.
    pub fn bytes_max(&self) -> usize {
        self.places().chunks_max * CHUNK_BYTES
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

impl Places {
    fn add_chunk(&mut self) {
        // Ones, since zeroed memory would be that of a page that nobody has touched.
        self.chunks.push(vec![1; CHUNK_BYTES]);
    }

    /// Room for a POST, if there is any.
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

    /// POSTs in the order in which they were complete.
    pub(super) fn posts(&self) -> &[Kept] {
        &self.posts
    }

    /// Head and body.
    pub(super) fn bytes(&self, post: &Kept) -> (&[u8], &[u8]) {
        let chunk = &self.chunks[post.chunk];
        (&chunk[post.head.clone()], &chunk[post.body.clone()])
    }

    /// Forgets all POSTs and keeps the memory; returns how many were refused since the last time.
    pub(super) fn clear(&mut self) -> u64 {
        self.posts.clear();
        (self.chunk, self.filled) = (0, 0);
        std::mem::take(&mut self.refused)
    }
}

/// What became of a connection.
pub(super) enum Served {
    /// It is over.
    Over,
    /// Somebody else must read on: these bytes were read already.
    NotOurs(TcpStream, Vec<u8>),
}

/// Keeps the POSTs of a connection for as long as `is_ours`, and calls `arrived` for each before its answer, so that
/// whoever has the answer finds it counted.
pub(super) async fn serve(
    mut stream: TcpStream,
    shelf: &Shelf,
    is_ours: impl Fn() -> bool,
    arrived: impl Fn(),
) -> io::Result<Served> {
    let mut start = Vec::with_capacity(HEAD_BYTES_MAX);
    loop {
        let (head, body) = match lengths(&start) {
            // The behaviour has changed in the meantime: it does not apply from the middle of a POST on.
            _ if !is_ours() => return Ok(Served::NotOurs(stream, start)),
            Start::Other => return Ok(Served::NotOurs(stream, start)),
            Start::Partial => {
                if stream.read_buf(&mut start).await? == 0 {
                    return Ok(Served::Over);
                }
                continue;
            }
            Start::Post { head, body } => (head, body),
        };
        let place = shelf.places().reserve(head + body);
        let Some((chunk, at)) = place else {
            shelf.places().refused += 1;
            arrived();
            stream.write_all(FULL).await?;
            return Ok(Served::Over);
        };
        let mut read = start.len().min(head + body);
        shelf.places().chunks[chunk][at..at + read].copy_from_slice(&start[..read]);
        // What is left is the start of the next POST.
        start.drain(..read);
        while read < head + body {
            stream.readable().await?;
            let more = {
                // Nobody else wants the lock while there is traffic; each read takes all that has come.
                let mut places = shelf.places();
                stream.try_read(&mut places.chunks[chunk][at + read..at + head + body])
            };
            match more {
                Ok(0) => return Ok(Served::Over),
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        shelf.places().posts.push(Kept {
            chunk,
            head: at..at + head,
            body: at + head..at + head + body,
            arrived: SystemTime::now(),
        });
        arrived();
        stream.write_all(KEPT).await?;
    }
}

/// What the first bytes of a request are.
enum Start {
    /// Not a whole head yet.
    Partial,
    /// Something else, or something broken.
    Other,
    /// A POST: bytes of its head with the empty line, and of its body.
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
            // A second one is a question that somebody else answers.
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
    fn only_posts_with_a_length_are_kept() {
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
    fn a_place_lies_within_one_chunk_and_the_last_chunk_is_the_end() {
        let shelf = Shelf::new(2 * CHUNK_BYTES + 5);
        assert!(!shelf.make_ready(3 * CHUNK_BYTES));
        assert_eq!(shelf.bytes_max(), 2 * CHUNK_BYTES);
        let mut places = shelf.places();
        let most = CHUNK_BYTES - 10;
        assert_eq!(places.reserve(most), Some((0, 0)));
        assert_eq!(places.reserve(10), Some((0, most)));
        assert_eq!(places.reserve(most), Some((1, 0)));
        assert_eq!(places.reserve(11), None);
        assert_eq!(places.reserve(CHUNK_BYTES + 1), None);
        places.clear();
        assert_eq!(places.reserve(11), Some((0, 0)));
    }
}
