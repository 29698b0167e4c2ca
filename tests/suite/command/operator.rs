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
    assert_eq!(answer(db, "quarantine retry -o table"), "0 committed, 0 refused again\n");
    // None of these was a writer that has not ended.
    let told = String::from_utf8(run(db, "query").stderr).unwrap();
    assert!(told.contains("\"silent_writers\":[]"), "{told}");

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
    assert!(answer(&fixture.db, "ledgers -o table").starts_with("ledger  next seq"));
    // A directory that is none, which holds the database and its queue; and one that may have been one.
    let output = run(db, &format!("queue {}", fixture.directory.path().display()));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("is no queue: it holds"), "{said}");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(answer(db, &format!("queue {}", empty.path().display())), "");
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
    manuals(directory.path());
}

/// Every command has a page, whose examples are command lines that the command understands.
fn manuals(directory: &std::path::Path) {
    assert!(
        answer("", "man").contains(".TH tracing\\-audit 1")
            || answer("", "man").contains(".TH tracing-audit 1")
    );
    let pages = directory.join("man1");
    assert_eq!(answer("", &format!("man --out {}", pages.display())), "");
    let mut named = 0;
    for page in std::fs::read_dir(&pages).unwrap() {
        let page = page.unwrap();
        let text = std::fs::read_to_string(page.path()).unwrap();
        for section in ["EXAMPLES", "ENVIRONMENT", "EXIT STATUS"] {
            let head = format!("\n.SH {section}\n");
            assert!(text.contains(&head), "{}: no {section}", page.path().display());
        }
        // The pages that a page refers to are there.
        for other in text.split("tracing\\-audit\\-").skip(1).filter_map(|rest| rest.split_once("(1)")) {
            let other = format!("tracing-audit-{}.1", other.0.replace("\\-", "-"));
            if !other.contains([' ', '\n']) {
                assert!(pages.join(&other).exists(), "{other}");
                named += 1;
            }
        }
        let examples =
            text.split(".nf\ntracing\\-audit ").skip(1).filter_map(|rest| rest.split_once("\n.fi"));
        for (example, _) in examples {
            let example = example.replace("\\-", "-").replace("\\e", "\\");
            let line = example.split(['|', '>']).next().unwrap().to_owned();
            // A database that does not exist ends each of them after its arguments are understood.
            let output = run("none.db", &[&line.replace("--db audit.db", ""), " --help"].concat());
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert!(named > 10, "{named}");
}

/// Asks a shell for its completions of these command lines. It begins with what makes it a function `asked` of words.
fn completed(shell: &str, db: &str, begin: &str) -> Vec<Vec<String>> {
    let lines =
        ["qu", "query --res", "query --ledger ''", "stats --by action,deci", "query --tz Europe/Berl"];
    let asked: Vec<_> = lines.iter().map(|line| format!("asked tracing-audit {line}\n")).collect();
    let asked = asked.concat();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tracing-audit"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let script = format!("{begin}\n{}\n{asked}", answer("", &format!("completions {shell}")));
    let mut started = std::process::Command::new(shell);
    // None of this user's own settings.
    started.args(match shell {
        "bash" => ["--norc", "-c"],
        "zsh" => ["-f", "-c"],
        _ => ["--no-config", "-c"],
    });
    let home = std::path::Path::new(db).parent().unwrap();
    started.arg(script).env("PATH", path).env("HOME", home).env("TRACING_AUDIT_DB", db);
    let output = started.output().unwrap_or_else(|error| panic!("{shell}: {error}"));
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}: {told}");
    // A description may stand behind a word.
    let word = |line: &str| line.split(['\t', ':']).next().unwrap().trim().to_owned();
    let answers = told.split("---\n").map(|answer| answer.lines().map(word).collect::<Vec<_>>());
    answers.take(lines.len()).collect()
}

#[test]
#[cfg(unix)]
fn bash_zsh_and_fish_complete_commands_fields_and_ledgers() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("a.db").display().to_string();
    assert_eq!(answer(&db, "migrate --ledger payments"), "");
    let bash = "asked() {
        COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9; COMPREPLY=()
        _clap_complete_tracing_audit tracing-audit \"${!#}\" x
        printf '%s\\n' \"${COMPREPLY[@]}\" ---
    }";
    // The two functions of zsh by which the script tells it the completions.
    let zsh = "compdef() { }
        _describe() { print -l -- \"${(@P)3}\" }
        asked() { words=(\"$@\"); CURRENT=$#; _clap_dynamic_completer_tracing_audit; print -- --- }";
    let fish = "function asked; complete -C \"$argv\"; echo ---; end";
    for (shell, begin) in [("bash", bash), ("zsh", zsh), ("fish", fish)] {
        let found = completed(shell, &db, begin);
        assert!(found[0].contains(&"quarantine".to_owned()), "{shell}: {found:?}");
        assert!(found[1].contains(&"--resource-id".to_owned()), "{shell}: {found:?}");
        assert_eq!(found[2..], [["payments"], ["action,decision"], ["Europe/Berlin"]], "{shell}");
    }
    // The name of a ledger is whoever's who may write to the database. It is neither run nor obeyed.
    for (number, name) in ["$(touch made)", "a;touch made", "a\u{1b}[2J"].into_iter().enumerate() {
        let db = directory.path().join(format!("hostile{number}.db")).display().to_string();
        let mut migrate = super::command(&db);
        let made = migrate.args(["migrate", &format!("--ledger={name}")]).status().unwrap();
        assert!(made.success(), "{name:?}");
        assert_eq!(completed("bash", &db, bash)[2], [""; 0], "{name:?}");
    }
    for shell in ["elvish", "powershell"] {
        assert!(answer("", &format!("completions {shell}")).contains("TRACING_AUDIT_COMPLETE"), "{shell}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_pager_gets_the_tables_of_a_terminal() {
    let fixture = super::filled(log());
    let paged = fixture.directory.path().join("paged");
    let on_a_terminal = |arguments: &str, pager: &str, variable: (&str, &str)| {
        let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_tracing-audit"));
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null());
        script
            .env("TERM", "xterm")
            .env("PAGER", pager)
            .env("TRACING_AUDIT_DB", &fixture.db)
            .env_remove("NO_COLOR");
        let output = script.env(variable.0, variable.1).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // One that is not there or fails is told of.
        let words: Vec<_> = text.split_whitespace().collect();
        let is_told = words.join(" ").contains("so that part of the output may not have been shown");
        let code = if ["no-such-program-as-this", "false"].contains(&pager) { 4 } else { 0 };
        assert_eq!((output.status.code(), is_told), (Some(code), code == 4), "{arguments}, {pager}: {text}");
        (text, std::fs::read_to_string(&paged).ok().inspect(|_| std::fs::remove_file(&paged).unwrap()))
    };
    let tee = format!("tee {}", paged.display());
    let (shown, in_pager) = on_a_terminal("query", &tee, ("A", ""));
    let in_pager = in_pager.unwrap();
    assert!(shown.contains("s3:GetObject") && in_pager.contains("s3:GetObject"), "{shown}");
    assert!(in_pager.contains("\u{1b}[1m") && in_pager.contains("\u{1b}[31mDeny"), "{in_pager}");
    // What is said beside the output comes after the pager.
    assert!(!in_pager.contains("by time (ts)"), "{in_pager}");
    let (_, in_pager) = on_a_terminal("query", &tee, ("NO_COLOR", "1"));
    assert!(!in_pager.unwrap().contains('\u{1b}'));
    for (arguments, pager, variable) in [
        ("--no-pager query", &*tee, ("A", "")),
        ("query", &*tee, ("TERM", "dumb")),
        ("query", "cat", ("A", "")),
        ("query", "", ("A", "")),
        ("query", "no-such-program-as-this", ("A", "")),
        ("query --limit 0", "false", ("A", "")),
        ("ledgers", "false", ("A", "")),
        ("query --limit 0", "true", ("A", "")),
    ] {
        let (shown, in_pager) = on_a_terminal(arguments, pager, variable);
        assert_eq!(in_pager, None, "{arguments}");
        let is_shown = shown.contains("s3:GetObject");
        let is_lost = ["true", "false", "no-such-program-as-this"].contains(&pager);
        assert_eq!(is_shown, !is_lost, "{pager}: {shown}");
    }
}
