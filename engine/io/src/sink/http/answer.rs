//! An answer that is there as bytes, read as the uploader reads those of a collector: what it is taken for.
//!
//! Nothing here waits: the stream is memory, which ends where the bytes end. So a fuzzer reaches all that a collector can make
//! the uploader do with an answer. The program itself reads none in this way, so the functions are generic: they are compiled
//! where they are used.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::connection::{outcome_of, settle, with_driver};

/// Polls after which an answer that nothing is missing of counts as none: each reads or ends something.
const POLLS_PER_BYTE: usize = 2;

/// Polls at the end of the bytes before the stream ends: an answer that is complete is settled by then.
const WAITS_BEFORE_END: usize = 8;

/// What an answer is taken for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status; none where there is no answer.
    pub status: Option<u16>,
    /// What the log has of it.
    pub text: String,
    /// Whether another post may follow on the connection.
    pub is_reusable: bool,
    /// Bytes of it that were read.
    pub bytes: usize,
}

/// Reads `bytes` as the answer to a post.
pub fn read(bytes: impl AsRef<[u8]> + Unpin) -> Answer {
    let taken = Rc::new(Cell::new(0));
    let polls_max = 64 + POLLS_PER_BYTE * bytes.as_ref().len();
    let stream = Memory {
        bytes,
        taken: taken.clone(),
        is_written: false,
        waits: WAITS_BEFORE_END,
    };
    let mut answer = Answer::default();
    {
        let mut reading = pin!(post(stream, &mut answer));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..polls_max {
            if reading.as_mut().poll(&mut cx).is_ready() {
                break;
            }
        }
    }
    answer.bytes = taken.get();
    answer
}

async fn post<B: AsRef<[u8]> + Unpin>(stream: Memory<B>, answer: &mut Answer) {
    let Ok((mut sender, driver)) = http1::handshake(stream).await else {
        return;
    };
    let mut driver = Some(driver);
    let request = Request::post("/message").body(Full::new(Bytes::from_static(b"[]")));
    let Ok(request) = request else { return };
    let sending = sender.send_request(request);
    let Ok(response) = with_driver(&mut driver, sending).await else {
        return;
    };
    let outcome = outcome_of(response.status().as_u16(), response.headers());
    answer.status = Some(response.status().as_u16());
    answer.text = outcome.to_string();
    answer.is_reusable = settle(&mut driver, &mut sender, response, &mut Vec::new()).await;
}

/// A stream of bytes that are there once something was written to it, as an answer is. It ends some time after them.
struct Memory<B> {
    bytes: B,
    taken: Rc<Cell<usize>>,
    is_written: bool,
    /// Polls until its end.
    waits: usize,
}

impl<B: AsRef<[u8]> + Unpin> Read for Memory<B> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_written {
            return Poll::Pending;
        }
        let taken = self.taken.get();
        if taken == self.bytes.as_ref().len() && self.waits > 0 {
            self.waits -= 1;
            return Poll::Pending;
        }
        let rest = self.bytes.as_ref().get(taken..).unwrap_or_default();
        let most = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..most).unwrap_or_default());
        self.taken.set(taken + most);
        Poll::Ready(Ok(()))
    }
}

impl<B: Unpin> Write for Memory<B> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_written = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, status: Option<u16>, is_reusable: bool) {
        let answer = read(bytes.as_bytes());
        assert_eq!(
            (answer.status, answer.is_reusable),
            (status, is_reusable),
            "{answer:?}"
        );
    }

    #[test]
    fn an_answer_is_read_to_its_end_or_not_at_all() {
        check("", None, false);
        check("SSH-2.0-OpenSSH\r\n", None, false);
        check("HTTP/1.1 204 No Content\r\n\r\n", Some(204), true);
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Some(200),
            true,
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
            Some(200),
            false,
        );
        check(
            "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n",
            Some(503),
            false,
        );
        check(
            &format!(
                "{}HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\n".repeat(9)
            ),
            Some(204),
            true,
        );
        check("HTTP/1.1 100 Continue\r\n\r\n", None, false);
    }

    #[test]
    fn a_long_body_is_not_read_to_its_end() {
        let length = 4 * crate::limits::UPLOAD_ANSWER_BYTES_MAX;
        let head = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\n\r\n");
        let answer = read([head.as_bytes(), &vec![b'x'; length]].concat());
        assert_eq!((answer.status, answer.is_reusable), (Some(400), false));
        assert!(answer.bytes < length);
    }
}
