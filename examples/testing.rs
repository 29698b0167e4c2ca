//! Code that audits, and the tests that say so: `cargo test --features testing --example testing`.

#![cfg_attr(not(test), expect(clippy::print_stdout, reason = "this is its output"))]

use tracing::{info, info_span};

/// The code under test: the owner of a document may read it, and either answer is audited.
fn may_read(user: &str, owner: &str, document: u64) -> bool {
    let _request =
        info_span!("request", agent_id = user, resource = "document", resource_id = document).entered();
    let allowed = user == owner;
    info!(target: "audit", action = "document.read", decision = if allowed { "Allow" } else { "Deny" }, owner);
    allowed
}

#[cfg(not(test))]
fn main() {
    println!("alice may read hers: {}", may_read("alice", "alice", 42));
}

#[cfg(test)]
mod tests {
    use tracing_audit::{
        Decision,
        testing::{Expected, capture},
    };

    use super::may_read;

    #[test]
    fn both_answers_are_audited_also_on_another_thread() {
        let audit = capture();
        assert!(may_read("alice", "alice", 42));
        let scope = audit.scope();
        let other = std::thread::spawn(move || scope.in_scope(|| assert!(!may_read("bob", "alice", 42))));
        other.join().expect("the other thread");
        audit.assert_audited([
            Expected::action("document.read").agent_id("alice").resource_id(42).decision(Decision::Allow),
            Expected::action("document.read")
                .agent_id("bob")
                .decision(Decision::Deny)
                .metadata("owner", "alice"),
        ]);
    }

    #[test]
    fn nothing_is_audited_before_anybody_asks() {
        capture().assert_nothing_audited();
    }
}
