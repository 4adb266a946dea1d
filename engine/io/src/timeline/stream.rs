//! Streams as input: a pipe, standard input, a named pipe. A thread reads each of them, so that the reader of packets never
//! blocks: where nothing has arrived yet, a read fails with `WouldBlock`.
//!
//! A pipe that waits for its writer holds no other input up, the calls that are complete are written meanwhile, and a
//! signal is noticed. The thread of a stream ends with the stream or with the process.

use std::io::{self, Cursor, ErrorKind, Read};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use crate::limits::{STREAM_CHUNK_BYTES, STREAM_CHUNKS_MAX};

/// What a thread has read of a stream.
pub(super) struct Stream {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Cursor<Vec<u8>>,
}

impl Stream {
    /// Starts a thread that opens the stream, which may wait for a writer, and reads it. The calling thread is unparked
    /// whenever there is something new.
    pub(super) fn open<R: Read>(
        open: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, chunks) = sync_channel(STREAM_CHUNKS_MAX);
        let reader = thread::current();
        let pass_on = move || {
            let mut input = open();
            loop {
                let chunk = match &mut input {
                    Ok(input) => read_chunk(input),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                };
                let is_last = !matches!(&chunk, Ok(chunk) if !chunk.is_empty());
                // The end is shown by the closed channel.
                let is_end = matches!(&chunk, Ok(chunk) if chunk.is_empty());
                if !is_end && sender.send(chunk).is_err() {
                    return;
                }
                if is_last {
                    drop(sender);
                    reader.unpark();
                    return;
                }
                reader.unpark();
            }
        };
        thread::Builder::new()
            .name("stream".into())
            .spawn(pass_on)?;
        Ok(Self {
            chunks,
            chunk: Cursor::default(),
        })
    }
}

/// What can be read at once; nothing at the end.
fn read_chunk(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; STREAM_CHUNK_BYTES];
    loop {
        match input.read(&mut chunk) {
            Ok(len) => {
                chunk.truncate(len);
                return Ok(chunk);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.chunks.try_recv() {
                Ok(chunk) => self.chunk = Cursor::new(chunk?),
                Err(TryRecvError::Empty) => return Err(ErrorKind::WouldBlock.into()),
                Err(TryRecvError::Disconnected) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stream_is_read_to_its_end_and_never_blocks() {
        let (ours, mut theirs) = io::pipe().unwrap();
        let mut stream = Stream::open(move || Ok(ours)).unwrap();
        let mut bytes = Vec::new();
        let read = |stream: &mut Stream, bytes: &mut Vec<u8>| stream.read_to_end(bytes);
        assert_eq!(
            read(&mut stream, &mut bytes).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        io::Write::write_all(&mut theirs, b"some").unwrap();
        while bytes.len() < 4 {
            let _ = read(&mut stream, &mut bytes);
            thread::park_timeout(Duration::from_millis(10));
        }
        io::Write::write_all(&mut theirs, b" more").unwrap();
        drop(theirs);
        while read(&mut stream, &mut bytes).is_err() {
            thread::park_timeout(Duration::from_millis(10));
        }
        assert_eq!(bytes, b"some more");
    }

    #[test]
    fn an_error_of_the_stream_is_its_last_word() {
        let mut stream =
            Stream::open(|| Err::<io::Empty, _>(ErrorKind::PermissionDenied.into())).unwrap();
        let mut byte = [0];
        let error = loop {
            match stream.read(&mut byte) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(Duration::from_millis(10));
                }
                Err(error) => break error,
                Ok(count) => panic!("{count} bytes"),
            }
        };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(stream.read(&mut byte).unwrap(), 0);
    }
}
