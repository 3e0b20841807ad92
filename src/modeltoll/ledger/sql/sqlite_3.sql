-- Version 3: standings, the receipts that were counted, and indexes by age, by which what is old is found and deleted.

CREATE TABLE standings (
    caller       TEXT    PRIMARY KEY,
    unsettled    REAL    NOT NULL, -- reference seconds, as the two that follow
    prepaid      REAL    NOT NULL,
    new_account  REAL    NOT NULL,
    settled_rows INTEGER NOT NULL,
    drained      REAL    NOT NULL -- seconds since the epoch
) WITHOUT ROWID;
CREATE INDEX standings_by_age ON standings (drained);

-- The key is a hash of the caller's name and the receipt's identity.
CREATE TABLE receipts (key BLOB PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX receipts_by_expiry ON receipts (expires);

CREATE INDEX accounts_by_age ON accounts (last_seen);
CREATE INDEX days_by_age ON days (day);

-- The numbers of the rows, packed; in lines that have some, leaks and rarest are empty texts. Older lines have none.
ALTER TABLE log ADD COLUMN numbers BLOB NOT NULL DEFAULT x'';
