//! Host names to addresses on a helper thread, since the system's resolver blocks.
//!
//! One thread, started with the first name: a resolver that hangs delays the next name, and never the uploader.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use crate::capture_url::CaptureUrl;

/// Sends host names to the helper thread.
#[derive(Default)]
pub(super) struct Resolver {
    questions: RefCell<Option<Sender<Question>>>,
}

struct Question {
    host: String,
    port: u16,
    answer: Arc<Mutex<Answer>>,
}

#[derive(Default)]
struct Answer {
    addresses: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

impl Resolver {
    /// Addresses of the collector, in the order in which they should be tried.
    pub(super) async fn resolve(&self, url: &CaptureUrl) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = url.address() {
            return Ok(vec![SocketAddr::new(address, url.port())]);
        }
        let answer = Arc::new(Mutex::new(Answer::default()));
        self.ask(Question {
            host: url.host().to_owned(),
            port: url.port(),
            answer: answer.clone(),
        })?;
        std::future::poll_fn(move |cx| {
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            match answer.addresses.take() {
                Some(addresses) => Poll::Ready(addresses),
                None => {
                    answer.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn ask(&self, question: Question) -> io::Result<()> {
        let mut questions = self.questions.borrow_mut();
        if questions.is_none() {
            let (sender, receiver) = channel::<Question>();
            thread::Builder::new()
                .name("resolver".to_owned())
                .spawn(move || {
                    for Question { host, port, answer } in receiver {
                        // Nothing waits for it any longer: a retry has sent the name again.
                        if Arc::strong_count(&answer) == 1 {
                            continue;
                        }
                        let addresses = (host.as_str(), port)
                            .to_socket_addrs()
                            .map(Iterator::collect);
                        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
                        answer.addresses = Some(addresses);
                        if let Some(waker) = answer.waker.take() {
                            waker.wake();
                        }
                    }
                })?;
            *questions = Some(sender);
        }
        let sent = questions.as_ref().map(|sender| sender.send(question));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("the resolver thread has ended")),
        }
    }
}
