-- Version 4: evidence in place of histograms. Old counts are dropped, and evidence starts anew; totals stay.

-- One row per caller and model, and per group and model. learned: the number of fingerprints ever added to the sketch.
-- leaks are doubles, little-endian; counts, blocks and finished are as counts_codec packs them, for ``cells`` cells. A bill
-- writes log_evidence, the logarithm of the evidence, and seldom finished, the blocks that wait until their evidence is
-- added to finished_log. since: seconds since the epoch.
CREATE TABLE accounts_4 (
    id           INTEGER PRIMARY KEY,
    caller       TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    rows         INTEGER NOT NULL,
    requests     INTEGER NOT NULL,
    work         REAL    NOT NULL,
    tariff       TEXT    NOT NULL,
    first_seen   REAL    NOT NULL,
    last_seen    REAL    NOT NULL,
    learned      INTEGER NOT NULL,
    leaks        BLOB    NOT NULL,
    cells        INTEGER NOT NULL,
    counts       BLOB    NOT NULL,
    blocks       BLOB    NOT NULL,
    finished     BLOB    NOT NULL,
    since        REAL    NOT NULL,
    finished_log REAL    NOT NULL,
    log_evidence REAL    NOT NULL,
    carried_log  REAL, -- null where nothing is carried
    UNIQUE (caller, model)
);
INSERT INTO accounts_4
SELECT id, caller, model, rows, requests, work, tariff, first_seen, last_seen, learned, leaks,
    0, x'01', x'0101010101010101010101', x'', last_seen, -9e999, 0.0, NULL
FROM accounts;
DROP TABLE accounts;
ALTER TABLE accounts_4 RENAME TO accounts;
CREATE INDEX accounts_by_age ON accounts (last_seen);
