//! The marker of an upload: a header with the sender, and hashes that only the sender's process can compute.
//!
//! ```text
//! Sniffer-Upload-Marker: v1; instance=8f3a12bc90de4f01; sender=web-3; time=1700000000123; length=4096;
//!                        head=0123456789abcdef; body=fedcba9876543210
//! ```
//!
//! The hashes are SipHash-2-4 with a key that is made at the start and never leaves the process. `head` covers time,
//! length and idempotency key, `body` the first [`UPLOAD_HASHED_BYTES`] bytes of the body in addition. So a marker that
//! somebody copied holds only for a request with the same length, key and beginning, and only for
//! [`UPLOAD_MARKER_AGE_MAX`].

use std::hash::Hasher as _;
use std::{fmt, str};

use siphasher::sip::SipHasher24;

use super::senders::Sender;
use crate::limits::{UPLOAD_HASHED_BYTES, UPLOAD_MARKER_AGE_MAX};
use crate::time::Timestamp;

/// The name of the header.
pub const NAME: &str = "sniffer-upload-marker";

/// One upload as its sender sees it.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// When it is sent.
    pub time: Timestamp,
    /// Bytes of its body.
    pub length: u64,
    /// The value of `Idempotency-Key`.
    pub key: &'a [u8],
    /// The body, or at least its first [`UPLOAD_HASHED_BYTES`] bytes.
    pub beginning: &'a [u8],
}

/// Who a process is: what its markers are made with, and recognised by.
#[derive(Clone)]
pub struct Identity {
    instance: u64,
    key: [u8; 16],
    sender: Sender,
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:016x}, {:?})", self.instance, self.sender)
    }
}

impl Identity {
    /// A process with these random numbers, which has the name `sender` for people.
    pub fn new(instance: u64, key: [u8; 16], sender: &str) -> Self {
        Self {
            instance,
            key,
            sender: Sender::new(sender.as_bytes()),
        }
    }

    /// The value of the header of one upload.
    pub fn mark(&self, upload: &Upload<'_>) -> String {
        format!(
            "v1; instance={:016x}; sender={}; time={}; length={}; head={:016x}; body={:016x}",
            self.instance,
            self.sender.as_str(),
            upload.time.millis(),
            upload.length,
            self.head_hash(upload),
            self.body_hash(upload),
        )
    }

    /// Whether the marker claims to be of this process.
    pub(super) fn is_claimed_by(&self, marker: &Marker) -> bool {
        marker.instance == self.instance
    }

    /// Whether `proof` was made by this process, for the upload that a request seems to be, as far as its head shows.
    pub(super) fn proves_head(&self, proof: &Proof, upload: &Upload<'_>) -> bool {
        proof.head == self.head_hash(upload)
    }

    /// The same with the beginning of the body.
    pub(super) fn proves_body(&self, proof: &Proof, upload: &Upload<'_>) -> bool {
        proof.body == self.body_hash(upload)
    }

    fn head_hash(&self, upload: &Upload<'_>) -> u64 {
        self.hasher(b'h', upload).finish()
    }

    fn body_hash(&self, upload: &Upload<'_>) -> u64 {
        let mut hasher = self.hasher(b'b', upload);
        let beginning = upload.beginning.get(..UPLOAD_HASHED_BYTES);
        hasher.write(beginning.unwrap_or(upload.beginning));
        hasher.finish()
    }

    fn hasher(&self, domain: u8, upload: &Upload<'_>) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u8(domain);
        hasher.write(&upload.time.millis().to_le_bytes());
        hasher.write(&upload.length.to_le_bytes());
        hasher.write(&(upload.key.len() as u64).to_le_bytes());
        hasher.write(upload.key);
        hasher
    }
}

/// What a marker has for the process that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) time: Timestamp,
    pub(super) length: u64,
    head: u64,
    body: u64,
}

impl Proof {
    /// Whether it was made so short a time before or after `now` that it still counts.
    pub(super) fn is_recent(&self, now: Timestamp) -> bool {
        now.since(self.time).max(self.time.since(now)) <= UPLOAD_MARKER_AGE_MAX
    }
}

