//! Looks at the tables before anything is read of them.

use super::{
    finding::{Finding, FindingKind},
    verification::Verification,
    verified::Verified,
};
use crate::error::AuditError;
use crate::reader::AuditReader;

/// The state of the tables.
pub(super) struct Tables {
    /// The tables and columns that are not as this crate makes them.
    findings: Vec<Finding>,
    /// Whether something stands in the place of a table, through which nothing must be read.
    pub(super) are_veiled: bool,
}

impl AuditReader {
    /// Compares the tables with those that this crate makes.
    pub(super) async fn tables(&self) -> Result<Tables, AuditError> {
        let surveys = self.store.backend().surveys()?;
        let instead = surveys.veils().await?.instead;
        let are_veiled = !instead.is_empty();
        let altered = if are_veiled { instead } else { surveys.schema().await? };
        let finding = |text| Finding::new(FindingKind::SchemaAltered, 0..0, text);
        let cut = surveys.damage().map(|text| Finding::new(FindingKind::Truncated, 0..0, text));
        Ok(Tables { findings: altered.into_iter().map(finding).chain(cut).collect(), are_veiled })
    }
}

impl Tables {
    /// The outcome of a verification that has read nothing. The state of earlier runs stays as it is.
    pub(super) fn alone(self, ledger: &str, verification: Verification) -> Verified {
        let mut findings = self.findings;
        findings.extend(verification.before.iter().flat_map(|before| before.findings.iter().cloned()));
        Verified {
            ledger: ledger.to_owned(),
            size: 0,
            covered: 0,
            anchored: false,
            entries: 0,
            checkpoint: None,
            findings,
            more: 0,
            state: verification.before,
        }
    }

    /// The outcome of the verification, its findings after those about the tables.
    pub(super) fn and(self, verified: Verified) -> Verified {
        let mut findings = self.findings;
        findings.extend(verified.findings);
        Verified { findings, ..verified }
    }
}
