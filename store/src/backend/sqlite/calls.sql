-- The tables of calls.sqlite that hold calls, version 3 (PRAGMA user_version). Any SQLite tool may read the file while the store
-- runs:
--     sqlite3 'file:calls.sqlite?mode=ro' 'SELECT sum(rows) FROM blocks'

-- Calls, some thousand in a row, column by column; a call has a number in the order of arrival that is never used again.
-- `sniffer query` reads them as a table of calls (docs/schema.md has how the columns are written).
CREATE TABLE blocks (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    first      INTEGER NOT NULL, -- number of its first call
    last       INTEGER NOT NULL,
    rows       INTEGER NOT NULL, -- calls in it
    text_bytes INTEGER NOT NULL, -- of the dictionaries of its texts
    oldest_ms  INTEGER NOT NULL, -- time of its oldest call, Unix
    newest_ms  INTEGER NOT NULL,
    head       BLOB NOT NULL     -- its columns: least and largest number, and those that are short
);
CREATE UNIQUE INDEX blocks_first ON blocks (first);
CREATE TABLE columns (
    id   INTEGER PRIMARY KEY, -- 256 times the block, and the number of the column
    data BLOB NOT NULL
);

-- Lines exactly as they were sent, without their newlines, some dozens compressed together (zstd).
CREATE TABLE lines (
    first INTEGER PRIMARY KEY, -- number of the first call
    rows  INTEGER NOT NULL,    -- numbers that it covers
    bytes INTEGER NOT NULL,    -- of the lines before compression
    data  BLOB NOT NULL
);

-- Calls by the minute of their time. The counts stay when calls are deleted.
CREATE TABLE minute_keys (
    id        INTEGER PRIMARY KEY,
    host      TEXT NOT NULL,
    endpoint  TEXT NOT NULL,
    operation TEXT NOT NULL,
    method    TEXT NOT NULL,
    appliance TEXT NOT NULL,
    status    INTEGER NOT NULL, -- -1: none
    vni       INTEGER NOT NULL, -- -1: none
    UNIQUE (host, endpoint, operation, method, appliance, status, vni)
);
CREATE TABLE minutes (
    minute INTEGER NOT NULL, -- Unix time in minutes
    key    INTEGER NOT NULL, -- id in minute_keys
    data   BLOB NOT NULL,    -- calls by class of status, bytes, buckets of latency, first byte and size
    PRIMARY KEY (minute, key)
) WITHOUT ROWID;

-- Calls that are missing, by the minute.
CREATE TABLE losses (
    minute    INTEGER NOT NULL,
    cause     TEXT NOT NULL,    -- a name of the ledger, or 'expired'
    appliance TEXT NOT NULL,
    vni       INTEGER NOT NULL, -- -1: none
    calls     INTEGER NOT NULL,
    PRIMARY KEY (minute, cause, appliance, vni)
) WITHOUT ROWID;

-- The number of the newest call ever stored.
INSERT OR IGNORE INTO counters VALUES ('newest', 0), ('calls_deleted', 0);
