//! Every bound of the store: its unit, why it has this size, and what happens when it is reached.
//!
//! What a user may want to change is a default here and a field of [`crate::Config`]; all others are constants.

use std::time::Duration;

/// Calls kept; past it the oldest are deleted, counted as `calls_expired`.
pub const CALLS_MAX: u64 = 1_000_000;

/// Bytes of the database in use (pages that are not free), all indexes included; past it the oldest calls are deleted,
/// counted as `calls_expired`. The write-ahead log comes on top, see [`WAL_BYTES_MAX`].
pub const DATABASE_BYTES_MAX: u64 = 2 << 30;

/// The least that [`crate::Retention::database_bytes_max`] is taken for: below it not even one large bundle would stay.
pub const DATABASE_BYTES_MIN: u64 = 4 << 20;

/// Bytes of one POST, both as it comes and after inflating: 413 past either, which also is the guard against bombs.
/// The reference loggers send 5 MiB and one line; a line with two bodies of 1 MiB is at most 12 MiB when escaped.
pub const POST_BYTES_MAX: usize = 16 << 20;

/// POSTs that are read, inflated or waiting for their commit at the same time; the next one waits for its turn. With
/// [`POST_BYTES_MAX`] this bounds the memory of the capture side.
pub const POSTS_AT_ONCE: usize = 16;

/// How long a POST waits for its turn before it is sent away with 503, to come again.
pub const TURN_WAIT: Duration = Duration::from_secs(10);

/// How long the body of one POST may take to arrive; 408 past it. A sender that stalls must not keep the turn.
pub const BODY_WAIT: Duration = Duration::from_secs(20);

/// Bytes of an `Idempotency-Key`; 400 past it.
pub const KEY_BYTES_MAX: usize = 255;

/// Bundle keys remembered, newest first: at ten bundles a second, the last three hours. An older key that comes
/// again is stored again.
pub const KEYS_MAX: u64 = 100_000;

/// Bytes of lines in one transaction, after which waiting bundles are left for the next one: bounds how long the first
/// of them waits for its 204.
pub const TRANSACTION_BYTES_MAX: usize = 64 << 20;

/// Calls that one transaction deletes at most in order to come back inside the bounds; the next one goes on.
pub const EXPIRE_ROUND_CALLS: u64 = 20_000;

/// Pages that one transaction gives back to the file system at most.
pub const VACUUM_ROUND_PAGES: u64 = 256;

/// Bytes that the write-ahead log is cut to after a checkpoint.
pub const WAL_BYTES_MAX: u64 = 64 << 20;

/// Calls in one answer of the list; a larger `limit` is taken for this one.
pub const LIST_CALLS_MAX: usize = 1000;

/// Calls in one answer of the list when nobody says how many.
pub const LIST_CALLS_DEFAULT: usize = 200;

/// How long one search reads; then it answers with what it has and with the place to go on from.
pub const SEARCH_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of a filter; 400 past it.
pub const FILTER_BYTES_MAX: usize = 1024;

/// Reading connections, each with its own cache; the next query waits.
pub const READERS: usize = 4;

/// Pages open at the same time on the stream; 503 past it.
pub const STREAMS_MAX: usize = 64;

/// Least time between two events of one stream: the page redraws at most ten times a second.
pub const STREAM_PACE: Duration = Duration::from_millis(100);

/// Calls that a stream may be behind; past it one `lagged` event takes it to the newest call.
pub const STREAM_BEHIND_MAX: i64 = 1000;

/// A silent stream says that it is alive this often, so that a proxy or the browser keeps it.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

/// How long open connections may take to end once the store is told to stop. Bundles whose commit was asked for are
/// committed in any case.
pub const STOP_WAIT: Duration = Duration::from_secs(3);

/// Characters of the note that a row of the list shows.
pub const NOTE_CHARS_MAX: usize = 120;

/// Connections to one listener at the same time; the next one waits in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 256;

/// How long the head of a request may take to arrive; also how long an idle connection is kept.
pub const HEAD_WAIT: Duration = Duration::from_secs(60);

/// Pause after `accept` failed (no file descriptor left): the fault is not in this connection, so do not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(
    FILTER_BYTES_MAX * 16 < 1 << 20,
    "a filter must compile within the regex size limit"
);
