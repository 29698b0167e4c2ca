//! How the crate is built: its rooms, its floors, its invariants.
//!
//! # The way of an entry
//!
//! ```text
//! info!(target: "audit", ..)
//!    │
//!    ▼                        the emitting thread
//!  layer ──► engine ──► queue ─────────────────────────────────────
//!            (intake)     │   memory, or a journal on disk
//!                         ▼   the flusher's thread
//!                      engine ──► store ──► SQLite, PostgreSQL
//!                      (flusher)    ▲
//!                                   │     the caller's runtime
//!                                 reader ──► export ──► CSV, JSON Lines, OCSF
//! ```
//!
//! The layer copies an event and the context of its spans into one record of bytes. The queue holds records: it is
//! the one source of truth for what is pending. The flusher decodes records into rows, commits them in batches,
//! retries, and only then acknowledges. The database is the authority on what is committed: a batch's transaction
//! stores the position that it has reached, which is what makes a replay after any crash exact.
//!
//! # Floors
//!
//! A folder of `src/` is a room. A room uses only rooms below it, and a test (`tests/suite/house.rs`) says so.
//!
//! ```text
//!  9  bin   testing   fuzz
//!  8  log
//!  7  layer                                          export, evidence
//!  6  engine                                         reader
//!  5  store
//!  4  query          queue
//!  3  entry          defaults       ledger
//!  2  platform
//!  1  error
//! ```
//!
//! | room | what it does |
//! |---|---|
//! | `error` | the one error type, its kinds and predicates |
//! | `defaults` | every default, with its reason |
//! | `platform` | all that belongs to the operating system or the async runtime |
//! | `entry` | an audit entry in each of its forms: fields, bytes, row, value |
//! | `ledger` | leaves, trees, proofs and checkpoints: what makes tampering show, as bytes |
//! | `query` | the questions that can be asked; knows no SQL and no database |
//! | `queue` | accepted records, waiting for the flusher |
//! | `store` | the databases: whole operations, one implementation each |
//! | `engine` | turns accepted records into commits: the flusher's thread, the clock's, and who is woken when |
//! | `layer` | copies an audit event and its spans' context into one record |
//! | `reader` | answers, for people's code |
//! | `export` | answers, for files and other systems |
//! | `evidence` | verifies a ledger against what was kept outside of it, and proves its entries to others |
//! | `log` | puts the parts together |
//! | `testing` | for the tests of code that audits |
//! | `bin` | the command, over the public API only |
//!
//! # Invariants
//!
//! - `entry`, `ledger` and `query` do no I/O, read no clock (but `entry/moment.rs`) and know no database.
//! - The tree over a ledger's entries is made of what is stored, in the transaction that stores it. Nothing fails because of it:
//!   what cannot be added to it is committed without.
//! - The bytes of `ledger` are for ever: a change of them is a new version beside the old one.
//! - Only `layer`, `log` and `testing` name `tracing_subscriber`. Only `store` names `sqlx`, and one file of
//!   `platform` that reads SQLite's rows where they lie. Only `platform` has `unsafe` and code for one operating system.
//! - `layer` and `engine` never emit events under the audit target, and hold no lock while the application's code runs.
//! - `store/sqlite` and `store/postgres` do not know each other. Their files have the same names, and what they share
//!   (contracts and pure algorithms) is in `store/`. Each has its own literal SQL.
//! - The clock's thread never blocks. Every limit of a call is its, and so is the watch over the flusher, whose thread may
//!   block. The state of a queue is never locked during an operation on a file.
//! - Books first: a batch is acknowledged in the queue before anybody who waits for it is answered.
