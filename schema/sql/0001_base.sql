-- Tables of a Rekindle store on Postgres, version 1. Applied by `rekindle store migrate` in one transaction, with the store's schema as the
-- only entry of search_path.
--
-- Identifiers are unsigned in Rekindle and bigint here: the same 64 bits. lpad(to_hex(id), 16, '0') prints one as Rekindle does.

-- Who is alive. `lease` is the encoded NodeLease as it was registered; what changes later is in the columns, which overrule it.
CREATE TABLE node_lease (
    incarnation bigint PRIMARY KEY,
    state       text   NOT NULL CHECK (state IN ('live', 'stopped', 'fenced')),
    deadline_ms bigint NOT NULL,
    seal        bigint,
    region      text   NOT NULL,
    lease       bytea  NOT NULL,
    CHECK (seal IS NULL OR state = 'fenced')
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.1);

-- Who owns what. `lease` is the encoded MatchLease; the columns repeat what is asked for.
CREATE TABLE match_lease (
    match_id    bigint PRIMARY KEY,
    version     bigint NOT NULL,
    epoch       bigint NOT NULL,
    incarnation bigint NOT NULL,
    state       text   NOT NULL CHECK (state IN ('running', 'parked', 'ended')),
    region      text   NOT NULL,
    lease       bytea  NOT NULL
) WITH (fillfactor = 70);

-- Results of matches and other effects: the key is what sinks de-duplicate by.
CREATE TABLE effect (
    match_id  bigint      NOT NULL,
    tick      bigint      NOT NULL,
    ordinal   bigint      NOT NULL,
    kind      text        NOT NULL,
    effect    bytea       NOT NULL,
    delivered timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (match_id, tick, ordinal)
);

-- Checkpoints. A small state stands in its row; a larger one in chunks, which are written in the same transaction before it.
CREATE SEQUENCE checkpoint_put;
CREATE TABLE checkpoint (
    match_id bigint NOT NULL,
    seq      bigint NOT NULL,
    epoch    bigint NOT NULL,
    put      bigint NOT NULL UNIQUE,
    meta     bytea  NOT NULL,
    meta_crc bigint NOT NULL,
    chunks   int    NOT NULL,
    state    bytea  NOT NULL,
    PRIMARY KEY (match_id, seq, epoch)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200,
    toast.autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_threshold = 1000
);
ALTER TABLE checkpoint ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE TABLE checkpoint_chunk (
    put     bigint NOT NULL,
    ordinal int    NOT NULL,
    bytes   bytea  NOT NULL,
    PRIMARY KEY (put, ordinal)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200,
    toast.autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_threshold = 1000
);
ALTER TABLE checkpoint_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Logs. `batch` holds no rows itself: each log has a chain of partitions, `batch_<log>_<first>`, that hold its batches by number. A writer makes
-- them ahead of need; trimming drops them whole, so nothing is ever deleted row by row and nothing has to be vacuumed.
--
-- They are children by inheritance and not declared partitions, because dropping a declared partition locks the parent exclusively: every
-- node's appends would wait behind the slowest reader of any log. Dropping a child locks that child alone.
CREATE TABLE batch (
    number   bigint NOT NULL,
    prev_crc bigint NOT NULL,
    crc      bigint NOT NULL,
    size     int    NOT NULL,
    bytes    bytea  NOT NULL
);
ALTER TABLE batch ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE segment (
    log   bigint NOT NULL,
    first bigint NOT NULL,
    next  bigint NOT NULL CHECK (next > first),
    PRIMARY KEY (log, first)
);

CREATE FUNCTION segment_name(of_log bigint, of_first bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS
$$ SELECT 'batch_' || lpad(to_hex(of_log), 16, '0') || '_' || of_first $$;

-- One at a time for each log, until the end of the transaction.
CREATE FUNCTION lock_log(of_log bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || '.log.' || of_log, 0));
END $$;

-- The partition that batch `of_number` belongs to, made if it is not there; the first one of a log begins with `origin`. No row if the log's owner
-- is not live.
CREATE FUNCTION open_segment(of_log bigint, of_number bigint, batches bigint, origin bigint)
RETURNS TABLE (segment_first bigint, segment_next bigint)
LANGUAGE plpgsql AS $$
DECLARE
    begins bigint;
