//! Every bound of the store: its unit, the reason for its size, and what happens when it is reached.
//!
//! Those that a user may want to change are defaults here and fields of [`crate::Config`]; all others are constants.

use std::time::Duration;

use crate::places::Room;

// ---- Retention ---------------------------------------------------------------------------------------------------

/// Calls kept: a day of ten calls a second, and some more. Past it calls are deleted, the oldest
/// of the sender that has the most first, counted as `calls_expired`.
pub const CALLS_MAX: u64 = 1_000_000;

/// Bytes of the database in use (pages that are not free), all indexes included: a small part of any disk. Past it the
/// same is done. The write-ahead log comes on top, see [`WAL_BYTES_MAX`].
pub const DATABASE_BYTES_MAX: u64 = 2 << 30;

/// Bytes that [`crate::Retention::database_bytes_max`] is raised to when it is smaller, because below that not even one
/// large bundle would stay.
pub const DATABASE_BYTES_MIN: u64 = 4 << 20;

/// Calls that one transaction deletes in order to come back within the bounds, and those of the same block. It bounds how long the
/// bundles behind it wait; the next transaction continues.
pub const EXPIRE_ROUND_CALLS: u64 = 1_024;

/// Bytes of lines that one transaction deletes, or one line: for the same reason, where lines are long.
pub const EXPIRE_ROUND_BYTES: u64 = 8 << 20;

/// What a bound is divided by for what is deleted in addition once it is passed: so the oldest block is not written again for each
/// bundle, only to take a few calls out of it.
pub const EXPIRE_MORE_DIVISOR: u64 = 256;

/// Senders whose calls are counted apart; the calls of all further ones are those of one sender, `other`. A sender without
/// calls is forgotten when another needs its place.
pub const SENDERS_MAX: u64 = 256;

/// Senders in the status, those with the most calls.
pub const SENDERS_SHOWN: u64 = 16;

/// What a bound is divided by for the part that senders on the network cannot displace: calls from this host are compared with
/// those of others after that part is taken off.
pub const LOCAL_SHARE_DIVISOR: u64 = 2;

/// Time between two checks of the bounds when no bundle arrives: a call is kept this much too long, at most.
pub const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);

/// Time between two rounds of deleting while the store is beyond its bounds, so that bundles are stored in between.
pub const EXPIRE_ROUND_PAUSE: Duration = Duration::from_millis(100);

// ---- Capture URL -------------------------------------------------------------------------------------------------

/// Bytes of one POST, both as it arrives and after decompression; 413 past either, which also refuses compression bombs.
/// The reference loggers send 5 MiB and one line; a line with two bodies of 1 MiB has at most 12 MiB when escaped.
pub const POST_BYTES_MAX: usize = 16 << 20;

/// Lines of one POST that are not blank: what a bundle of 5 MiB with lines of 100 bytes has, and some more; 413 past it. A
/// line costs a row of the writing thread's time, however short it is.
pub const POST_LINES_MAX: usize = 64 << 10;

/// Members of one line, eight times what HTTP leaves in headers; past it the line is a bad one. Each costs a row of the page.
pub const LINE_DETAILS_MAX: usize = 16 << 10;

/// Facts of one call that are kept in columns, several times what an annotated call has; the others are found in the line alone.
pub const FACTS_MAX: usize = 48;

/// Bytes of the name and of the value of a fact in its column, as many as annotations have at most; the line has all of it.
pub const FACT_BYTES_MAX: usize = 256;

/// How far the time of a call may lie before its arrival, which is how long a spool keeps calls; past it the arrival counts.
pub const NOW_BEHIND_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far it may lie behind its arrival, because of clocks that differ; past it the arrival counts.
pub const NOW_AHEAD_MAX: Duration = Duration::from_secs(600);

/// Endpoints that the store distinguishes before the next one is `…other`: what an API of a thousand routes on ten hosts has.
/// Each is held in memory while the store runs, at most 1 KiB.
pub const ENDPOINTS_MAX: usize = 10_000;

