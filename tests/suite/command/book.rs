//! The book of the operator: every command of the guide on terminals of four widths, with colours and without, and before a
//! reader that has seen enough.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use unicode_width::UnicodeWidthStr;

use super::{answer, command, filled};
use crate::support::{self, log, log_with};

/// What else an operator types, with its exit code on a terminal.
const BESIDE: [(&str, i32); 17] = [
    ("query", 0),
    ("query --limit 3 -o wide", 0),
    ("query --agent nobody", 0),
    ("query --agent alice --before 2026-01-01 --tz Europe/Berlin", 0),
    ("query --where agnet=alice", 2),
    ("query --help", 0),
    ("reads x", 2),
    ("query --format csv", 2),
    ("get 3", 0),
    ("get 4711", 1),
    ("index list", 0),
    ("reads", 0),
    ("queue audit.db.queue", 0),
    ("queue nowhere", 3),
    ("archive", 2),
    ("archive --help", 0),
    ("archive --keep -o $(mktemp -u kept.XXXXXX)", 0),
];

/// The commands of the guide, as a script types them: nothing follows, and what is elsewhere is in this directory.
fn of_the_guide() -> Vec<String> {
    let pages = [
        include_str!("../../../src/guide/questions.rs"),
        include_str!("../../../src/guide/operator.rs"),
        include_str!("../../../src/guide/integrity.rs"),
    ];
    let lines = pages.into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("//! "));
    let typed = |line: &'static str| line.strip_prefix("$ ").unwrap_or(line).strip_prefix("tracing-audit ");
    let line = |line: &str| {
        let line =
            line.split([' ', '`']).take_while(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ");
        line.trim().replace(" -f", "").replace("/mnt/elsewhere", ".")
    };
    // The roots of another log are none of this one.
    let is_of_another = |line: &&str| line.contains("--checkpoint \"") || line.contains("--continues \"");
    lines.filter_map(typed).filter(|line| !is_of_another(line)).map(line).collect()
}

/// Runs a script on a terminal. Returns what each command showed, and its exit code.
fn on_a_terminal(directory: &Path, script: &str) -> Vec<(String, String, i32)> {
    let begin =
        "shown() { printf '\\n\\036%s\\n' \"$1\"; eval \"$PROGRAM $1\"; printf '\\n\\037%s\\n' \"$?\"; }\n";
    fs::write(directory.join("book.sh"), [begin, script].concat()).unwrap();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", "sh book.sh", "/dev/null"]).current_dir(directory).stdin(Stdio::null());
    terminal
        .env("TERM", "xterm")
        .env("PAGER", "cat")
        .env("HOME", directory)
        .env("TRACING_AUDIT_DB", "audit.db");
    terminal.env("PROGRAM", env!("CARGO_BIN_EXE_tracing-audit")).env_remove("COLUMNS");
    // What else decides about colours. A service for continuous integration sets the first one, and shows colours itself.
    for variable in ["CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        terminal.env_remove(variable);
    }
    let shown = String::from_utf8(terminal.output().unwrap().stdout).unwrap().replace("\r\n", "\n");
    let command = |part: &str| {
        let (typed, rest) = part.split_once('\n').unwrap();
        let (shown, code) = rest.rsplit_once("\n\u{1f}").unwrap();
        (typed.to_owned(), shown.to_owned(), code.trim().parse().unwrap())
    };
    shown.split("\n\u{1e}").skip(1).map(command).collect()
}

/// Whether the command shows how far it is, in a line that it writes again and again.
fn has_progress(typed: &str) -> bool {
    ["archive", "export", "verify"].iter().any(|command| typed.starts_with(command))
}

/// The lines that the terminal has shown, also those that others were written over, without their colours. Only a line that is
/// written again may hold escapes that erase it or move to its beginning.
#[track_caller]
fn lines(typed: &str, shown: &str) -> Vec<String> {
    let mut parts = shown.split("\u{1b}[");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        let (numbers, rest) = part.split_at(end);
        assert!(numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'), "{typed}: {shown:?}");
        let mut rest = rest.chars();
        match rest.next() {
            Some('m') => {}
            Some('A' | 'B' | 'K') if has_progress(typed) => plain.push('\n'),
            _ => panic!("{typed}: {shown:?}"),
        }
        plain += rest.as_str();
    }
    plain.split(['\r', '\n']).map(str::to_owned).collect()
}

fn check(typed: &str, shown: &str, width: usize) {
    // What is wide on request, and all of an entry.
    if typed.contains("wide") || ["get ", "verify-proof "].iter().any(|whole| typed.starts_with(whole)) {
        return;
    }
    for line in lines(typed, shown) {
        // An id is never cut.
        let is_id = line.split(' ').any(|word| word.len() >= 36) && typed.starts_with("ledger status");
        assert!(line.width() <= width || is_id, "{typed}, {width} columns: {line:?}");
    }
    assert!(!shown.contains("panicked") && !shown.contains("\n\n\n"), "{typed}: {shown}");
}

