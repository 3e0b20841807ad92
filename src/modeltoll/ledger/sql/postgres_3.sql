-- Version 3: standings, the receipts that were counted, and the deletion of what is old. Keys are hashes, as elsewhere.

-- The day of a time in seconds, clipped. The index by age is on the day, which seldom changes, so that a charge or a
-- settlement still need not update an index.
CREATE FUNCTION modeltoll.day_of(at double precision) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(CASE WHEN abs(at) < 1 THEN 0 ELSE least(greatest(at, -1e15), 1e15) / 86400.0::double precision END)::bigint
$$;

CREATE TABLE modeltoll.standings (
    key          bytea  PRIMARY KEY, -- hash of the caller's name
    caller       text   NOT NULL,
    unsettled    double precision NOT NULL, -- reference seconds, as the two that follow
    prepaid      double precision NOT NULL,
    new_account  double precision NOT NULL,
    settled_rows bigint NOT NULL,
    drained      double precision NOT NULL, -- seconds since the epoch
    last_day     bigint GENERATED ALWAYS AS (modeltoll.day_of(drained)) STORED
) WITH (fillfactor = 50);
CREATE INDEX standings_by_age ON modeltoll.standings (last_day);

-- The key is a hash of the caller's name and the receipt's identity.
CREATE TABLE modeltoll.receipts (key bytea PRIMARY KEY, expires double precision NOT NULL);
CREATE INDEX receipts_by_expiry ON modeltoll.receipts (expires);

ALTER TABLE modeltoll.accounts ADD COLUMN last_day bigint GENERATED ALWAYS AS (modeltoll.day_of(last_seen)) STORED;
CREATE INDEX accounts_by_age ON modeltoll.accounts (last_day);
CREATE INDEX days_by_age ON modeltoll.days (day);

-- The numbers of the rows, packed; in lines that have some, leaks and rarest are empty texts. Older lines have none.
ALTER TABLE modeltoll.log ADD COLUMN numbers bytea NOT NULL DEFAULT '';
ALTER TABLE modeltoll.log ALTER COLUMN numbers SET STORAGE EXTERNAL; -- doubles do not compress

-- Locks the standing of a caller until the end of the transaction, whether it is stored or not. The first 8 bytes of the
-- key name the lock; that callers may share one costs a wait. All functions lock a standing before an account or the log.
CREATE FUNCTION modeltoll.lock_standing(caller_key bytea) RETURNS SETOF modeltoll.standings LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(('x' || encode(substr(caller_key, 1, 8), 'hex'))::bit(64)::bigint);
    RETURN QUERY SELECT * FROM modeltoll.standings AS s WHERE s.key = caller_key FOR UPDATE;
END $$;

CREATE FUNCTION modeltoll.store_standing(after modeltoll.standings) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO modeltoll.standings (key, caller, unsettled, prepaid, new_account, settled_rows, drained)
    VALUES (
        after.key, after.caller, after.unsettled, after.prepaid, after.new_account, after.settled_rows, after.drained
    )
    ON CONFLICT (key) DO UPDATE SET
        unsettled = excluded.unsettled,
        prepaid = excluded.prepaid,
        new_account = excluded.new_account,
        settled_rows = excluded.settled_rows,
        drained = excluded.drained;
END $$;

-- settlement_math.settle. One entry per receipt in each of the arrays; of receipts that have not expired. Without a
-- reservation ``seconds`` is null. Every expression has the order of the Python function, so that each double is the same.
CREATE FUNCTION modeltoll.settle(
    caller_key bytea, caller_name text, at double precision,
    receipt_keys bytea[], expires double precision[], unsettled double precision[], settled bigint[],
    prepaid double precision[], new_account double precision[],
    seconds double precision, credit double precision, toll double precision, toll_share double precision,
    OUT admitted boolean, OUT from_credit double precision, OUT from_prepaid double precision,
    OUT missing double precision, OUT missing_new_account double precision, OUT settled_rows bigint
) LANGUAGE plpgsql AS $$
DECLARE
    standing    modeltoll.standings;
    known       boolean;
    is_fresh    boolean := false;
    paid_before double precision;
    owed        double precision;
    rounding    CONSTANT double precision := 1e-9;
