-- Chunks of records and states that are kept beyond what recovery needs. `meta` is the encoded ChunkMeta.
CREATE SEQUENCE archive_put;
CREATE TABLE archive_chunk (
    match_id  bigint   NOT NULL,
    first_seq bigint   NOT NULL,
    kind      smallint NOT NULL, -- 0 records, 1 a state
    put       bigint   NOT NULL,
    meta      bytea    NOT NULL,
    meta_crc  bigint   NOT NULL,
    bytes     bytea    NOT NULL,
    PRIMARY KEY (match_id, first_seq, kind)
);
ALTER TABLE archive_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Stretches of matches whose replay must stay possible. `pin` is the encoded Pin.
CREATE TABLE pin (
    match_id bigint PRIMARY KEY,
    pin      bytea NOT NULL
);
