//! Comparison: what other crates do with the same events, and what they lose.
//!
//! Read in their sources or run, in the versions named: claw-guard 0.1.2, systemprompt-logging 0.77, tracing-appender
//! 0.2.5, tracing-loki, emit 1, auditlog 0.1, libro 0.92. "Lost" means that no error was reported to the application.
//!
//! | what happens | this crate | others |
//! |---|---|---|
//! | the database is locked for 12 s while 2 000 entries are written | 0 lost: they wait, in order | claw-guard: 501 to 502 lost, no error |
//! | one entry in 500 has an `id` that exists | it alone is quarantined | claw-guard: 5 to 500 entries lost, by when the timer cuts the batch |
//! | `main` returns right after the last write | 0 lost | claw-guard: 400 of 400 lost |
//! | the process is killed with `kill -9` | 0 lost with a journal | all: the queue is lost |
//! | the queue is full | the emitter waits or the entry is rejected, and an entry reports how many | tracing-appender drops by default; emit clears the whole queue; systemprompt-logging drops and counts |
//! | the database fails | retried for ever, in order, in constant memory | claw-guard, systemprompt-logging: the batch is dropped; tracing-loki: dropped once the pause reaches 30 s |
//! | a per-layer filter on the target, beside sqlx | 100 of 100 events arrive | a closure on the target: 1 of 100 |
//! | a CSV cell that begins with `=` | harmless in a spreadsheet | claw-guard, libro: a formula |
//!
//! | capability | this crate | who else has it |
//! |---|---|---|
//! | a `tracing` layer with typed fields and span context | yes | systemprompt-logging (drops events outside of a span), tracing-loki (a span's field beats the event's) |
//! | SQLite and PostgreSQL | both | auditlog (synchronous, in the caller) |
//! | fail closed: durable before the act | `committed`, `commit` | Serilog's `AuditTo`, the Kubernetes API server's blocking-strict mode |
//! | a self-test of the wiring | `check_wiring` | none found |
//! | a change of what was committed shows | a tree in the transaction of the commit, held against [a checkpoint kept elsewhere](super::integrity) | libro, audit-trail (hash chains in the process) |
//! | retention | by ledger | auditlog, systemprompt-logging |
//!
//! Use another crate where losing entries is acceptable and a text file is enough (`tracing-appender`), or where each
//! change of a database row must be recorded whoever made it (triggers, such as pghistory): both complement this one.
