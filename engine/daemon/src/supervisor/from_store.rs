//! Requests of the store: the page shows the status of the capture, may turn it on and off, and has files of packets, if the capture
//! keeps any.
//!
//! The store reads what strangers send, and one of them may have taken it over. So it may request nothing but that, one request at a
//! time, with a pause before each; and who switches the capture off by it is shown in the status as the user.

use std::os::unix::net::UnixStream;

use crate::control::{Request, Response, WantedPackets, read_request};
use crate::diagnostic::Exit;
use crate::limits::STORE_REQUEST_PAUSE;

/// Answers the requests that come over the link, on a thread that ends with it. `answer` waits for what it returns, `pass` only
/// passes the request on: what becomes of it is in the next status. `packets` makes a file of packets.
///
/// # Errors
///
/// The kernel gives no thread.
pub(super) fn serve(
    link: UnixStream,
    answer: impl Fn(Request) -> Response + Send + 'static,
    pass: impl Fn(Request) + Send + 'static,
    packets: impl Fn(WantedPackets) -> Response + Send + 'static,
) -> std::io::Result<()> {
    let serving = move || {
        while let Some(request) = read_request(&link) {
            let response = match request {
                Request::Status => answer(request),
                Request::On | Request::Off => {
                    pass(request);
                    Response::new(Exit::Done, "")
                }
                Request::Packets(wanted) => packets(wanted),
                _ => return,
            };
            if response.write(&link).is_err() {
                return;
            }
            std::thread::sleep(STORE_REQUEST_PAUSE);
        }
    };
    std::thread::Builder::new()
        .name("from-store".into())
        .spawn(serving)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::sync::mpsc;

    use super::*;

    /// The line that answers a request.
    fn ask(store: &mut BufReader<UnixStream>, request: &str) -> String {
        let request = format!("{{\"command\":\"{request}\"}}\n");
        store.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        store.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn the_store_may_request_a_status_packets_and_a_switch_and_nothing_else() {
        let (supervisor, store) = UnixStream::pair().unwrap();
        let (sender, passed) = mpsc::channel();
        let answer = |_| Response::new(Exit::NotRunning, "status");
        let pass = move |request| sender.send(request).unwrap();
        let packets =
            |wanted: WantedPackets| Response::with_file(vec![b'x'; wanted.until_millis as usize]);
        serve(supervisor, answer, pass, packets).unwrap();
        let mut store = BufReader::new(store);
        let status: Response = serde_json::from_str(&ask(&mut store, "status")).unwrap();
        assert_eq!(status.text, "status");
        for (word, request) in [("on", Request::On), ("off", Request::Off)] {
            assert!(ask(&mut store, word).contains("\"exit\":0"));
            assert_eq!(passed.recv().unwrap(), request);
        }
        let wanted = "packets\",\"from_millis\":0,\"until_millis\":5,\"connection\":null,\"_\":\"";
        assert!(ask(&mut store, wanted).contains("\"bytes\":5"));
        let mut file = [0; 5];
        store.read_exact(&mut file).unwrap();
        assert_eq!(&file, b"xxxxx");
        // The link of a page has no use for the token.
        assert_eq!(ask(&mut store, "page"), "", "the link is closed");
        let mut nothing = Vec::new();
        store.read_to_end(&mut nothing).unwrap();
        assert!(nothing.is_empty() && passed.recv().is_err());
    }
}