/// Bytes of the file with the templates of endpoints; a larger one is refused at the start.
pub const ENDPOINTS_FILE_BYTES_MAX: usize = 64 << 10;

/// Bytes of bodies that have arrived and are not answered, from this host; 503 past it.
pub const BODIES_LOCAL_BYTES: usize = 16 << 20;

/// The same over the connections of the capture that belongs to this store: nobody else can fill them.
pub const BODIES_CAPTURE_BYTES: usize = 16 << 20;

/// The same from all other hosts.
pub const BODIES_NETWORK_BYTES: usize = 24 << 20;

/// The same from one of them.
pub const BODIES_SENDER_BYTES: usize = 16 << 20;

/// Bytes of decompressed bodies from this host that are split or wait for their commit; until one is decompressed it counts as
/// the most that it may become, [`POST_BYTES_MAX`] if it is not small. The next body waits.
pub const TEXTS_LOCAL_BYTES: usize = 24 << 20;

/// The same from the capture that belongs to this store, which posts two bundles at a time, without compression.
pub const TEXTS_CAPTURE_BYTES: usize = 16 << 20;

/// The same from all other hosts.
pub const TEXTS_NETWORK_BYTES: usize = 24 << 20;

/// The same from one of them.
pub const TEXTS_SENDER_BYTES: usize = 16 << 20;

/// Bytes of a ledger that is posted, several times what a sniffer has to report; 413 past it.
pub const LEDGER_BYTES_MAX: usize = 32 << 10;

/// Bytes of a name in a ledger; 400 past it.
pub const LEDGER_TEXT_BYTES_MAX: usize = 255;

/// Causes of losses in a ledger, several times as many as there are; 400 past it.
pub const LEDGER_CAUSES_MAX: usize = 64;

/// Runs of sniffers whose last ledger is kept, of one sender and of all, at most [`LEDGER_BYTES_MAX`] each; past it the one that was
/// posted the longest time ago is forgotten. If it still runs, its losses count once more.
pub const LEDGERS_SENDER_MAX: u64 = 64;

/// See [`LEDGERS_SENDER_MAX`].
pub const LEDGERS_MAX: u64 = 1024;

/// Senders that are shown of the ledgers of one appliance; further ones are not named.
pub const LEDGER_SENDERS_SHOWN: usize = 4;

/// Bodies of the store's own capture that are decompressed and split at a time. The next one waits.
pub const DECODED_MAX: usize = 2;

/// The same of all others.
pub const DECODED_OTHERS_MAX: usize = 1;

/// Bundles of the store's own capture that become blocks at a time; each takes [`MEMORY_PREPARED_BYTES`] at most, one of ordinary
/// calls a fourth of it. The next one waits.
pub const PREPARED_MAX: usize = 2;

/// The same of all others: whatever they send, they take one processor from what captures.
pub const PREPARED_OTHERS_MAX: usize = 1;

/// Bundles in either part of the writer's queue; the next ones wait.
pub const QUEUED_MAX: usize = 16;

/// Threads for what waits or computes for long: of others and of queries there are never so many that none is left for the capture. Few,
/// since the allocator keeps memory for each.
pub const THREADS_MAX: usize = 10;

/// Time that a body that is there waits for its turn, [`TEXTS_LOCAL_BYTES`]; 503 past it, so that the sender tries again later.
pub const POST_WAIT: Duration = Duration::from_secs(10);

/// Time in which the body of one POST has to arrive; 408 past it.
pub const BODY_WAIT: Duration = Duration::from_secs(20);

/// Time that a body may take in addition to what its bytes take at [`BODY_RATE_MIN`].
pub const BODY_GRACE: Duration = Duration::from_secs(3);

/// Bytes a second that a body has to bring, less than a slow uplink: what stalls is given up after [`BODY_GRACE`] with 408.
pub const BODY_RATE_MIN: usize = 64 << 10;

/// Seconds in the `Retry-After` of an answer with 503: a commit or a short lock takes less.
pub const RETRY_AFTER_SECONDS: u16 = 1;

/// Bytes of an `Idempotency-Key`: several times a UUID; 400 past it.
pub const KEY_BYTES_MAX: usize = 255;

