-- A ledger in PostgreSQL, version 1. Applied in one transaction; later versions are separate files.

-- An operator may have created the schema before, for a user without the right to do so.
DO $$ BEGIN
    IF to_regnamespace('modeltoll') IS NULL THEN
        CREATE SCHEMA modeltoll;
    END IF;
END $$;

-- One row. The program marks the schema as a ledger. The salt keys the pseudonyms in the log, so that they cannot be
-- found by trying all network prefixes.
CREATE TABLE modeltoll.meta (
    program text    NOT NULL,
    version integer NOT NULL,
    salt    bytea   NOT NULL
);
CREATE UNIQUE INDEX meta_has_one_line ON modeltoll.meta ((true));

-- One row per caller and model, and per group and model. The key is a hash of both names, because an index cannot hold
-- long names. counts: one row of bins per measure, flattened, as of last_seen. learned: the number of fingerprints ever
-- added to the sketch. The fill factor leaves space in pages, so that a charge need not update an index.
CREATE TABLE modeltoll.accounts (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key        bytea  NOT NULL UNIQUE,
    learned    bigint NOT NULL DEFAULT 0,
    caller     text   NOT NULL,
    model      text   NOT NULL,
    rows       bigint NOT NULL DEFAULT 0,
    requests   bigint NOT NULL DEFAULT 0,
    work       double precision NOT NULL DEFAULT 0,
    tariff     text   NOT NULL,
    first_seen double precision NOT NULL,
    last_seen  double precision NOT NULL,
    measures   integer NOT NULL,
    leaks      double precision[] NOT NULL DEFAULT '{}',
    counts     double precision[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- A ring of the latest fingerprints (8 bytes as a signed integer) of each account.
CREATE TABLE modeltoll.sketch (
    account     bigint  NOT NULL,
    slot        integer NOT NULL,
    fingerprint bigint  NOT NULL,
    PRIMARY KEY (account, slot)
);
CREATE INDEX sketch_by_fingerprint ON modeltoll.sketch (account, fingerprint);

-- Append-only. Lines are never changed; retention deletes the oldest lines only, and never the last one.
CREATE TABLE modeltoll.log (
    line            bigint PRIMARY KEY,
    at              double precision NOT NULL,
    caller          text    NOT NULL, -- keyed hash, 16 hexadecimal digits
    model           text    NOT NULL,
    rows            bigint  NOT NULL,
    measures        text    NOT NULL, -- JSON: names
    leaks           text    NOT NULL, -- JSON: per row, one number per measure
    rarest          text    NOT NULL, -- JSON: per row, its smallest p-value
    mode            text    NOT NULL,
    work            double precision NOT NULL, -- reference seconds, = rows_seconds + entry_seconds
    work_rows       bigint  NOT NULL,
    rows_seconds    double precision NOT NULL,
    entry_seconds   double precision NOT NULL,
    surcharge       double precision NOT NULL,
    group_surcharge double precision NOT NULL
);
CREATE SEQUENCE modeltoll.line OWNED BY modeltoll.log.line;

-- Line numbers are assigned under a lock that lasts until the line is visible, so that a reader who continues after the
-- last number misses no line.
CREATE FUNCTION modeltoll.number_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1297370956, 1);
    NEW.line := nextval('modeltoll.line');
    RETURN NEW;
END $$;
CREATE TRIGGER log_lines_are_numbered BEFORE INSERT ON modeltoll.log
    FOR EACH ROW EXECUTE FUNCTION modeltoll.number_line();

CREATE FUNCTION modeltoll.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only';
END $$;
CREATE TRIGGER log_is_never_changed BEFORE UPDATE OR TRUNCATE ON modeltoll.log
    FOR EACH STATEMENT EXECUTE FUNCTION modeltoll.refuse_change();

CREATE FUNCTION modeltoll.refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT max(line) FROM gone) >= (SELECT coalesce(min(line), 0) FROM modeltoll.log) THEN
        RAISE EXCEPTION 'the log loses its oldest lines only, and never its last';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER log_leaves_from_the_old_end AFTER DELETE ON modeltoll.log REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION modeltoll.refuse_gap();

-- A charge: account_math.charge for the caller and each of its groups, in one call. One key and one name per account;
-- bins flattened, one per row and measure; times in seconds. The keys are in ascending order, so that charges cannot
-- deadlock; the accounts are returned in the same order. A request of one row, the common case, takes a shorter path.
CREATE FUNCTION modeltoll.charge(
    keys bytea[], callers text[], entry_model text, entry_rows bigint, entry_leaks double precision[], bins integer[],
    fingerprints bigint[], entry_measures integer, width integer, entry_tariff text, entry_at double precision,
    half_life double precision, ring integer
) RETURNS SETOF modeltoll.accounts LANGUAGE plpgsql AS $$
DECLARE
    account modeltoll.accounts;
    turn    integer;
    place   integer;
    age     double precision;
    share   double precision;
    fresh   integer[];
    sums    double precision[]; -- leaks after the charge
    bars    double precision[]; -- counts after the charge
