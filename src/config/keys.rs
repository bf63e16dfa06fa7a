//! The table of configuration keys: the only place that lists them. Called by the loader and by
//! `config show`.

/// What a value must look like before the typed configuration reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number, at least 0.
    Number,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// In words, for errors.
    pub fn expected(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Number => "a whole number".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// One configuration key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its dotted name: `admin.listen`.
    pub name: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// Its value when nothing sets it.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

impl Key {
    /// Whether its value is shown to nobody.
    pub fn is_secret(&self) -> bool {
        matches!(
            self.name,
            "admin.token" | "cluster.secret" | "effects.webhook.secret" | "store_password"
        )
    }

    /// The environment variable that sets it: `REKINDLE_ADMIN_LISTEN`.
    pub fn env(&self) -> String {
        variable_of(self.name)
    }
}

const fn key(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, help }
}

/// All keys, ascending by name.
pub const KEYS: &[Key] = &[
    key(
        "accept_build",
        Kind::Flag,
        "false",
        "go on with matches that another build computed otherwise, as this build computes them",
    ),
    key(
        "admin.connections",
        Kind::Number,
        "64",
        "connections that the admin listener has at once; more wait",
    ),
    key(
        "admin.listen",
        Kind::Text,
        "127.0.0.1:7780",
        "address of the admin HTTP listener; other than loopback only with admin.token",
    ),
    key(
        "admin.token",
        Kind::Text,
        "",
        "bearer token that admin requests must carry; empty: none; off loopback at least 16 \
         characters",
    ),
    key(
        "audit.keep_days",
        Kind::Number,
        "400",
        "for how long it is remembered what operators did; 0: for ever",
    ),
    key(
        "backup.dir",
        Kind::Text,
        "",
        "where the job `backup` puts backups, each in a directory of its own; empty: it makes none",
    ),
    key(
        "backup.keep",
        Kind::Number,
        "7",
        "backups that are kept there; older ones go when another is whole",
    ),
    key("beat_every", Kind::Number, "30", "ticks between two state hashes in the journal"),
    key(
        "checkpoint.budget_ms",
        Kind::Number,
        "1000",
        "CPU time per core that recovering all matches may cost",
    ),
    key(
        "checkpoint.chain",
        Kind::Number,
        "8",
        "most deltas that follow a full checkpoint before the next full one",
    ),
    key("checkpoint.every_s", Kind::Number, "60", "a checkpoint of a match is at most this old"),
    key(
        "checkpoint.incremental",
        Kind::Flag,
        "true",
        "checkpoints may be deltas to the one before; a match then keeps its last state in memory",
    ),
    key(
        "cluster.audit",
        Kind::Text,
        "0",
        "the share of matches, from 0 to 1, that another node computes again to compare the hashes",
    ),
    key(
        "cluster.join",
        Kind::Text,
        "",
        "HOST:PORT,HOST:PORT of nodes to join; nodes of one store also find each other through it",
    ),
    key(
        "cluster.listen",
        Kind::Text,
        "127.0.0.1:0",
        "address for other nodes, TCP and UDP; other than loopback only with cluster.tls; empty: \
         nothing to do with other nodes",
    ),
    key(
        "cluster.public",
        Kind::Text,
        "",
        "ADDRESS:PORT at which other nodes reach this one, if that is not `cluster.listen`",
    ),
    key(
        "cluster.rebalance",
        Kind::Flag,
        "true",
        "matches move from here to nodes that are much less loaded, a few a minute",
    ),
    key(
        "cluster.rebalance_after_s",
        Kind::Number,
        "60",
        "they do so once no node has come or gone for so long",
    ),
    key(
        "cluster.secret",
        Kind::Text,
        "",
        "seals the keys of the cluster in the store; the same on all nodes, at least 16 \
         characters; empty: they lie open",
    ),
    key(
        "cluster.standby",
        Kind::Text,
        "0",
        "how many nodes follow each match to go on with it at once if its node dies: 0 to 2, or by \
         game: arena=1,chess=0",
    ),
    key(
        "cluster.standbys_max",
        Kind::Number,
        "64",
        "most matches of other nodes that this node follows; each costs memory and CPU as a match",
    ),
    key(
        "cluster.tls.ca",
        Kind::Text,
        "",
        "PEM file: certificate of the authority of all nodes (`rekindle ca init`)",
    ),
    key(
        "cluster.tls.cert",
        Kind::Text,
        "",
        "PEM file: certificate of this node, for its node.name (`rekindle ca issue`)",
    ),
    key("cluster.tls.key", Kind::Text, "", "PEM file: key of that certificate"),
    key(
        "cluster.warm_clients",
        Kind::Flag,
        "true",
        "clients keep a second connection, to the node that takes their match over first: they are \
         back sooner when a node dies, at about 45 KiB a client at that node",
    ),
    key(
        "cluster.weight",
        Kind::Number,
        "1",
        "how many matches this node takes, relative to others; 1 to 1000",
    ),
    key(
        "data_dir",
        Kind::Text,
        "./rekindle-data",
        "where keys, certificate, node.json and the local store are",
    ),
    key(
        "dev",
        Kind::Flag,
        "false",
        "the admin listener issues tickets to whoever asks; only with loopback listeners",
    ),
    key(
        "edge.certificate",
        Kind::Text,
        "",
        "PEM file: a certificate that browsers trust, with its chain; then the web listener speaks \
         TLS; read again when it changes",
    ),
    key(
        "edge.connections",
        Kind::Number,
        "1024",
        "TCP connections of the web listener at once, WebSockets included; more are refused",
    ),
    key(
        "edge.guests",
        Kind::Choice(&["auto", "true", "false"]),
        "auto",
        "the page gives tickets to whoever asks; auto: if the web listener is on loopback",
    ),
    key(
        "edge.origins",
        Kind::Text,
        "",
        "whose pages may connect: https://HOST,... ; self: the node's own; *: all; empty: all if \
         the web listener is on loopback, else none",
    ),
    key("edge.private_key", Kind::Text, "", "PEM file: the key of edge.certificate"),
    key(
        "edge.threads",
        Kind::Number,
        "0",
        "threads that drive the game port, each with a share of its clients; 0: half of the cores",
    ),
    key(
        "edge.web",
        Kind::Text,
        "",
        "TCP address for browsers (WebSocket, the page); empty: the one of `listen`, which other \
         nodes of a cluster rely on; off: none",
    ),
    key(
        "effects.webhook.attempts",
        Kind::Number,
        "40",
        "how often an effect is posted before it is given up, with pauses that double up to five \
         minutes",
    ),
    key(
        "effects.webhook.kinds",
        Kind::Text,
        "",
        "kinds of effect that are posted, with commas between; empty: all but the engine's own",
    ),
    key("effects.webhook.secret", Kind::Text, "", "signs what is posted; at least 16 characters"),
    key(
        "effects.webhook.timeout_ms",
        Kind::Number,
        "5000",
        "how long the receiver has for an answer",
    ),
    key(
        "effects.webhook.url",
        Kind::Text,
        "",
        "where effects of games are posted: https, or http on loopback; empty: nowhere",
    ),
    key(
        "jobs.concurrency",
        Kind::Number,
        "4",
        "jobs of queue `default` that this node works on at once",
    ),
    key(
        "jobs.cron",
        Kind::Text,
        "keep-house every 30s; prune-jobs every 1h; prune-audit every 1d; verify-store 20 4 * * *",
        "what is done by the clock: KIND SCHEDULE; ... with `every 30s` or five cron fields in \
         UTC; empty: nothing",
    ),
    key(
        "jobs.keep_days",
        Kind::Number,
        "3",
        "for how long finished jobs are remembered, dead ones too",
    ),
    key(
        "jobs.lease_ms",
        Kind::Number,
        "15000",
        "how long after the death of a node others take over its jobs",
    ),
    key("limits.connections", Kind::Number, "8192", "open client connections; more are refused"),
    key(
        "limits.connections_per_address",
        Kind::Number,
        "0",
        "clients from one address (IPv6: one /64); 0: half of limits.connections",
    ),
    key(
        "limits.connections_per_player",
        Kind::Number,
        "8",
        "clients with tickets of one player, spectators included",
    ),
    key("limits.datagrams", Kind::Number, "250", "datagrams a second that one client may send"),
    key(
        "limits.handshakes",
        Kind::Number,
        "1000",
        "new connections a second, from everywhere together",
    ),
    key(
        "limits.handshakes_per_source",
        Kind::Number,
        "200",
        "new connections a second from one address",
    ),
    key("limits.matches", Kind::Number, "4096", "matches that this node runs at once"),
    key(
        "limits.reserve",
        Kind::Number,
        "0",
        "of limits.connections, those only for sessions that go on; 0: an eighth",
    ),
    key(
        "limits.snapshot_bytes",
        Kind::Number,
        "0",
        "bytes a second in the snapshots of one client, 1500 or more; 0: as many as its link takes",
    ),
    key(
        "limits.spectators",
        Kind::Number,
        "0",
        "spectators at once; 0: a quarter of limits.connections; they are let go when players need \
         their places",
    ),
    key("listen", Kind::Text, "127.0.0.1:7777", "UDP address for players"),
    key(
        "lobbies.create",
        Kind::Text,
        "",
        "matches that clients may have made when none has a free seat: GAME NAME=VALUE... \
         {CONFIGURATION}; ... ; empty: none",
    ),
    key(
        "log.filter",
        Kind::Text,
        "info",
        "which log events: `info`, `debug`, `info,rekindle_gateway=debug`",
    ),
    key(
        "log.format",
        Kind::Choice(&["auto", "human", "json"]),
        "auto",
        "auto: human on a terminal, JSON otherwise",
    ),
    key(
        "match_threads",
        Kind::Number,
        "1",
        "threads that work on one match at a time, in parallel queries and systems side by side of \
         games with thousands of entities; those beyond the first are shared by all matches",
    ),
    key(
        "node.name",
        Kind::Text,
        "node-1",
        "name of this node among those of its store; without it another one if that is taken",
    ),
    key(
        "node.region",
        Kind::Text,
        "main",
        "where this node runs: it takes over matches of this region only",
    ),
    key(
        "on_stall",
        Kind::Choice(&["pause", "run"]),
        "pause",
        "what a match does when its durable tick is a second behind",
    ),
    key(
        "output",
        Kind::Choice(&["durable", "immediate"]),
        "durable",
        "when a tick leaves the node: once durable, or at once",
    ),
    key(
        "overload.calm_s",
        Kind::Number,
        "10",
        "slowed matches get their rate back, as far as it fits, when none of their thread was late \
         for so long",
    ),
    key(
        "overload.catch_up",
        Kind::Number,
        "4",
        "ticks that a match which is behind makes back to back; what it is further behind is given \
         up",
    ),
    key(
        "overload.slow_after_s",
        Kind::Number,
        "5",
        "matches whose game allows it are slowed when one of their thread was late for so long; 0: \
         never",
    ),
    key(
        "public",
        Kind::Text,
        "",
        "ADDRESS:PORT at which players reach this node from elsewhere, if that is not `listen`; \
         commands with --admin dial it",
    ),
    key(
        "recovery.attempts",
        Kind::Number,
        "5",
        "processes in a row that may die of replaying a match before it is parked; raised later, \
         it is tried again",
    ),
    key(
        "recovery.healthy_ms",
        Kind::Number,
        "3000",
        "a recovered match that ran this long has recovered",
    ),
    key(
        "resume_grace_ms",
        Kind::Number,
        "1000",
        "how long a recovered match waits for its sessions",
    ),
    key(
        "retention.archive",
        Kind::Text,
        "none",
        "records beyond what recovery needs: none, all, or for:TIME (30d); compressed chunks that \
         replay reads",
    ),
    key(
        "retention.checkpoints",
        Kind::Number,
        "2",
        "checkpoints that are kept of each match, at least 2",
    ),
    key(
        "retention.chunk_s",
        Kind::Number,
        "60",
        "how much time a chunk of the archive covers at least; the log keeps so much longer what \
         is archived",
    ),
    key(
        "retention.ended",
        Kind::Text,
        "all",
        "matches that have ended, with all that belongs to them: all, or for:TIME (30d)",
    ),
    key(
        "retention.journal",
        Kind::Text,
        "recovery",
        "records in the log: recovery (what that needs), all, or for:TIME (7d)",
    ),
    key(
        "session_timeout_ms",
        Kind::Number,
        "30000",
        "how long a match waits for a player whose connection is gone",
    ),
    key("shards", Kind::Number, "0", "threads that tick matches; 0: one per core"),
    key(
        "store",
        Kind::Text,
        "local",
        "`local` (in data_dir), `local:DIR`, `postgres://USER@HOST/DATABASE`, \
         `scylla://HOST,HOST/KEYSPACE`, or `memory` (gone with the process)",
    ),
    key(
        "store_password",
        Kind::Text,
        "",
        "password of the user in the store's URL; better in store_password_file, or in the \
         environment",
    ),
    key("store_password_file", Kind::Text, "", "file whose first line is that password"),
    key(
        "store_wait_s",
        Kind::Number,
        "600",
        "how long a start waits for a store that does not answer; 0: not at all",
    ),
    key(
        "watchdog_ms",
        Kind::Number,
        "5000",
        "a tick that takes longer than this ends the process; 0: never",
    ),
];