/// Time for which the key of a bundle is remembered: longer than the three days for which a sniffer keeps a bundle in its spool
/// by default, so that a bundle whose answer was lost is not stored twice when it comes again. [`crate::Retention::keys_age`].
pub const KEYS_AGE: Duration = Duration::from_secs(4 * 24 * 60 * 60);

/// Keys that are remembered whatever their age is, newest first: a clock that is set forward does not make the store forget all.
pub const KEYS_MIN: u64 = 100_000;

/// Keys remembered, newest first, about 150 bytes of the database each: three bundles a second for four days. Past it the
/// oldest are forgotten before their time, counted as `keys_forgotten`; a bundle with such a key that comes again is stored
/// again.
pub const KEYS_MAX: u64 = 1_000_000;

/// Bytes of a key that are remembered, twice a UUID; of a longer one the rest is remembered as its checksum.
pub const KEY_BYTES_KEPT: usize = 72;

/// Keys that one transaction forgets, several times as many as it adds, so that it stays short.
pub const KEYS_ROUND: u64 = 1_000;

// ---- Reading -----------------------------------------------------------------------------------------------------

/// Calls in one answer of the list, about 300 kB of JSON; a larger `limit` is reduced to it.
pub const LIST_CALLS_MAX: usize = 1000;

/// Calls in one answer of the list without `limit`: several screens.
pub const LIST_CALLS_DEFAULT: usize = 200;

/// Time that one search reads, about as long as people wait; past it the answer holds what was found and where to continue.
pub const SEARCH_TIME_MAX: Duration = Duration::from_secs(2);

/// Points of one series, several times the pixels of a chart; a shorter step is enlarged.
pub const SERIES_POINTS_MAX: i64 = 2_000;

/// Groups of one answer with statistics, and values of one with the most frequent ones; the others are summed up.
pub const GROUPS_MAX: usize = 1_000;

/// Groups and values that one query counts apart, about 7 kB each; past it those that are new are counted with the others.
pub const GROUPS_COUNTED_MAX: usize = 5_000;

/// Threads that count the columns of one query.
pub const COUNT_THREADS: usize = 2;

/// Threads that unpack lines for one search, if there are as many processors.
pub const SEARCH_THREADS: usize = 4;

/// Points of a series without `step`: one for every ten pixels of a chart.
pub const SERIES_POINTS_DEFAULT: i64 = 120;

/// Length of a series without `from`.
pub const SERIES_RANGE_DEFAULT: Duration = Duration::from_secs(3600);

/// Groups and values in an answer without `limit`.
pub const GROUPS_DEFAULT: usize = 20;

/// Exports that are read at the same time; 503 past it. Each holds a page of the list, [`EXPORT_CHUNK_BYTES`] and one call.
pub const EXPORTS_MAX: usize = 4;

/// Calls of one export; it ends there and states so.
pub const EXPORT_CALLS_MAX: usize = 1_000_000;

/// Bytes of an export that are made before the reader has taken them, and one call.
pub const EXPORT_CHUNK_BYTES: usize = 256 << 10;

/// Bytes of lines, but for one line, and calls that a file for another store has under one key.
pub const TRANSFER_BYTES: usize = 512 << 10;

/// See [`TRANSFER_BYTES`]; less than a bundle may have.
pub const TRANSFER_LINES_MAX: u64 = 1000;

/// Time of one export, however slowly it is read; it ends there and states so.
pub const EXPORT_TIME_MAX: Duration = Duration::from_secs(1800);

/// Time in which one request deletes calls; past it the answer has where the next one goes on.
pub const DELETE_TIME_MAX: Duration = Duration::from_secs(10);

/// Calls that a query in SQL sees, the newest that match; [`SQL_MEMORY_MAX`] is full of some 80 000 ordinary ones before.
pub const SQL_CALLS_MAX: usize = 100_000;

/// Bytes of the database that holds them, for the one query that is answered at a time; past it the query sees fewer calls.
pub const SQL_MEMORY_MAX: usize = 24 << 20;

