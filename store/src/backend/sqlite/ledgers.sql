-- The last ledger of each run of a sniffer: sums since its start, as it posted them.
CREATE TABLE IF NOT EXISTS ledgers (
    sender     TEXT NOT NULL,    -- as in senders
    appliance  TEXT NOT NULL,
    run        TEXT NOT NULL,
    updated_ms INTEGER NOT NULL, -- when it was posted, Unix
    data       TEXT NOT NULL,    -- JSON, as in the post
    PRIMARY KEY (sender, appliance, run)
) WITHOUT ROWID;
