-- The schema of calls.sqlite, version 2 (PRAGMA user_version). Any SQLite tool may read it while the store runs:
--     sqlite3 'file:calls.sqlite?mode=ro' 'SELECT id, method, url, status FROM calls ORDER BY id DESC LIMIT 20'

CREATE TABLE calls (
    id             INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival; never reused, also after deletion
    sender         INTEGER NOT NULL, -- id in senders
    received_ms    INTEGER NOT NULL, -- Unix time at which the store received the bundle
    now_ms         INTEGER,          -- `now` of the line: Unix time of the response's first packet
    interval_ms    INTEGER,          -- `interval` of the line: request to response
    method         TEXT NOT NULL,
    url            TEXT NOT NULL,    -- scheme, host and path, as in the line; a long text ends in an ellipsis, here and below
    host           TEXT NOT NULL,    -- authority of the URL, else the host header
    path           TEXT NOT NULL,
    status         INTEGER,          -- NULL when the line has none
    request_bytes  INTEGER,          -- length of the logged body; NULL when the line has none
    response_bytes INTEGER,
    content_type   TEXT NOT NULL,    -- media type of the response, lower case, no parameters
    note           TEXT NOT NULL,    -- remarks for the list, from annotations
    line           TEXT NOT NULL     -- the line exactly as it was sent, without its newline
);
-- Newest first is the primary key in reverse. The one further index is for the deletion of the oldest calls of one sender; its
-- entries are small and new ones are appended.
CREATE INDEX calls_of_sender ON calls (sender);

-- Where calls come from, for the division of the history. A sender without calls may be deleted.
CREATE TABLE senders (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE, -- peer address, "local", or "other" for those beyond the number that is counted apart
    calls    INTEGER NOT NULL,     -- stored now
    bytes    INTEGER NOT NULL,     -- of their lines
    received INTEGER NOT NULL,     -- calls stored ever: calls + expired
    expired  INTEGER NOT NULL      -- calls deleted to stay within the retention
);

-- Bundles already stored, so that one sent twice is kept once. Because of the checksum, a sender that uses one key for two
-- different bundles does not lose the second.
CREATE TABLE bundles (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    key         TEXT NOT NULL,    -- Idempotency-Key
    crc32       INTEGER NOT NULL, -- of the plain body
    bytes       INTEGER NOT NULL, -- of the plain body
    received_ms INTEGER NOT NULL,
    lines       INTEGER NOT NULL, -- calls stored from it
    bad_lines   INTEGER NOT NULL, -- lines of it that were refused
    UNIQUE (key, crc32, bytes)
);

-- Totals since the file was made, changed in the transaction that changes the rows:
-- calls_received = calls in the table + calls_expired, always.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters VALUES
    ('since_ms', 0), ('calls_received', 0), ('calls_expired', 0),
    ('bundles_received', 0), ('bundles_repeated', 0), ('bad_lines', 0);
