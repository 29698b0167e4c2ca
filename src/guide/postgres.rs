//! PostgreSQL in operation: services, roles, poolers, retention, and more than one machine.
//!
//! # Several services
//!
//! Services may write to one **ledger**, or each to its own ([`ledger`](crate::AuditLogBuilder::ledger)). A writer
//! locks its ledger's row in `tracing_audit_heads` for one transaction, so that `seq` is contiguous: writers of one
//! ledger take turns, batch by batch, and writers of different ledgers do not meet. A page and a follower by `seq`
//! read one ledger. A query, a count or an export reads all of them, or the one that
//! [`AuditQuery::ledger`](crate::AuditQuery::ledger) names. With all processes on two cores, four writers on four
//! ledgers are 1.4 times as fast as on one (`cargo bench --features postgres --bench postgres`).
//!
//! # Roles
//!
//! There are two ways to write, and a log finds out by itself which one its role has. A role with the right to insert into
//! `tracing_audit_entries` writes the tables. A role without it calls functions of the tables' owner, which check what they are
//! given. `migrations/postgres/roles.sql` creates three roles for the second way; none of them has a right to write a table.
//!
//! | role | can | cannot |
//! |---|---|---|
//! | `audit_writer` | add entries at the end of the ledgers that it is granted; hold one of them for a while, which `pg_stat_activity` shows; add entries that say what is not true; send hashes that are wrong, which `tracing-audit verify` finds | read, change or remove an entry; write another ledger, or begin more ledgers than it is granted; choose a number, or the time of a commit, which is the server's; lower a position, or raise it without an entry that reports it; touch what belongs to the writers of other roles |
//! | `audit_reader` | read all ledgers, and what the database knows of writers; record that it did ([`recorded_as`](crate::AuditReader::recorded_as)) | choose the recorded role or time, end another role's read, change or remove a record; whoever reads in an SQL shell records nothing |
//! | `audit_operator` | retry quarantined entries of any ledger, which takes them out of quarantine once they are entries; see which ledgers there are; what a writer can | read entries or the quarantine, begin a ledger |
//! | a role with rights on the tables | what the owner has granted it: with `INSERT` on the entries and `UPDATE` on the heads and positions also forge entries and batches of any ledger, lower a head, block or discard what others write | with those rights: change or remove an entry |
//! | the owner of the tables | everything; `tracing-audit verify` finds it by a checkpoint that was kept elsewhere: see [`integrity`](super::integrity) | |
//!
//! The first way is enough where one service, or services that trust each other, have the database for themselves: connect as
//! the owner. The second needs, for each login and ledger, a row that the owner adds. The role is the login itself, or a group
//! of which it is a member, so logins may change while their queues stay:
//!
//! ```sql
//! CREATE ROLE billing LOGIN IN ROLE audit_writer;
//! INSERT INTO tracing_audit_grants (role, ledger) VALUES ('billing', 'billing');
//! INSERT INTO tracing_audit_grants (role, ledger, most) VALUES ('billing', 'billing-*', 24);
//! ```
//!
//! A ledger with `*` at its end stands for all that begin so; `most` is how many of them there may be, by default 100. The role
//! that counts is the one that has logged in, so a pooler has to connect as the client's own role. A queue that a process of one
//! role has left is not taken over by another role, unless the grants of both name the same group. The role that wrote
//! a queue's entries by the tables before migration 5 is not known: any role that may write its ledger can take such a
//! queue over.
//!
//! A role that cannot read entries cannot give leaves to those that have none: what an earlier version, or a log with
//! [`Integrity::Deferred`](crate::Integrity::Deferred) or `Off`, has written, this one's own with `Deferred` too. One log of the
//! owner's catches up; until then entries are committed without leaves, and a notice says so. Appending by the functions sends the rows as arrays, in
//! fewer round trips than by the tables.
//!
//! `tracing-audit check` names a function that is missing, that belongs to somebody else, that names another schema, that does
//! not run as its owner, or that everybody may call.
//!
//! An [index on request](super::indexes) is created by the owner of the tables. If no service may create tables, an
//! administrator runs the scripts of [`Store::migrations`](crate::Store::migrations), and the services open with
//! [`Migrate::Check`](crate::migrate::Migrate::Check). For a password that changes, or a cloud's token, see
//! `PostgresStore::password`: it is requested for each connection.
//!
//! # Connections
//!
//! `postgres://user:password@host:port/database?parameter=value` names a database. A host is a name, an IPv4 address, an
//! IPv6 address in brackets, or the directory of a socket with `%2F` for each `/`; it may be given by `host=` (an IPv6
//! address without brackets) and `port=`, too. Each byte that has a meaning in a URL is written with a percent sign. A
//! parameter that is not known is an error.
//!
//! **Which server answers.** A connection to another machine is encrypted, and the server must prove by a certificate that it
//! is the host of the URL: without an `sslmode` in the URL or in `PGSSLMODE`, `verify-full` counts. With `tls-rustls`, the
//! certificate's authority must be one of Mozilla's; `sslrootcert=FILE` names another. Connections over a socket, to
//! `localhost` and to loopback addresses are not checked. `sslmode=require` encrypts and checks nothing, and `prefer` does not
//! even encrypt if somebody on the way says that there is no TLS: a notice says so once. `disable` is for networks that are
//! protected otherwise. A pool of the application's has the `sslmode` of its options, which is `prefer` by default.
//!
//! **Several servers.** `postgres://audit@a,b,c/audit?target_session_attrs=read-write` names a primary and its standbys, in
//! any order. The log connects to all of them at once, writes to the first that takes writes, and after each lost connection
//! looks again: so it goes on at a standby that is promoted. Readers do the same; with `target_session_attrs=any`, the
//! default, they take the first server that answers, which may be a standby, behind its primary. A fail-over loses what
//! the old primary had confirmed and the new one does not have: set `synchronous_standby_names` on the primary, so that a
//! commit waits for a standby. The old primary must not come back as a second one.
//!
//! **A server that is away** is reported within two seconds, to readers too. A server that can be reached may take as
//! long as it needs.
//!
//! # Names on a server that others share
//!
//! The schema of the tables is the one that `PostgresStore::schema` names, else the first in
//! the role's `search_path` that has them. It is looked for once. From then on each statement names it, and runs with a
//! `search_path` of `pg_catalog` alone, which ends with the transaction: schemas, temporary tables, functions, operators and
//! types of others do nothing, behind a pooler neither. A schema that has the role's name, and that `search_path` puts first,
//! counts only if it belongs to the role, to a superuser or to the owner of the database. A role that may create tables
//! in the schema of the log can make some before the first log does: name a schema that belongs to the owner of the
//! log, or `REVOKE CREATE ON SCHEMA public FROM PUBLIC` on PostgreSQL 14.
//!
//! Functions of triggers are the exception. If there are triggers on the tables, which only their owner can create, the
//! role's `search_path` comes after `pg_catalog` in the transactions of a writer, so that the functions find what they
//! name. Let nobody else create functions in the schemas of that path. This does not hold for a writer that calls the
//! functions of the tables' owner: within these only `pg_catalog` is searched, so the function of a trigger names the
//! schema of what it uses, or has a `search_path` of its own (`ALTER FUNCTION f() SET search_path = ...`).
//!
//! Each transaction of a writer and of a reader compares the tables with those that the process found first: a table that was
//! put in the place of another one, or that has another owner, is an error of the store, and nothing is confirmed in it. When
//! the table is put back, the log goes on. After a restore, start the process again. A function through which a role
//! writes has to belong to the owner of the tables, and is compared in the same way. The functions name the schema in
//! which they were made: in a schema that was renamed, or restored under another name, they are an error of the store.
//!
//! # Poolers
//!
//! A log keeps one connection for writing, so a pooler in front of it saves little. A pooler in session mode makes no
//! difference. For a pooler in transaction mode (PgBouncer's `pool_mode = transaction`), end the URL with
//! `?statement-cache-capacity=0`. Then no statement has a name on the server, where the next transaction may meet
//! another connection; each statement is prepared and run within one transaction. This adds a few round trips to a
//! batch, whatever its size. PgBouncer 1.21 and later can keep names too, with `max_prepared_statements` above 0. The
//! tests run with PgBouncer 1.18.
//!
//! # A network that is cut
//!
//! A log waits at most a minute for an answer, and then connects again. The server ends the transaction of a client
//! that has sent nothing for 30 s, and looks every second whether the client of a statement is still there. So a cut
//! network holds up nobody for longer than that. The server's process for the old connection stays. It holds no lock,
//! and ends when the server's TCP keepalive finds the client gone, on Linux after two hours. If connections are few,
//! set `tcp_keepalives_idle` on the server, or for the role that connects: `ALTER ROLE billing SET tcp_keepalives_idle
//! = 60`. The log does not set it itself: the driver has no option for it, and a session's setting would stay with a
//! pooler's next client.
//!
//! # Retention
//!
//! The tables are not partitioned by time. PostgreSQL requires the partition's column in each unique key, and with
//! `ts` in the key neither `seq` nor `id` would be unique in a ledger: the database would no longer refuse a second
//! entry with the same `seq` or `id`. Removing single entries would also break the guarantee that `seq` is without
//! holes. So remove whole ledgers: name a ledger after its period, for instance `payments-2026`, and when it may be
//! removed, let an owner of the tables delete all of it:
//!
//! ```sql
//! BEGIN;
//! DELETE FROM tracing_audit_entries WHERE ledger = 'payments-2026';
//! DELETE FROM tracing_audit_batches WHERE ledger = 'payments-2026';
//! DELETE FROM tracing_audit_leaves WHERE ledger = 'payments-2026';
//! DELETE FROM tracing_audit_nodes WHERE ledger = 'payments-2026';
//! DELETE FROM tracing_audit_quarantine WHERE ledger = 'payments-2026';
//! COMMIT;
//! ```
//!
//! Its rows in `tracing_audit_heads` and `tracing_audit_positions` stay: a journal that is found later is then known
//! to have been committed, and a log that is opened again continues after the last `seq`. A CSV that is being read at
//! that time ends where the ledger ends, so wait for it first.
//!
//! # More than one machine
//!
//! Every unique key begins with the ledger, and no statement joins rows of two ledgers. Nothing needs sequences,
//! triggers, temporary tables, advisory locks or settings of a session: `client_connection_check_interval`, and 16 MB
//! of `work_mem` for sorting part of an export, are set within a transaction. So the tables can be distributed over
//! machines by ledger, for instance by [Citus](https://docs.citusdata.com), while they are empty:
//!
//! ```sql
//! SELECT create_distributed_table('tracing_audit_heads', 'ledger');
//! SELECT create_distributed_table('tracing_audit_entries', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_batches', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_positions', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_writers', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_quarantine', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_leaves', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_distributed_table('tracing_audit_nodes', 'ledger', colocate_with => 'tracing_audit_heads');
//! SELECT create_reference_table('tracing_audit_migrations');
//! SELECT create_reference_table('tracing_audit_grants');
//! ```
//!
//! The table `tracing_audit_reads` belongs to no ledger and stays where it is. All of a ledger then lies on one node,
//! and a batch is one transaction there, without a second phase. (Tried with a batch's statements on three nodes of
//! Citus 13.2 over PostgreSQL 15.) More nodes allow more ledgers to be written at once; a single ledger is as fast as
//! its node. A query without a ledger asks all nodes.
//!
//! # Which servers
//!
//! | server | state | what was run |
//! |---|---|---|
//! | PostgreSQL 13 and older | refused, with a sentence: no statistics of expressions, and statements of clients that are gone do not end | 13.23 |
//! | PostgreSQL 14 | works | 14.23: the tests of writing, the tree, evidence and coverage that both databases share, and `postgres::names` |
//! | PostgreSQL 15 | works | all tests, with each change |
//! | PostgreSQL 16 and 17 | work | the tests that both databases share, with an earlier version of this crate |
//! | PostgreSQL 18 | works | 18.4: as 14 |
//! | PgBouncer in session mode | works | nothing: it is as without a pooler |
//! | PgBouncer in transaction mode | works, with `?statement-cache-capacity=0` | 1.18: `postgres::operation`, `postgres::names`, with each change |
//!
//! The tests that SQLite and PostgreSQL share can run against any server that speaks PostgreSQL's protocol:
//!
//! ```sh
//! TRACING_AUDIT_TEST_POSTGRES=postgres://user@host:5432 cargo test --features postgres --test suite contract::postgres
//! ```