/// Time of a query in SQL, half of which it may take to copy the calls; 400 past it.
pub const SQL_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the text of a query in SQL; 400 past it.
pub const SQL_BYTES_MAX: usize = 16 << 10;

/// Bytes of one value in a query in SQL; 400 past it.
pub const SQL_VALUE_BYTES_MAX: usize = 1 << 20;

/// Rows of the answer to a query in SQL; the rest is left out, and the answer states so.
pub const SQL_ROWS_MAX: usize = 10_000;

/// Bytes of the texts of these rows, and one row, in the same way.
pub const SQL_ANSWER_BYTES_MAX: usize = 8 << 20;

/// Calls that rules are tried on, the newest that match.
pub const TRIAL_CALLS: usize = 100;

/// Bytes of the lines of these calls, and one line, which are in memory meanwhile; fewer calls are tried past it.
pub const TRIAL_BYTES_MAX: usize = 4 << 20;

/// Bytes of the compiled patterns of these rules; larger ones are refused.
pub const TRIAL_COMPILED_BYTES_MAX: usize = 8 << 20;

/// Bytes of what the searches of these rules keep; past it they forget it and make it again.
pub const TRIAL_STATES_BYTES_MAX: usize = 4 << 20;

// One query in SQL or one trial is answered at a time. A call is there as a line, as details and as what is left of them.
const _: () = assert!(
    3 * TRIAL_BYTES_MAX + TRIAL_COMPILED_BYTES_MAX + TRIAL_STATES_BYTES_MAX <= SQL_MEMORY_MAX
);

/// Time of one trial of rules; fewer calls are tried past it.
pub const TRIAL_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the text of rules that are tried; 400 past it.
pub const TRIAL_RULES_BYTES_MAX: usize = 64 << 10;

/// Changes of a call that the answer lists; it has the number of the others.
pub const TRIAL_CHANGES_MAX: usize = 20;

/// Characters of a value around its change.
pub const TRIAL_VALUE_CHARS_MAX: usize = 200;

/// Bytes of a file of packets, which is in memory until its reader has it, in the place of a query in SQL: one at a time, 503 past it.
/// A longer one is refused; the capture leaves the oldest packets out, which the file states.
pub const PACKETS_FILE_BYTES_MAX: usize = 16 << 20;

/// Time before the first byte of a call and behind its last for which the packets of its connection are in its file: those of the
/// handshake and of acknowledgements.
pub const CALL_PACKETS_MARGIN: Duration = Duration::from_secs(1);

/// Bytes of one answer of the supervisor: many times the size of a status. 503 past it.
pub const CAPTURE_ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Time in which such an answer has to come; 503 past it.
pub const CAPTURE_ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Age of a status that another page gets as well.
pub const CAPTURE_STATUS_AGE: Duration = Duration::from_millis(500);

/// Bytes of a filter, so that its patterns stay small; 400 past it.
pub const FILTER_BYTES_MAX: usize = 1024;

/// Words and values of a filter; 400 past it. Each looks at a line once.
pub const FILTER_TERMS_MAX: usize = 64;

/// Parentheses and `not`s of a filter within each other; 400 past it. Each takes some hundred bytes of stack.
pub const FILTER_DEPTH_MAX: usize = 32;

/// Patterns of a filter; 400 past it.
pub const FILTER_PATTERNS_MAX: usize = 16;

/// Bytes of one compiled pattern, and of what its search remembers in each thread: enough for a few classes of Unicode. 400 past
/// the first; past the second the search forgets and starts again.
pub const FILTER_PATTERN_BYTES_MAX: usize = 256 << 10;

/// Bytes of the text of an id or a place; 400 past it. Time, bundle and line in base 36 need 40.
pub const ID_BYTES_MAX: usize = 64;

/// Bytes of a text in a row of the list, such as the URL, without the mark of the cut: more than any screen shows. The line has
/// all of it.
pub const COLUMN_BYTES_MAX: usize = 1024;

/// Bytes of the texts of one answer of the list, or of one event; past it the answer ends early and states where to continue.
/// JSON writes a byte as six at most.
pub const LIST_BYTES_MAX: usize = 1 << 20;

