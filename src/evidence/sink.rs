//! Sinks: where checkpoints go, so that they are kept outside of the database.

use std::error::Error;

use tracing::info;

use crate::ledger::{Checkpoint, Origin};

/// A place where checkpoints are kept, outside of the database: a file, a table of another system, a mail.
///
/// Any `FnMut(&Checkpoint, &str) -> Result<(), Box<dyn Error + Send + Sync>>` is one.
pub trait CheckpointSink: Send + 'static {
    /// Keeps a checkpoint. `text` is all of it: the three lines, and with a key the signatures. Checkpoints come in the order of
    /// their sizes, never two at once; the same one may come again, with the cosignatures of witnesses, and later with
    /// another time in its signature. It may take seconds.
    ///
    /// # Errors
    ///
    /// If it cannot be kept. The next one comes nevertheless, and this one does not come again.
    fn publish(&mut self, checkpoint: &Checkpoint, text: &str) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// The largest checkpoint of the log with this origin that is kept here, so that a notary that is started again knows what it has signed.
    /// `None` if there is none, or if this place cannot be read. It is asked for before each checkpoint.
    ///
    /// # Errors
    ///
    /// If it is not known whether there is one. Then nothing is signed.
    fn latest(&mut self, origin: &Origin) -> Result<Option<Checkpoint>, Box<dyn Error + Send + Sync>> {
        let _ = origin;
        Ok(None)
    }

    /// The same for a notary that signs with keys: `keys` are their verifier keys, and one of them has signed what the notary has
    /// published last. A place that keeps the signatures verifies them here. Default: [`latest`](Self::latest), in which no signature
    /// is verified.
    ///
    /// # Errors
    ///
    /// Those of [`latest`](Self::latest), and if what is kept was not signed so. One that is an
    /// [`AuditError`](crate::AuditError) for which [`is_altered`](crate::AuditError::is_altered) is true says that somebody has changed it.
    fn latest_signed(
        &mut self,
        origin: &Origin,
        keys: &[String],
    ) -> Result<Option<Checkpoint>, Box<dyn Error + Send + Sync>> {
        let _ = keys;
        self.latest(origin)
    }

    /// The checkpoint that was kept here last, of whatever log. A notary [without a name](super::Notary::origin) for its ledger
    /// publishes only what continues it: the ledger that has its own name in another database is another one. Default: `None`.
    ///
    /// # Errors
    ///
    /// Those of [`latest`](Self::latest).
    fn last_kept(&mut self) -> Result<Option<Checkpoint>, Box<dyn Error + Send + Sync>> {
        Ok(None)
    }
}

impl<F> CheckpointSink for F
where
    F: FnMut(&Checkpoint, &str) -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'static,
{
    fn publish(&mut self, checkpoint: &Checkpoint, text: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        self(checkpoint, text)
    }
}

/// Writes checkpoints as events of `tracing` with the target `tracing_audit::checkpoint`, so that they leave the host with the
/// application's own logs. They are no entries of an audit log.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckpointLog;

impl CheckpointSink for CheckpointLog {
    fn publish(&mut self, checkpoint: &Checkpoint, text: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        info!(target: "tracing_audit::checkpoint", size = checkpoint.size(), note = text, "a checkpoint of the audit log");
        Ok(())
    }
}
