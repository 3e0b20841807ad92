-- A ledger in SQLite, version 1. Applied in one transaction; later versions are separate files.

PRAGMA application_id = 0x4d544f4c; -- "MTOL": this file is a ledger of Modeltoll

-- The salt keys the pseudonyms in the log, so that they cannot be found by trying all network prefixes.
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('salt', randomblob(32));

-- One row per caller and model, and per group and model. leaks and counts are doubles, little-endian; counts have one row
-- of bins per measure, flattened, as of last_seen. learned: the number of fingerprints ever added to the sketch.
CREATE TABLE accounts (
    id         INTEGER PRIMARY KEY,
    caller     TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    rows       INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    work       REAL    NOT NULL,
    tariff     TEXT    NOT NULL,
    first_seen REAL    NOT NULL,
    last_seen  REAL    NOT NULL,
    measures   INTEGER NOT NULL,
    leaks      BLOB    NOT NULL,
    counts     BLOB    NOT NULL,
    learned    INTEGER NOT NULL,
    UNIQUE (caller, model)
);

-- A ring of the latest fingerprints (8 bytes as a signed integer) of each account. With one row per fingerprint a charge
-- takes a third less time than with a ring of 32 KiB in a blob, and the rings of small callers take little space.
CREATE TABLE sketch (
    account     INTEGER NOT NULL,
    slot        INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    PRIMARY KEY (account, slot)
) WITHOUT ROWID;
CREATE INDEX sketch_by_fingerprint ON sketch (account, fingerprint);

-- Append-only. Lines are never changed; retention deletes the oldest lines only, and never the last one, so that no
-- number is assigned twice.
CREATE TABLE log (
    line          INTEGER PRIMARY KEY,
    at            REAL    NOT NULL,
    caller        TEXT    NOT NULL, -- keyed hash, 16 hexadecimal digits
    model         TEXT    NOT NULL,
    rows          INTEGER NOT NULL,
    measures      TEXT    NOT NULL, -- JSON: names
    leaks         TEXT    NOT NULL, -- JSON: per row, one number per measure
    rarest        TEXT    NOT NULL, -- JSON: per row, its smallest p-value
    mode          TEXT    NOT NULL,
    work          REAL    NOT NULL, -- reference seconds, = rows_seconds + entry_seconds
    work_rows     INTEGER NOT NULL,
    rows_seconds  REAL    NOT NULL,
    entry_seconds REAL    NOT NULL,
    surcharge     REAL    NOT NULL,
    group_surcharge REAL  NOT NULL
);
CREATE TRIGGER log_is_never_changed BEFORE UPDATE ON log BEGIN
    SELECT raise(ABORT, 'the log is append-only');
END;
CREATE TRIGGER log_leaves_from_the_old_end BEFORE DELETE ON log
WHEN EXISTS (SELECT 1 FROM log WHERE line < OLD.line) OR OLD.line = (SELECT max(line) FROM log) BEGIN
    SELECT raise(ABORT, 'the log loses its oldest lines only, and never its last');
END;
