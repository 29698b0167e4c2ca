//! Questions that are asked of an audit log, and the commands that answer them.
//!
//! The command `tracing-audit` (feature `cli`) is asked here about a trail of twelve API calls in the format of AWS
//! CloudTrail, `tests/data/cloudtrail.jsonl`, and about one entry that has none of their fields. In a pipe the
//! command answers in JSON Lines, and [`AuditReader`](crate::AuditReader) gives the same answers to code. The tests
//! ask each of these questions of both databases and compare the answers with this text.
//!
//! # 1. Who read document D?
//!
//! ```text
//! $ tracing-audit query --action s3:GetObject --resource-id D
//! seq  time                  agent  action        resource  decision  risk  reason
//! 6    2026-11-17 12:00:00Z  bob    s3:GetObject  s3/D      Mask      0.85  personal data
//! 5    2026-11-16 23:30:00Z  alice  s3:GetObject  s3/D      Allow     0.10
//! 0    2026-10-05 08:00:00Z  alice  s3:GetObject  s3/D      Allow     0.10
//! ```
//!
//! # 2. Everything session S did, in order.
//!
//! ```text
//! $ tracing-audit query --session s1 --oldest-first
//! seq  time                  agent  action           resource  decision  risk  reason
//! 0    2026-10-05 08:00:00Z  alice  s3:GetObject     s3/D      Allow     0.10
//! 1    2026-10-05 08:01:00Z  alice  s3:PutObjectAcl  s3/D      Deny      0.70  outside of the company
//! ```
//!
//! # 3. Everything agent X did last Tuesday, Berlin time.
//!
//! ```text
//! $ tracing-audit query --agent alice --on 2026-11-17 --tz Europe/Berlin
//! seq  time                       agent  action           resource  decision  risk  reason
//! 7    2026-11-17 13:05:00+01:00  alice  s3:DeleteObject  s3/D      Deny      0.95  legal hold
//! 5    2026-11-17 00:30:00+01:00  alice  s3:GetObject     s3/D      Allow     0.10
//! ```
//!
//! # 4. Denials as they happen, after the last ten.
//!
//! ```sh
//! tracing-audit tail -f --decision Deny
//! ```
//!
//! # 5. Top denied actions this month, and which of them rose compared with the month before.
//!
//! ```text
//! $ tracing-audit stats --decision deny --by action --month 2026-11 --compare
//! now: 2026-11-01 00:00:00Z to 2026-12-01 00:00:00Z (30 days); before: from 2026-10-01 00:00:00Z (31 days)
//! action           before  now  change
//! s3:DeleteObject  1       2    +1
//! s3:PutObjectAcl  1       0    -1
//! ```
//!
//! # 6. Masked results with risk >= 0.8.
//!
//! ```text
//! $ tracing-audit query --decision mask --risk-min 0.8
//! seq  time                  agent  action        resource  decision  risk  reason
//! 6    2026-11-17 12:00:00Z  bob    s3:GetObject  s3/D      Mask      0.85  personal data
//! ```
//!
//! # 7. First and last seen of an agent.
//!
//! ```text
//! $ tracing-audit stats --agent alice --by agent_id
//! agent_id  entries  %                            first                 last
//! alice     7        100.0  ████████████████████  2026-10-05 08:00:00Z  2026-11-18 11:00:00Z
//!
//! 1 count, 7 entries
//! ```
//!
//! # 8. All rows of one customer, nothing of the others, with a manifest.
//!
//! ```sh
//! tracing-audit export --workspace 111122223333 --manifest -o acme.jsonl.gz
//! ```
//!
//! # 9. By IP, trace or request id.
//!
//! ```text
//! $ tracing-audit query --where metadata.sourceIPAddress=10.0.0.2 --since 2026-11-01
//! seq  time                  agent  action               resource  decision  risk  reason
//! 10   2026-11-18 10:01:00Z         signin:ConsoleLogin  signin    Allow
//! 9    2026-11-18 10:00:00Z  bob    s3:DeleteObject      s3/F      Deny      0.90  not the owner
//! 6    2026-11-17 12:00:00Z  bob    s3:GetObject         s3/D      Mask      0.85  personal data
//! ```
//!
//! ```text
//! $ tracing-audit query --where metadata.requestID=r7
//! seq  time                  agent  action           resource  decision  risk  reason
//! 7    2026-11-17 12:05:00Z  alice  s3:DeleteObject  s3/D      Deny      0.95  legal hold
//! ```
//!
//! # 10. All but agent healthcheck.
//!
//! ```text
//! $ tracing-audit query --where agent_id!=healthcheck --before 2026-11-01
//! seq  time                  agent  action           resource  decision  risk  reason
//! 2    2026-10-06 09:00:00Z  bob    s3:DeleteObject  s3/D      Deny      0.90  not the owner
//! 1    2026-10-05 08:01:00Z  alice  s3:PutObjectAcl  s3/D      Deny      0.70  outside of the company
//! 0    2026-10-05 08:00:00Z  alice  s3:GetObject     s3/D      Allow     0.10
//! ```
//!
//! # 11. Entries with problems, and quarantined ones.
//!
//! ```text
//! $ tracing-audit query --problems
//! seq  time                  action               resource  decision
//! 10   2026-11-18 10:01:00Z  signin:ConsoleLogin  signin    Allow
//! ```
//!
//! ```sh
//! tracing-audit quarantine list
//! ```
//!
//! # 12. Declared losses, per day. (This trail has none.)
//!
//! ```sh
//! tracing-audit stats --action audit.gap --by day
//! ```
//!
//! # 13. Which services write here, which ledgers there are, and when each was last written.
//!
//! ```text
//! $ tracing-audit stats --by metadata.eventSource
//! metadata.eventSource  entries  %                           first                 last
//! s3.amazonaws.com      9        69.2  ████████████████████  2026-10-05 08:00:00Z  2026-11-18 10:00:00Z
//! kms.amazonaws.com     1        7.7   ███                   2026-11-18 11:00:00Z  2026-11-18 11:00:00Z
//! signin.amazonaws.com  1        7.7   ███                   2026-11-18 10:01:00Z  2026-11-18 10:01:00Z
//! sts.amazonaws.com     1        7.7   ███                   2026-10-06 09:30:00Z  2026-10-06 09:30:00Z
//! (none)                1        7.7   ███                   2026-11-19 00:00:00Z  2026-11-19 00:00:00Z
//!
//! 5 counts, 13 entries
//! ```
//!
//! ```sh
//! tracing-audit ledgers
//! ```
//!
//! # 14. What was added since my last export.
//!
//! ```sh
//! tracing-audit tail --state seen
//! ```
//!
//! The next command says whether all that was handed out then is there, unchanged and in the same order. Its manifest
//! says what was asked.
//!
//! ```sh
//! tracing-audit compare --against acme.jsonl.gz
//! ```
//!
//! # 15. Who looked at this log, if readers give their names (`--as`, or the variable `TRACING_AUDIT_AS`).
//!
//! ```sh
//! tracing-audit --as ada query --workspace 111122223333
//! tracing-audit reads --since 7d
//! ```
//!
//! # 16. The same questions, asked of an exported file or of a copy.
//!
//! ```sh
//! tracing-audit --db acme.jsonl.gz query --decision deny
//! ```
//!
//! The file is checked first: its lines, and its bytes against `acme.jsonl.gz.manifest.json`.
//!
//! # How conditions are written
//!
//! `--where` takes a condition: a field, an operator and a value. Fields are the columns, `risk_score`, and `metadata.PATH`, whose
//! paths are those of [`AuditQuery::metadata_any_of`](crate::AuditQuery::metadata_any_of). If the option is repeated, all its
//! conditions must hold. A shell needs `'...'` around a condition with `<`, `>`, `!`, `*` or a blank.
//!
//! | condition | entries that match | in code |
//! |---|---|---|
//! | `reason=expired` | have exactly this value | [`any_of`](crate::AuditQuery::any_of), [`is`](crate::query::Field::is) |
//! | `metadata.n=5` | have the text `5` at this path, or a number that is equal to 5 | [`Operand::word`](crate::query::Operand::word) |
//! | `metadata.n="5"` | have this text, and no number | `Field::is(["5"])` |
//! | `action=login,logout` | have one of these values | the same |
//! | `agent_id!=healthcheck` | do not have the value, or have none | [`none_of`](crate::AuditQuery::none_of), `!` |
//! | `action=*:CreateUser`, `action=s3:*`, `action=*user*` | are like the pattern: `*` stands for any text, also for none | [`like`](crate::query::Field::like) |
//! | `metadata.client.ip=*`, `metadata.client.ip!=*` | have a value there, or have none; a null is a value | [`exists`](crate::query::Field::exists) |
//! | `metadata.ms>=500`, also `<`, `<=`, `>` | have a value of the same type in this order to it | [`at_least`](crate::query::Field::at_least) and so on |
//! | `reason~expired`, `reason!~expired` | contain the text, or do not; `~=` is `~` | [`contains`](crate::query::Field::contains) |
//! | `action=login OR metadata.ms>500` | meet one of the conditions | [`Criterion::any`](crate::query::Criterion::any) |
//!
//! - **Types.** `<`, `<=`, `>` and `>=` compare numbers with numbers, by value and exactly, whatever their size, and texts with texts,
//!   by their code points. A value that JSON writes as a number is one, and every other value, such as `2026-11-01`, is a text. A
//!   stored value of the other type does not match: `metadata.status>=400` does not find the text `404`, and
//!   `metadata.status>="400"` does. Columns hold texts, and `risk_score` numbers. An id has no order.
//! - **Case** counts, except for the ASCII letters of `~`, `!~` and `--text`, and for the decisions Allow, Deny and Mask.
//! - **Text of a value.** Patterns and `~` take a string as it is, and any other value of the metadata as its JSON: `true`, `5`,
//!   `["a","b"]`. In a column of ids they take the UUID and the name that the entry keeps in its metadata. Nobody has
//!   checked that name against the id, so entries cannot be left out by it.
//! - **Quotation marks**, with the escapes of JSON, make any text a value that stands for itself: `reason="a, b"`, `action="*"`,
//!   `resource="=cmd"`, `reason=""`. They make any key one key: `metadata."client.ip"`.
//! - **Options** for columns, such as `--action` and `--agent`, take `*` and quotation marks too. A comma is part of their value;
//!   repeat the option to give alternatives.
//! - **Cost.** An index serves `=` without `*` on a column or path that [has one](crate::guide::indexes), and the beginning of the
//!   action (`action=s3:*`). All else looks at each entry in the range of time, so give one.
//! - **What cannot be meant** is refused with one sentence and exit code 2: an operator that does not exist (`agent_id==x`), an unknown
//!   field, with the nearest known one, an unfinished quotation, an index that is no number (`metadata.tags[-1]`), `*` where it is no
//!   wildcard, an empty value without quotation marks, a score that is not finite, a range that is upside down.
//!
//! # What an answer covers
//!
//! `query`, `stats` and `tail` without `-f` say on standard error what they have looked at: in one line below a table, if
//! standard error is a terminal, and with JSON Lines and CSV as one line with one JSON object. A manifest has the same
//! object. `export`, and `tail` with `-o`, say it only if something is missing.
//!
//! ```json
//! {"coverage":{"shown":100,"matching":600025,"more":true,"next":"--cursor 1764320000123456.1.00c0ffee",
//!   "ledgers":[{"ledger":"main","asked":{"from_seq":599500,"before_seq":600025},"compared":{"from_seq":599500,"before_seq":600025},
//!     "next_seq":600025,"holes":[],"missing":0,"uncovered_entries":0,"declared_losses":0,"quarantined":0,"silent_writers":[]}],
//!   "altered":[]}}
//! ```
//!
//! (The fields of a ledger are those of [`LedgerCoverage`](crate::reader::LedgerCoverage); some are left out here.) `matching`
//! is given for logs of a million entries or less. `asked` are the numbers that can hold matches, `compared` those whose
//! entries and batches were compared: for `query` and `stats` a million at most. `timed` are those whose `ts` was held against what
//! their batches say: `compared`, and for a question by time as many as 10 000 around them for `query` with a limit, and a million for
//! `query --limit 0`, `stats` and `export`. A batch that lies further away and says a wrong time of itself is passed over;
//! `check` finds it. In a SQLite file the indexes that can have served the question are held against the table in these numbers, on a
//! server they are not. `silent_writers` have accepted entries that are not committed. `--cursor` shows the next entries. `nothing`
//! says of an empty answer which part of the question finds nothing, where that is cheap to know. `stats` without conditions
//! compares its sum with the heads of the ledgers.
//!
//! An answer that may lack entries has exit code 5, and a sentence says why: holes in `seq`, entries that no batch holds, a
//! head that was raised or lowered, entries outside of the ledger, times that are not those of their batch, an index that lacks
//! rows, or a view in the place of a table. The answer is given
//! all the same. Exit code 0 means that nothing is missing in what was compared, but for losses that the log itself has
//! declared, which are counted.
//!
//! ```sh
//! tracing-audit check
//! ```
//!
//! compares all entries, batches and heads with each other and the tables with those that tracing-audit makes, has SQLite
//! check its file and its indexes, prints each finding as a line, and then has exit code 1. It reads the whole database.
//! A person who may change all of this can change it so that it fits together: that is not found.