/// Names that keys had in earlier releases. They still work.
const FORMER: &[(&str, &str)] = &[("journal", "retention.journal")];

/// The key with this name, or with this former name.
pub fn find(name: &str) -> Option<&'static Key> {
    let name = FORMER.iter().find(|(former, _)| *former == name).map_or(name, |(_, now)| now);
    KEYS.iter().find(|key| key.name == name)
}

/// The key that this environment variable sets, also by a former name.
pub fn of_variable(variable: &str) -> Option<&'static Key> {
    let former = FORMER
        .iter()
        .find(|(former, _)| variable_of(former) == variable)
        .and_then(|(_, now)| find(now));
    KEYS.iter().find(|key| key.env() == variable).or(former)
}

fn variable_of(name: &str) -> String {
    format!("REKINDLE_{}", name.replace('.', "_").to_uppercase())
}

/// The name in `names` that is nearest to `wrong`, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names.map(|name| (edits(wrong, name), name)).min()?;
    (distance <= wrong.len().max(name.len()) / 2).then_some(name)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_their_variables_differ() {
        assert!(KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let variables: std::collections::BTreeSet<String> = KEYS.iter().map(Key::env).collect();
        assert_eq!(variables.len(), KEYS.len());
    }

    #[test]
    fn a_typo_finds_its_key() {
        let nearest = |wrong| nearest(wrong, KEYS.iter().map(|key| key.name));
        assert_eq!(nearest("admin.lisen"), Some("admin.listen"));
        assert_eq!(nearest("data-dir"), Some("data_dir"));
        assert_eq!(nearest("xqzw"), None);
    }
}
