//! The capture that belongs to the same program as the store: its status, a switch, and files of packets.
//!
//! A supervisor gives the store one end of a pair of sockets ([`Linking`]), over which the store sends a request at a time, a line of JSON,
//! and gets a line back, behind which a file may follow. What comes is passed on to pages as it is. A store that runs alone has no such link, and its status is null.
//!
//! A status is fetched at most every [`CAPTURE_STATUS_AGE`], however many pages are open.

use std::os::unix::net::UnixStream as PlainStream;
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
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
    linking: Linking,
    link: Arc<Mutex<Link>>,
}

#[derive(Debug, Default)]
struct Link {
    stream: Option<BufReader<UnixStream>>,
    /// The last status, and when it came.
    last: Option<(Instant, Value)>,
    /// There was a link, so that its loss is an error.
    was_there: bool,
}

impl Engine {
    pub(crate) fn new(linking: Linking) -> Self {
        Self {
            linking,
            link: Arc::default(),
        }
    }

    /// The status of the capture; null without a link.
    pub(crate) async fn status(&self) -> Result<Value, Failure> {
        let mut link = self.link.lock().await;
        if let Some((at, status)) = &link.last
            && at.elapsed() < CAPTURE_STATUS_AGE
        {
            return Ok(status.clone());
        }
        let answer = link
            .ask(&self.linking, &json!({ "command": "status" }))
            .await?;
        let status = answer.map_or(Value::Null, |(mut answer, _)| answer["status"].take());
        link.last = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    /// Turns the capture on or off; false where there is none.
    pub(crate) async fn switch(&self, on: bool) -> Result<bool, Failure> {
        let mut link = self.link.lock().await;
        link.last = None;
        let request = json!({ "command": if on { "on" } else { "off" } });
        let answer = link.ask(&self.linking, &request).await?;
        Ok(answer.is_some())
    }

    /// The answer to a request for packets, and the file, which is empty where the answer has the reason; none without a link.
    pub(crate) async fn packets(
        &self,
        wanted: &Value,
    ) -> Result<Option<(Value, Vec<u8>)>, Failure> {
        self.link.lock().await.ask(&self.linking, wanted).await
    }
}

impl Link {
    /// Sends a request and returns its answer with the file behind it; none without a link.
    async fn ask(
        &mut self,
        linking: &Linking,
        request: &Value,
    ) -> Result<Option<(Value, Vec<u8>)>, Failure> {
        if let Some(stream) = linking.take() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| UnixStream::from_std(stream));
            let stream = stream.map_err(|error| Failure::Unavailable(error.to_string()))?;
            self.stream = Some(BufReader::new(stream));
            self.was_there = true;
        }
        // A link whose last answer did not come is given up: the next line would be that one.
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
        let unavailable = |error: String| Failure::Unavailable(format!("the capture: {error}"));
        let answer = timeout(CAPTURE_ANSWER_WAIT, exchange).await;
        let answer = answer
            .map_err(|error| unavailable(error.to_string()))?
            .map_err(|error| unavailable(error.to_string()))?;
        self.stream = Some(stream);
        Ok(Some(answer))
    }
}