/// Characters of the note in a row of the list, which has no more space; the rest is left out.
pub const NOTE_CHARS_MAX: usize = 120;

// ---- Stream ------------------------------------------------------------------------------------------------------

/// Streams open at the same time, one for each page; 503 past it.
pub const STREAMS_MAX: usize = 64;

/// Bytes of the events that readers of streams have not taken yet; past it a reader gets `lagged` in place of the calls.
pub const STREAMS_BYTES_MAX: usize = 8 << 20;

/// Readers of streams whose next event is made at a time, with 2 MB each, so that one of two threads is left for bodies that arrive; the
/// next one waits.
pub const STREAM_TURNS: usize = 1;

/// Least time between two events of one stream: the page redraws at most ten times a second.
pub const STREAM_PACE: Duration = Duration::from_millis(100);

/// Calls that a stream may be behind, as many as a page shows; past it one `lagged` event continues at the newest call.
pub const STREAM_BEHIND_MAX: u64 = 1000;

/// Time without an event after which a stream sends a comment, so that proxies and browsers keep it open.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

// ---- Connections -------------------------------------------------------------------------------------------------

/// Connections to one listener at the same time, within the usual limit of 1024 descriptors. Past it, the one that has waited
/// longest for its peer is closed for the next one, counted as `connections_closed`; where all have a request, the next one is
/// closed, counted as `connections_refused`.
pub const CONNECTIONS_MAX: usize = 256;

/// Those of them that are kept for this host.
pub const CONNECTIONS_LOCAL: usize = 64;

/// Connections of one sender on the network, in the same way.
pub const CONNECTIONS_SENDER_MAX: usize = 64;

/// The three together.
pub(crate) const CONNECTIONS: Room = Room {
    connections: CONNECTIONS_MAX,
    local: CONNECTIONS_LOCAL,
    sender: CONNECTIONS_SENDER_MAX,
};

/// Connections that the supervisor of an all-in-one passes for its capture, which uses two at a time; past it, one that waits for
/// its next request is closed.
pub const PASSED_MAX: usize = 16;

/// Those that have come and are not served yet; the next one is closed, and its capture tries again.
pub const PASSED_WAITING_MAX: usize = 16;

/// Bytes of the head of a request, and of one read of a body, several times what loggers and browsers send; 431 past it.
pub const HEAD_BYTES_MAX: usize = 32 << 10;

/// Time in which the head of a request has to arrive, and for which an idle connection is kept; the connection is closed past it.
pub const HEAD_WAIT: Duration = Duration::from_secs(15);

/// Pause after `accept` failed, usually because no descriptor is left: the next attempt would fail at once.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time in which open connections have to end once a stop is requested; they are closed past it. Bundles that the backend
/// has already are committed in any case, and their senders try again with the same key.
pub const STOP_WAIT: Duration = Duration::from_millis(500);

// ---- SQLite ------------------------------------------------------------------------------------------------------

/// Bytes of lines in one transaction, after which waiting bundles are left for the next one: bounds how long the first
/// of them waits for its 204.
pub const TRANSACTION_BYTES_MAX: usize = 16 << 20;

/// Lines in one transaction, for the same reason; one bundle may have as many.
pub const TRANSACTION_LINES_MAX: usize = POST_LINES_MAX;

/// Bytes and lines of others than the store's own capture in one transaction: the bundles of the capture, which take turns with
/// them, wait as long. A bundle that has more is stored in several.
pub const TRANSACTION_OTHERS_BYTES_MAX: usize = 2 << 20;

/// See [`TRANSACTION_OTHERS_BYTES_MAX`].
pub const TRANSACTION_OTHERS_LINES_MAX: usize = 2_048;

/// Calls of one block: so few that a page of rare calls, each in another block, reads little, and so many that five million are
/// few blocks.
pub const BLOCK_CALLS_MAX: usize = 4_096;

/// Bytes of the dictionaries of a block, after which it ends: several times what ordinary calls have.
pub const BLOCK_TEXT_BYTES: usize = 4 << 20;

