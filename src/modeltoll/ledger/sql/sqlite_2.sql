-- Version 2: what callers with an allowance have had of their latest day. Days are counted from the epoch, in UTC.
CREATE TABLE days (
    caller TEXT    PRIMARY KEY,
    day    INTEGER NOT NULL,
    rows   INTEGER NOT NULL,
    work   REAL    NOT NULL -- reference seconds
) WITHOUT ROWID;
