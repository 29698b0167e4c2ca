//! PostgreSQL in operation: who may do what, what runs beside it, and what grows with what.
//!
//! # Several services
//!
//! All of them may write to one **ledger**, or each to its own ([`ledger`](crate::AuditLogBuilder::ledger)). Whoever
//! appends holds its ledger's row in `tracing_audit_heads` for one transaction, so that `seq` is contiguous: writers of
//! one ledger take turns, batch by batch, and those of different ledgers do not meet. A page, and whoever follows by
//! `seq`, reads one ledger; a query, a count or an export reads all, or the one that
//! [`AuditQuery::ledger`](crate::AuditQuery::ledger) names. Four writers on four ledgers are 1.4 times as fast as on
//! one where all share two cores (`cargo bench --features postgres --bench postgres`); the rest is the disk's and the
//! processors'.
//!
//! # Roles
//!
//! `migrations/postgres/roles.sql` has a role that writes and can neither change nor remove an entry, one that reads and
//! can record that it did ([`recorded_as`](crate::AuditReader::recorded_as)), and one that tries quarantined entries
//! again. An [index on request](crate::guide::indexes) is made by the owner of the tables. Where no service may create tables, an administrator runs what
//! [`Store::migrations`](crate::Store::migrations) gives, and the services open with
//! [`Migrate::Check`](crate::migrate::Migrate::Check). A password that changes, or a cloud's token, is asked for at each
//! connection by [`PostgresStore::password`](crate::PostgresStore::password).
//!
//! # Poolers
//!
//! A log keeps one connection for writing, so a pooler saves little in front of it. One in session mode makes no
//! difference. For one in transaction mode (PgBouncer's `pool_mode = transaction`), end the URL with
//! `?statement-cache-capacity=0`: then no statement has a name on the server, where the next transaction may meet
//! another connection, and each is prepared and run within one transaction. A batch takes some more round trips for it,
//! whatever its size. PgBouncer from 1.21 on, with `max_prepared_statements` above 0, can do with names too. Tests
//! run with PgBouncer 1.18 between.
//!
//! # Retention
//!
//! The tables are not partitioned by time. PostgreSQL wants the partition's column in each unique key, and with `ts` in
//! it neither `seq` nor `id` would be unique in a ledger any more: the database would no longer refuse a second entry
//! in a place that is taken, nor a second one with the same `id`. Removing entries from a ledger also breaks what makes
//! it worth reading, that `seq` is without holes. Let a ledger be what is removed: name it after the period, for
//! instance `payments-2026`, and once it may go, an owner of the tables deletes it whole:
//!
//! ```sql
//! BEGIN;
//! DELETE FROM tracing_audit_entries WHERE ledger = 'payments-2026';
//! DELETE FROM tracing_audit_batches WHERE ledger = 'payments-2026';
//! DELETE FROM tracing_audit_quarantine WHERE ledger = 'payments-2026';
//! COMMIT;
//! ```
//!
//! Its rows in `tracing_audit_heads` and `tracing_audit_positions` stay: a journal that turns up later is then known to
//! have been committed, and a log that is opened once more goes on after the last `seq`. A CSV that is read meanwhile ends
//! where the ledger does: wait for it first.
//!
//! # More than one machine
//!
//! Every unique key begins with the ledger, no statement joins rows of two of them, and nothing needs sequences,
//! triggers, temporary tables, advisory locks or settings of a session: `client_connection_check_interval`, and 16 MB of
//! `work_mem` for sorting part of an export, are asked for within a transaction. So the tables can be spread over machines by
//! ledger, for instance by [Citus](https://docs.citusdata.com), with the tables empty:
//!
//! ```sql
//! SELECT create_distributed_table('tracing_audit_heads', 'ledger');
//! SELECT create_distributed_table('tracing_audit_entries', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_batches', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_positions', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_quarantine', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_reference_table('tracing_audit_migrations');
//! ```
//!
//! (`tracing_audit_reads`, which is of no ledger, stays where it is.) All of a ledger then lies on one node, and a batch is one transaction there, without a second phase (tried with a
//! batch's statements on three nodes of Citus 13.2 over PostgreSQL 15). What grows with the number of nodes is the
//! number of ledgers that are written at once; a single ledger is as fast as its node. A query without a ledger asks
//! all nodes.
//!
//! The tests that SQLite and PostgreSQL share run against any server that speaks its language:
//!
//! ```sh
//! TRACING_AUDIT_TEST_POSTGRES=postgres://user@host:5432 cargo test --features postgres --test suite contract::postgres
//! ```
