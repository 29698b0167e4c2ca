//! The command in the hand: what `tracing-audit` prints, where, and how to ask for something else.
//!
//! The command (feature `cli`) reads the log of a SQLite file or a PostgreSQL server. `tracing-audit man query` is the
//! manual page of one command, `tracing-audit man --out ~/.local/share/man/man1` installs all of them, and
//! `source <(tracing-audit completions bash)` lets the shell complete commands, options, fields, zones and ledgers. The
//! questions that are asked of an audit log, and the answers, are in [`questions`](super::questions).
//!
//! # Where the output goes
//!
//! | where | what is printed |
//! |---|---|
//! | a terminal | a table as wide as the terminal, page by page if it is longer (`PAGER`, `--no-pager`) |
//! | a pipe or a file | JSON Lines, one object in each line, with all that the library returns |
//! | `--format table` in a pipe | a table in which nothing is cut, unless the variable `COLUMNS` gives a width |
//! | `--format csv` of `query`, `tail` and `export` | CSV in the one layout of the library, of which `export` has options |
//! | `--format jsonl` on a terminal | JSON Lines in which what a terminal would obey is escaped |
//!
//! Every command that lists something takes `-o` or `--format` with `table`, `wide` or `jsonl` (`-o` of `tail`, `export`,
//! `prove`, `bundle`, `evidence` and `consistency` is the file that they write). `verify`, `ledger` and `seal` give sentences, and JSON
//! on request or in a pipe.
//!
//! Remarks and errors go to standard error, on a terminal in lines that fit. A reader that closes the pipe early ends the
//! command with exit code 0; only `check`, `checkpoint`, `compare`, `consistency`, `seal`, `verify`, `verify-proof` and
//! `verify-bundle` go on to their end, because their exit code tells what they found, and `query` and `export` end with 5 if
//! their whole answer may lack entries. There are no colours and no progress bar with `NO_COLOR=1`, nor with `TERM=dumb`, whatever other variables such
//! as `CI` say; the latter also means no pager.
//!
//! # Tables
//!
//! A table never cuts a `seq`, an id, a time or a number. Columns without content take no room. If the columns do not fit
//! beside each other, the last ones are in a second line, which is indented. A name that is longer than half of the line
//! loses its middle, and a reason its end; both then have an ellipsis. `-o wide` cuts nothing and has more columns.
//!
//! An empty answer says which part of the question finds nothing, where that is cheap to know: `no entry of any time meets
//! --agent nobody`, or of which time the entries are. In JSON this is `nothing` in the coverage.
//!
//! `--columns` chooses columns, also from the metadata. A name that no entry can have is refused with the nearest known one,
//! here as in `--where`, `--by` and `index add`:
//!
//! ```text
//! $ tracing-audit query --columns seq,time,agent,action,metadata.sourceIPAddress --limit 3 --tz Europe/Berlin
//! seq  time                       agent  action               sourceIPAddress
//! 12   2026-11-19 01:00:00+01:00         twice
//! 11   2026-11-18 12:00:00+01:00  alice  kms:Decrypt          10.0.0.1
//! 10   2026-11-18 11:01:00+01:00         signin:ConsoleLogin  10.0.0.2
//! ```
//!
//! A number or an id in a table can be given to `get`: `get 7`, `get payments:7` if there are several ledgers, and the
//! first 8 digits of an id or more.
//!
//! # Hostile text
//!
//! A service may store what its clients send. In a table, control characters, characters that cannot be seen or that change
//! the direction of writing, and blanks that are no plain spaces are escaped: `ali\u{200b}ce`. So are letters of one script
//! that pass for ASCII letters, such as a Cyrillic а in `\u{430}lice`, and accents that are characters of their own. A
//! backslash before what could be such an escape is doubled. Two names that differ are therefore shown as texts that
//! differ; only an ellipsis leaves something out. Text that is written from right to left is isolated from the columns
//! beside it.
//!
//! # Times
//!
//! `--since`, `--before`, `--committed-since` and `--committed-before` take `30m`, `7d ago`, `yesterday`,
//! `yesterday 17:30`, `monday`, `this week`, `last month`, dates, dates with times, and RFC 3339; `--on` a date, `today` or
//! `yesterday`; `--month` a month, `this month` or `last month`. Dates and words are those of the zone `--tz`: a name such
//! as `Europe/Berlin`, an offset such as `+02:00`, `local`, or `UTC`, which is the default. Every time that is shown has its
//! year and its distance from UTC.
//!
//! # Counts
//!
//! `stats` counts by one field or two. The last line says how much was counted, and whether there is more.
//!
//! ```text
//! $ tracing-audit stats --by action,decision --agent alice
//! action           decision  entries  %                           first                 last
//! s3:GetObject     Allow     4        57.1  ████████████████████  2026-10-05 08:00:00Z  2026-11-17 23:30:00Z
//! kms:Decrypt      Allow     1        14.3  █████                 2026-11-18 11:00:00Z  2026-11-18 11:00:00Z
//! s3:DeleteObject  Deny      1        14.3  █████                 2026-11-17 12:05:00Z  2026-11-17 12:05:00Z
//! s3:PutObjectAcl  Deny      1        14.3  █████                 2026-10-05 08:01:00Z  2026-10-05 08:01:00Z
//!
//! 4 counts, 7 entries
//! ```
//!
//! Days and hours are those of the zone's clock: a day has 23 or 25 hours when that clock is set. A few entries of a time
//! far from all others are left out of the chart, which says so. If a column of the chart stands for several days, it
//! shows the greatest of them.
//!
//! ```text
//! $ tracing-audit stats --by day --tz Europe/Berlin --month 2026-11
//! 4 │  █
//!   │ ▄█
//!   │ ██
//!   │ ██
//!   │▄██▄
//!   │████
//!   └2026-11-16  2026-11-19
//!
//! day (Europe/Berlin)  entries  %                           first                      last
//! 2026-11-16           1        11.1  █████                 2026-11-16 23:59:00+01:00  2026-11-16 23:59:00+01:00
//! 2026-11-17           3        33.3  ███████████████       2026-11-17 00:30:00+01:00  2026-11-17 13:05:00+01:00
//! 2026-11-18           4        44.4  ████████████████████  2026-11-18 00:30:00+01:00  2026-11-18 12:00:00+01:00
//! 2026-11-19           1        11.1  █████                 2026-11-19 01:00:00+01:00  2026-11-19 01:00:00+01:00
//!
//! 4 counts, 9 entries
//! ```
//!
//! `--compare` counts the preceding period too, says which two periods these are, and puts days side by side that have the
//! same place in their period.
//!
//! # What others have
//!
//! | feature | who has it | here |
//! |---|---|---|
//! | "showing 100 of N", next page | gh, CloudTrail, kubectl | `query`, with `next: --cursor …` under it; `stats` says it of its counts |
//! | columns, wide, metadata as a column | kubectl, gh, journalctl | `--columns`, `-o wide` |
//! | open by what is on the screen | git, docker, `ausearch -a` | `get SEQ`, `get LEDGER:SEQ`, short ids |
//! | last N, then follow; follow by name | tail, journalctl | `tail -n 20 -f`; `tail -F` |
//! | today, yesterday, local zone by default or on request | ausearch, journalctl | words for days, weeks, months; `--tz local` |
//! | regular expressions, numeric comparison, exists, OR | jq, lnav, CloudTrail Lake, `tctl audit query` | `--where` with `<`, `<=`, `>`, `>=`, `!=`, `~`, lists, `=*` for exists, `OR`; no regular expressions: jq on JSON Lines |
//! | suffix and infix wildcards | gh, Kibana, aureport | `action=*:CreateUser`, `action=*user*`; they scan |
//! | counts by two fields, totals, per cent, distinct values | aureport, SQL, `journalctl -F` | `stats --by action,decision` |
//! | days in my zone | psql, Kibana | `--by day --tz` |
//! | sessions as objects; a sentence per event | `aureport -au`, tsh, `ausearch --format text`, Retraced | no; `query --session` |
//! | anomalies, first-ever | `aureport --anomaly`, CloudTrail Insights | `stats --compare`, and the first time of each count |
//! | browser with a histogram that zooms; a pager by itself | lnav; gh, git, journalctl | a pager, and a chart by hour or day |
//! | saved questions | CloudTrail Lake, tctl | no; aliases of the shell |
//! | one entry, or some, proven to somebody without the log | transparency logs | `prove`, `bundle`, with fields withheld; `verify-proof`, `verify-bundle` |
//! `prove`, `bundle`, `evidence` and `consistency` is the file that they write). `verify`, `ledger` and `seal` give sentences, and JSON
//! on request or in a pipe.
//! | verify | `journalctl --verify`, `aws cloudtrail validate-logs` | `verify` against a checkpoint kept elsewhere; `check` without one; `compare` with an earlier export |
//! | hash a known secret to look for it | Vault `sys/audit-hash` | names are hashed by themselves: `--agent NAME` |
//! | exit code "nothing found" on request | grep, ausearch | `query --fail-if-none`: 1, as `get` |
//! | man page for each subcommand, EXAMPLES, ENVIRONMENT; completion of values | all of them | `man`, `completions` |
//! | read a copy on a read-only medium | `ausearch -if`, `journalctl --file`, lnav | yes; also an exported file: `--db FILE.jsonl.gz` |
//! | who read the log, and no answer if that cannot be recorded | | `--as`, `reads` |
//! | a copy with each entry exactly once, also after `kill -9` | | `tail -o`, `tail --state` |
//! | an interrupted export continues to the same bytes | | `export --resume` |
//! | declared losses in the log itself | | `query --action audit.gap` |