BEGIN
    PERFORM FROM node_lease WHERE incarnation = of_log AND state = 'live' FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM lock_log(of_log);
    RETURN QUERY SELECT s.first, s.next FROM segment s WHERE s.log = of_log AND s.first <= of_number AND s.next > of_number;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(max(s.next), origin) INTO begins FROM segment s WHERE s.log = of_log;
    IF of_number < begins THEN
        RAISE EXCEPTION 'batch % of log % was trimmed', of_number, to_hex(of_log) USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF of_number >= begins + batches THEN
        RAISE EXCEPTION 'batch % of log % is too far ahead of %', of_number, to_hex(of_log), begins
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    EXECUTE format(
        'CREATE TABLE %I (PRIMARY KEY (number), CHECK (number >= %s AND number < %s)) INHERITS (batch) '
        'WITH (autovacuum_enabled = true, autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_insert_threshold = -1)',
        segment_name(of_log, begins), begins, begins + batches);
    INSERT INTO segment VALUES (of_log, begins, begins + batches);
    RETURN QUERY SELECT begins, begins + batches;
END $$;

-- The last batch of a log and its checksum; no row for an empty log.
CREATE FUNCTION log_end(of_log bigint) RETURNS TABLE (last_number bigint, last_crc bigint)
LANGUAGE plpgsql AS $$
DECLARE
    begins bigint;
BEGIN
    FOR begins IN SELECT s.first FROM segment s WHERE s.log = of_log ORDER BY s.first DESC LOOP
        BEGIN
            RETURN QUERY EXECUTE format('SELECT number, crc FROM %I ORDER BY number DESC LIMIT 1', segment_name(of_log, begins));
            IF FOUND THEN
                RETURN;
            END IF;
        EXCEPTION WHEN undefined_table THEN
            NULL; -- dropped since the list was read
        END;
    END LOOP;
END $$;

-- Drops partitions whose batches all come before `before`, but never the one with the last batch. Returns how many.
CREATE FUNCTION trim_log(of_log bigint, before bigint) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    begins bigint;
    dropped int := 0;
    ends bigint;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM lock_log(of_log);
    SELECT coalesce(max(last_number), 0) INTO ends FROM log_end(of_log);
    FOR begins IN SELECT s.first FROM segment s WHERE s.log = of_log AND s.next <= least(before, ends) ORDER BY s.first LOOP
        EXECUTE format('DROP TABLE %I', segment_name(of_log, begins));
        DELETE FROM segment s WHERE s.log = of_log AND s.first = begins;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Drops a log whose owner is not live, with everything in it. Returns how many partitions.
CREATE FUNCTION drop_log(of_log bigint) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    begins bigint;
    dropped int := 0;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM FROM node_lease WHERE incarnation = of_log AND state = 'live' FOR SHARE;
    IF FOUND THEN
        RAISE EXCEPTION 'the owner of log % is live', to_hex(of_log) USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM lock_log(of_log);
    FOR begins IN SELECT s.first FROM segment s WHERE s.log = of_log ORDER BY s.first LOOP
        EXECUTE format('DROP TABLE %I', segment_name(of_log, begins));
        DELETE FROM segment s WHERE s.log = of_log AND s.first = begins;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Drops the partitions of a log that holds no batch, so that it can begin with another number. False if it holds one.
CREATE FUNCTION empty_log(of_log bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    begins bigint;
    filled boolean;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM lock_log(of_log);
    FOR begins IN SELECT s.first FROM segment s WHERE s.log = of_log ORDER BY s.first LOOP
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', segment_name(of_log, begins));
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', segment_name(of_log, begins)) INTO filled;
        IF filled THEN
            RETURN false;
        END IF;
    END LOOP;
    FOR begins IN SELECT s.first FROM segment s WHERE s.log = of_log ORDER BY s.first LOOP
        EXECUTE format('DROP TABLE %I', segment_name(of_log, begins));
        DELETE FROM segment s WHERE s.log = of_log AND s.first = begins;
    END LOOP;
    RETURN true;
END $$;
