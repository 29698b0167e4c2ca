//! Which index serves which query, and what it costs.
//!
//! Every log has the indexes that serve what is asked of any log, and those of what is rare, which cost next to nothing.
//! What else is asked for often gets an index on request: by [`index`](crate::AuditLogBuilder::index)
//! when the log is opened, of a [`Column`](crate::query::Column) or of [`IndexOn::metadata`](crate::index::IndexOn::metadata), by
//! [`Store::create_index`](crate::Store::create_index), or by `tracing-audit index add`. Without one a query answers the
//! same, by a scan: give it a range of time, which any query is narrowed to by what each commit noted of its times.
//! [`indexes`](crate::Store::indexes) and `tracing-audit index list` show which there are, what each takes on
//! disk, and in PostgreSQL how often it was used.
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
//! The times are those of an index alone, against a log with no index but the keys: 4.8 µs an entry on SQLite, 6 to 8 on
//! PostgreSQL 15, two runs of `cargo bench --features postgres --bench indexes`. "Rare" is what one entry in a hundred
//! has: the difference was within what the same run differs by, half a microsecond. An index on metadata costs most,
//! since the JSON of each entry is read for it.
//!
//! Of several, one index finds the entries and the rest is looked at: of an agent and an action, either's. PostgreSQL
//! takes the rarest by its statistics. For SQLite, which has none, the newest thousands that each index finds are
//! looked at: the one is used that has fewer, or where these reach back the furthest.
//!
//! [`none_of`](crate::AuditQuery::none_of), [`containing`](crate::AuditQuery::containing) and
//! [`risk_at_most`](crate::AuditQuery::risk_at_most) scan whatever there is. Where
//! [`needs_full_scan`](crate::AuditQuery::needs_full_scan) says that nothing tells where the entries are, and no
//! index on request does (nor, in SQLite, that of an action's prefix with more than 8192 entries), pages, streams and
//! followers look through a million entries with one statement.
//! `query` and CSV go back in time some thousands of entries a statement, up to a million where little of them matches.
//! What else looks through much, a long range of time or a large workspace, is one statement, and so is a count; in
//! PostgreSQL, `statement_timeout` bounds them.
//!
//! Whoever drops any of these calls ends its statement: in SQLite that of a page or a count within milliseconds, and that
//! of a query or a CSV with its part, but for a pool of the application's, where it goes on; in PostgreSQL within a second,
//! by `client_connection_check_interval` where that is not set otherwise and the server runs on Linux. The connection is
//! closed, and the pool opens another.
