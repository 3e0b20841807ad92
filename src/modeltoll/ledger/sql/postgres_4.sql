-- Version 4: evidence in place of histograms. Old counts are dropped, and evidence starts anew; totals stay.

-- counts: the fresh rows of each cell since the evidence began, ``counted`` in all. log_evidence: the logarithm of the
-- evidence, which every bill replaces.
DROP FUNCTION modeltoll.charge(
    bytea[], text[], text, bigint, double precision[], integer[], bigint[], integer, integer, text, double precision,
    double precision, integer
);
ALTER TABLE modeltoll.accounts DROP COLUMN measures, DROP COLUMN counts;
ALTER TABLE modeltoll.accounts
    ADD COLUMN counts bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN counted bigint NOT NULL DEFAULT 0,
    ADD COLUMN log_evidence double precision NOT NULL DEFAULT 0;

-- The rest of an account's evidence, which changes where a block ends or is added. Each array has one element per restart,
-- in two of them one per restart and cell, flattened. A current block is what ``counts`` has above ``starts``, so that a row
-- adds to one array alone; ``started`` is ``counted`` at its start. finished_numbers: 0 where no block waits; where none does
-- at all, ``finished`` is empty.
CREATE TABLE modeltoll.evidence (
    account          bigint PRIMARY KEY REFERENCES modeltoll.accounts (id) ON DELETE CASCADE,
    since            double precision NOT NULL, -- seconds since the epoch
    carried_log      double precision, -- null where nothing is carried
    finished_log     double precision NOT NULL DEFAULT '-Infinity',
    numbers          bigint[] NOT NULL,
    started          bigint[] NOT NULL,
    starts           bigint[] NOT NULL,
    finished_numbers bigint[] NOT NULL,
    finished         bigint[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
INSERT INTO modeltoll.evidence (account, since, numbers, started, starts, finished_numbers)
SELECT id, last_seen, '{1,1,1,1,1}', '{0,0,0,0,0}', '{}', '{0,0,0,0,0}' FROM modeltoll.accounts;

CREATE VIEW modeltoll.account_states AS
SELECT a.key, a.caller, a.model, a.rows, a.requests, a.work, a.tariff, a.first_seen, a.last_seen, a.leaks,
    a.counts, e.numbers, e.starts, e.finished_numbers, e.finished, e.since, e.finished_log, a.log_evidence, e.carried_log
FROM modeltoll.accounts AS a JOIN modeltoll.evidence AS e ON e.account = a.id;

-- evidence_math.restarted for an account whose evidence does not go on. A new account has none yet.
CREATE FUNCTION modeltoll.restart_evidence(
    INOUT state modeltoll.accounts, entry_cells integer, restarts integer, entry_at double precision,
    period double precision
) LANGUAGE plpgsql AS $$
DECLARE
    before modeltoll.evidence;
    nought bigint[] := array_fill(0::bigint, ARRAY[restarts]);
BEGIN
    SELECT * INTO before FROM modeltoll.evidence AS e WHERE e.account = state.id;
    IF entry_at - before.since >= period THEN
        before.carried_log := NULL;
        state.log_evidence := 0;
    ELSIF state.counted > 0 OR before.carried_log IS NOT NULL THEN
        before.carried_log := state.log_evidence;
    ELSE
        state.log_evidence := 0;
    END IF;
    INSERT INTO modeltoll.evidence (account, since, carried_log, numbers, started, starts, finished_numbers)
    VALUES (
        state.id, entry_at, before.carried_log, array_fill(1::bigint, ARRAY[restarts]), nought,
        array_fill(0::bigint, ARRAY[restarts * entry_cells]), nought
    )
    ON CONFLICT (account) DO UPDATE SET
        since = excluded.since,
        carried_log = excluded.carried_log,
        finished_log = excluded.finished_log,
        numbers = excluded.numbers,
        started = excluded.started,
        starts = excluded.starts,
        finished_numbers = excluded.finished_numbers,
        finished = excluded.finished;
    state.counts := array_fill(0::bigint, ARRAY[entry_cells]);
    state.counted := 0;
END $$;

-- Ends the blocks of an account that have reached their sizes, where no block waits: part of evidence_math.counted.
CREATE FUNCTION modeltoll.end_blocks(state modeltoll.accounts, sizes bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    blocks  modeltoll.evidence;
    cells   CONSTANT integer := cardinality(state.counts);
    place   integer;
BEGIN
    SELECT * INTO blocks FROM modeltoll.evidence AS e WHERE e.account = state.id;
    FOR restart IN 1 .. cardinality(sizes) LOOP
        CONTINUE WHEN blocks.finished_numbers[restart] > 0 OR state.counted - blocks.started[restart] < sizes[restart];
        IF blocks.finished = '{}' THEN
            blocks.finished := array_fill(0::bigint, ARRAY[cardinality(sizes) * cells]);
        END IF;
        FOR cell IN 1 .. cells LOOP
            place := (restart - 1) * cells + cell;
            blocks.finished[place] := state.counts[cell] - blocks.starts[place];
            blocks.starts[place] := state.counts[cell];
        END LOOP;
        blocks.finished_numbers[restart] := blocks.numbers[restart];
        blocks.numbers[restart] := blocks.numbers[restart] + 1;
        blocks.started[restart] := state.counted;
    END LOOP;
    UPDATE modeltoll.evidence AS e SET
        numbers = blocks.numbers,
        started = blocks.started,
        starts = blocks.starts,
        finished_numbers = blocks.finished_numbers,
        finished = blocks.finished
    WHERE e.account = state.id;
END $$;

-- A charge: account_math.charge for the caller and each of its groups, in one call. One key and one name per account;
-- times in seconds; one cell per row, or none. The keys are in ascending order, so that charges cannot deadlock; the
-- accounts are returned in any order. A request of one row, the common case, takes a shorter path.
CREATE FUNCTION modeltoll.charge(
    keys bytea[], callers text[], entry_model text, entry_rows bigint, entry_leaks double precision[], cells integer[],
    fingerprints bigint[], entry_cells integer, entry_tariff text, entry_at double precision,
    period double precision, sizes bigint[], ring integer
) RETURNS SETOF modeltoll.account_states LANGUAGE plpgsql AS $$
DECLARE
    account modeltoll.accounts;
    blocks  modeltoll.evidence;
    turn    integer;
    place   integer;
    is_new  boolean;
    goes_on boolean; -- whether the evidence does
    fresh   integer[];
    sums    double precision[]; -- leaks after the charge
BEGIN
    FOR party IN 1 .. cardinality(keys) LOOP
        is_new := false;
        LOOP
            SELECT * INTO account FROM modeltoll.accounts AS a WHERE a.key = keys[party] FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO modeltoll.accounts (key, caller, model, tariff, first_seen, last_seen)
            VALUES (keys[party], callers[party], entry_model, entry_tariff, entry_at, entry_at)
            ON CONFLICT DO NOTHING;
            is_new := FOUND;
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

        sums := entry_leaks;
        IF NOT is_new AND account.tariff = entry_tariff AND cardinality(account.counts) = entry_cells
            AND cardinality(account.leaks) = cardinality(entry_leaks)
        THEN
            FOR leak IN 1 .. cardinality(sums) LOOP
                sums[leak] := account.leaks[leak] + sums[leak];
            END LOOP;
            SELECT * INTO blocks FROM modeltoll.evidence AS e WHERE e.account = account.id;
            goes_on := entry_at - blocks.since < period;
        ELSE
            goes_on := false;
        END IF;
        IF NOT goes_on THEN
            account := modeltoll.restart_evidence(account, entry_cells, cardinality(sizes), entry_at, period);
            SELECT * INTO blocks FROM modeltoll.evidence AS e WHERE e.account = account.id;
        END IF;
        IF entry_cells > 0 THEN
            FOREACH turn IN ARRAY fresh LOOP
                place := cells[turn] + 1;
                account.counts[place] := account.counts[place] + 1;
            END LOOP;
            account.counted := account.counted + cardinality(fresh);
            FOR restart IN 1 .. cardinality(sizes) LOOP
                IF blocks.finished_numbers[restart] = 0 AND account.counted - blocks.started[restart] >= sizes[restart] THEN
                    PERFORM modeltoll.end_blocks(account, sizes);
                    EXIT;
                END IF;
            END LOOP;
        END IF;

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
            leaks = sums,
            counts = account.counts,
            counted = account.counted,
            log_evidence = account.log_evidence
        WHERE a.id = account.id;
    END LOOP;
    RETURN QUERY SELECT * FROM modeltoll.account_states AS s WHERE s.key = ANY (keys);
END $$;

-- evidence_math.add_logs. PostgreSQL refuses to compute the exponential of a number far below zero.
CREATE FUNCTION modeltoll.add_logs(one double precision, other double precision) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    high CONSTANT double precision := greatest(one, other);
    low  CONSTANT double precision := least(one, other);
BEGIN
    IF low = '-Infinity' OR low - high < -700 THEN
        RETURN high;
    END IF;
    RETURN high + ln(1 + exp(low - high));
END $$;

-- The part of a bill that changes accounts: adds work, and account_math.updated. One key, amount of work, tariff and
-- logarithm of the evidence per account; no tariff for no update. The keys are in ascending order, as those of a charge. For
-- each block to be added the place of its account, its restart from 1, its number and its term. Returns true, so that a
-- statement can depend on it.
CREATE FUNCTION modeltoll.bill_accounts(
    keys bytea[], seconds double precision[], tariffs text[], logs double precision[],
    parties integer[], restarts integer[], numbers bigint[], terms double precision[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
    blocks modeltoll.evidence;
BEGIN
    FOR party IN 1 .. cardinality(keys) LOOP
        UPDATE modeltoll.accounts AS a SET
            work = a.work + seconds[party],
            log_evidence = CASE WHEN a.tariff = tariffs[party] THEN logs[party] ELSE a.log_evidence END
        WHERE a.key = keys[party] AND (seconds[party] > 0 OR a.tariff = tariffs[party])
        RETURNING CASE WHEN a.tariff = tariffs[party] THEN a.id END INTO number;
        CONTINUE WHEN number IS NULL OR NOT party = ANY (parties);

        SELECT * INTO blocks FROM modeltoll.evidence AS e WHERE e.account = number;
        FOR n IN 1 .. cardinality(parties) LOOP
            CONTINUE WHEN parties[n] <> party OR blocks.finished_numbers[restarts[n]] <> numbers[n];
            blocks.finished_numbers[restarts[n]] := 0;
            blocks.finished_log := modeltoll.add_logs(blocks.finished_log, terms[n]);
        END LOOP;
        IF 0 = ALL (blocks.finished_numbers) THEN
            blocks.finished := '{}';
        END IF;
        UPDATE modeltoll.evidence AS e SET
            finished_log = blocks.finished_log,
            finished_numbers = blocks.finished_numbers,
            finished = blocks.finished
        WHERE e.account = number;
    END LOOP;
    RETURN true;
END $$;
