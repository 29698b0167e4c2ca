//! PostgreSQL: many services, one database, a ledger each or one for all.
//!
//! Nothing here relies on a session: no prepared settings, temporary tables, sequences or advisory locks. So poolers
//! can stand in between, and databases that speak PostgreSQL's protocol can take its place.
//!
//! | file | what it does |
//! |---|---|
//! | `postgres_store.rs` | `PostgresStore`: a database and its settings, before it becomes a `Store` |
//! | `url.rs` | the URL: servers, parameters, whether a server must prove which one it is |
//! | `reach.rs` | reaches a server: says soon if none answers, and finds one of several |
//! | `source.rs` | the database as it was given: options, passwords, schema, pools for readers |
//! | `place.rs` | the place of the tables, and what names mean in a transaction |
//! | `locate.rs` | looks for the tables, once |
//! | `quote.rs` | quotes texts and names as SQL |
//! | `error.rs` | errors of the database: whose fault, which remedy; how long to wait for an answer |
//! | `open.rs` | opens the writing connection |
//! | `migrate.rs` | creates and migrates the tables |
//! | `append.rs` | commits a batch: position, head, rows and quarantine in one transaction |
//! | `hold.rs` | holds the head of a ledger, and checks it and a writer's position |
//! | `guard.rs` | compares what is stored with what was sent, where triggers may have changed it |
//! | `insert.rs` | adds rows at the head of the ledger |
//! | `copy.rs` | rows in `COPY`'s binary format |
//! | `functions.rs` | appends through the functions of the tables' owner, for a role without rights on the tables |
//! | `quarantine.rs` | reads quarantined entries, and tries them again |
//! | `sql.rs` | statements and their parameters; literals and paths as SQL |
//! | `conditions.rs` | a query's conditions as SQL |
//! | `fields.rs` | comparisons of one field, patterns and parts of its text, as SQL |
//! | `plan.rs` | plans a query before it is asked: ledgers, ranges, indexes |
//! | `read.rs` | reads pages and the heads of ledgers |
//! | `counts.rs` | counts entries by what they have in common |
//! | `by_time.rs` | reads entries in the order of time, window by window |
//! | `evidence.rs` | reads what proves the ledger, whatever its tables hold |
//! | `rows.rs` | the columns of an entry, and an entry from them |
//! | `recorded_reads.rs` | the record of who read the log |
//! | `indexes.rs` | creates, drops and lists indexes |
//! | `survey.rs` | compares the entries, the batches and the head of a ledger with each other, piece by piece |
//! | `cover.rs` | reads what the coverage of an answer needs, in three statements |
//! | `look.rs` | looks at the end that the head names, and at the ends according to the writers and the tree |
//! | `schema.rs` | compares the tables and what hangs on them with those that this crate makes |
//! | `borrowed.rs` | a pooled connection that goes back only outside of a transaction |
//! | `tree.rs` | reads what is stored of the tree over the entries |
//! | `writers.rs` | what the ledger knows of each writer |
//! | `backend.rs` | `Backend`, `Reads` and `Indexes` for PostgreSQL; delegates every call |

mod append;
mod backend;
mod borrowed;
mod by_time;
mod conditions;
mod copy;
mod counts;
mod cover;
mod error;
mod evidence;
mod fields;
mod functions;
mod guard;
mod hold;
mod indexes;
mod insert;
mod locate;
mod look;
mod migrate;
mod open;
mod place;
mod plan;
mod postgres_store;
mod quarantine;
mod quote;
mod reach;
mod read;
mod recorded_reads;
mod rows;
mod schema;
mod source;
mod sql;
mod survey;
mod tree;
mod url;
mod writers;

pub use postgres_store::PostgresStore;
