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
//! | `occurred_at` | `ts`; without it, `ts` is the moment of emission |
//! | `metadata` | merged into the metadata, if it is a JSON object |
//! | the message | `reason`, if no reason was given; otherwise `message` in the metadata |
//! | `name:` | `action`, if no action was given; without either, `action` is empty, which is a problem |
//! | any other | metadata, with its JSON type; values that JSON cannot hold (128-bit numbers, NaN) as text |
//!
//! ## Values recorded by `Debug`
//!
//! `agent_id = ?id` and the arguments that `#[instrument]` records arrive as the text that `Debug` writes. In the fields
//! above and in every field whose name is `id` or ends with `_id` or `.id`, `Some(..)`, quotation marks and newtypes are
//! seen through, nested too: `Some("alice")` and `AgentId("alice")` are `alice`. `None` is no value: the field counts
//! as not given, as an `Option` that `tracing` itself records. A newtype is seen through if a UUID is in it, or if its
//! name ends with `Id`; `User("7")` and `Service("7")` may be two variants of one type. They and other structures are kept as they
//! stand, and are a problem. [`check_wiring`](crate::AuditLog::check_wiring) names the callsites. Record ids by
//! `Display`, `agent_id = %id`.
//!
//! ## Ids that are made from names
//!
//! An event gives the name, never the id that is made from it: a UUID of version 5 is taken for a name of its own, with
//! a problem, so that nobody passes for Alice by giving `audit_id("alice")`. An application whose own ids are of version 5
//! sets [`own_version_5_ids`](crate::AuditLogBuilder::own_version_5_ids).
//!
//! ## Numbers and times
//!
//! A number is the shortest decimal that reads back as the same value of its own type: `0.1_f32` is 0.1. `tracing`
//! hands an `f32` on as an `f64`; a fraction whose digits in binary fill an `f32` exactly is taken for one.
//!
//! `occurred_at` takes RFC 3339 and ISO 8601, what `chrono`, `time` and `jiff` write by `Display` and `Debug`, RFC 2822,
//! the `Debug` of a `SystemTime`, and numbers since 1970: seconds, or milliseconds, microseconds or nanoseconds if as
//! seconds they would be later than the year 5138. A time without its offset from UTC is not understood. A leap second
//! is the second that follows it, and a problem.
//!
//! ## JSON
//!
//! A JSON text that a parser would change is kept as it stands, as a text, and is a problem: two equal keys in one
//! object, a number that would be rounded. If a document is larger than
//! [`value_max_bytes`](crate::AuditLogBuilder::value_max_bytes), the texts in it are cut at that length, so that its
//! small fields stay. The stored text is the same whatever features other crates turn on in `serde_json`.
//!
//! ## Names with dots
//!
//! A name with dots, such as `client.ip` or OpenTelemetry's `http.request.method`, stays one key of the metadata. A path
//! of the same spelling leads to it, and also through the objects of a JSON document: see
//! [`metadata_any_of`](crate::AuditQuery::metadata_any_of). An entry that has both lists that as a problem.
//!
//! ## What an event cannot say
//!
//! The metadata of a client do not replace a [`static_field`](crate::AuditLogBuilder::static_field), in whatever way
//! they spell its name: what they say is set aside under `given`, with a problem. Only the field of that name in the
//! event's own code does. Actions that begin with `audit.` are the log's own: used by an event or by a written entry,
//! they are a problem ([`is_own`](crate::SequencedEntry::is_own)).
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
