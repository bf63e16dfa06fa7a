-- Work that is remembered until some node has done it. `job` is the encoded Job; the columns repeat what is asked for.
CREATE TABLE job (
    id          bigint PRIMARY KEY,
    version     bigint NOT NULL,
    queue       text   NOT NULL,
    kind        text   NOT NULL,
    status      text   NOT NULL CHECK (status IN ('ready', 'running', 'done', 'dead', 'cancelled')),
    due_ms      bigint, -- from when on it may be claimed: open jobs
    finished_ms bigint, -- when it was finished: all others
    held_key    text UNIQUE, -- the key that nobody else may have at the moment
    job         bytea  NOT NULL,
    CHECK ((due_ms IS NULL) <> (finished_ms IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
CREATE INDEX job_due ON job (queue, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX job_finished ON job (finished_ms) WHERE finished_ms IS NOT NULL;

-- What operators did: rows are added and, after their retention, removed.
CREATE TABLE audit (
    time_ms   bigint   NOT NULL,
    action_id bigint   NOT NULL,
    stage     smallint NOT NULL, -- 0 before the action, 1 after it
    who       text     NOT NULL,
    action    text     NOT NULL,
    target    text     NOT NULL,
    entry     bytea    NOT NULL,
    PRIMARY KEY (time_ms, action_id, stage)
);
