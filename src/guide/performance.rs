//! Measured figures, each with the command that prints it.
//!
//! `cargo bench --features postgres` takes an hour; `--bench emit`, `files`, `indexes`, `ingest`, `journal`, `ledger`,
//! `postgres`, `query` or `read` runs one. Each benchmark runs a job beside the tool that one would use instead, and beside the
//! limit of the machine, and prints the ratios. Absolute times vary from machine to machine: believe the ratios. Each
//! ratio below is from one run, on two shared cores, with PostgreSQL 15 and the SQLite of the build.
//!
//! # Emitting (`emit`, `journal`)
//!
//! | job | this crate | beside it | ratio |
//! |---|---|---|---|
//! | `info!` with 11 fields, accepted in memory | 0.64 µs | a JSON line through tracing-appender: 4.00 µs | 0.16 |
//! | the same, accepted in a journal, committed meanwhile | 2.09 µs | the same: 3.54 µs | 0.59 |
//! | `info!` with 6 fields in a span with 3, accepted in memory | 0.47 µs | the same: 5.27 µs | 0.09 |
//! | the same, accepted in a journal | 1.82 µs | the same | 0.35 |
//! | the slowest in a thousand of those in a journal, committed between | 158 µs | a JSON line through tracing-appender: 17 µs | |
//! | the same, synced every 10 ms | 143 µs | | |
//! | eight threads together, in a journal | 1.66 µs | one thread: 1.87 µs | 0.88 |
//! | a disabled `trace!` elsewhere | 0.6 ns | without the layer: 0.6 ns | 1.00 |
//! | memory for 1 000 000 entries accepted while the database is locked | 1.6 MB | | |
//! | start to first event accepted, with those left in a journal | 2.0 ms | with an empty one: 1.6 ms | 1.2 |
//!
//! # From event to committed row (`ingest`, `postgres`)
//!
//! | job | this crate | beside it | ratio |
//! |---|---|---|---|
//! | SQLite, filling 200 000 rows | 121 000 rows/s | row by row in batches of 500: 9 100 rows/s | 13.4 |
//! | | | SQLite's C interface with the same tables and batches: 139 000 rows/s | 0.87 |
//! | the same, through a journal | 106 000 rows/s | in memory: 115 000 rows/s | 0.92 |
//! | PostgreSQL 15, filling 200 000 rows | 89 000 rows/s | text `COPY` of the same rows: 81 000 rows/s | 1.10 |
//! | four writers to four ledgers of one database | 111 000 rows/s | to one ledger: 80 000 rows/s | 1.39 |
//!
//! # Integrity (`ledger`)
//!
//! | job | this crate | beside it | ratio |
//! |---|---|---|---|
//! | SQLite, 200 000 rows with two members of metadata, with the tree | 10.8 µs a row | without: 10.0 µs | 0.93 |
//! | the same with six members | 13.1 µs a row | without: 11.8 µs | 0.90 |
//! | a commit of one entry, two members | 1.09 ms | without: 1.08 ms | 0.99 |
//! | the leaf of an entry with two members | 1.05 µs | SHA-256 of as many bytes as it hashes: 0.46 µs | |
//! | verification of 400 000 rows in SQLite, on two cores | 755 000 rows/s, 35 MiB of memory | | |
//! | the same in PostgreSQL | 311 000 rows/s, 18 MiB of memory | | |
//!
//! `LEDGER_ENTRIES=1000000 cargo bench --bench ledger` measures the last two alone, for that many entries.
//!
//! # Reading (`read`, `query`, `postgres`)
//!
//! | job | this crate | beside it | ratio |
//! |---|---|---|---|
//! | CSV of 1 000 000 rows | 133 000 rows/s, 10 MB resident | the sqlite3 shell on the view: 81 000 rows/s | 1.65 |
//! | CSV of 1 000 000 rows from PostgreSQL | 400 000 rows/s, 9 MB resident | psql's `\copy` of the view: 350 000 rows/s | 1.14 |
//! | newest 100 of 1 000 000 | 4.0 ms | a scan: 1.6 s | |
//! | page of 100 of 10 000 000 by each index, or by two conditions: the slowest of a hundred | SQLite 0.8 to 8.4 ms, PostgreSQL 0.9 to 6.9 ms | | |
//! | the same, median | SQLite 0.5 to 4.3 ms, PostgreSQL 0.7 to 3.6 ms | | |
//! | counts of one day of a hundred, 10 000 000 in all (median) | SQLite 48 to 106 ms, PostgreSQL 69 to 106 ms | | |
//! | an index on request on 10 000 000 entries, created beside writers | SQLite 4 to 8 s, for which commits wait; PostgreSQL 15 to 22 s, the slowest commit 0.2 s | | |
