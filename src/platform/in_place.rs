//! Reads rows of SQLite where they lie.
//!
//! sqlx copies every value of every row into memory of its own, which takes longer than to read the row and to hash it. This file
//! is the one outside of the stores that names sqlx, and in return the stores need no `unsafe`.

use std::{
    ffi::c_int,
    ptr::{self, NonNull},
    slice,
};

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;

/// A value of a row, as it is stored. A text need not be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InPlace<'r> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'r [u8]),
    Blob(&'r [u8]),
}

/// Some rows could not be read in place. To read them through sqlx says why, in the words of its errors.
#[derive(Debug)]
pub(crate) struct NotInPlace;

/// A statement, which is finalized when it is dropped.
struct Statement(NonNull<ffi::sqlite3_stmt>);

#[allow(unsafe_code, reason = "the C library's one way to end a statement")]
impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from `sqlite3_prepare_v2`, is used nowhere else, and its connection is still open,
        // because the maker of the statement borrows it. The returned error is the one of the last step, whose code was
        // looked at.
        unsafe {
            ffi::sqlite3_finalize(self.0.as_ptr());
        }
    }
}

/// Hands over the rows of a statement with these parameters and `N` columns, until `take` returns `false`.
///
/// # Errors
/// If the statement cannot be run, or not to its end. The rows until then were handed over.
#[allow(unsafe_code, reason = "the C library's one way to look at a value without a copy of it")]
pub(crate) fn rows_in_place<const N: usize>(
    connection: &mut LockedSqliteHandle<'_>,
    sql: &str,
    parameters: &[i64],
    mut take: impl FnMut(&[InPlace<'_>; N]) -> bool,
) -> Result<(), NotInPlace> {
    let length = c_int::try_from(sql.len()).map_err(|_| NotInPlace)?;
    let database = connection.as_raw_handle().as_ptr();
    let mut prepared = ptr::null_mut();
    // SAFETY: the connection is open and nobody else uses it, as long as its handle is locked, which `connection` is until the
    // end of this function. SQLite reads `length` bytes of the text, and writes a statement or null.
    let code = unsafe {
        ffi::sqlite3_prepare_v2(database, sql.as_ptr().cast(), length, &raw mut prepared, ptr::null_mut())
    };
    let statement =
        NonNull::new(prepared).filter(|_| code == ffi::SQLITE_OK).map(Statement).ok_or(NotInPlace)?;
    let raw = statement.0.as_ptr();
    for (number, value) in (1..).zip(parameters) {
        // SAFETY: the statement is not finalized yet. A number that it has no parameter for is an error, and nothing more.
        if unsafe { ffi::sqlite3_bind_int64(raw, number, *value) } != ffi::SQLITE_OK {
            return Err(NotInPlace);
        }
    }
    // SAFETY: the statement is not finalized yet.
    if usize::try_from(unsafe { ffi::sqlite3_column_count(raw) }) != Ok(N) {
        return Err(NotInPlace);
    }
    loop {
        // SAFETY: the statement is not finalized yet. No value of the row before is left: `take` cannot keep one.
        match unsafe { ffi::sqlite3_step(raw) } {
            ffi::SQLITE_ROW => {}
            ffi::SQLITE_DONE => return Ok(()),
            _ => return Err(NotInPlace),
        }
        let mut row = [InPlace::Null; N];
        for (column, value) in (0..).zip(&mut row) {
            // SAFETY: the statement stands at a row that has this column, and is not stepped while `row` exists.
            *value = unsafe { value_at(raw, column) }.ok_or(NotInPlace)?;
        }
        if !take(&row) {
            return Ok(());
        }
    }
}

/// The value of a column. `None` if SQLite has no memory for it.
///
/// # Safety
/// The statement must stand at a row that has this column, and must not be stepped, reset or finalized during `'r`.
#[allow(unsafe_code, reason = "the C library's one way to look at a value without a copy of it")]
unsafe fn value_at<'r>(statement: *mut ffi::sqlite3_stmt, column: c_int) -> Option<InPlace<'r>> {
    // SAFETY: the caller's. For a text or a blob SQLite is asked in the order that it prescribes: the type, the value
    // as that type, its length. It is never asked for a value as another type, which is what would move it.
    unsafe {
        Some(match ffi::sqlite3_column_type(statement, column) {
            ffi::SQLITE_INTEGER => InPlace::Integer(ffi::sqlite3_column_int64(statement, column)),
            ffi::SQLITE_FLOAT => InPlace::Real(ffi::sqlite3_column_double(statement, column)),
            ffi::SQLITE_TEXT => {
                // SQLite gives UTF-8, also if the database is in UTF-16.
                let text = ffi::sqlite3_column_text(statement, column);
                InPlace::Text(slice::from_raw_parts(
                    NonNull::new(text.cast_mut())?.as_ptr(),
                    length_at(statement, column),
                ))
            }
            ffi::SQLITE_BLOB => {
                // Null if it has no bytes.
                let blob = NonNull::new(ffi::sqlite3_column_blob(statement, column).cast_mut().cast::<u8>());
                let length = length_at(statement, column);
                InPlace::Blob(match blob {
                    Some(blob) => slice::from_raw_parts(blob.as_ptr(), length),
                    None if length == 0 => &[],
                    None => return None,
                })
            }
            _ => InPlace::Null,
        })
    }
}

/// The bytes of the text or the blob that was just looked at.
///
/// # Safety
/// The contract of [`value_at`].
#[allow(unsafe_code, reason = "the C library's one way to ask for a length")]
unsafe fn length_at(statement: *mut ffi::sqlite3_stmt, column: c_int) -> usize {
    // SAFETY: the caller's.
    usize::try_from(unsafe { ffi::sqlite3_column_bytes(statement, column) }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, SqliteConnection};

    use super::*;

    /// The rows as text, and whether the statement came to its end.
    async fn shown<const N: usize>(
        connection: &mut SqliteConnection,
        sql: &str,
        parameters: &[i64],
        most: usize,
    ) -> (Vec<String>, bool) {
        let mut handle = connection.lock_handle().await.unwrap();
        let mut rows = Vec::new();
        let read = rows_in_place::<N>(&mut handle, sql, parameters, |row| {
            rows.push(format!("{row:?}"));
            rows.len() < most
        });
        (rows, read.is_ok())
    }

    #[tokio::test]
    async fn values_are_those_that_are_stored_whatever_their_type_and_the_encoding_of_the_database() {
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
            let tables = format!(
                "PRAGMA encoding = '{encoding}'; CREATE TABLE t (n INTEGER PRIMARY KEY, a, b);
                 INSERT INTO t VALUES (1, 'é\u{1F600}', x'00ff'), (2, '', x''), (3, 0.1, -7), (4, NULL, 9223372036854775807),
                                      (5, 'nul' || char(0) || 'nul', zeroblob(3))"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&mut connection).await.unwrap();
            let (rows, read) =
                shown::<2>(&mut connection, "SELECT a, b FROM t WHERE n >= ? ORDER BY n", &[1], 9).await;
            let text = |text: &str| format!("Text({:?})", text.as_bytes());
            let expected = [
                format!("[{}, Blob([0, 255])]", text("é\u{1F600}")),
                format!("[{}, Blob([])]", text("")),
                "[Real(0.1), Integer(-7)]".to_owned(),
                "[Null, Integer(9223372036854775807)]".to_owned(),
                format!("[{}, Blob([0, 0, 0])]", text("nul\0nul")),
            ];
            assert_eq!((rows, read), (expected.to_vec(), true), "{encoding}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error_after_what_could_be_and_the_connection_goes_on() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let numbers = "WITH n(i) AS (VALUES (1), (2), (3)) SELECT i FROM n WHERE i >= ?";
        for (sql, parameters) in [("SELECT", &[][..]), ("", &[]), ("SELECT 1, 2", &[]), (numbers, &[1, 2])] {
            assert_eq!(shown::<1>(&mut connection, sql, parameters, 9).await, (vec![], false), "{sql}");
        }
        let overflow = "WITH n(i) AS (VALUES (1), (-9223372036854775807 - 1)) SELECT abs(i) FROM n";
        assert_eq!(
            shown::<1>(&mut connection, overflow, &[], 9).await,
            (vec!["[Integer(1)]".to_owned()], false)
        );
        let two = vec!["[Integer(2)]".to_owned(), "[Integer(3)]".to_owned()];
        assert_eq!(shown::<1>(&mut connection, numbers, &[2], 9).await, (two.clone(), true));
        assert_eq!(shown::<1>(&mut connection, numbers, &[2], 1).await, (two[..1].to_vec(), true));
        let sum: i64 = sqlx::query_scalar("SELECT 7").fetch_one(&mut connection).await.unwrap();
        assert_eq!(sum, 7);
        connection.close().await.unwrap();
    }
}