/// A marker that was read. Of other versions than this one's only what names the sender is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    instance: u64,
    /// The sniffer's name for people.
    pub sender: Sender,
    pub(super) proof: Option<Proof>,
}

impl Marker {
    /// Reads the value of a header; nothing where it names no sender.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let version = fields.next()?;
        let [b'v', b'0'..=b'9', ..] = version else {
            return None;
        };
        let (mut instance, mut sender) = (None, None);
        let (mut time, mut length, mut head, mut body) = (None, None, None, None);
        for field in fields {
            let Some(at) = field.iter().position(|byte| *byte == b'=') else {
                continue;
            };
            let (name, value) = field.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            match name {
                b"instance" => instance = number(value, 16),
                b"sender" => sender = Some(Sender::new(value)),
                b"time" => time = number(value, 10),
                b"length" => length = number(value, 10),
                b"head" => head = number(value, 16),
                b"body" => body = number(value, 16),
                _ => {}
            }
        }
        let proof = || {
            let millis = time?.checked_mul(1_000_000)?;
            Some(Proof {
                time: Timestamp::from_nanos(millis),
                length: length?,
                head: head?,
                body: body?,
            })
        };
        Some(Self {
            instance: instance?,
            sender: sender?,
            proof: proof().filter(|_| version == b"v1"),
        })
    }
}

/// Digits only: the standard library also takes a sign.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
    let digits = Some(digits).filter(|digits| digits.iter().all(is_digit))?;
    u64::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_names_its_sender_and_hides_its_key() {
        let identity = Identity::new(0x12, [7; 16], "web 3");
        let upload = Upload {
            time: Timestamp::from_parts(1_700_000_000, 123_456_789),
            length: 10,
            key: b"key",
            beginning: b"0123456789",
        };
        let text = identity.mark(&upload);
        let start =
            "v1; instance=0000000000000012; sender=web_3; time=1700000000123; length=10; head=";
        assert!(text.starts_with(start), "{text}");
        let marker = Marker::parse(text.as_bytes()).unwrap();
        assert_eq!(marker.sender.as_str(), "web_3");
        assert!(identity.is_claimed_by(&marker));
        assert_eq!(format!("{identity:?}"), "Identity(0000000000000012, web_3)");
    }

    #[test]
    fn hashes_need_the_key_and_hold_for_one_upload() {
        let identity = Identity::new(1, [7; 16], "a");
        let upload = Upload {
            time: Timestamp::from_parts(9, 0),
            length: 100,
            key: b"key",
            beginning: &[1; 100],
        };
        let proof = |identity: &Identity| {
            let marker = Marker::parse(identity.mark(&upload).as_bytes());
            marker.unwrap().proof.unwrap()
        };
        let made = proof(&identity);
        assert!(identity.proves_head(&made, &upload) && identity.proves_body(&made, &upload));
        let stranger = Identity::new(1, [8; 16], "a");
        assert!(!identity.proves_head(&proof(&stranger), &upload));
        let longer = Upload {
            length: 101,
            ..upload
        };
        let other_key = Upload {
            key: b"kez",
            ..upload
        };
        for other in [longer, other_key] {
            assert!(!identity.proves_head(&made, &other) && !identity.proves_body(&made, &other));
        }
        let other_body = [&[1; 63][..], &[2]].concat();
        let other_body = Upload {
            beginning: &other_body,
            ..upload
        };
        assert!(!identity.proves_body(&made, &other_body));
        assert!(made.is_recent(Timestamp::from_parts(9, 0)));
        assert!(!made.is_recent(Timestamp::from_parts(9 + 3600, 0)));
    }

    #[test]
    fn what_names_no_sender_is_no_marker() {
        for (value, expected) in [
            ("v1; instance=a1; sender=b", true),
            ("v9; sender=b; instance=a1; new=thing", true),
            ("v1;instance=a1;sender=", true),
            ("v1; sender=b", false),
            ("v1; instance=+1; sender=b", false),
            ("v1; instance=11112222333344445; sender=b", false),
            ("x; instance=a1; sender=b", false),
            ("", false),
        ] {
            assert_eq!(
                Marker::parse(value.as_bytes()).is_some(),
                expected,
                "{value}"
            );
        }
    }
}
