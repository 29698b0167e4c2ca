//! How to do common things, each as a short program.
//!
//! # Many services, one PostgreSQL server
//!
//! Each service writes to a ledger of its own, or all to one. Accepted entries wait in a journal on the service's
//! disk, also before the server is reachable.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # async fn open() -> Result<(), tracing_audit::AuditError> {
//! use tracing_audit::{AuditLog, Store};
//!
//! let store = Store::postgres("postgres://audit@db.example.com/audit?sslmode=verify-full")?;
//! let audit = AuditLog::builder().store(store).ledger("payments").journal("/var/lib/payments/audit-queue").open().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Ask, page, follow, count
//!
//! ```no_run
//! # async fn read(audit: tracing_audit::AuditLog) -> Result<(), Box<dyn std::error::Error>> {
//! use futures_util::StreamExt;
//! use tracing_audit::{AuditQuery, Decision, query::{Column, CountBy}};
//!
//! let reader = audit.reader();
//! let reads = AuditQuery::new().action_prefix("document.").metadata_any_of("client_ip", ["10.0.0.1"]);
//! let page = reader.page(reads.none_of(Column::AgentId, ["healthcheck"]), None, 100).await?;
//! let denied = AuditQuery::new().decision(Decision::Deny);
//! let most_denied = reader.count_by(denied.clone().limit(10), CountBy::Column(Column::Action)).await?;
//! let mut new = std::pin::pin!(reader.follow_matching(denied, 0));
//! while let Some(entry) = new.next().await {
//!     println!("{}", serde_json::to_string(&entry?)?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # An index for what you query often, and a record of who read
//!
//! ```no_run
//! # #[cfg(feature = "_sqlite")]
//! # async fn open() -> Result<(), tracing_audit::AuditError> {
//! use tracing_audit::{AuditLog, AuditQuery, Store, index::IndexOn, query::Column};
//!
//! let builder = AuditLog::builder().store(Store::sqlite("audit.db")?);
//! let audit = builder.index(Column::AgentId).index(IndexOn::metadata("client_ip")).open().await?;
//! let reader = audit.reader().recorded_as("auditor@example.com");
//! reader.query(AuditQuery::new().metadata_any_of("client_ip", ["10.0.0.1"])).await?;
//! for read in reader.reads(.., 10).await? {
//!     println!("{} {} {} {:?}", read.at, read.reader, read.query, read.entries);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Let every later change show
//!
//! Keep the checkpoint where nobody who may write to the database may write, and hold the ledger against it from time
//! to time. The command does the same: see [`integrity`](super::integrity).
//!
//! ```
//! # #[cfg(feature = "_sqlite")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("audit.db");
//! use tracing_audit::{AuditEntry, AuditLog, Store, evidence::Verification, ledger::Checkpoint};
//!
//! let audit = AuditLog::builder().store(Store::sqlite(path)?).blocking().open()?;
//! audit.writer().blocking().commit(AuditEntry::new(uuid::Uuid::nil(), "job.run", "job"))?;
//! let kept = audit.blocking().checkpoint()?.to_string();
//!
//! let kept: Checkpoint = kept.parse()?;
//! let verified = audit.reader().blocking().verify(Verification::against(kept))?;
//! assert!(verified.is_intact() && verified.covered() == 1, "{:?}", verified.findings());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "_sqlite"))]
//! # fn main() {}
//! ```
//!
//! # Prove an entry to a person who has no database
//!
//! [`integrity`](super::integrity) says what that proves, and how the command does it.
//!
//! ```no_run
//! # async fn prove(audit: tracing_audit::AuditLog, seq: u64) -> Result<(), Box<dyn std::error::Error>> {
//! use tracing_audit::ledger::{Checkpoint, Disclosure, Proof};
//!
//! // The service: by the checkpoint that the receiver has, and without the number of the card.
//! let theirs: Checkpoint = std::fs::read_to_string("theirs.checkpoint")?.parse()?;
//! let proof = audit.reader().prove(seq, Some(&theirs.clone().into())).await?;
//! let proof = proof.disclosing(Disclosure::all_but(["metadata.card"])?)?;
//! std::fs::write("entry.tlog-proof", proof.to_string())?;
//!
//! // The receiver.
//! let proof: Proof = std::fs::read_to_string("entry.tlog-proof")?.parse()?;
//! println!("{}", serde_json::to_string(&proof.verify(&theirs)?)?);
//! # Ok(())
//! # }
//! ```
//!
//! # Have checkpoints cosigned by witnesses, and publish the tree
//!
//! For operators: the notary runs by itself, where the key is and the database cannot be written.
//! [`integrity`](super::integrity) says what that proves. The trust file is the one that those who verify have, with a
//! URL for each witness:
//!
//! ```text
//! $ tracing-audit key new audit.example.com/payments -o audit.key > payments.trust
//! $ edit payments.trust            # in place of `quorum none`: lines `witness a KEY URL`, `group g 2 a b c`, `quorum g`
//! $ tracing-audit checkpoint --key audit.key --to payments.checkpoints --trust payments.trust; echo $?    # 0: enough have cosigned
//! $ cat /etc/systemd/system/payments-notary.service
//! [Service]
//! User=notary
//! Environment=TRACING_AUDIT_DB=postgres://notary@db.example.com/audit
//! WorkingDirectory=/var/lib/payments-notary
//! ExecStart=/usr/bin/tracing-audit checkpoint --key audit.key --to payments.checkpoints --every 10s \
//!     --trust payments.trust --publish /srv/www/payments
//! Restart=on-failure
//! ```
//!
//! In a program, which brings its own HTTP client:
//!
//! ```no_run
//! # #[cfg(feature = "signing")]
//! # fn run(
//! #     audit: tracing_audit::AuditLog,
//! #     post: impl Fn(&str) -> Result<(u16, Vec<u8>), std::io::Error> + Send + 'static,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use std::{error::Error, time::Duration};
//! use tracing_audit::evidence::{CheckpointFile, Notary, TileDirectory, Witness, WitnessAnswer, open_key};
//! use tracing_audit::ledger::VerifierKey;
//!
//! let key = open_key("audit.key")?;
//! let witness_key: VerifierKey = "witness.example.org/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs".parse()?;
//! // `post` sends a body to https://witness.example.org/add-checkpoint, and gives up after some seconds.
//! let witness = Witness::new("witness.example.org", witness_key, move |body: &str| -> Result<_, Box<dyn Error + Send + Sync>> {
//!     let (status, body) = post(body)?;
//!     Ok(WitnessAnswer::new(status, body))
//! })?;
//! let notary = Notary::of(audit.reader())
//!     .origin(key.origin().clone())
//!     .sign_with(key)
//!     .to(CheckpointFile::new("payments.checkpoints"))
//!     .witness(witness)
//!     .tiles_in(TileDirectory::new("/srv/www/payments"))
//!     .start(Duration::from_secs(10), |error| tracing::warn!("the notary: {error}"))?;
//! // ... and at the end:
//! notary.stop();
//! # Ok(())
//! # }
//! ```
//!
//! # Assert in a test what code audits
//!
//! With the feature `testing`:
//!
//! ```no_run
//! # #[cfg(feature = "testing")]
//! # fn test() {
//! # use tracing_audit::{Decision, testing::Expected};
//! # fn read_document(_user: &str, _id: u64) {}
//! let audit = tracing_audit::testing::capture();
//! read_document("alice", 42);
//! audit.assert_audited([Expected::action("document.read").agent_id("alice").decision(Decision::Allow)]);
//! # }
//! ```
//!
//! # Replace `fmt().init()`
//!
//! The ready-made subscribers of tracing-subscriber do not support filtered layers: adding this layer to one panics.
//! Build the same output from a registry.
//!
//! ```no_run
//! # async fn open() -> Result<(), tracing_audit::AuditError> {
//! use tracing_audit::not_audit;
//! use tracing_subscriber::{EnvFilter, prelude::*};
//!
//! // Before: tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).init();
//! let audit = tracing_audit::AuditLog::open("audit.db").await?;
//! tracing_subscriber::registry()
//!     .with(audit.protect(EnvFilter::from_default_env()))
//!     .with(tracing_subscriber::fmt::layer().with_filter(not_audit()))
//!     .with(audit.layer())
//!     .init();
//! # Ok(())
//! # }
//! ```
//!
//! # Code without an async runtime
//!
//! Every type whose calls are async has a view with the same calls that block: `blocking()`.
//!
//! ```
//! # #[cfg(feature = "_sqlite")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("audit.db");
//! use tracing_audit::{AuditEntry, AuditLog, AuditQuery, Store};
//!
//! let audit = AuditLog::builder().store(Store::sqlite(path)?).blocking().open()?;
//! let seq = audit.writer().blocking().commit(AuditEntry::new(uuid::Uuid::nil(), "job.run", "job"))?;
//! assert_eq!((seq, audit.reader().blocking().count(AuditQuery::new())?), (0, 1));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "_sqlite"))]
//! # fn main() {}
//! ```
//!
//! # Trace ids of OpenTelemetry
//!
//! This crate does not read OpenTelemetry's context. Record the id on the request's span, from which every audit
//! event inherits it: `info_span!("request", trace_id = %id)`, or declare the field as `tracing::field::Empty` and
//! call `span.record("trace_id", ..)` once the id is known.
