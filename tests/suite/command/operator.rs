//! An operator's commands: tables, indexes, the queue, completions and the manual.

use super::{answer, run};
use crate::support::log;

#[test]
fn an_operator_creates_the_tables_and_indexes_and_inspects_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new.db");
    let db = file.to_str().unwrap();
    assert!(answer(db, "migrate --print").contains("CREATE TABLE tracing_audit_entries"));
    assert!(!file.exists());
    assert_eq!(answer(db, "migrate --ledger payments"), "");
    // Tables that exist stay.
    assert_eq!(answer(db, "migrate"), "");
    assert!(answer(db, "ledgers").contains("\"name\":\"payments\",\"next_seq\":0"));
    assert_eq!(answer(db, "quarantine retry"), "0 committed, 0 refused again\n");

    assert_eq!(answer(db, "index add action metadata.client.ip"), "");
    assert_eq!(answer(db, "index drop action"), "");
    let indexes = answer(db, "index list");
    assert!(indexes.contains(r#""serves":"metadata.client.ip","on_request":true,"ready":true"#), "{indexes}");
    assert!(indexes.contains(r#""serves":"workspace_id""#) && !indexes.contains(r#""serves":"action""#));
    assert_eq!(
        answer(db, "index add reason session_id --print"),
        "CREATE INDEX IF NOT EXISTS \"tracing_audit_by_reason\" ON tracing_audit_entries (reason) WHERE reason IS NOT NULL;\n"
    );
    assert_eq!(run(db, "index drop workspace_id").status.code(), Some(2));
    assert_eq!(run(db, "index add colour").status.code(), Some(2));

    let fixture = log();
    let queue = answer(db, &format!("queue {}", fixture.directory.path().join("audit.db.queue").display()));
    assert!(queue.contains("in use") && queue.contains("main"), "{queue}");
    assert!(answer(db, "completions bash").contains("complete -F"));
    assert!(answer(db, "man").starts_with(".ie"));
}
