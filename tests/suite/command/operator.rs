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
    // The journals of two dead processes, one of which is not to be believed.
    let queue = directory.path().join("audit.db.queue");
    for (journal, link) in
        [("105e60ed-e9e8-4f40-95df-7407b0aa3013", false), ("205e60ed-e9e8-4f40-95df-7407b0aa3013", true)]
    {
        let journal = queue.join(journal);
        std::fs::create_dir_all(&journal).unwrap();
        std::fs::write(journal.join("lock"), "4711\n").unwrap();
        let segment = journal.join("00000000000000000000.segment");
        if link {
            std::fs::create_dir(segment).unwrap();
        } else {
            std::fs::write(segment, include_bytes!("../../data/journal-2.segment")).unwrap();
        }
    }
    let output = run(db, &format!("queue {}", queue.display()));
    let (listed, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(listed.contains("left behind") && listed.contains("refused"), "{listed}");
    assert!(said.contains("1 journal of dead processes holds at most 3 entries"), "{said}");
    assert!(said.contains("not a file: remove it"), "{said}");
    assert!(answer(db, "completions bash").contains("complete -F"));
    assert!(answer(db, "man").starts_with(".ie"));
}
