-- Version 2: the usage of callers with a quota on their latest day. Days are counted from the epoch, in UTC. The key is a
-- hash of the caller's name, because an index cannot hold long names.
CREATE TABLE modeltoll.days (
    key    bytea   PRIMARY KEY,
    caller text    NOT NULL,
    day    integer NOT NULL,
    rows   bigint  NOT NULL,
    work   double precision NOT NULL -- reference seconds
) WITH (fillfactor = 50);

-- account_math.spend: true if the quota covers it. Of two concurrent calls the second waits and sees the first.
CREATE FUNCTION modeltoll.spend(
    caller_key bytea, caller_name text, more_day integer, more_rows bigint, more_work double precision,
    most_rows bigint, most_work double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO modeltoll.days AS d (key, caller, day, rows, work)
    SELECT caller_key, caller_name, more_day, more_rows, more_work WHERE more_rows <= most_rows
    ON CONFLICT (key) DO UPDATE SET
        day = greatest(d.day, more_day),
        rows = more_rows + CASE WHEN d.day >= more_day THEN d.rows ELSE 0 END,
        work = more_work + CASE WHEN d.day >= more_day THEN d.work ELSE 0 END
    WHERE d.day < more_day OR (d.rows + more_rows <= most_rows AND d.work < most_work);
    RETURN FOUND;
END $$;
