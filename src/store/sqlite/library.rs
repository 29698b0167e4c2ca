//! Checks the version of the SQLite library for a defect that can corrupt a database.

use sqlx::SqliteConnection;

use crate::error::{AuditError, ErrorKind};

/// The defect of this process's SQLite library that can corrupt the database of the connection, with its remedy. `None`
/// if there is none, or if the database has no write-ahead log.
pub(super) async fn defect(connection: &mut SqliteConnection) -> sqlx::Result<Option<AuditError>> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut *connection).await?;
    defect_of(&version, connection).await
}

/// The defect of this version of SQLite that can corrupt the database of the connection.
async fn defect_of(version: &str, connection: &mut SqliteConnection) -> sqlx::Result<Option<AuditError>> {
    if !has_wal_reset_bug(version) {
        return Ok(None);
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(connection).await?;
    Ok((mode == "wal").then(|| wal_reset_bug(version)))
}

/// Whether this version of SQLite has the WAL-reset bug. Versions 3.7.0 to 3.51.2 have it, except for two older lines to
/// which the fix was carried back.
fn has_wal_reset_bug(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else { return false };
    let version: (u32, u32, u32) = (major, minor, parts.next().unwrap_or(0));
    let fixed_from = match (major, minor) {
        (3, 44) => (3, 44, 6),
        (3, 50) => (3, 50, 7),
        _ => (3, 51, 3),
    };
    version >= (3, 7, 0) && version < fixed_from
}

fn wal_reset_bug(version: &str) -> AuditError {
    let message = format!(
        "this process has SQLite {version}, whose WAL-reset bug can, though rarely, corrupt a database \
         (https://www.sqlite.org/wal.html#walresetbug): use SQLite 3.51.3 or later, by a newer libsqlite3-sys, or by \
         the feature sqlite-unbundled and a current library of the system"
    );
    AuditError::new(ErrorKind::Store, message)
}

#[cfg(test)]
mod tests {
    use sqlx::{
        ConnectOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    };

    use super::*;

    #[test]
    fn the_wal_reset_bug_is_in_every_version_before_its_fix_and_in_none_after_it() {
        for version in ["3.7.0", "3.7", "3.44.5", "3.45.0", "3.46.0", "3.49.2", "3.50.6", "3.51.0", "3.51.2"]
        {
            assert!(has_wal_reset_bug(version), "{version}");
        }
        for version in
            ["3.6.23", "3.44.6", "3.50.7", "3.51.3", "3.52.0", "3.53.1", "3.100.0", "4.0.0", "", "x"]
        {
            assert!(!has_wal_reset_bug(version), "{version}");
        }
    }

    #[tokio::test]
    async fn an_old_version_is_reported_with_its_remedy_only_if_the_database_has_a_write_ahead_log() {
        let directory = tempfile::tempdir().unwrap();
        for (mode, is_wal) in [(SqliteJournalMode::Wal, true), (SqliteJournalMode::Delete, false)] {
            let file = directory.path().join(format!("{is_wal}.db"));
            let options =
                SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(mode);
            let mut connection = options.connect().await.unwrap();
            let found = defect_of("3.46.0", &mut connection).await.unwrap().map(|error| error.to_string());
            assert_eq!(found.is_some(), is_wal, "{found:?}");
            assert!(found.is_none_or(|it| it.contains("SQLite 3.46.0") && it.contains("sqlite-unbundled")));
            // The bundled library has the fix.
            assert!(defect(&mut connection).await.unwrap().is_none());
        }
    }
}
