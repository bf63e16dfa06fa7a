//! Every statement that a store executes, prepared when it is opened.

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use rekindle_store::StoreError;

use super::driver::{Driver, Kind, Prepared};

/// How many statements are prepared at once.
const AT_ONCE: usize = 16;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $kind:ident = $cql:literal;)*) => {
        /// The prepared statements.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: Prepared,)*
        }

        impl Statements {
            /// Prepares all of them. `KS` stands for the keyspace.
            pub(super) async fn prepare(
                driver: &Driver,
                keyspace: &str,
            ) -> Result<Self, StoreError> {
                // Boxed: together they would not fit on a stack.
                let all: Vec<BoxFuture<'_, Result<Prepared, StoreError>>> =
                    vec![$(Box::pin(driver.prepare(Kind::$kind, $cql.replace("KS", keyspace))),)*];
                let all: Vec<Prepared> =
                    futures::stream::iter(all).buffered(AT_ONCE).try_collect().await?;
                let mut all = all.into_iter();
                let missing = || StoreError::Unavailable("a statement was not prepared".to_owned());
                Ok(Self { $($name: all.next().ok_or_else(missing)?,)* })
            }
        }
    };
}

statements! {
    // Logs.
    log_begin: Transaction = "INSERT INTO KS.log (space, shard, log, first, origin, size) VALUES \
        (?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    log_announce: Write = "UPDATE KS.log SET last_bucket = ?, bytes = ? WHERE space = ? AND shard \
        = ? AND log = ?";
    log_trim: Transaction = "UPDATE KS.log SET first = ? WHERE space = ? AND shard = ? AND log = ? \
        IF first < ?";
    log_dropped: Write = "UPDATE KS.log SET dropped = ? WHERE space = ? AND shard = ? AND log = ?";
    log_remove: Transaction = "DELETE FROM KS.log WHERE space = ? AND shard = ? AND log = ? IF \
        EXISTS";
    log_row: Read = "SELECT first, size, origin, last_bucket, bytes, dropped FROM KS.log WHERE \
        space = ? AND shard = ? AND log = ?";
    log_rows: Read = "SELECT log, first, size, origin, last_bucket, bytes, dropped FROM KS.log \
        WHERE space = ? AND shard = ?";
    part_write: Write = "INSERT INTO KS.log_batch (space, log, bucket, number, part, parts, bytes) \
        VALUES (?, ?, ?, ?, ?, ?, ?)";
    batch_read: Read = "SELECT part, parts, bytes FROM KS.log_batch WHERE space = ? AND log = ? \
        AND bucket = ? AND number = ?";
    parts_from: Read = "SELECT number, part, parts, bytes FROM KS.log_batch WHERE space = ? AND \
        log = ? AND bucket = ? AND number >= ?";
    parts_list: Read = "SELECT number, part, parts FROM KS.log_batch WHERE space = ? AND log = ? \
        AND bucket = ?";
    bucket_drop: Write = "DELETE FROM KS.log_batch WHERE space = ? AND log = ? AND bucket = ?";
    // Checkpoints.
    checkpoint_begin: Write = "INSERT INTO KS.checkpoint (space, match_id, seq, epoch, crc, len, \
        meta, whole) VALUES (?, ?, ?, ?, ?, ?, ?, false)";
    checkpoint_whole: Write = "INSERT INTO KS.checkpoint (space, match_id, seq, epoch, crc, len, \
        meta, whole) VALUES (?, ?, ?, ?, ?, ?, ?, true)";
    checkpoint_row: Read = "SELECT seq, epoch, crc, len, meta, whole FROM KS.checkpoint WHERE \
        space = ? AND match_id = ? AND seq = ? AND epoch = ?";
    checkpoint_rows: Read = "SELECT seq, epoch, crc, len, meta, whole FROM KS.checkpoint WHERE \
        space = ? AND match_id = ?";
    checkpoint_trim: Write = "DELETE FROM KS.checkpoint WHERE space = ? AND match_id = ? AND seq < \
        ?";
    chunk_write: Write = "INSERT INTO KS.checkpoint_chunk (space, match_id, seq, epoch, crc, \
        piece, chunk, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    chunk_read: Read = "SELECT bytes FROM KS.checkpoint_chunk WHERE space = ? AND match_id = ? AND \
        seq = ? AND epoch = ? AND crc = ? AND piece = ? AND chunk = ?";
    piece_drop: Write = "DELETE FROM KS.checkpoint_chunk WHERE space = ? AND match_id = ? AND seq \
        = ? AND epoch = ? AND crc = ? AND piece = ?";
    // Leases of nodes. States are 0 live, 1 stopped, 2 fenced.
    node_register: Transaction = "INSERT INTO KS.node_lease (space, shard, node, state, deadline, \
        seal, value) VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    node_renew: Transaction = "UPDATE KS.node_lease SET deadline = ? WHERE space = ? AND shard = ? \
        AND node = ? IF state = 0";
    node_renew_reached: Transaction = "UPDATE KS.node_lease SET deadline = ?, value = ? WHERE \
        space = ? AND shard = ? AND node = ? IF state = 0";
    node_accept: Transaction = "UPDATE KS.node_lease SET seal = ?, value = ? WHERE space = ? AND \
        shard = ? AND node = ? IF state = 2";
    node_stop: Transaction = "UPDATE KS.node_lease SET state = 1 WHERE space = ? AND shard = ? AND \
        node = ? IF state = 0";
    node_fence: Transaction = "UPDATE KS.node_lease SET state = 2 WHERE space = ? AND shard = ? \
        AND node = ? IF state < 2";
    node_seal: Transaction = "UPDATE KS.node_lease SET seal = ? WHERE space = ? AND shard = ? AND \
        node = ? IF state = 2 AND seal = null";
    node_forget: Transaction = "DELETE FROM KS.node_lease WHERE space = ? AND shard = ? AND node = \
        ? IF state > 0";
    node_verify: Read = "SELECT state FROM KS.node_lease WHERE space = ? AND shard = ? AND node = \
        ?";
    node_row: SerialRead = "SELECT state, deadline, seal, value FROM KS.node_lease WHERE space = ? \
        AND shard = ? AND node = ?";
    node_rows: Read = "SELECT state, deadline, seal, value FROM KS.node_lease WHERE space = ? AND \
        shard = ?";
    // The match directory.
    match_create: Transaction = "INSERT INTO KS.match_lease (space, shard, match_id, version, \
        value) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    match_set: Transaction = "UPDATE KS.match_lease SET version = ?, value = ? WHERE space = ? AND \
        shard = ? AND match_id = ? IF version = ?";
    match_row: SerialRead = "SELECT value FROM KS.match_lease WHERE space = ? AND shard = ? AND \
        match_id = ?";
    match_rows: Read = "SELECT value FROM KS.match_lease WHERE space = ? AND shard = ?";
    match_remove: Transaction = "DELETE FROM KS.match_lease WHERE space = ? AND shard = ? AND \
        match_id = ? IF version = ?";
    // The archive.
    archive_enter: Transaction = "INSERT INTO KS.archive_chunk (space, match_id, first_seq, kind, \
        meta) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    archive_replace: Transaction = "UPDATE KS.archive_chunk SET meta = ? WHERE space = ? AND \
        match_id = ? AND first_seq = ? AND kind = ? IF meta = ?";
    archive_remove: Transaction = "DELETE FROM KS.archive_chunk WHERE space = ? AND match_id = ? \
        AND first_seq = ? AND kind = ? IF EXISTS";
    archive_row: SerialRead = "SELECT meta FROM KS.archive_chunk WHERE space = ? AND match_id = ? \
        AND first_seq = ? AND kind = ?";
    archive_rows: Read = "SELECT meta FROM KS.archive_chunk WHERE space = ? AND match_id = ?";
    archive_matches: Read = "SELECT DISTINCT space, match_id FROM KS.archive_chunk";
    archive_piece_write: Write = "INSERT INTO KS.archive_piece (space, match_id, first_seq, kind, \
        crc, len, piece, chunk, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    archive_piece_read: Read = "SELECT bytes FROM KS.archive_piece WHERE space = ? AND match_id = \
        ? AND first_seq = ? AND kind = ? AND crc = ? AND len = ? AND piece = ? AND chunk = ?";
    archive_piece_drop: Write = "DELETE FROM KS.archive_piece WHERE space = ? AND match_id = ? AND \
        first_seq = ? AND kind = ? AND crc = ? AND len = ? AND piece = ?";
    pin_enter: Transaction = "INSERT INTO KS.archive_pin (space, match_id, value) VALUES (?, ?, ?) \
        IF NOT EXISTS";
    pin_replace: Transaction = "UPDATE KS.archive_pin SET value = ? WHERE space = ? AND match_id = \
        ? IF EXISTS";
    pin_remove: Transaction = "DELETE FROM KS.archive_pin WHERE space = ? AND match_id = ? IF \
        EXISTS";
    pin_rows: Read = "SELECT value FROM KS.archive_pin WHERE space = ?";
    // Audit.
    audit_day_enter: Write = "INSERT INTO KS.audit_day (space, day) VALUES (?, ?)";
    audit_day_drop: Write = "DELETE FROM KS.audit_day WHERE space = ? AND day = ?";
    audit_days: Read = "SELECT day FROM KS.audit_day WHERE space = ?";
    audit_append: Transaction = "INSERT INTO KS.audit (space, day, time, action, stage, value) \
        VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    audit_rows: Read = "SELECT value FROM KS.audit WHERE space = ? AND day = ? AND time >= ? AND \
        time < ?";
    audit_remove: Transaction = "DELETE FROM KS.audit WHERE space = ? AND day = ? AND time = ? AND \
        action = ? AND stage = ? IF EXISTS";
    audit_drop: Write = "DELETE FROM KS.audit WHERE space = ? AND day = ?";
    // Jobs.
    job_enter: Transaction = "INSERT INTO KS.job (space, id, version, tag, value) VALUES (?, ?, ?, \
        ?, ?) IF NOT EXISTS";
    job_set: Transaction = "UPDATE KS.job SET version = ?, tag = ?, value = ? WHERE space = ? AND \
        id = ? IF version = ?";
    job_remove: Transaction = "DELETE FROM KS.job WHERE space = ? AND id = ? IF version = ?";
    job_row: SerialRead = "SELECT value FROM KS.job WHERE space = ? AND id = ?";
    job_tag: SerialRead = "SELECT tag FROM KS.job WHERE space = ? AND id = ?";
    job_look: Read = "SELECT value FROM KS.job WHERE space = ? AND id = ?";
    job_day_enter: Write = "INSERT INTO KS.job_day (space, day, id) VALUES (?, ?, ?)";
    job_day_remove: Write = "DELETE FROM KS.job_day WHERE space = ? AND day = ? AND id = ?";
    job_day_drop: Write = "DELETE FROM KS.job_day WHERE space = ? AND day = ?";
    job_day_rows: Read = "SELECT id FROM KS.job_day WHERE space = ? AND day = ?";
    job_days_enter: Write = "INSERT INTO KS.job_days (space, day) VALUES (?, ?)";
    job_days_drop: Write = "DELETE FROM KS.job_days WHERE space = ? AND day = ?";
    job_days: Read = "SELECT day FROM KS.job_days WHERE space = ?";
    job_due_enter: Write = "INSERT INTO KS.job_due (space, queue, window, at, id, version) VALUES \
        (?, ?, ?, ?, ?, ?)";
    job_due_remove: Write = "DELETE FROM KS.job_due WHERE space = ? AND queue = ? AND window = ? \
        AND at = ? AND id = ? AND version = ?";
    job_due_drop: Write = "DELETE FROM KS.job_due WHERE space = ? AND queue = ? AND window = ?";
    job_due_rows: Read = "SELECT at, id, version FROM KS.job_due WHERE space = ? AND queue = ? AND \
        window = ? AND at <= ?";
    job_queue_enter: Transaction = "INSERT INTO KS.job_queue (space, queue, first_window) VALUES \
        (?, ?, ?) IF NOT EXISTS";
    job_queue_advance: Transaction = "UPDATE KS.job_queue SET first_window = ? WHERE space = ? AND \
        queue = ? IF first_window < ?";
    job_queue_row: Read = "SELECT first_window FROM KS.job_queue WHERE space = ? AND queue = ?";
    job_key_enter: Transaction = "INSERT INTO KS.job_key (space, key, holder, pending, value) \
        VALUES (?, ?, ?, true, ?) IF NOT EXISTS";
    job_key_take: Transaction = "UPDATE KS.job_key SET holder = ?, pending = true, value = ? WHERE \
        space = ? AND key = ? IF holder = ? AND pending = false";
    job_key_given: Transaction = "UPDATE KS.job_key SET pending = false WHERE space = ? AND key = \
        ? IF holder = ? AND value = ?";
    job_key_remove: Transaction = "DELETE FROM KS.job_key WHERE space = ? AND key = ? IF holder = \
        ? AND pending = false";
    job_key_row: SerialRead = "SELECT holder, pending, value FROM KS.job_key WHERE space = ? AND \
        key = ?";
    // The identity of the store.
    identity_enter: Transaction = "INSERT INTO KS.store_identity (space, id, floor, made, because, \
        place) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    identity_replace: Transaction = "UPDATE KS.store_identity SET id = ?, floor = ?, made = ?, \
        because = ?, place = ? WHERE space = ? IF id = ?";
    identity_row: SerialRead = "SELECT id, floor, made, because, place FROM KS.store_identity \
        WHERE space = ?";
    // The registry.
    registry_enter: Transaction = "INSERT INTO KS.registry (space, name, version, value) VALUES \
        (?, ?, ?, ?) IF NOT EXISTS";
    registry_set: Transaction = "UPDATE KS.registry SET version = ?, value = ? WHERE space = ? AND \
        name = ? IF version = ?";
    registry_remove: Transaction = "DELETE FROM KS.registry WHERE space = ? AND name = ? IF \
        version = ?";
    registry_row: SerialRead = "SELECT value FROM KS.registry WHERE space = ? AND name = ?";
    registry_rows: Read = "SELECT value FROM KS.registry \
        WHERE space = ? AND name >= ? AND name < ?";
    // Effects.
    effect_deliver: Transaction = "INSERT INTO KS.effect (space, match_id, tick, ordinal, value) \
        VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    effect_rows: Read = "SELECT match_id, value FROM KS.effect WHERE space = ? ALLOW FILTERING";
}
