//! Implements the contracts of a database with the other files of this room; decides nothing.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use uuid::Uuid;

use super::{
    by_time, counts, evidence, in_place, indexes, migrate, open, periods, plan, quarantine, read,
    recorded_reads,
    source::{Source, Sqlite},
};
use crate::entry::{LedgerRow, Row};
use crate::error::AuditError;
use crate::ledger::Hash;
use crate::platform::{is_same_file, real_path, shared_file_system};
use crate::query::{AuditQuery, CountBy, IndexOn};
use crate::store::{
    Appender, Backend, Evidence, Found, Head, Index, Migrate, Migration, Opening, QuarantinedRow,
    QueueByDefault, Reads, RecordedReadRow, Span, StoredBatch, StoredHead, StoredLeaves, Surveys,
    backend::{Groups, Indexes},
    evidence::{StoredRows, StoredWorkspace, TakeRow},
};

impl Backend for Sqlite {
    /// The path of the file, relative to the parent of the journals' directory if it is below that, so that the file and
    /// the journals can be moved, or mounted elsewhere, together.
    fn name(&self, directory: &Path) -> Option<String> {
        let (file, directory) = (real_path(&self.file_path()?), real_path(directory));
        let beside = directory.parent().and_then(|parent| file.strip_prefix(parent).ok());
        Some(format!("sqlite:{}", beside.unwrap_or(&file).to_str()?))
    }

    fn directory(&self) -> Option<PathBuf> {
        real_path(&self.file_path()?).parent().map(Path::to_owned)
    }

    /// The file decides that the path names, not the path. If it names none, the database may have been moved.
    fn is_also(&self, directory: &Path, name: &str) -> Option<bool> {
        let Some(path) = name.strip_prefix("sqlite:") else { return Some(false) };
        is_same_file(&real_path(directory).parent()?.join(path), &self.file_path()?)
    }

    /// Whether the file is on a file system that no other machine can mount at the same time.
    fn has_one_machine(&self) -> bool {
        self.file_path().is_some_and(|file| shared_file_system(&file).is_ok_and(|shared| shared.is_none()))
    }

    fn of_period(&self, label: &str) -> Option<Result<Arc<dyn Backend>, AuditError>> {
        Some(periods::of_period(self, label).map(|sqlite| Arc::new(sqlite) as Arc<dyn Backend>))
    }

    fn labels(&self) -> Option<std::io::Result<Vec<String>>> {
        Some(periods::labels(self))
    }

    fn queue_by_default(&self) -> QueueByDefault {
        match (&self.source, self.file_path()) {
            (Source::File { .. }, Some(path)) => {
                // The queue lies beside the file in which SQLite itself keeps its log: one file has one queue, however
                // it is spelled.
                let mut path = real_path(&path).into_os_string();
                path.push(".queue");
                QueueByDefault::Journal(path.into())
            }
            _ => QueueByDefault::Memory,
        }
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
        migrate::migrations()
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

impl Reads for Sqlite {
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
        Box::pin(read::page(self, query, span, size))
    }

    fn seqs_in_time<'a>(
        &'a self,
        query: &'a AuditQuery,
    ) -> BoxFuture<'a, Result<Option<(u64, u64)>, AuditError>> {
        Box::pin(read::seqs_in_time(self, query))
    }

    fn count<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<u64, AuditError>> {
        Box::pin(read::count(self, query))
    }

    fn count_by<'a>(
        &'a self,
        query: &'a AuditQuery,
        by: &'a [CountBy],
    ) -> BoxFuture<'a, Result<Groups, AuditError>> {
        Box::pin(counts::count_by(self, query, by))
    }

    fn with_ids(
        &self,
        first: Uuid,
        last: Uuid,
        most: u32,
    ) -> BoxFuture<'_, Result<Vec<LedgerRow>, AuditError>> {
        Box::pin(read::with_ids(self, first, last, most))
    }

    fn heads<'a>(&'a self, ledger: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Head>, AuditError>> {
        Box::pin(read::heads(self, ledger))
    }

    fn record<'a>(&'a self, read: &'a RecordedReadRow) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(recorded_reads::record(self, read))
    }

    fn recorded<'a>(
        &'a self,
        query: &'a AuditQuery,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RecordedReadRow>, AuditError>> {
        Box::pin(recorded_reads::rows(self, query, limit))
    }

    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
        quarantine::rows(self)
    }

    fn is_served<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(plan::is_served(self, query))
    }
}

impl Indexes for Sqlite {
    fn sql(&self, on: &IndexOn) -> String {
        indexes::sql(on)
    }

    fn ensure<'a>(&'a self, on: &'a IndexOn, migrate: Migrate) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(indexes::ensure(self, on, migrate))
    }

    fn drop<'a>(&'a self, on: &'a IndexOn) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(indexes::drop(self, on))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Index>, AuditError>> {
        Box::pin(indexes::list(self))
    }
}

impl Evidence for Sqlite {
    fn ledgers(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>> {
        Box::pin(evidence::ledgers(self))
    }

    fn head<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<StoredHead, AuditError>> {
        Box::pin(evidence::head(self))
    }

    fn leaves<'a>(
        &'a self,
        _: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<StoredLeaves, AuditError>> {
        Box::pin(evidence::leaves(self, range))
    }

    fn batches<'a>(
        &'a self,
        _: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<StoredBatch>, AuditError>> {
        Box::pin(evidence::batches(self, range))
    }

    fn nodes<'a>(
        &'a self,
        _: &'a str,
        level: u8,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<(i64, Option<Hash>)>, AuditError>> {
        Box::pin(evidence::nodes(self, level, range))
    }

    fn foreign_nodes<'a>(
        &'a self,
        _: &'a str,
        size: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<(i64, i64)>, AuditError>> {
        Box::pin(evidence::foreign_nodes(self, size, most))
    }

    fn foreign_batches<'a>(
        &'a self,
        _: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(evidence::foreign_batches(self, from, most))
    }

    fn rows<'a>(
        &'a self,
        _: &'a str,
        range: Range<i64>,
        most: u32,
    ) -> BoxFuture<'a, Result<StoredRows, AuditError>> {
        Box::pin(evidence::rows(self, range, most))
    }

    fn rows_in_place<'a>(
        &'a self,
        _: &'a str,
        range: Range<i64>,
        take: TakeRow,
    ) -> BoxFuture<'a, Result<i64, AuditError>> {
        Box::pin(in_place::rows(self, range, take))
    }

    fn workspaces<'a>(
        &'a self,
        _: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<StoredWorkspace>, AuditError>> {
        Box::pin(evidence::workspaces(self, range))
    }

    fn last_of<'a>(
        &'a self,
        _: &'a str,
        action: &'static str,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>> {
        Box::pin(evidence::last_of(self, action, before, most))
    }

    fn beyond<'a>(
        &'a self,
        _: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<StoredRows, AuditError>> {
        Box::pin(evidence::beyond(self, from, most))
    }

    fn first_from<'a>(&'a self, _: &'a str, at: i64) -> BoxFuture<'a, Result<Option<i64>, AuditError>> {
        Box::pin(evidence::first_from(self, at))
    }

    fn quarantined<'a>(
        &'a self,
        _: &'a str,
        writer: Uuid,
        positions: (i64, i64),
    ) -> BoxFuture<'a, Result<u64, AuditError>> {
        Box::pin(evidence::quarantined(self, writer, positions))
    }
}