/// Bytes of the lines of a block, after which it ends: a search looks at its time after each block.
pub const BLOCK_LINES_BYTES: u64 = 64 << 20;

/// Bytes of lines that one search unpacks and holds at a time, or one chunk.
pub const SEARCH_BATCH_BYTES: usize = 4 << 20;

/// The same of all searches, which wait for each other past it; a chunk with a line that is longer is unpacked alone. What is packed
/// takes as much again at most.
pub const SEARCH_BYTES_MAX: usize = 12 << 20;

/// Small blocks in a row, before they are merged into one: a query reads each.
pub const BLOCKS_SMALL_MAX: usize = 16;

/// Names of facts that have a column in one block; the values of further ones are found in the lines alone.
pub const BLOCK_FACTS_MAX: usize = 128;

/// Texts of four characters in the lines of a block that are remembered to leave it out of searches, and as many of eight, at three to
/// six bits each: several times what ordinary lines have. A block with more is searched for every word.
pub const BLOCK_GRAMS_MAX: usize = 512 << 10;

/// Bytes of heads of blocks that are kept in memory for the next query, about 4 kB each of ordinary calls: those of eight million.
/// Past it all are forgotten and read again.
pub const HEADS_BYTES_MAX: usize = 8 << 20;

/// Bytes of a column that is kept in the head of its block, which every query reads.
pub const BLOCK_INLINE_BYTES: usize = 48;

/// Bytes of the lines that are compressed together, as many as a sniffer posts at once: more make them smaller by little, and a call's
/// details slower to show, by a millisecond each.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Combinations of host, endpoint, operation, method, status, appliance and VNI that calls are counted by, for each minute; past it
/// new ones are counted as one endpoint, and so are those with a text of more than 256 bytes. In memory and in the database each has its texts.
pub const MINUTE_KEYS_MAX: usize = 20_000;

/// Bytes of such combinations that the writing thread remembers; past it all are forgotten and read again.
pub const MINUTE_KEYS_BYTES_MAX: usize = 4 << 20;

/// Combinations of one minute that are counted before they are written, at most some kilobytes each; past it they are written.
pub const MINUTES_HELD_MAX: usize = 2_048;

/// Rows of counts by the minute, about 100 bytes each; past it the oldest minutes are deleted.
pub const MINUTES_MAX: i64 = 1_000_000;

/// Rows of losses by the minute, about 50 bytes each; past it the oldest are deleted.
pub const LOSSES_MAX: i64 = 200_000;

/// Blocks that one round of a deletion by filter examines: their lines are searched while bundles wait.
pub const DELETE_ROUND_BLOCKS: usize = 8;

/// Pages that one transaction gives back to the file system, so that it stays short; the next transaction continues.
pub const VACUUM_ROUND_PAGES: u64 = 256;

/// Bytes of the write-ahead log from which on a thread of its own copies it into the database, while bundles are stored; it is
/// emptied after the transaction behind that.
pub const WAL_COPY_BYTES: u64 = 16 << 20;

/// Bytes that may have come to the log while it was copied, so that the rest is left for the writing thread; more are copied too.
pub const WAL_REST_BYTES: u64 = 1 << 20;

/// Bytes of the write-ahead log from which on it is copied and emptied after the next transaction in any case, however long that
/// waits for queries.
pub const WAL_CHECKPOINT_BYTES: u64 = 48 << 20;

/// Bytes of the write-ahead log, at most: [`WAL_CHECKPOINT_BYTES`] and one full transaction, unless another program reads the
/// database for long.
pub const WAL_BYTES_MAX: u64 = 96 << 20;

/// Time that a checkpoint waits for the queries of this process to pause, which the bundles behind it wait as well; past it it is made
/// later, unless the log has [`WAL_CHECKPOINT_BYTES`].
pub const QUERIES_WAIT: Duration = Duration::from_millis(20);

/// Time that a checkpoint waits for a reader in another program, which the bundles behind it wait as well; past it the log grows
/// until the next attempt, [`WAL_CHECKPOINT_BYTES`] later.
pub const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);

