//! Indexes: which index serves which query, and what each costs.
//!
//! Every log has the indexes that any log needs, and indexes on rare values, which cost next to nothing. For other
//! frequent questions, create an index on request: by [`AuditLogBuilder::index`](crate::AuditLogBuilder::index) when
//! the log is opened, by [`Store::create_index`](crate::Store::create_index), or by `tracing-audit index add`. It is
//! on a [`Column`](crate::query::Column), or on a path into the metadata
//! ([`IndexOn::metadata`](crate::index::IndexOn::metadata)).
//!
//! Without an index a query gives the same answer by a scan. Give such a query a range of time: each commit noted the
//! times of its entries, so any query can be narrowed to the commits of that range. `tracing-audit index list` and
//! [`Store::indexes`](crate::Store::indexes) list the indexes, their size on disk, and in PostgreSQL how often each
//! was used.
//!
//! | index | serves | time of an insert: SQLite | PostgreSQL | bytes an entry: SQLite | PostgreSQL |
//! |---|---|---|---|---|---|
//! | `seq` | pages, streams, followers | the table itself | keys | | keys |
//! | `id` | `get`, and that no entry is there twice | keys | keys | keys | keys |
//! | `workspace_id` | a workspace | +20 to 26 % | +36 to 54 % | 28 | 88 |
//! | `session_id` | a session, in order | +1 to 14 % | +14 to 28 % | 28 | 52 |
//! | decision of `Deny` or `Mask` | refusals, of one workspace too | rare | rare | rare | rare |
//! | risk of 0.8 or more | [`risk_at_least`](crate::AuditQuery::risk_at_least) of 0.8 or more | rare | rare | rare | rare |
//! | problems | [`with_problems`](crate::AuditQuery::with_problems) | rare | rare | rare | rare |
//! | action `audit.gap` | declared losses | rare | rare | rare | rare |
//! | on request: `agent_id`, 500 of them | all that an agent did | +73 to 81 % | +68 to 92 % | 27 | 83 |
//! | `action`, 20 of them | an action; in SQLite and PostgreSQL also those of a prefix, sorted by `seq` afterwards | +30 % | +47 % | 29 | 87 |
//! | `resource_id`, a million of them | who read document D | +25 to 35 % | +60 to 88 % | 16 | 53 |
//! | `reason`, in two entries of a hundred | a reason | +1 to 9 % | rare | 1 | 2 |
//! | a place in the metadata, 1800 values of it | an address, a request, a trace | +124 to 165 % | +115 to 154 % | 22 | 72 |
//!
//! The times are for one index alone, compared with a log that has only the keys: 4.8 µs an entry on SQLite, 6 to 8
//! µs on PostgreSQL 15, from two runs of `cargo bench --features postgres --bench indexes`. "Rare" means a value that
//! one entry in a hundred has: the difference was smaller than the noise of the run, half a microsecond. An index on
//! metadata costs most, since the JSON of each entry must be read for it.
//!
//! # Several indexes
//!
//! One index finds the entries, and the other conditions are checked on each entry found. PostgreSQL chooses the
//! rarest condition by its statistics. SQLite has none, so the newest thousands of entries that each index finds are
//! counted first. The index with fewer entries is used, or the one whose entries reach back furthest.
//!
//! # No index
//!
//! [`none_of`](crate::AuditQuery::none_of), [`containing`](crate::AuditQuery::containing) and
//! [`risk_at_most`](crate::AuditQuery::risk_at_most) always scan. If
//! [`needs_full_scan`](crate::AuditQuery::needs_full_scan) is true and no index on request serves the query, pages,
//! streams and followers look through a million entries with each statement. In SQLite this also applies to an
//! action's prefix that more than 8192 entries have. `query` and CSV go back in time, some thousands of entries with
//! each statement, and up to a million where few of them match. Other large reads (a long range of time, a large
//! workspace, a count) are one statement; in PostgreSQL, `statement_timeout` bounds it.
//!
//! # Cancelling
//!
//! Dropping any of these calls ends its statement. In SQLite a page or a count ends within milliseconds, a query or a
//! CSV with its current part; on an application's own pool, the statement runs to its end. In PostgreSQL the
//! statement ends within a second, by `client_connection_check_interval`, if that is not set otherwise and the server
//! runs on Linux. The connection is closed, and the pool opens another.
