//! The capture that belongs to the same program as the store: its status, a switch, and files of packets.
//!
//! A supervisor gives the store one end of a pair of sockets ([`Linking`]), over which the store sends a request at a time, a line of JSON,
//! and gets a line back, behind which a file may follow. What comes is passed on to pages as it is. A store that runs alone has no such link, and its status is null.
//!
//! A status is fetched at most every [`CAPTURE_STATUS_AGE`], however many pages are open. An exchange that has begun goes on when nobody
//! waits for it any longer, since its answer would else be read as that of the next request.

use std::future::Future;
use std::os::unix::net::UnixStream as PlainStream;
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};

use crate::backend::Failure;
use crate::limits::{
    CAPTURE_ANSWER_BYTES_MAX, CAPTURE_ANSWER_WAIT, CAPTURE_STATUS_AGE, PACKETS_FILE_BYTES_MAX,
};

/// The end to which the link to the supervisor comes.
#[derive(Clone, Debug, Default)]
pub struct Linking(Arc<PlainMutex<Option<PlainStream>>>);

impl Linking {
    /// From now on requests go over this socket.
    pub fn set(&self, stream: PlainStream) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn take(&self) -> Option<PlainStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The end from which requests are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine {
    link: Arc<Mutex<Link>>,
}

#[derive(Debug, Default)]
struct Link {
    linking: Linking,
    stream: Option<BufReader<UnixStream>>,
    /// The last status, and when it came.
    last: Option<(Instant, Value)>,
    /// There was a link, so that its loss is an error.
    was_there: bool,
}

impl Engine {
    pub(crate) fn new(linking: Linking) -> Self {
        let link = Link {
            linking,
            ..Link::default()
        };
        Self {
            link: Arc::new(Mutex::new(link)),
        }
    }

    /// The status of the capture; null without a link.
    pub(crate) async fn status(&self) -> Result<Value, Failure> {
        self.exchange(|mut link| async move { link.status().await })
            .await
    }

    /// Turns the capture on or off; false where there is none.
    pub(crate) async fn switch(&self, on: bool) -> Result<bool, Failure> {
        let request = json!({ "command": if on { "on" } else { "off" } });
        let answer = self.exchange(|mut link| async move {
            link.last = None;
            link.ask(&request).await
        });
        Ok(answer.await?.is_some())
    }

    /// The answer to a request for packets, and the file, which is empty where the answer has the reason; none without a link.
    pub(crate) async fn packets(&self, wanted: Value) -> Result<Option<(Value, Vec<u8>)>, Failure> {
        self.exchange(|mut link| async move { link.ask(&wanted).await })
            .await
    }

    /// Has the link to itself for `work`, which goes on when its outcome is not awaited any longer.
    async fn exchange<T, W>(
        &self,
        work: impl FnOnce(OwnedMutexGuard<Link>) -> W,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let outcome = async {
            let link = Arc::clone(&self.link).lock_owned().await;
            tokio::spawn(work(link)).await
        };
        let outcome = timeout(CAPTURE_ANSWER_WAIT, outcome).await;
        outcome
            .map_err(|error| unavailable(&error))?
            .map_err(|error| unavailable(&error))?
    }
}

fn unavailable(error: &dyn std::error::Error) -> Failure {
    Failure::Unavailable(format!("the capture: {error}"))
}

impl Link {
    async fn status(&mut self) -> Result<Value, Failure> {
        if let Some((at, status)) = &self.last
            && at.elapsed() < CAPTURE_STATUS_AGE
        {
            return Ok(status.clone());
        }
        let answer = self.ask(&json!({ "command": "status" })).await?;
        let status = answer.map_or(Value::Null, |(mut answer, _)| answer["status"].take());
        self.last = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    /// Sends a request and returns its answer with the file behind it; none without a link.
    async fn ask(&mut self, request: &Value) -> Result<Option<(Value, Vec<u8>)>, Failure> {
        if let Some(stream) = self.linking.take() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| UnixStream::from_std(stream));
            let stream = stream.map_err(|error| unavailable(&error))?;
            self.stream = Some(BufReader::new(stream));
            self.was_there = true;
        }
        // A link that failed is given up.
        let Some(mut stream) = self.stream.take() else {
            let gone = "the supervisor of the capture does not answer".to_owned();
            return match self.was_there {
                true => Err(Failure::Unavailable(gone)),
                false => Ok(None),
            };
        };
        let line = format!("{request}\n");
        let exchange = async {
            stream.get_mut().write_all(line.as_bytes()).await?;
            let mut answer = Vec::new();
            let mut bounded = (&mut stream).take(CAPTURE_ANSWER_BYTES_MAX);
            bounded.read_until(b'\n', &mut answer).await?;
            let answer: Value = serde_json::from_slice(&answer)?;
            let bytes = answer["bytes"].as_u64().unwrap_or(0);
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if bytes > PACKETS_FILE_BYTES_MAX {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            let mut file = vec![0; bytes];
            stream.read_exact(&mut file).await?;
            Ok::<_, std::io::Error>((answer, file))
        };
        let answer = exchange.await.map_err(|error| unavailable(&error))?;
        self.stream = Some(stream);
        Ok(Some(answer))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_leaves_takes_neither_the_link_nor_the_answer_of_the_next() {
        let (ours, theirs) = PlainStream::pair().unwrap();
        let linking = Linking::default();
        linking.set(ours);
        let engine = Engine::new(linking);
        let wanted = |number: u32| json!({ "command": "packets", "number": number });

        let impatient = engine.clone();
        let first = tokio::spawn(async move { impatient.packets(wanted(1)).await });
        let supervisor = tokio::task::spawn_blocking(move || {
            let mut requests = BufReader::new(theirs);
            let mut request = String::new();
            requests.read_line(&mut request).unwrap();
            (requests, request)
        });
        let (mut requests, request) = supervisor.await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());

        let supervisor = tokio::task::spawn_blocking(move || {
            let mut request = request;
            for _ in 0..2 {
                requests.get_mut().write_all(request.as_bytes()).unwrap();
                request.clear();
                requests.read_line(&mut request).unwrap();
            }
            requests.get_mut().write_all(request.as_bytes()).unwrap();
        });
        for number in [2, 3] {
            let (answer, file) = engine.packets(wanted(number)).await.unwrap().unwrap();
            assert_eq!(
                (answer["number"].as_u64(), file.len()),
                (Some(number.into()), 0)
            );
        }
        supervisor.await.unwrap();
    }
}