/// Queries at the same time, each with [`COUNT_THREADS`] connections at most, which have a cache of about 2 MB each; the next query
/// waits.
pub const READERS: usize = 4;

/// Time that a statement waits for a lock of another program, such as a user's SQLite shell; past it the statement fails.
pub const BUSY_WAIT: Duration = Duration::from_secs(5);

// ---- ClickHouse --------------------------------------------------------------------------------------------------

/// Hosts in the address of a ClickHouse; a longer list is refused at the start.
pub const CLICKHOUSE_ADDRESSES_MAX: usize = 64;

/// Settings of the server in the address; more are refused at the start.
pub const CLICKHOUSE_SETTINGS_MAX: usize = 32;

/// Time in which a server has to accept a connection; the next address is used past it.
pub const CLICKHOUSE_CONNECT_WAIT: Duration = Duration::from_secs(3);

/// Time for which an address that has failed is used only if no other is left.
pub const CLICKHOUSE_REST: Duration = Duration::from_secs(10);

/// Connections to one address that are kept for the next statement; further ones are closed.
pub const CLICKHOUSE_CONNECTIONS_IDLE_MAX: usize = 8;

/// Time for which they are kept, less than the three seconds after which an old server closes them.
pub const CLICKHOUSE_IDLE_MAX: Duration = Duration::from_millis(2500);

/// Bytes of one answer: a page whose calls all need their lines. A search then reads fewer calls at a time; another query fails.
pub const CLICKHOUSE_ANSWER_BYTES_MAX: usize = 32 << 20;

/// Characters of an error of the server that are shown.
pub const CLICKHOUSE_ERROR_CHARS_MAX: usize = 300;

/// Time of one query on the server; the answer is that of a smaller range past it, or 503.
pub const CLICKHOUSE_QUERY_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of memory of one query on the server; 503 past it.
pub const CLICKHOUSE_QUERY_MEMORY_MAX: u64 = 4 << 30;

/// How far a replica may be behind the others and still answer a query, while one of these can; past it the server takes another.
pub const CLICKHOUSE_REPLICA_DELAY_MAX: Duration = Duration::from_secs(10);

/// Calls that a search reads at a time where the filter is not exact in SQL.
pub const CLICKHOUSE_BATCH_ROWS: usize = 2_000;

/// Age of the time of the oldest call, which each answer has.
pub const CLICKHOUSE_HELD_AGE: Duration = Duration::from_secs(10);

/// Bytes of bundles that wait for their statement or its answer, 512 for each call on top; the next one waits, 503 after
/// [`POST_WAIT`].
pub const CLICKHOUSE_QUEUE_BYTES_MAX: usize = 32 << 20;

/// Calls of one statement, or one bundle: a large part for the server, which it need not merge soon.
pub const CLICKHOUSE_GROUP_ROWS_MAX: u64 = 20_000;

/// Bytes of one statement, and one bundle.
pub const CLICKHOUSE_GROUP_BYTES_MAX: usize = 16 << 20;

/// Least time between two statements for a shard, in which bundles are gathered: each makes a part that the server has to merge.
pub const CLICKHOUSE_GROUP_PACE_MIN: Duration = Duration::from_millis(100);

/// What it becomes while the server has too many parts.
pub const CLICKHOUSE_GROUP_PACE_MAX: Duration = Duration::from_secs(1);

/// Time of one attempt to insert.
pub const CLICKHOUSE_INSERT_TIME_MAX: Duration = Duration::from_secs(8);

/// Time for all attempts of a group, less than the thirty seconds that a sniffer waits; 503 past it.
pub const CLICKHOUSE_GROUP_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause before the second attempt, which doubles with each further one.
pub const CLICKHOUSE_RETRY_PAUSE_MIN: Duration = Duration::from_millis(200);

/// Longest pause between two attempts.
pub const CLICKHOUSE_RETRY_PAUSE_MAX: Duration = Duration::from_secs(3);

/// Bundles with a key that a process remembers to have stored, about 60 bytes each; of older ones the server knows.
pub const CLICKHOUSE_BUNDLES_KNOWN_MAX: usize = 100_000;