BEGIN
    SELECT * INTO standing FROM modeltoll.lock_standing(caller_key);
    known := FOUND;
    IF NOT known THEN
        standing := ROW(caller_key, caller_name, 0, 0, 0, 0, at, NULL);
    ELSIF seconds IS NOT NULL THEN
        standing.unsettled := greatest(
            0, standing.unsettled - credit * (greatest(0, at - standing.drained) / 86400.0::double precision)
        );
        standing.drained := greatest(at, standing.drained);
    END IF;

    paid_before := standing.new_account;
    FOR n IN 1 .. cardinality(receipt_keys) LOOP
        INSERT INTO modeltoll.receipts (key, expires) VALUES (receipt_keys[n], expires[n]) ON CONFLICT DO NOTHING;
        CONTINUE WHEN NOT FOUND;
        is_fresh := true;
        standing.unsettled := greatest(0, standing.unsettled - unsettled[n]);
        standing.prepaid := standing.prepaid + prepaid[n];
        standing.new_account := standing.new_account + new_account[n];
        standing.settled_rows := standing.settled_rows + settled[n];
    END LOOP;

    admitted := true;
    from_credit := 0;
    from_prepaid := 0;
    missing := 0;
    missing_new_account := 0;
    settled_rows := standing.settled_rows;
    IF seconds IS NOT NULL THEN
        owed := least(greatest(0, toll - paid_before), toll_share * toll);
        missing_new_account := owed - (standing.new_account - paid_before);
        IF NOT missing_new_account > rounding * toll THEN
            missing_new_account := 0;
        END IF;
        from_prepaid := least(standing.prepaid, seconds);
        from_credit := seconds - from_prepaid;
        missing := least(from_credit, from_credit + standing.unsettled - credit);
        IF NOT missing > rounding * (seconds + credit) THEN
            missing := 0;
        END IF;
        admitted := NOT (missing > 0 OR missing_new_account > 0);
        IF admitted THEN
            standing.unsettled := standing.unsettled + from_credit;
            standing.prepaid := standing.prepaid - from_prepaid;
        ELSE
            from_credit := 0;
            from_prepaid := 0;
        END IF;
    END IF;
    IF is_fresh OR (admitted AND seconds IS NOT NULL) THEN
        PERFORM modeltoll.store_standing(standing);
    END IF;
END $$;

-- settlement_math.adjust. Returns true, so that a statement can depend on it.
CREATE FUNCTION modeltoll.adjust(
    caller_key bytea, caller_name text, more_unsettled double precision, more_prepaid double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    standing modeltoll.standings;
BEGIN
    SELECT * INTO standing FROM modeltoll.lock_standing(caller_key);
    IF NOT FOUND THEN
        standing := ROW(caller_key, caller_name, 0, 0, 0, 0, 0, NULL);
    END IF;
    standing.unsettled := greatest(0, standing.unsettled + more_unsettled);
    standing.prepaid := greatest(0, standing.prepaid + more_prepaid);
    PERFORM modeltoll.store_standing(standing);
    RETURN true;
END $$;

-- Deletes the caller's standing, and an account with its sketch; false if there is no such account.
DROP FUNCTION modeltoll.reset(bytea);
CREATE FUNCTION modeltoll.reset(caller_key bytea, account_key bytea) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    PERFORM modeltoll.lock_standing(caller_key);
    DELETE FROM modeltoll.standings WHERE key = caller_key;
    DELETE FROM modeltoll.accounts WHERE key = account_key RETURNING id INTO number;
    DELETE FROM modeltoll.sketch WHERE account = number; -- a separate statement sees what the first one waited for
    RETURN number IS NOT NULL;
END $$;

-- Deletes lines and receipts that are older than these times, and accounts, standings and usage of earlier days: at most
-- ``most`` rows of each table, ``most_accounts`` accounts, and ``most_slots`` fingerprints, those of the last account not
-- counted. What another transaction uses is left for the next time. Without ``lines_before`` the log stays. Returns whether
-- there may be more to delete.
CREATE FUNCTION modeltoll.sweep(
    lines_before double precision, days_before bigint, expired_before double precision,
    most integer, most_accounts integer, most_slots bigint, ring integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    deleted integer;
    more    boolean;
    old     bigint[];
BEGIN
    DELETE FROM modeltoll.standings WHERE key IN (
        SELECT key FROM modeltoll.standings WHERE last_day < days_before
        ORDER BY last_day LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := deleted >= most;
    DELETE FROM modeltoll.receipts WHERE key IN (
        SELECT key FROM modeltoll.receipts WHERE expires < expired_before
        ORDER BY expires LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := more OR deleted >= most;
    DELETE FROM modeltoll.days WHERE key IN (
        SELECT key FROM modeltoll.days WHERE day < days_before ORDER BY day LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS deleted = ROW_COUNT;
    more := more OR deleted >= most;

    IF lines_before IS NOT NULL THEN
        DELETE FROM modeltoll.log WHERE line < (
            SELECT coalesce(min(line) FILTER (WHERE at >= lines_before), max(line))
            FROM (SELECT line, at FROM modeltoll.log ORDER BY line LIMIT most) AS oldest
        );
        GET DIAGNOSTICS deleted = ROW_COUNT;
        more := more OR deleted + 1 >= most; -- one of those that were looked at stays
    END IF;

    SELECT array_agg(id) INTO old FROM (
        SELECT id, sum(least(learned, ring)) OVER (ORDER BY last_day, id) - least(learned, ring) AS slots
        FROM (
            SELECT id, last_day, learned FROM modeltoll.accounts WHERE last_day < days_before
            ORDER BY last_day LIMIT most_accounts FOR UPDATE SKIP LOCKED
        ) AS oldest
    ) AS summed WHERE slots <= most_slots;
    DELETE FROM modeltoll.sketch WHERE account = ANY (old);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    DELETE FROM modeltoll.accounts WHERE id = ANY (old);
    RETURN more OR coalesce(cardinality(old), 0) >= most_accounts OR deleted > most_slots;
END $$;
