//! Every default and its reason.
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`journal`](crate::AuditLogBuilder::journal), of a file opened by path | `audit.db.queue` beside `audit.db` | accepted entries should survive the process, and whoever copies the one file sees the other |
//! | [`journal_max_bytes`](crate::AuditLogBuilder::journal_max_bytes) | 1 GiB | some three million entries: an hour without the database at a thousand a second |
//! | segments of a journal | 16 MiB | a new segment is rare, and space is freed in small steps |
//! | what journals leave to a database in the same file system | three quarters of what is free and of what they hold, at least 1 MiB | an entry takes up to 2.5 times as many bytes in the database as in a journal, and indexes on request and the write-ahead log have to fit beside it |
//! | [`durability`](crate::AuditLogBuilder::durability) | survives a crash of the process, not a loss of power | costs no sync; committed entries are synced in any case |
//! | the queue of a PostgreSQL server | none: choose one | a server can be away for long, and how much that may cost is your decision |
//! | [`in_memory_queue`](crate::AuditLogBuilder::in_memory_queue), of a SQLite pool | 100 000 entries, 64 MiB | about a second of SQLite at its fastest |
//! | [`integrity`](crate::AuditLogBuilder::integrity) | [`Inline`](crate::Integrity::Inline): each entry is in the tree when it is committed | it cannot be had for the past afterwards, and an event costs nothing more |
//! | [`when_full`](crate::AuditLogBuilder::when_full) | block for 1 s, then reject | outlasts a slow commit, and is short enough for a request |
//! | [`batch_entries`](crate::AuditLogBuilder::batch_entries) | 512 entries | makes the fixed cost of a transaction negligible |
//! | [`flush_interval`](crate::AuditLogBuilder::flush_interval) | 100 ms | a person who looks for what just happened does not notice it |
//! | [`commit_timeout`](crate::AuditLogBuilder::commit_timeout) | 5 s | as long as a connection waits for another's lock |
//! | [`open_timeout`](crate::AuditLogBuilder::open_timeout) | 30 s | longer than a locked or slow database takes to answer; short enough for a service that starts |
//! | [`value_max_bytes`](crate::AuditLogBuilder::value_max_bytes) | 64 KiB | a large JSON document |
//! | [`entry_max_bytes`](crate::AuditLogBuilder::entry_max_bytes) | 1 MiB | several of them |
//! | [`on_notice`](crate::AuditLogBuilder::on_notice) | `warn!` with the target `tracing_audit` | reaches whoever reads the service's log, at most once a second |
//! | [`target`](crate::AuditLogBuilder::target) | `audit` | short, and used by nobody else |
//! | [`level`](crate::AuditLogBuilder::level) | `INFO` | an `info!` is meant to be kept |
//! | [`ledger`](crate::AuditLogBuilder::ledger) | `main` | a SQLite file holds one |
//! | [`index`](crate::AuditLogBuilder::index) | only the indexes of every log | each index is paid for at every insert: see [`indexes`](super::indexes) |
//! | [`default_workspace`](crate::AuditLogBuilder::default_workspace) | the nil UUID | a service without tenants has no other |
//! | [`default_decision`](crate::AuditLogBuilder::default_decision) | none | a log does not assert what nobody said |
//! | entries in one commit | at most 16 384 entries and 8 MiB | a tenth faster than half as many, and keeps a transaction around 150 ms |
//! | pause between attempts | 20 ms, doubled up to 2 s, shortened at random by up to half | the first retry comes soon, and several processes do not retry in step |
//! | PostgreSQL | a connection of its own, `READ COMMITTED`, `synchronous_commit` at least `on` in each transaction | a commit is durable when it returns |
//! | SQLite | write-ahead log and pages of 8 KiB in files that this crate creates, `synchronous = FULL`, `fullfsync` on macOS, 5 s for another's lock, checkpoints of 32 MiB | a commit is durable when it returns; the sizes are the fastest measured |
