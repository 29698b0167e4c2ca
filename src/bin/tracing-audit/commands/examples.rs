//! Examples of each command, for its help and its manual page.

/// An example: a sentence that says what it does, and its command line.
type Example = (&'static str, &'static str);

pub(super) const NONE: &[Example] = &[];

/// The examples of the command with this path, such as `quarantine list`; an empty one is the whole.
pub(super) fn examples_of(path: &str) -> &'static [Example] {
    EXAMPLES.iter().find(|(known, _)| *known == path).map_or(NONE, |(_, examples)| examples)
}

const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("Show the latest entries.", "tracing-audit --db audit.db query"),
            (
                "Follow what is denied, in the zone of this computer.",
                "tracing-audit tail -f --decision Deny --tz local",
            ),
            ("Install the manual pages.", "tracing-audit man --out ~/.local/share/man/man1"),
        ],
    ),
    (
        "query",
        &[
            ("Who read document D?", "tracing-audit query --action document.read --resource-id D"),
            (
                "What Alice did yesterday, in Berlin.",
                "tracing-audit query --agent alice --on yesterday --tz Europe/Berlin",
            ),
            ("Everything about each entry, in lines of any length.", "tracing-audit query -o wide"),
            (
                "Columns of your own.",
                "tracing-audit query --columns seq,time,agent,metadata.client.ip --since '7d ago'",
            ),
            (
                "For a program.",
                "tracing-audit query --limit 0 --since 'last month' --columns ts,agent | jq -r .agent",
            ),
        ],
    ),
    (
        "get",
        &[
            ("By the number in the first column of a table.", "tracing-audit get 2026"),
            ("In one of several ledgers.", "tracing-audit get payments:2026"),
            ("By the first digits of its id.", "tracing-audit get 019a2b3c"),
        ],
    ),
    (
        "tail",
        &[
            ("Follow new entries, until Ctrl-C.", "tracing-audit tail -f"),
            ("Keep a copy up to date, each entry exactly once.", "tracing-audit tail -f -o copy.jsonl"),
        ],
    ),
    (
        "stats",
        &[
            (
                "The most frequent actions, and how they were decided.",
                "tracing-audit stats --by action,decision --since 30d",
            ),
            (
                "Days of a zone, with a chart.",
                "tracing-audit stats --by day --tz Europe/Berlin --month 2026-11",
            ),
            ("What grew since the month before.", "tracing-audit stats --month 'last month' --compare"),
        ],
    ),
    (
        "export",
        &[
            (
                "All entries of a month, with a manifest.",
                "tracing-audit export --month 2026-11 --manifest -o november.jsonl.gz",
            ),
            ("For a spreadsheet.", "tracing-audit export --format csv -o all.csv"),
            (
                "For a customer, who can verify that none of his entries is withheld.",
                "tracing-audit export --workspace acme --complete -o acme.jsonl",
            ),
        ],
    ),
    (
        "compare",
        &[
            (
                "Is all that was handed out in November still there, unchanged?",
                "tracing-audit compare --against november.jsonl.gz",
            ),
            (
                "Every difference, for a program.",
                "tracing-audit compare --against november.jsonl.gz -o jsonl > differences.jsonl",
            ),
        ],
    ),
    (
        "check",
        &[
            ("Is any entry missing?", "tracing-audit check"),
            (
                "From cron, with a mail if something is found.",
                "tracing-audit check -o table >findings || mail -s audit ops <findings",
            ),
        ],
    ),
    (
        "verify",
        &[
            (
                "Is everything as it was when the checkpoint was kept?",
                "tracing-audit verify --checkpoint /mnt/elsewhere/audit.checkpoint",
            ),
            (
                "Each night, what is new since the last one.",
                "tracing-audit verify --state /mnt/elsewhere/audit.state",
            ),
            (
                "Each week, all of it, with findings alone.",
                "tracing-audit verify --state /mnt/elsewhere/audit.state --full --quiet",
            ),
        ],
    ),
    (
        "checkpoint",
        &[
            (
                "Keep it where the database's writers may not write.",
                "tracing-audit checkpoint > /mnt/elsewhere/audit.checkpoint",
            ),
            (
                "Keep every one that there was.",
                "tracing-audit checkpoint >> /mnt/elsewhere/audit.checkpoints",
            ),
        ],
    ),
    ("ledger status", &[("Whether the tree has all entries, and its root.", "tracing-audit ledger status")]),
    ("ledger", &[("Whether the tree has all entries, and its root.", "tracing-audit ledger status")]),
    (
        "archive",
        &[
            (
                "A month that is over; the month after says so.",
                "tracing-audit archive --db audit-2026-11.db --tell audit-2026-12.db",
            ),
            (
                "What a server has of a month, and keeps.",
                "tracing-audit archive --keep --ledger payments-2026-11 -o payments-2026-11.jsonl.zst",
            ),
        ],
    ),
    ("ledgers", &[("The ledgers of two databases.", "tracing-audit ledgers --db a.db --db b.db")]),
    ("reads", &[("Who looked at this log this week.", "tracing-audit reads --since 'this week'")]),
    (
        "index add",
        &[("Make searches for a client's address fast.", "tracing-audit index add metadata.client.ip")],
    ),
    ("index list", &[("The indexes, and their sizes.", "tracing-audit index list")]),
    ("index drop", &[("Remove that index.", "tracing-audit index drop metadata.client.ip")]),
    ("index", &[("The indexes, and their sizes.", "tracing-audit index list")]),
    ("quarantine list", &[("What the database refused, and why.", "tracing-audit quarantine list")]),
    ("quarantine export", &[("The refused entries, whole.", "tracing-audit quarantine export")]),
    ("quarantine retry", &[("Once the cause is removed.", "tracing-audit quarantine retry --ledger main")]),
    ("quarantine", &[("What the database refused, and why.", "tracing-audit quarantine list")]),
    (
        "migrate",
        &[
            ("Create or update the tables.", "tracing-audit migrate --db audit.db"),
            ("Show the SQL of it instead.", "tracing-audit migrate --db audit.db --print"),
        ],
    ),
    (
        "verify",
        &[
            (
                "Against a checkpoint that was kept elsewhere.",
                "tracing-audit verify --checkpoint audit.checkpoint",
            ),
            (
                "Against what a notary has signed, by the keys of a trust file.",
                "tracing-audit verify --checkpoint payments.checkpoints --trust payments.trust",
            ),
        ],
    ),
    (
        "checkpoint",
        &[
            ("Three lines, to be kept elsewhere.", "tracing-audit checkpoint > audit.checkpoint"),
            (
                "Sign what is new, every ten seconds, until a signal comes.",
                "tracing-audit checkpoint --key audit.key --to payments.checkpoints --every 10s",
            ),
            (
                "Have each one cosigned by the witnesses of a trust file, and publish the tree for a web server.",
                "tracing-audit checkpoint --key audit.key --to payments.checkpoints --every 10s --trust payments.trust \
                 --publish /srv/payments",
            ),
        ],
    ),
    (
        "key new",
        &[(
            "A key, and whom to trust.",
            "tracing-audit key new audit.example.com/payments -o audit.key > payments.trust",
        )],
    ),
    (
        "key",
        &[("Whom verifiers of this key have to trust.", "tracing-audit key show audit.key > payments.trust")],
    ),
    (
        "key rotate",
        &[(
            "Another key from now on.",
            "tracing-audit key rotate --key audit.key -o next.key > payments.trust",
        )],
    ),
    (
        "key show",
        &[("Whom verifiers of this key have to trust.", "tracing-audit key show audit.key > payments.trust")],
    ),
    (
        "ledger accept-restore",
        &[(
            "It was us who restored the backup of last night.",
            "tracing-audit ledger accept-restore audit.example.com/payments/1 --key audit.key --checkpoint payments.checkpoints \
             -o next.key --by ops --reason 'the disk was lost' > payments.trust",
        )],
    ),
    (
        "prove",
        &[
            (
                "One entry, by a checkpoint that an auditor has.",
                "tracing-audit prove 2026 --checkpoint audit.checkpoint -o 2026.tlog-proof",
            ),
            (
                "Without a member of its metadata.",
                "tracing-audit prove 2026 --withhold metadata.card -o 2026.tlog-proof",
            ),
        ],
    ),
    (
        "bundle",
        &[
            (
                "Everything up to a checkpoint.",
                "tracing-audit bundle --checkpoint audit.checkpoint -o all.jsonl.gz",
            ),
            (
                "What Alice did, without the reasons.",
                "tracing-audit bundle --agent alice --withhold reason -o alice.jsonl",
            ),
            (
                "All that acme has, and nothing that was withheld.",
                "tracing-audit bundle --workspace acme --complete -o acme.jsonl",
            ),
        ],
    ),
    (
        "seal",
        &[
            ("From cron, each night.", "tracing-audit seal"),
            ("As a service.", "tracing-audit seal --every 24h"),
        ],
    ),
    (
        "evidence",
        &[
            (
                "What one session did, for somebody with a browser.",
                "tracing-audit evidence --session checkout-4711 --checkpoint audit.checkpoint -o session.html",
            ),
            (
                "A customer's month, without the agents, by a signed checkpoint.",
                "tracing-audit evidence --workspace acme --month 2026-11 --withhold agent_id --checkpoint audit.signed --trust audit.trust \
                 --by 'Ada, audit' -o acme.html",
            ),
        ],
    ),
    (
        "verify-proof",
        &[(
            "Is this entry as it was?",
            "tracing-audit verify-proof 2026.tlog-proof --checkpoint audit.checkpoint",
        )],
    ),
    (
        "verify-bundle",
        &[
            (
                "Are these entries as they were?",
                "tracing-audit verify-bundle all.jsonl.gz --checkpoint audit.checkpoint",
            ),
            (
                "Show them, each as a line of JSON.",
                "tracing-audit verify-bundle all.jsonl.gz --checkpoint audit.checkpoint --entries",
            ),
        ],
    ),
    (
        "consistency",
        &[(
            "Has the ledger only grown since?",
            "tracing-audit consistency --from audit.checkpoint -o since.proof",
        )],
    ),
    ("queue", &[("What waits for a database.", "tracing-audit queue audit.db.queue")]),
    (
        "completions",
        &[
            ("In ~/.bashrc.", "source <(tracing-audit completions bash)"),
            ("In ~/.zshrc, after compinit.", "source <(tracing-audit completions zsh)"),
            ("For fish.", "tracing-audit completions fish > ~/.config/fish/completions/tracing-audit.fish"),
        ],
    ),
    (
        "man",
        &[
            ("Read a page.", "tracing-audit man query | man -l -"),
            ("Install all pages.", "tracing-audit man --out ~/.local/share/man/man1"),
        ],
    ),
];
