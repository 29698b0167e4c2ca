//! Events: what becomes of each, from `info!` to its row.
//!
//! # The four states of an entry
//!
//! ```text
//!                    ┌──────────┐  commit   ┌───────────┐
//!   info!(..) ─────► │ accepted │ ────────► │ committed │  a row with a seq, contiguous from 0
//!      │             └──────────┘           └───────────┘
//!      │                   │ the database refuses this one entry for good
//!      │                   └──────────────► ┌─────────────┐
//!      │ queue full or closed               │ quarantined │  kept whole, in a table of its own
//!      ▼                                    └─────────────┘
//! ┌──────────┐
//! │ rejected │  reported by an error or an `audit.gap` entry
//! └──────────┘
//! ```
//!
//! An event is **accepted** when `info!` returns: it is in the queue. A thread of the log's own **commits** queued
//! entries in batches. The clock is read once per event and believed. If it steps back, `ts` and `id` step back with
//! it, and `seq` does not: order is `seq`, the order of commit. [`Stats`](crate::Stats) counts each state, and the
//! books always balance. [`failure`](super::failure) says what happens when something fails.
//!
//! # Fields
//!
//! | field | becomes |
//! |---|---|
//! | `workspace_id`, `session_id`, `agent_id` | the UUID, if the value is one; any other text `t` as [`audit_id`](crate::audit_id)`(t)`, and the text itself stays in the metadata |
//! | `action`, `resource`, `resource_id`, `reason` | text |
//! | `decision` | `Allow`, `Deny` or `Mask`, in any letter case; another word is kept and listed as a problem |
//! | `risk_score` | a number; without one, nothing is stored and the entry reads 0.0 |
//! | `occurred_at` | `ts`, from RFC 3339; without it, `ts` is the moment of emission |
//! | `metadata` | merged into the metadata, if it is a JSON object |
//! | the message | `reason`, if no reason was given; otherwise `message` in the metadata |
//! | `name:` | `action`, if no action was given; without either, `action` is empty, which is a problem |
//! | any other | metadata, with its JSON type; a dotted name such as `client.ip` stays one key, which a query names `"client.ip"`, in quotation marks; values that JSON cannot hold (128-bit numbers, NaN) as text |
//!
//! # Context from spans
//!
//! The spans around an event lend it `workspace_id`, `session_id`, `agent_id`, `action`, `resource`, `resource_id`,
//! `request_id`, `user_id`, `trace_id`, and the names that [`span_fields`](crate::AuditLogBuilder::span_fields) adds.
//! They lend nothing else: `#[instrument]` records every argument of a function, and a secret among them must not
//! reach the log by accident. A span lends only if it is at the log's level or above.
//!
//! The event's own field beats a span's, an inner span's beats an outer one's, and the last of several equal fields
//! in one event beats the others. `Span::record` counts for the entries made after it.
//!
//! # Malformed values
//!
//! Nothing is dropped for being malformed. The entry is stored, the raw value stays in the metadata, and the entry
//! lists its [`problems`](crate::SequencedEntry::problems). Texts beyond the size limits are cut, and a value whose
//! `Debug` panics is replaced by a note; both are problems too.
//!
//! # Events within a `Debug`
//!
//! An audit event that a value's `Debug` emits is recorded, with two exceptions, which this crate cannot prevent.
//! While any subscriber is set with `set_default` or `with_default`, `tracing` itself drops every event that is emitted
//! within another one, before any layer sees it. And a value given to `Span::record` must emit none beside a layer that
//! formats it while it holds the span, as `fmt` does: the event needs the span's context, and the thread would wait for
//! itself for ever. Let `Debug` have no side effects.
//!
//! # `log::info!(target: "audit")`
//!
//! is not audited: the bridge from the `log` crate sends such a record under the target `log`. Use the macros of
//! `tracing`. [`check_wiring`](crate::AuditLog::check_wiring) reports such records once one was seen.