#[test]
#[cfg(target_os = "linux")]
fn every_command_of_the_guide_fits_its_terminal_and_has_its_exit_code() {
    // Its name is longer than there is room for before a progress bar.
    let fixture =
        filled(log_with(|builder| builder.ledger("payments.of-every-shop-in-europe-asia-and-australia")));
    let directory = fixture.directory.path();
    // So that the reads that are shown are those of the book.
    drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
    answer(&fixture.db, "seal");
    fs::write(directory.join("audit.checkpoint"), answer(&fixture.db, "checkpoint")).unwrap();
    // The log has removed its own.
    fs::create_dir(directory.join("audit.db.queue")).unwrap();
    let guide = of_the_guide();
    let all = guide.iter().map(|line| (&**line, 0)).chain(BESIDE);
    let all: Vec<(&str, i32)> = all.filter(|(line, _)| !line.starts_with("checkpoint")).collect();
    let kinds: BTreeSet<&str> = all.iter().filter_map(|(line, _)| line.split(' ').next()).collect();
    assert!(kinds.len() > 10 && guide.len() > 20, "{guide:?}");
    // Some variables ask for colours, and count less than a terminal that has none, or somebody who wants none.
    let passes = [
        (60, ""),
        (80, ""),
        (120, "export TERM=dumb CI=true CLICOLOR=1 CLICOLOR_FORCE=1"),
        (200, "export TERM=xterm NO_COLOR=1"),
    ];
    let script: Vec<_> = passes
        .iter()
        .map(|(width, variable)| {
            let line = |(typed, _): &(&str, i32)| format!("shown '{}'\n", typed.replace('\'', "'\\''"));
            format!(
                "stty cols {width} rows 50\n{variable}\n{}",
                all.iter().map(line).collect::<Vec<_>>().concat()
            )
        })
        .collect();
    let script = script.concat();
    let shown = on_a_terminal(directory, &script);
    assert_eq!(shown.len(), all.len() * passes.len());
    let mut progress = BTreeSet::new();
    for ((width, variable), shown) in passes.iter().zip(shown.chunks(all.len())) {
        for ((typed, shown, code), (line, expected)) in shown.iter().zip(&all) {
            // Verification that nothing from outside supports is code 5.
            let expected = if line.starts_with("verify --state") { [0, 5] } else { [*expected; 2] };
            assert!(typed == line && expected.contains(code), "{typed}, {line}: {code} {shown}");
            check(typed, shown, *width);
            let has_colours = shown.contains('\u{1b}');
            assert!(!has_colours || variable.is_empty(), "{typed}: {shown:?}");
            if has_progress(typed) && shown.contains("% ") {
                progress.extend(typed.split(' ').next());
            }
            let is_table = typed.starts_with("query --limit") || typed.starts_with("ledgers");
            assert!(has_colours || !is_table || !variable.is_empty(), "{typed}: {shown:?}");
            if typed.starts_with("query --agent nobody") {
                let told = shown.replace('\n', " ");
                assert!(
                    told.contains("0: no entry of any time meets --agent nobody; payments.of-every-shop-")
                        && told.contains(": seq 0 to 13 of 14"),
                    "{shown}"
                );
                assert!(!told.contains("first by time"), "{shown}");
            }
            // How many entries there are beside those that are shown, and how to see the next ones.
            if typed.starts_with("query --limit 3") {
                assert!(shown.replace('\n', " ").contains("3 of 14; next: --cursor "), "{shown}");
            }
        }
    }
    assert_eq!(progress, BTreeSet::from(["archive", "export", "verify"]));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_and_hides_no_finding() {
    let fixture = filled(log());
    let before_nobody = |arguments: &str| {
        // Its reader has closed the pipe before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&fixture.db).args(arguments.split(' ')).stdout(writer).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for arguments in ["query --limit 0", "query -o csv", "export", "tail -n all", "man query", "query --help"]
    {
        assert_eq!(before_nobody(arguments), (Some(0), String::new()), "{arguments}");
    }
    fixture.run("DELETE FROM tracing_audit_entries WHERE seq = 5");
    // The answer has ended, and what it lacks counts all the same.
    for arguments in ["query", "query --limit 0 -o table", "query -o csv", "export", "export --format csv"] {
        let (code, told) = before_nobody(arguments);
        assert!(
            code == Some(5)
                && told.contains("the answer may lack entries: main: ")
                && told.contains("1 missing (seq 5)"),
            "{arguments}: {code:?} {told}"
        );
    }
    for (arguments, says) in [
        ("check", "the log is not as it was written: "),
        ("check -o table", "the log is not as it was written: "),
        ("verify", "the ledger is not as it was: "),
    ] {
        let (code, told) = before_nobody(arguments);
        assert!(
            code == Some(1) && told.contains(says) && !told.contains("panicked"),
            "{arguments}: {code:?} {told}"
        );
    }
}
