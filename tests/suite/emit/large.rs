//! What is too large is refused before it costs anything.

use tracing_audit::AuditEntry;

use crate::support::{self, entry, this_test};

/// The most memory that this process has ever had, in kilobytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_text_that_is_too_large_is_refused_before_it_is_copied() {
    support::in_own_process(this_test!(), || {
        let fixture = support::log();
        let text = || "x\0".repeat(50 << 20);
        let large = [
            AuditEntry { reason: Some(text()), ..entry("a") },
            AuditEntry { action: text(), ..entry("a") },
            AuditEntry { metadata: serde_json::json!({ "nested": [{ "text": text() }] }), ..entry("a") },
            AuditEntry { metadata: serde_json::json!(vec![0; 2 << 20]), ..entry("a") },
        ];
        let before = peak();
        for entry in large {
            let error = fixture.log.writer().try_write(entry).unwrap_err();
            assert!(error.is_too_large(), "{error:?}");
        }
        let grown = peak() - before;
        assert!(grown < 20_000, "{grown} kB more");
    });
}
