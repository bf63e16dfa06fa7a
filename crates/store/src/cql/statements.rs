//! Every statement that a store executes, prepared when it is opened.

use super::driver::{Driver, Kind, Prepared};
use crate::port::StoreError;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $kind:ident = $cql:literal;)*) => {
        /// The prepared statements.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: Prepared,)*
        }

        impl Statements {
            /// Prepares all of them. `KS` stands for the keyspace.
            pub(super) async fn prepare(driver: &Driver, keyspace: &str) -> Result<Self, StoreError> {
                let ($($name,)*) = tokio::try_join!($(driver.prepare(Kind::$kind, $cql.replace("KS", keyspace)),)*)?;
                Ok(Self { $($name,)* })
            }
        }
    };
}

statements! {
    // Logs.
    log_begin: Transaction = "INSERT INTO KS.log (space, log, first, size) VALUES (?, ?, 1, ?) IF NOT EXISTS";
    log_announce: Write = "UPDATE KS.log SET last_bucket = ?, bytes = ? WHERE space = ? AND log = ?";
    log_trim: Transaction = "UPDATE KS.log SET first = ? WHERE space = ? AND log = ? IF first < ?";
    log_dropped: Write = "UPDATE KS.log SET dropped = ? WHERE space = ? AND log = ?";
    log_remove: Transaction = "DELETE FROM KS.log WHERE space = ? AND log = ? IF EXISTS";
    log_row: Read = "SELECT first, size, last_bucket, bytes, dropped FROM KS.log WHERE space = ? AND log = ?";
    log_rows: Read = "SELECT log, first, size, last_bucket, bytes, dropped FROM KS.log WHERE space = ?";
    part_write: Write = "INSERT INTO KS.log_batch (space, log, bucket, number, part, parts, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)";
    batch_read: Read = "SELECT part, parts, bytes FROM KS.log_batch WHERE space = ? AND log = ? AND bucket = ? AND number = ?";
    parts_from: Read = "SELECT number, part, parts, bytes FROM KS.log_batch WHERE space = ? AND log = ? AND bucket = ? AND number >= ?";
    parts_list: Read = "SELECT number, part, parts FROM KS.log_batch WHERE space = ? AND log = ? AND bucket = ?";
    bucket_drop: Write = "DELETE FROM KS.log_batch WHERE space = ? AND log = ? AND bucket = ?";
    // Checkpoints.
    checkpoint_begin: Write = "INSERT INTO KS.checkpoint (space, match_id, seq, epoch, crc, len, meta, whole) VALUES (?, ?, ?, ?, ?, ?, ?, false)";
    checkpoint_whole: Write = "INSERT INTO KS.checkpoint (space, match_id, seq, epoch, crc, len, meta, whole) VALUES (?, ?, ?, ?, ?, ?, ?, true)";
    checkpoint_row: Read = "SELECT seq, epoch, crc, len, meta, whole FROM KS.checkpoint WHERE space = ? AND match_id = ? AND seq = ? AND epoch = ?";
    checkpoint_rows: Read = "SELECT seq, epoch, crc, len, meta, whole FROM KS.checkpoint WHERE space = ? AND match_id = ?";
    checkpoint_trim: Write = "DELETE FROM KS.checkpoint WHERE space = ? AND match_id = ? AND seq < ?";
    chunk_write: Write = "INSERT INTO KS.checkpoint_chunk (space, match_id, seq, epoch, crc, piece, chunk, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    chunk_read: Read = "SELECT bytes FROM KS.checkpoint_chunk WHERE space = ? AND match_id = ? AND seq = ? AND epoch = ? AND crc = ? AND piece = ? AND chunk = ?";
    piece_drop: Write = "DELETE FROM KS.checkpoint_chunk WHERE space = ? AND match_id = ? AND seq = ? AND epoch = ? AND crc = ? AND piece = ?";
    // Leases of nodes. States are 0 live, 1 stopped, 2 fenced.
    node_register: Transaction = "INSERT INTO KS.node_lease (space, shard, node, state, deadline, seal, value) VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    node_renew: Transaction = "UPDATE KS.node_lease SET deadline = ? WHERE space = ? AND shard = ? AND node = ? IF state = 0";
    node_stop: Transaction = "UPDATE KS.node_lease SET state = 1 WHERE space = ? AND shard = ? AND node = ? IF state = 0";
    node_fence: Transaction = "UPDATE KS.node_lease SET state = 2 WHERE space = ? AND shard = ? AND node = ? IF state < 2";
    node_seal: Transaction = "UPDATE KS.node_lease SET seal = ? WHERE space = ? AND shard = ? AND node = ? IF state = 2 AND seal = null";
    node_forget: Transaction = "DELETE FROM KS.node_lease WHERE space = ? AND shard = ? AND node = ? IF state > 0";
    node_verify: Read = "SELECT state FROM KS.node_lease WHERE space = ? AND shard = ? AND node = ?";
    node_row: SerialRead = "SELECT state, deadline, seal, value FROM KS.node_lease WHERE space = ? AND shard = ? AND node = ?";
    node_rows: Read = "SELECT state, deadline, seal, value FROM KS.node_lease WHERE space = ? AND shard = ?";
    // The match directory.
    match_create: Transaction = "INSERT INTO KS.match_lease (space, shard, match_id, version, value) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    match_set: Transaction = "UPDATE KS.match_lease SET version = ?, value = ? WHERE space = ? AND shard = ? AND match_id = ? IF version = ?";
    match_row: SerialRead = "SELECT value FROM KS.match_lease WHERE space = ? AND shard = ? AND match_id = ?";
    match_rows: Read = "SELECT value FROM KS.match_lease WHERE space = ? AND shard = ?";
    // Effects.
    effect_deliver: Transaction = "INSERT INTO KS.effect (space, match_id, tick, ordinal, value) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    effect_rows: Read = "SELECT match_id, value FROM KS.effect WHERE space = ? ALLOW FILTERING";
}
