-- Version 2: the usage of callers with a quota on their latest day. Days are counted from the epoch, in UTC.
CREATE TABLE days (
    caller TEXT    PRIMARY KEY,
    day    INTEGER NOT NULL,
    rows   INTEGER NOT NULL,
    work   REAL    NOT NULL -- reference seconds
) WITHOUT ROWID;
