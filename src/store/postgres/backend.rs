//! `Backend`, `Reads` and `Indexes` for PostgreSQL: delegates every call, decides nothing.

use std::{ops::Range, path::Path};

use futures_util::{future::BoxFuture, stream::BoxStream};
use uuid::Uuid;

use super::{
    by_time, counts, evidence, indexes, migrate, open, plan, quarantine, read, recorded_reads,
    source::Postgres,
};
use crate::entry::{LedgerRow, Row};
use crate::error::AuditError;
use crate::ledger::Hash;
use crate::query::{AuditQuery, CountBy, IndexOn};
use crate::store::{
    Appender, Backend, Evidence, Found, Head, Index, Migrate, Migration, Opening, QuarantinedRow,
    QueueByDefault, Reads, RecordedReadRow, Span, StoredBatch, StoredHead, StoredLeaves, Surveys,
    backend::{Groups, Indexes},
    evidence::{StoredRows, StoredWorkspace},
};

impl Backend for Postgres {
    fn name(&self, _directory: &Path) -> Option<String> {
        let schema = self.schema.as_deref().unwrap_or_default();
        Some(format!("postgres:{}/{schema}", self.address()))
    }

    /// One server has many addresses: only the ledger can decide.
    fn is_also(&self, _directory: &Path, name: &str) -> Option<bool> {
        if name.starts_with("postgres:") { None } else { Some(false) }
    }

    fn queue_by_default(&self) -> QueueByDefault {
        QueueByDefault::Ask
    }

    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        opening: &'a Opening,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        Box::pin(async move {
            let appender: Box<dyn Appender> = Box::new(open::connect(self, ledger, opening).await?);
            Ok(appender)
        })
    }

    fn migrations(&self) -> Vec<Migration> {
        migrate::migrations(self)
    }

    fn reads(&self) -> Result<&dyn Reads, AuditError> {
        Ok(self)
    }

    fn evidence(&self) -> Result<&dyn Evidence, AuditError> {
        Ok(self)
    }

    fn surveys(&self) -> Result<&dyn Surveys, AuditError> {
        Ok(self)
    }

    fn indexes(&self) -> Result<&dyn Indexes, AuditError> {
        Ok(self)
    }
}

impl Reads for Postgres {
    fn rows<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
        by_time::rows(self, query)
    }

    fn rows_in_time<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<LedgerRow, AuditError>> {
        by_time::ledger_rows(self, query)
    }

    fn page<'a>(
        &'a self,
        query: &'a AuditQuery,
        span: Span,
        size: u32,
    ) -> BoxFuture<'a, Result<Found, AuditError>> {
        Box::pin(async move { read::page(&self.found().await?, query, span, size).await })
    }

    fn seqs_in_time<'a>(
        &'a self,
        query: &'a AuditQuery,
    ) -> BoxFuture<'a, Result<Option<(u64, u64)>, AuditError>> {
        Box::pin(async move { read::seqs_in_time(&self.found().await?, query).await })
    }

    fn count<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<u64, AuditError>> {
        Box::pin(async move { read::count(&self.found().await?, query).await })
    }

    fn count_by<'a>(
        &'a self,
        query: &'a AuditQuery,
        by: &'a [CountBy],
    ) -> BoxFuture<'a, Result<Groups, AuditError>> {
        Box::pin(async move { counts::count_by(&self.found().await?, query, by).await })
    }

    fn with_ids(
        &self,
        first: Uuid,
        last: Uuid,
        most: u32,
    ) -> BoxFuture<'_, Result<Vec<LedgerRow>, AuditError>> {
        Box::pin(async move { read::with_ids(&self.found().await?, first, last, most).await })
    }

    fn heads<'a>(&'a self, ledger: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Head>, AuditError>> {
        Box::pin(async move { read::heads(&self.found().await?, ledger).await })
    }

    fn record<'a>(&'a self, read: &'a RecordedReadRow) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(async move { recorded_reads::record(&self.found().await?, read).await })
    }

    fn recorded<'a>(
        &'a self,
        query: &'a AuditQuery,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RecordedReadRow>, AuditError>> {
        Box::pin(async move { recorded_reads::rows(&self.found().await?, query, limit).await })
    }

    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
        quarantine::rows(self)
    }

    fn is_served<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(async move { plan::is_served(&self.found().await?, query).await })
    }
}

impl Indexes for Postgres {
    fn sql(&self, on: &IndexOn) -> String {
        indexes::sql(self, on)
    }

    fn ensure<'a>(&'a self, on: &'a IndexOn, migrate: Migrate) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(indexes::ensure(self, on, migrate))
    }

    fn drop<'a>(&'a self, on: &'a IndexOn) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(indexes::drop(self, on))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Index>, AuditError>> {
        Box::pin(async move { indexes::list(&self.found().await?).await })
    }
}

impl Evidence for Postgres {
    fn ledgers(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        Box::pin(async move { evidence::ledgers(&self.found().await?).await })
    }

    fn head<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<StoredHead, AuditError>> {
        Box::pin(async move { evidence::head(&self.found().await?, ledger).await })
    }

    fn leaves<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<StoredLeaves, AuditError>> {
        Box::pin(async move { evidence::leaves(&self.found().await?, ledger, range).await })
    }

    fn batches<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<StoredBatch>, AuditError>> {
        Box::pin(async move { evidence::batches(&self.found().await?, ledger, range).await })
    }

    fn nodes<'a>(
        &'a self,
        ledger: &'a str,
        level: u8,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<(i64, Option<Hash>)>, AuditError>> {
        Box::pin(async move { evidence::nodes(&self.found().await?, ledger, level, range).await })
    }

    fn foreign_nodes<'a>(
        &'a self,
        ledger: &'a str,
        size: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<(i64, i64)>, AuditError>> {
        Box::pin(async move { evidence::foreign_nodes(&self.found().await?, ledger, size, most).await })
    }

    fn foreign_batches<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(async move { evidence::foreign_batches(&self.found().await?, ledger, from, most).await })
    }

    fn rows<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
        most: u32,
    ) -> BoxFuture<'a, Result<StoredRows, AuditError>> {
        Box::pin(async move { evidence::rows(&self.found().await?, ledger, range, most).await })
    }

    fn workspaces<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<StoredWorkspace>, AuditError>> {
        Box::pin(async move { evidence::workspaces(&self.found().await?, ledger, range).await })
    }

    fn last_of<'a>(
        &'a self,
        ledger: &'a str,
        action: &'static str,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(async move { evidence::last_of(&self.found().await?, ledger, action, before, most).await })
    }

    fn beyond<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<StoredRows, AuditError>> {
        Box::pin(async move { evidence::beyond(&self.found().await?, ledger, from, most).await })
    }

    fn first_from<'a>(&'a self, ledger: &'a str, at: i64) -> BoxFuture<'a, Result<Option<i64>, AuditError>> {
        Box::pin(async move { evidence::first_from(&self.found().await?, ledger, at).await })
    }

    fn quarantined<'a>(
        &'a self,
        ledger: &'a str,
        writer: Uuid,
        positions: (i64, i64),
    ) -> BoxFuture<'a, Result<u64, AuditError>> {
        Box::pin(async move { evidence::quarantined(&self.found().await?, ledger, writer, positions).await })
    }
}