/// Time between two queries for what other stores have stored, while a page is open.
pub const CLICKHOUSE_POLL_WAIT: Duration = Duration::from_secs(1);

/// How far back such a query looks, because of clocks that differ and replicas that are late; what comes later is in the list, not
/// among the new calls of a page that is open.
pub const CLICKHOUSE_TAIL_BEHIND: Duration = Duration::from_secs(5);

/// Bundles that are remembered as shown, about 50 bytes each.
pub const CLICKHOUSE_TAIL_BUNDLES_MAX: usize = 100_000;

/// Calls that one round of a deletion finds where the filter is not exact in SQL.
pub const CLICKHOUSE_DELETE_ROWS_MAX: usize = 2_000;

/// Time in which a deletion has to be done; 503 past it, and the server goes on.
pub const CLICKHOUSE_MUTATION_WAIT: Duration = Duration::from_secs(60);

/// Time of one statement of a migration.
pub const CLICKHOUSE_MIGRATION_WAIT: Duration = Duration::from_secs(60);

const _: () = assert!(
    // The last attempt begins within the time for all of them.
    CLICKHOUSE_GROUP_TIME_MAX.as_secs() + CLICKHOUSE_INSERT_TIME_MAX.as_secs() < 30,
    "a group must be given up before its sender gives up"
);

const _: () = assert!(
    // A group ends with the bundle that passes its bound; a page of the database is hardly ever less than two thirds full.
    WAL_CHECKPOINT_BYTES + (TRANSACTION_BYTES_MAX + POST_BYTES_MAX) as u64 * 3 / 2 <= WAL_BYTES_MAX,
    "the log must stay within its bound"
);

const _: () = assert!(
    PACKETS_FILE_BYTES_MAX <= SQL_MEMORY_MAX,
    "a file of packets has the place of a query"
);

const _: () = assert!(
    // A query in SQL keeps one, and may displace a worker.
    DECODED_OTHERS_MAX + PREPARED_OTHERS_MAX + READERS + 2 < THREADS_MAX,
    "a thread must be left for the capture"
);

const _: () = assert!(
    FILTER_BYTES_MAX * 16 < 1 << 20,
    "a filter must compile within the regex size limit"
);

// ---- Memory ------------------------------------------------------------------------------------------------------

/// Bytes that this process holds at most, whatever it is sent: the sum of the parts below, most of which are the bounds above. What the
/// allocator keeps between two uses comes on top; `sniffer store` has it given back to the kernel at once. A call as long as a POST that is shown or exported is in no part: it is there twice while its answer is written.
pub const STORE_MEMORY_MAX: usize = 256 << 20;

/// The part of the program itself, of SQLite's caches, of threads, and of endpoints.
pub const MEMORY_PROGRAM_BYTES: usize = 20 << 20;

/// The part of one bundle that becomes a block: the columns that are built, the grams, and what compression needs.
pub const MEMORY_PREPARED_BYTES: usize = 8 << 20;

/// The part of the writing thread: the same for small bundles and merged blocks, and counts by the minute.
pub const MEMORY_WRITER_BYTES: usize = 12 << 20;

const _: () = assert!(
    MEMORY_PROGRAM_BYTES
        + 2 * CONNECTIONS_MAX * HEAD_BYTES_MAX
        + BODIES_CAPTURE_BYTES
        + BODIES_LOCAL_BYTES
        + BODIES_NETWORK_BYTES
        + TEXTS_CAPTURE_BYTES
        + TEXTS_LOCAL_BYTES
        + TEXTS_NETWORK_BYTES
        + (PREPARED_MAX + PREPARED_OTHERS_MAX) * MEMORY_PREPARED_BYTES
        + MEMORY_WRITER_BYTES
        + HEADS_BYTES_MAX
        + 2 * SEARCH_BYTES_MAX
        + SQL_MEMORY_MAX
        + STREAMS_BYTES_MAX
        <= STORE_MEMORY_MAX,
    "the parts must be within the whole"
);
