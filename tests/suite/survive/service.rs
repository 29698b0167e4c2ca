//! The example service, driven by real clients while its database is broken.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tracing_audit::AuditEntry;

use crate::support::{self, block_on, heavy, lock, unlock, wait_until};

struct Service {
    child: Child,
    output: BufReader<ChildStdout>,
    url: String,
    directory: TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only if the test has failed: `stop` waits for it.
        drop(self.child.kill());
    }
}

impl Service {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tests = std::env::current_exe().unwrap();
        let program: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/axum_service");
        assert!(program.exists(), "the example is not built: 'cargo build --examples'");
        let mut child = Command::new(program)
            .arg("--db")
            .arg(directory.path().join("audit.db"))
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let url = format!("http://{}", line.strip_prefix("listening on ").unwrap().trim());
        Self { child, output, url, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("audit.db")
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str, user: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("x-user", user)
            .header("x-session", "session-17")
            .body(())
            .unwrap();
        let mut response = agent.run(request).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "alice")
    }

    fn wait_for_health(&self, wanted: &str) {
        wait_until(wanted, || self.get("/healthz").1 == wanted);
    }

    /// Destroys a key, and asks again while the commit takes longer than the service waits, as on a slow machine.
    /// Returns the body of the answer, and how many requests were answered with 503.
    fn destroy(&self, key: &str) -> (String, u64) {
        for failed in 0.. {
            let (status, body) = self.ask("DELETE", key, "alice");
            if status == 200 {
                return (body, failed);
            }
            assert!(status == 503 && failed < 100, "{status}: {body}");
        }
        unreachable!()
    }

    /// Ends it as an operator does. Returns what it says at its end, and the entries that it left.
    fn stop(mut self) -> (String, Vec<AuditEntry>) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success());
        let entries = support::all_in(self.file().to_str().unwrap());
        (said, entries.into_iter().map(|found| found.entry).collect())
    }
}

#[test]
fn the_service_audits_fails_closed_and_heals() {
    let service = Service::start();
    service.wait_for_health("healthy");
    assert_eq!(service.get("/documents/1").0, 200);
    assert_eq!(service.ask("GET", "/documents/2", "mallory").0, 403);
    let (body, failed) = service.destroy("/keys/7");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["seqs"][0].as_u64(), Some(2 + failed));
    let denials: Vec<AuditEntry> = serde_json::from_str(&service.get("/admin/denials").1).unwrap();
    assert_eq!(denials.len(), 1);
    assert_eq!(denials[0].agent_id, Some(tracing_audit::audit_id("mallory")));
    assert_eq!(denials[0].session_id, Some(tracing_audit::audit_id("session-17")));
    assert_eq!(denials[0].metadata["service"], "documents");

    block_on(async {
        let blocker = lock(service.file()).await;
        let (status, body) = service.ask("DELETE", "/keys/8", "alice");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body["may_be_committed"].as_bool()), (503, Some(true)), "{body}");
        // A request that need not fail closed goes on.
        assert_eq!(service.get("/documents/3").0, 200);
        service.wait_for_health("failing");
        assert_eq!(service.get("/healthz").0, 503);
        unlock(blocker).await;
    });
    service.wait_for_health("healthy");
    let (_, failed_again) = service.destroy("/keys/9");
    let (said, entries) = service.stop();
    let all = 6 + failed + failed_again;
    assert_eq!(said.trim(), format!("stopped with {all} entries committed, 0 left"));
    let mut resources: Vec<&str> =
        entries.iter().map(|entry| entry.resource_id.as_deref().unwrap()).collect();
    // A key that was asked for several times has as many entries.
    resources.dedup();
    assert_eq!((resources, entries.len() as u64), (vec!["1", "2", "7", "8", "3", "9"], all));
}

/// Every fiftieth request destroys a key, and the others read a document, each another one. Counts statuses, and lists
/// the documents and keys that were answered with 200.
const LOAD: &str = r#"
    next, documents, keys, failed_closed, other = 0, {}, {}, 0, 0
    request = function()
        next = next + 1
        if next % 50 == 0 then return wrk.format("DELETE", "/keys/" .. next) end
        return wrk.format("GET", "/documents/" .. next)
    end
    response = function(status, headers, body)
        local id = body:match('"id":(%d+)')
        if status == 200 and body:find('"seqs"') then keys[#keys + 1] = id
        elseif status == 200 then documents[#documents + 1] = id
        elseif status == 503 and body:find('may_be_committed') then failed_closed = failed_closed + 1
        else other = other + 1 end
    end
    setup = function(started) thread = started end
    done = function(summary)
        local errors = summary.errors
        print("failed_closed " .. thread:get("failed_closed"))
        print("other " .. thread:get("other"))
        print("broken " .. errors.connect + errors.read + errors.write + errors.timeout)
        print("documents " .. table.concat(thread:get("documents"), " "))
        print("keys " .. table.concat(thread:get("keys"), " "))
    end
"#;

#[test]
fn under_load_with_the_database_locked_half_of_the_time_every_answered_request_has_its_entry() {
    let _heavy = heavy();
    let service = Service::start();
    let script = service.directory.path().join("load.lua");
    // Not a pipe, which would fill up.
    let output = service.directory.path().join("load.txt");
    std::fs::write(&script, LOAD).unwrap();
    let mut load = Command::new("wrk")
        .args(["--threads", "1", "--connections", "16", "--duration", "20s", "--timeout", "120s", "--script"])
        .arg(&script)
        .arg(&service.url)
        .stdout(std::fs::File::create(&output).unwrap())
        .spawn()
        .expect("'wrk' is needed: on Debian, 'apt-get install wrk'");
    let start = Instant::now();
    block_on(async {
        while load.try_wait().unwrap().is_none() {
            if start.elapsed() > 2 * support::PATIENCE {
                load.kill().unwrap();
            }
            let blocker = lock(service.file()).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            unlock(blocker).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    let output = std::fs::read_to_string(output).unwrap();
    let said = |name: &str| {
        output.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{output}"))
    };
    let number = |name: &str| said(name).trim().parse::<u64>().unwrap();
    let ids = |name: &str| said(name).split_whitespace().map(str::to_owned).collect::<BTreeSet<String>>();
    assert_eq!((number("other "), number("broken ")), (0, 0));
    assert!(number("failed_closed ") > 0, "the database was never locked long enough");
    let (documents, keys) = (ids("documents "), ids("keys "));
    assert!(documents.len() > 50 && !keys.is_empty(), "{} {}", documents.len(), keys.len());
    // Once one more key is destroyed, everything before it is committed.
    let destroyed =
        (10_000_000..10_000_100).any(|key| service.ask("DELETE", &format!("/keys/{key}"), "alice").0 == 200);
    assert!(destroyed, "the service does not heal");
    let (said, entries) = service.stop();
    assert!(said.contains(" 0 left"), "{said}");
    let of = |action| {
        let found: Vec<String> = entries
            .iter()
            .filter(|entry| entry.action == action)
            .map(|entry| entry.resource_id.clone().unwrap())
            .collect();
        let unique: BTreeSet<String> = found.iter().cloned().collect();
        assert_eq!(unique.len(), found.len(), "an entry of {action} is doubled");
        unique
    };
    println!(
        "{} documents and {} keys answered, {} failed closed",
        documents.len(),
        keys.len(),
        number("failed_closed ")
    );
    assert!(of("document.read").is_superset(&documents));
    assert!(of("key.destroy").is_superset(&keys));
    assert!(of("audit.gap").is_empty());
}
