//! Integrity: how a change of a committed entry is found, and the promises and limits of that.
//!
//! Whoever may write to a database can change, remove, add or exchange entries of an audit log in it. That cannot be prevented by
//! the database itself, but it can be made to show. A size and a root that are kept somewhere else are enough, and no key is needed:
//!
//! ```text
//!  the database                                                    elsewhere
//! ┌────────────────────────────────────────────────────┐         ┌─────────────────────────┐
//! │                       root ────────────────────────┼─ size ─►│ the checkpoint:         │
//! │                     ┌──┴──────────┐                │  root   │ a ticket, a mail, a     │
//! │  nodes         ┌────┴───┐     ┌───┴────┐           │         │ printed page, the log   │
//! │  leaf hashes  h0   h1 .. h255 h256 ..  h511   ..   │         │ of another system       │
//! │                ▲    ▲          ▲                   │         └────────────┬────────────┘
//! │  entries      e0   e1 ..      e256 ..              │◄──── verify ─────────┘
//! └────────────────────────────────────────────────────┘
//! ```
//!
//! Each entry has a leaf in one tree over the whole ledger, that of RFC 6962 with SHA-256. The leaf commits to every column of the
//! entry, and to what its batch says of it: the writer, its number, the time of commit. The tree grows in the transaction that
//! commits the entries ([`Integrity`](crate::Integrity) says when it does not). The root depends on every entry before it, so the
//! root of yesterday proves all entries of yesterday, whatever happens to the database today. The bytes are in
//! [`ledger`](crate::ledger); a leaf shows no value to a person who has only the tree.
//!
//! # What to do
//!
//! ```sh
//! tracing-audit checkpoint > /mnt/elsewhere/audit.checkpoint               # three lines: the ledger, its size, its root
//! tracing-audit verify --checkpoint /mnt/elsewhere/audit.checkpoint        # from cron; exit code 0 if all is as it was
//! tracing-audit verify --checkpoint "600 0uDqzrIr3bvCXn0VNjEfZuHVFzhyQr1UBPBpRrVhDDw="   # or from a note
//! tracing-audit verify --state /mnt/elsewhere/audit.state                  # what is new since the last time: each night
//! tracing-audit verify --state /mnt/elsewhere/audit.state --full           # all of it: each week
//! tracing-audit ledger status                                              # the size, the root, whether the tree is catching up
//! ```
//!
//! In code these are [`AuditReader::checkpoint`](crate::AuditReader::checkpoint) and
//! [`AuditReader::verify`](crate::AuditReader::verify). Keep checkpoints often, and where nobody who may write to the
//! database may write. Entries that were committed after the newest checkpoint are not covered. Several are better than
//! one, because they narrow down where a change is that reached up to the root.
//!
//! A state is a checkpoint that moves. A run with a state reads the entries that were committed since the last run, and
//! up to 65 535 entries before them, where the last range of the tree begins; a ledger that is smaller is read whole.
//! Entries before that are not read again. A change there since an earlier run is found only with `--full`: make such a
//! run from time to time.
//!
//! The state moves on only with a ledger that leads through it. If leaf hashes are gone, or the head has another name, it stays as it
//! was. If the end was cut off, or the ledger was replaced, it stays as it was and says so, with all else that was found: each
//! later run says the same, also after the ledger was made to look whole again, until you remove the file. Other changes are
//! forgotten once a run that has read them again finds them undone. It is as good as the place where it is kept: a
//! person who may write to it can make it say anything.
//!
//! # Signatures
//!
//! A person who keeps a checkpoint for others, or sends it, signs it. The checkpoint is then worth as much as the key,
//! and not only as much as the place where it is kept. A signed checkpoint is a signed note of the
//! [C2SP](https://c2sp.org/signed-note), which the tools for transparency logs read. Everything about keys is in the
//! feature `signing`, which the command has.
//!
//! ```text
//! notary$ tracing-audit key new audit.example.com/payments -o audit.key > payments.trust           # a key, and whom to trust
//! notary$ tracing-audit checkpoint --key audit.key --to /worm/payments.checkpoints --every 10s      # as a service
//! auditor$ tracing-audit verify --checkpoint /worm/payments.checkpoints --trust payments.trust     # by who was given the trust file
//! auditor$ tracing-audit verify-proof 7.tlog-proof --trust payments.trust                          # a proof by such a checkpoint
//! notary$ tracing-audit key rotate --key audit.key -o next.key > payments.trust                    # another key from now on
//! ```
//!
//! - **The key** is a file that nobody but its user may read, or the environment variable `TRACING_AUDIT_KEY`. It is best where
//!   the database cannot be written: on another host, or with another user. A key in a KMS is a
//!   [`Signer`](crate::ledger::Signer).
//! - **The notary** signs what continues what it has signed, which the file of `--to` remembers across restarts, and nothing else. If
//!   the ledger was rolled back or exchanged, it says so and signs nothing; services commit as before. The command also reads the
//!   entries before it signs them: all of them when it starts, and then those that are new (`--tree-only` does not). Of the file it
//!   believes only what one of its keys has signed: a last line that none of them has signed is named, and nothing is signed until it
//!   is removed, or another file is named. A running notary also signs nothing while the file lacks what it has written there. Nothing
//!   but the file remembers what was signed before a start: one that is there and is empty is begun anew, which is said. Without a key
//!   nothing in the file can be verified, and the ledger must continue the line that is last. In code it is
//!   [`Notary`](crate::evidence::Notary), which [`start`](crate::evidence::Notary::start) puts on a thread of its own, and a place
//!   where checkpoints are kept is a [`CheckpointSink`](crate::evidence::CheckpointSink): a file, the application's own log, any closure.
//! - **The trust file** is a policy of the [C2SP](https://c2sp.org/tlog-policy): keys of the log, witnesses, and how many of these
//!   must have signed. A comment before a key bounds the sizes that it may sign, so that a key that is stolen after its rotation
//!   signs no other past: `# tracing-audit: sizes 0..120000`, where the end is the first size that it may not sign.
//! - **The time.** A key of a file also signs the time at which each checkpoint was made, as a cosignature. `key show` says how to ask
//!   for it.
//! - **A backup that was restored** lacks entries whose checkpoint is signed, so the notary refuses the ledger, as it does if an attacker
//!   has put a backup in its place: it cannot know which it was. If it was you, `ledger accept-restore` says so in an entry
//!   `audit.restored`, and makes a key of another origin, such as `audit.example.com/payments/1`, with which the notary begins another
//!   file: under the old name it would sign two trees of one size. Keep the earlier file: it proves what was there before.
//!
//! A checkpoint that is not signed as the trust file asks for, or not at all, is a finding. The ledger is not held
//! against it:
//!
//! | finding | what is wrong |
//! |---|---|
//! | `BadSignature` | the checkpoint is not as it was signed |
//! | `UnknownKey` | no key that is trusted for this origin has signed it, or nobody has: a size and a root alone have no signature either |
//! | `KeyOutOfInterval` | only keys have signed it that may not sign a tree of this size |
//! | `Unsigned` | signatures of witnesses are missing |
//!
//! The last sentence of `verify` names the file and the line. `verify-proof`, `verify-bundle` and `consistency` refuse such a checkpoint,
//! with exit code 1. Without `--trust` no signature is verified: a checkpoint without signatures is taken as it is, and the output says
//! `signed: no`. Then it is worth as much as the place where it was kept.
//!
//! # Witnesses, and a tree that everybody can read
//!
//! A person who holds the key of the ledger, and may write to its database, can sign another past. A file where
//! checkpoints are kept contradicts that, for those who have it. A witness contradicts it for everybody: a program that
//! somebody else runs, which cosigns a checkpoint only if the ledger was appended to, and nothing else, since the last
//! one that it has cosigned. A verifier who asks for its cosignature, or for those of two out of three, need not trust
//! the holder of the key. Any witness of the [C2SP](https://c2sp.org/tlog-witness) will do. It sees the origin, the
//! size and the root, and no entry.
//!
//! ```text
//! notary$ cat payments.trust
//! log audit.example.com/payments+0cde8dab+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
//! witness a witness.example.org/w1+aa4a09d1+BOpK… https://witness.example.org
//! witness b witness.example.net/w2+5d20f1c4+BKtn… https://witness.example.net/api
//! witness c cosigner.example.com/w3+1c7a9e03+BDv8… https://cosigner.example.com
//! group two-of-three 2 a b c
//! quorum two-of-three
//! notary$ tracing-audit checkpoint --key audit.key --to /worm/payments.checkpoints --every 10s \
//!         --trust payments.trust --publish /srv/www/payments
//! auditor$ tracing-audit verify --checkpoint /worm/payments.checkpoints --trust payments.trust
//! auditor$ tracing-audit verify-proof 7.tlog-proof --trust payments.trust
//! ```
//!
//! - **To be witnessed**, give the operator of the witness the line `log …` of your trust file: a witness cosigns
//!   ledgers that it knows. `--witness URL --witness-key KEY` asks one that is in no trust file. A witness is believed
//!   only as far as its key verifies the cosignature, so that `http://` is enough. All of them are asked at the same
//!   time, and each for 10 s at most (`--witness-timeout`).
//! - **What is signed is kept first**, in the files of `--to`, and once more with the cosignatures: a notary that ends
//!   in between remembers what a witness has seen. `verify`, `verify-proof` and the others put together the signatures
//!   of all lines of a checkpoint.
//! - **A witness that is away**, refuses or answers with something else is told, once until that changes. The
//!   checkpoint goes to the other witnesses and is kept without this cosignature; it is published again, and asked for,
//!   with the next entries, or after a minute. With `--trust` the exit code of a single run is 0 if the quorum is
//!   reached, and 1 if not.
//! - **A witness that has cosigned another tree**, or a larger one, says what no file here may say any more: the ledger
//!   was exchanged or rolled back since, or two notaries sign. The exit code is 1. Verify the ledger against a
//!   checkpoint that was kept elsewhere.
//! - **Who verifies** with a trust file that has a quorum believes no checkpoint that lacks it (`Unsigned`, exit code
//!   1). Of a notary's file those that lack witnesses are passed over if another one has all of them, and a sentence
//!   says so if that one is older.
//!
//! `--publish DIR` writes the tree itself where a web server can serve it: the newest checkpoint, and the hashes in the
//! files of the C2SP's [tlog-tiles](https://c2sp.org/tlog-tiles), from which everybody makes proofs of inclusion and of
//! consistency without asking you. They show no value, and nobody can test a guess with them. With `--with-leaf-data`
//! the data of the leaves are there too, which show how many fields each entry has. What is published was led to the
//! root of the checkpoint before. The directory is whole at each instant: files appear complete, those that a
//! checkpoint needs before it, and none but `checkpoint` is ever changed. A file that is there with other contents is
//! named, with exit code 1, and nothing is published until one of the two is mended. The ledger must continue the
//! checkpoint that is there, as it must that of the files of `--to`. Give each ledger a directory of its own, into
//! which nobody else may write; let the server send `checkpoint` uncached, and everything below `tile` as what never
//! changes. If files below `tile` were lost, remove `checkpoint`: the next run writes again what is missing.
//!
//! In code these are `Notary::witness` with a `Witness` of the feature `signing`, whose transport is any closure that posts a body, and
//! [`Notary::tiles_in`](crate::evidence::Notary::tiles_in) with a [`TileDirectory`](crate::evidence::TileDirectory).
//! `tests/read_tiles.py` in the repository reads such a directory with nothing but Python's `hashlib`.
//!
//! # An example
//!
//! These are the records of a real trail of AWS CloudTrail, replayed by `examples/replay.rs`. The intruder deletes the trail in entry
//! 788. Somebody who may write to the database changes one byte of it: the address that this came from.
//!
//! ```text
//! $ tracing-audit checkpoint | tee /mnt/elsewhere/audit.checkpoint
//! tracing-audit.invalid/6d48f77f-07ae-446d-b552-567d829f6cbe
//! 2029
//! Uz0iN+5IRDpE44nkK4WlDo/O+bkNaZ38ZrOoQLAIrA0=
//! $ tracing-audit verify --checkpoint /mnt/elsewhere/audit.checkpoint; echo $?
//! main: 2029 of 2029 entries read, 2029 covered by a checkpoint (signed: no), 0.2 s
//! to be kept elsewhere: 2029 Uz0iN+5IRDpE44nkK4WlDo/O+bkNaZ38ZrOoQLAIrA0=
//! 0
//! $ sqlite3 audit.db "SELECT action, metadata ->> 'sourceIPAddress' FROM tracing_audit_entries WHERE seq = 788"
//! cloudtrail.amazonaws.com:DeleteTrail|192.168.10.20
//! $ sqlite3 audit.db "UPDATE tracing_audit_entries
//!                     SET metadata = replace(metadata, '\"192.168.10.20\"', '\"192.168.10.21\"') WHERE seq = 788"
//! $ tracing-audit verify --checkpoint /mnt/elsewhere/audit.checkpoint; echo $?
//! Modified 788: the entry is not as it was committed
//! main: 2029 of 2029 entries read, 2029 covered by a checkpoint (signed: no), 0.7 s
//! tracing-audit: the ledger is not as it was: 1 finding
//! 1
//! ```
//!
//! # To a person who has no database
//!
//! An auditor, a court or a customer has a checkpoint, which you gave them at some time, and is to believe single entries. A proof is a
//! file of some two kilobytes that leads from one entry to that checkpoint. To verify it takes neither the database,
//! nor a network, nor trust in the person who has written it.
//!
//! ```sh
//! tracing-audit prove 7 --checkpoint /mnt/elsewhere/audit.checkpoint -o 7.tlog-proof       # by its seq, or by its id
//! tracing-audit verify-proof 7.tlog-proof --checkpoint /mnt/elsewhere/audit.checkpoint     # exit code 0, and what it proves
//! tracing-audit prove 7 --withhold agent_id,metadata.sourceIPAddress -o partly.tlog-proof  # without these two
//! tracing-audit bundle --checkpoint /mnt/elsewhere/audit.checkpoint -o all.jsonl.gz        # everything before the checkpoint
//! tracing-audit bundle --agent alice --only core -o alice.jsonl                            # what Alice did, and no details
//! tracing-audit verify-bundle all.jsonl.gz --checkpoint /mnt/elsewhere/audit.checkpoint    # exit code 0 if every entry holds
//! tracing-audit consistency --from /mnt/elsewhere/audit.checkpoint -o since.proof          # that the ledger only grew since
//! ```
//!
//! In code these are [`AuditReader::prove`](crate::AuditReader::prove), [`bundle`](crate::AuditReader::bundle),
//! [`bundle_range`](crate::AuditReader::bundle_range) and [`consistency`](crate::AuditReader::consistency), and without a database
//! [`Proof`](crate::ledger::Proof), [`BundleVerifier`](crate::ledger::BundleVerifier) and
//! [`ConsistencyProof`](crate::ledger::ConsistencyProof). A proof is one of the C2SP's
//! [tlog-proof](https://c2sp.org/tlog-proof); `tests/verify_proof.py` in the repository verifies proofs and bundles with nothing but
//! Python's standard library.
//!
//! **What a proof says**: this entry, with these values, was committed under this number before the checkpoint was made, and nobody
//! has changed it since. Of a withheld field it says that there is one. **What it does not say**: that the entry is true; that there
//! are no others, unless it is a bundle without conditions, which has every entry of its range, or one of all entries of a customer; and which time it was, but for what
//! the writer's clock said and when you received the checkpoint.
//!
//! **I was sent this file.** Take the checkpoint from where you keep yours, and not from the sender of the file. Or take the trust file
//! that you were given: then the signed checkpoint in the file is enough, and `--trust` says by whom it is signed, and when if a key
//! says so. If you have neither, the exit code is 5: the file only agrees with itself. If the exit code is 1, the sentence says what
//! does not fit; the values that such a file shows are worth nothing, and none are printed.
//!
//! # A page for people
//!
//! Not everybody has a shell. An evidence file is one page for a browser that shows entries and verifies them itself, with the
//! browser's own cryptography and without a network.
//!
//! ```sh
//! tracing-audit evidence --session checkout-4711 --checkpoint /mnt/elsewhere/audit.checkpoint -o session.html    # what one session did
//! tracing-audit evidence --agent alice --withhold metadata.sourceIPAddress --by Ada -o alice.html                # who has made it
//! tracing-audit verify-bundle session.html --checkpoint /mnt/elsewhere/audit.checkpoint                          # the same, in a shell
//! ```
//!
//! It has the conditions, who made it, when and with which version; the checkpoint and its signatures; a chart over time; and up to
//! 100 000 entries in a table that can be searched, each with a proof of its own. A file that says which keys may sign, given by
//! `--trust`, goes into the page, which says by which of them the checkpoint is signed. Nothing in the page can reach a network or be
//! run but its one script: its own policy forbids it. Texts of entries are only ever text, isolated and bounded.
//!
//! **I was sent this file.** Open it in a browser. At its top it says one of these:
//!
//! | it says | what that means | what to do |
//! |---|---|---|
//! | Verified | everything leads to the checkpoint, and that is the one that you have | nothing |
//! | Holds, by the checkpoint in this file | everything leads to the checkpoint in the file, which anybody can make | paste the checkpoint or the key that you have from elsewhere into the field below it |
//! | Another checkpoint than yours | it is of another ledger or of another time, or what you have differs | ask for a file by your checkpoint |
//! | Does not hold | a part was changed, removed or added; it names each | ask for the file again, and rely on nothing in it |
//! | Nothing was verified | scripts are off, the script was changed, or the file is cut off | open it in another browser, or verify it in a shell |
//!
//! A page cannot vouch for itself: whoever changes entries can write another script too, which only says that all is well. If much
//! hangs on it, do not ask the page, but a program that you have from elsewhere: `verify-bundle`, which also compares the script with the
//! one of its own version, and says so if the page is of another version; or `tests/verify_proof.py`. What was asked, by whom and when,
//! is what the maker of the file says.
//!
//! Browsers before 2025 may not know Ed25519. They say that signatures were not checked; all else is verified, and a checkpoint can be
//! compared.
//!
//! # All entries of a customer
//!
//! Proofs show that entries are genuine, and not that there are no others. For that the ledger is sealed from time to time. A seal is an
//! entry `audit.sealed` with a root over the entries of each workspace. From then on a customer can be handed all of their entries
//! before it, and finds out if one is left out, added or moved.
//!
//! ```sh
//! tracing-audit seal                                                        # each night; or as a service: --every 1h
//! tracing-audit export --workspace 111122223333 --complete -o customer.jsonl                        # all that they have, before the last seal
//! tracing-audit bundle --workspace 111122223333 --complete --withhold metadata.sourceIPAddress -o customer.jsonl    # the same without these
//! tracing-audit verify-bundle customer.jsonl --checkpoint /mnt/elsewhere/audit.checkpoint           # by the customer
//! tracing-audit bundle --workspace 111122223333 --complete --after 5 -o since.jsonl                 # without those of an earlier file
//! tracing-audit verify-bundle since.jsonl --checkpoint /mnt/elsewhere/audit.checkpoint --continues "5 0uDqzr…"
//! tracing-audit verify --seals --checkpoint /mnt/elsewhere/audit.checkpoint                         # each seal, by an auditor
//! ```
//!
//! In code these are [`AuditLog::seal`](crate::AuditLog::seal), [`AuditReader::bundle_part`](crate::AuditReader::bundle_part),
//! [`VerifiedBundle::part`](crate::ledger::VerifiedBundle::part) and [`Verification::seals`](crate::evidence::Verification::seals).
//! `verify-bundle` says what the customer keeps for a later file, which leaves out what this one had. The checkpoint must be of a time
//! after the seal. Of other customers the file shows how many there are, and nothing else. Writers do
//! nothing for it: a seal, and such a file, each read the workspace and the leaf hash of every entry before the seal.
//!
//! **What it does not say**: which entries came after the seal; that something was recorded at all; that the seal was right when it
//! was made, which an auditor with the database finds out by `verify --seals`. A workspace without entries has no part, so that "there is
//! nothing of yours" is not proven.
//!
//! # Withheld values
//!
//! Withheld values cannot be guessed from what is left: each is hidden by 16 random bytes. But a value may stand somewhere else
//! too. A reason or a problem may repeat it, and nested metadata may have it under another name: look at the output of `verify-proof`
//! before you hand the file over, or name by `--only` what may be seen.
//!
//! # What is promised
//!
//! From a checkpoint kept elsewhere, every change of an entry before its size is found, no matter who made it and with
//! which rights in the database. `verify` decides from the top which bytes are wrong: the root by the checkpoint, nodes
//! by the root, leaf hashes by their node, entries by their leaf hash. It goes on whatever it finds, and names it:
//!
//! | finding | what was changed |
//! |---|---|
//! | `Modified` | the entry |
//! | `Missing` | the entry is gone |
//! | `Added` | a row that no writer has committed |
//! | `Moved` | the entry stands at the number of another one |
//! | `BatchAltered` | the row of the batch, its seed or its leaf hashes; or every entry of it |
//! | `TileAltered` | leaf hashes, and perhaps entries: up to 256 of them, among which it cannot be said which |
//! | `NodeAltered` | the hash over 256 entries or more, and nothing else |
//! | `SealWrong` | a seal is not that of the entries before it, with `--seals`: an entry was left out, or counted for another workspace |
//! | `HeadAltered` | the number of entries, the size, the frontier or the name of the tree, and nothing else |
//! | `Truncated` | the end was cut off; or a `-wal` that is damaged has commits that cannot be read |
//! | `RolledBack` | the end was cut off, and others were committed since |
//! | `Forked` | all that proves these entries was changed along with them, or the whole ledger was replaced |
//! | `SchemaAltered` | a table, an index, a trigger or a view is not as this crate makes it. If a view stands in the place of a table, nothing is read: it could show anything, and never end |
//!
//! In a batch of a single entry `Modified` may also mean the row of the batch. `NotCovered`, `WriterGap`, `Quarantined` and
//! `Losses` are worth knowing and no signs of a change.
//!
//! The exit codes of `verify`: 0 all is as it was, up to a checkpoint; 1 something was found; 2 the command line is not valid; 3 the database
//! cannot be read; 4 the output or the state cannot be written; 5 nothing was found, and no checkpoint, one of no entries, or one
//! of fewer than `--require-size`, to hold the ledger against. What was found is said first, and 1 wins over 4. A file of `--state` that
//! cannot be read, or holds no state, is reported after that too, and stays as it is: 4 or 2 if nothing was found.
//!
//! # What is not
//!
//! - **The end.** Entries that were committed after the newest checkpoint outside can be changed, removed or added
//!   without a trace, by a role that may write to the database and makes the tree fit.
//! - **The whole**, if nothing is kept outside. Then `verify` says whether the tables fit together, and exits with 5.
//! - That an entry was true when it was emitted, or that everything was emitted.
//! - What is not of an entry: the quarantine (a record that is removed there leaves a `WriterGap`), the record of reads, positions and
//!   what is known of writers, indexes, and the name of the ledger in the database.
//! - Entries that are older than the tree: what it says of them is how they were when it caught up with them. A number that had no
//!   entry then has a leaf without fields, and a range that no batch accounted for has leaf hashes without a seed:
//!   [`ledger`](crate::ledger) says what that means.
//! - Secrecy: a person who reads the database reads the entries.
//!
//! A second program, `tests/verify_db.py` in the repository, verifies a SQLite file with nothing but Python's standard library.
