-- The tables of calls.sqlite beside those of calls.sql.

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
    key         TEXT NOT NULL,    -- Idempotency-Key, of a long one its start and checksum
    crc32       INTEGER NOT NULL, -- of the plain body
    bytes       INTEGER NOT NULL, -- of the plain body
    received_ms INTEGER NOT NULL,
    lines       INTEGER NOT NULL, -- calls stored from it
    bad_lines   INTEGER NOT NULL, -- lines of it that were refused
    UNIQUE (key, crc32, bytes)
);

-- Totals since the file was made, changed in the transaction that changes the rows:
-- calls_received = calls in the blocks + calls_expired + calls_deleted, always.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters VALUES
    ('since_ms', 0), ('calls_received', 0), ('calls_expired', 0),
    ('bundles_received', 0), ('bundles_repeated', 0), ('keys_forgotten', 0), ('bad_lines', 0);