BEGIN
    FOR party IN 1 .. cardinality(keys) LOOP
        LOOP
            SELECT * INTO account FROM modeltoll.accounts AS a WHERE a.key = keys[party] FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO modeltoll.accounts (key, caller, model, tariff, first_seen, last_seen, measures)
            VALUES (keys[party], callers[party], entry_model, entry_tariff, entry_at, entry_at, entry_measures)
            ON CONFLICT DO NOTHING;
        END LOOP;

        -- The first rows of the fingerprints that are not in the sketch.
        fresh := '{}';
        IF cardinality(fingerprints) = 1 THEN
            IF NOT EXISTS (
                SELECT FROM modeltoll.sketch AS s WHERE s.account = account.id AND s.fingerprint = fingerprints[1]
            ) THEN
                fresh := '{1}';
            END IF;
        ELSE
            fresh := ARRAY(
                SELECT min(r.n) FROM unnest(fingerprints) WITH ORDINALITY AS r (fingerprint, n)
                WHERE NOT EXISTS (
                    SELECT FROM modeltoll.sketch AS s
                    WHERE s.account = account.id AND s.fingerprint = r.fingerprint
                )
                GROUP BY r.fingerprint ORDER BY min(r.n)
            );
        END IF;

        IF account.tariff = entry_tariff AND account.measures = entry_measures
            AND cardinality(account.counts) = entry_measures * width
            AND cardinality(account.leaks) = cardinality(entry_leaks)
        THEN
            age := greatest(0, entry_at - account.last_seen);
            bars := account.counts;
            IF age > 0 THEN -- avoids underflow, which is an error in PostgreSQL
                share := CASE WHEN age / 500 > half_life THEN 0 ELSE power(0.5::double precision, age / half_life) END;
                FOR place IN 1 .. cardinality(bars) LOOP
                    bars[place] := CASE WHEN bars[place] < 1e-150 THEN 0 ELSE bars[place] * share END;
                END LOOP;
            END IF;
            sums := account.leaks;
            FOR place IN 1 .. cardinality(sums) LOOP
                sums[place] := sums[place] + entry_leaks[place];
            END LOOP;
        ELSE
            bars := array_fill(0::double precision, ARRAY[entry_measures * width]);
            sums := entry_leaks;
        END IF;
        FOREACH turn IN ARRAY fresh LOOP
            FOR measure IN 0 .. entry_measures - 1 LOOP
                place := measure * width + bins[(turn - 1) * entry_measures + measure + 1] + 1;
                bars[place] := bars[place] + 1;
            END LOOP;
        END LOOP;

        IF cardinality(fresh) = 1 THEN
            INSERT INTO modeltoll.sketch (account, slot, fingerprint)
            VALUES (account.id, account.learned % ring, fingerprints[fresh[1]])
            ON CONFLICT ON CONSTRAINT sketch_pkey DO UPDATE SET fingerprint = excluded.fingerprint;
        ELSIF fresh <> '{}' THEN
            INSERT INTO modeltoll.sketch (account, slot, fingerprint)
            SELECT account.id, (account.learned + n - 1) % ring, fingerprints[fresh[n]]
            FROM generate_series(greatest(1, cardinality(fresh) - ring + 1), cardinality(fresh)) AS n
            ON CONFLICT ON CONSTRAINT sketch_pkey DO UPDATE SET fingerprint = excluded.fingerprint;
        END IF;

        UPDATE modeltoll.accounts AS a SET
            learned = a.learned + cardinality(fresh),
            rows = a.rows + entry_rows,
            requests = a.requests + 1,
            tariff = entry_tariff,
            last_seen = greatest(a.last_seen, entry_at),
            measures = entry_measures,
            leaks = sums,
            counts = bars
        WHERE a.id = account.id RETURNING a.* INTO account;
        RETURN NEXT account;
    END LOOP;
END $$;

-- Deletes an account and its sketch; false if it does not exist.
CREATE FUNCTION modeltoll.reset(account_key bytea) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    DELETE FROM modeltoll.accounts WHERE key = account_key RETURNING id INTO number;
    DELETE FROM modeltoll.sketch WHERE account = number; -- a separate statement sees what the first one waited for
    RETURN number IS NOT NULL;
END $$;
