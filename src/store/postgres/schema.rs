//! Compares the tables and what hangs on them with those that this crate makes.

use super::{
    borrowed::within_whatever,
    error::store_error,
    source::Postgres,
    sql::{ENTRIES, Sql, TABLES as NAMES, is_table},
};
use crate::error::AuditError;
use crate::store::{Veils, migration::versions};

/// The greatest version that this crate knows.
const KNOWN: i64 = 5;

/// All tables, each with the version that makes it, its columns in the order of their names, and what is unique in it.
const TABLES: [(&str, i64, &str, &str); 11] = [
    (
        ENTRIES,
        1,
        "action text!, agent_id uuid, decision text!, id uuid!, ledger text!, metadata json!, problems json, reason text, \
         resource text!, resource_id text, risk_score double precision, seq bigint!, session_id uuid, \
         ts timestamp with time zone!, workspace_id uuid!",
        "(ledger, id); (ledger, seq)",
    ),
    (
        "tracing_audit_batches",
        1,
        "committed_at timestamp with time zone!, entries bigint!, first_seq bigint!, \
         greatest_ts timestamp with time zone!, least_ts timestamp with time zone!, ledger text!, position bigint!, \
         writer uuid!",
        "(ledger, first_seq)",
    ),
    ("tracing_audit_heads", 1, "ledger text!, next_seq bigint!", "(ledger)"),
    ("tracing_audit_positions", 1, "ledger text!, position bigint!, writer uuid!", "(ledger, writer)"),
    (
        "tracing_audit_quarantine",
        1,
        "error text!, id uuid, ledger text!, position bigint!, quarantined_at timestamp with time zone!, record bytea!, \
         writer uuid!",
        "(ledger, writer, \"position\")",
    ),
    ("tracing_audit_migrations", 1, "applied_at timestamp with time zone!, version bigint!", "(version)"),
    (
        "tracing_audit_reads",
        2,
        "action text!, at timestamp with time zone!, ends uuid, entries bigint, id uuid!, query json!, reader text!, \
         role text!",
        "(id)",
    ),
    (
        "tracing_audit_writers",
        3,
        "accepted bigint, ended_at timestamp with time zone, home text, host text, ledger text!, mounts text, \
         next_seq bigint, parent text, process text, quarantined bigint, said_at timestamp with time zone, \
         started_at timestamp with time zone, writer uuid!",
        "(ledger, writer)",
    ),
    (
        "tracing_audit_leaves",
        4,
        "first_seq bigint!, leaves bytea!, ledger text!, seeds bytea!",
        "(ledger, first_seq)",
    ),
    (
        "tracing_audit_nodes",
        4,
        "hash bytea!, idx bigint!, ledger text!, level smallint!",
        "(ledger, level, idx)",
    ),
    ("tracing_audit_grants", 5, "ledger text!, most bigint!, role text!", "(role, ledger)"),
];

/// The version that makes the functions.
const WITH_FUNCTIONS: i64 = 5;

/// The functions of the tables' owner, each with the types of its parameters.
const FUNCTIONS: [(&str, &str); 20] = [
    ("tracing_audit_version", ""),
    ("tracing_audit_grant", "text"),
    ("tracing_audit_is_own", "text"),
    ("tracing_audit_check_writer", "text, uuid"),
    ("tracing_audit_begin", "text"),
    ("tracing_audit_hold", "text, bigint, boolean, bigint, uuid, uuid"),
    ("tracing_audit_position", "text, uuid"),
    ("tracing_audit_backed", "text, uuid"),
    ("tracing_audit_batch", "text, uuid, bigint, bigint"),
    ("tracing_audit_holds", "text, uuid"),
    ("tracing_audit_is_there", "text, uuid, uuid, bigint"),
    ("tracing_audit_known_writers", "text, uuid"),
    ("tracing_audit_goes", "text, uuid, bigint, text, text, text, text, text"),
    ("tracing_audit_ended", "text, uuid"),
    ("tracing_audit_is_watched", ""),
    (
        "tracing_audit_append",
        "text, bigint, uuid, bigint, timestamptz, uuid[], timestamptz[], uuid[], uuid[], uuid[], text[], text[], text[], \
         text[], text[], float8[], text[], text[], uuid[], text[], bytea[], bigint, boolean, text, text, text, text, text",
    ),
    ("tracing_audit_prove", "text, bigint, bytea, bytea, bytea, smallint[], bigint[], bytea[]"),
    ("tracing_audit_next_quarantined", "text, timestamptz, uuid, bigint"),
    ("tracing_audit_readmitted", "text, uuid, bigint, bigint"),
    ("tracing_audit_record_read", "uuid, uuid, text, text, text, bigint"),
];

/// Looks for relations that are not tables, and for objects that hide rows of a table or add rows of another one to it.
/// The role that asks may be one that such a policy does not concern.
pub(super) const VEILS: &str = "WITH ours AS MATERIALIZED (SELECT DISTINCT to_regclass(name)::oid AS oid FROM unnest($1::text[]) name)
     SELECT true, format('a %s stands in the place of the table %s',
                   CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                                  ELSE 'relation' END, c.oid::regclass)
     FROM pg_class c JOIN ours ON c.oid = ours.oid WHERE c.relkind NOT IN ('r', 'p')
     UNION ALL
     SELECT false, format('row-level security hides rows of %s (ALTER TABLE %s DISABLE ROW LEVEL SECURITY)', c.oid::regclass,
                   c.oid::regclass)
     FROM pg_class c JOIN ours ON c.oid = ours.oid WHERE c.relrowsecurity
     UNION ALL
     SELECT false, format('the table %s adds its rows to those of %s (ALTER TABLE %s NO INHERIT %s)', i.inhrelid::regclass,
                   i.inhparent::regclass, i.inhrelid::regclass, i.inhparent::regclass)
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent JOIN ours ON c.oid = ours.oid WHERE c.relkind = 'r'";

/// Looks for objects that change rows when they are written, and for tables that a crash of the server empties.
const CHANGERS: &str = "WITH ours AS MATERIALIZED (SELECT DISTINCT to_regclass(name)::oid AS oid FROM unnest($1::text[]) name)
     SELECT format('the trigger %s is on %s (DROP TRIGGER %I ON %s)', t.tgname, t.tgrelid::regclass, t.tgname,
                   t.tgrelid::regclass)
     FROM pg_trigger t JOIN ours ON t.tgrelid = ours.oid WHERE NOT t.tgisinternal
     UNION ALL
     SELECT format('the rule %s is on %s (DROP RULE %I ON %s)', r.rulename, r.ev_class::regclass, r.rulename,
                   r.ev_class::regclass)
     FROM pg_rewrite r JOIN ours ON r.ev_class = ours.oid WHERE r.ev_type <> '1'
     UNION ALL
     SELECT format('%s is emptied when the server crashes (ALTER TABLE %s SET LOGGED)', c.oid::regclass, c.oid::regclass)
     FROM pg_class c JOIN ours ON c.oid = ours.oid WHERE c.relpersistence <> 'p'
     UNION ALL
     SELECT format('the constraint %s is on %s (ALTER TABLE %s DROP CONSTRAINT %I)', k.conname, k.conrelid::regclass,
                   k.conrelid::regclass, k.conname)
     FROM pg_constraint k JOIN ours ON k.conrelid = ours.oid
     WHERE k.contype IN ('c', 'f', 'x') AND k.conname <> 'tracing_audit_writers_said'
     UNION ALL
     SELECT format('the column %s of %s is generated (ALTER TABLE %s DROP COLUMN %I)', a.attname, a.attrelid::regclass,
                   a.attrelid::regclass, a.attname)
     FROM pg_attribute a JOIN ours ON a.attrelid = ours.oid
     WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
     ORDER BY 1";

/// The indexes of our tables but those that keep something unique: the name, the table, and what each is on.
const INDEXES: &str =
    "WITH ours AS MATERIALIZED (SELECT DISTINCT to_regclass(name)::oid AS oid FROM unnest($1::text[]) name)
     SELECT c.relname::text, t.relname::text,
            regexp_replace(substring(pg_get_indexdef(i.indexrelid) FROM 'USING .*'), ' WITH \\([^)]*\\)', '')
     FROM pg_index i JOIN ours ON i.indrelid = ours.oid
     JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
     WHERE NOT (i.indisunique AND i.indisvalid) ORDER BY 1";

/// The indexes that this crate makes, each with what it is on, without blanks, parentheses and types.
const BUILT_IN: [(&str, &str); 11] = [
    ("tracing_audit_entries_workspace", "ledger,workspace_id,seq"),
    ("tracing_audit_entries_session", "ledger,session_id,seqWHEREsession_idISNOTNULL"),
    (
        "tracing_audit_entries_refused",
        "ledger,decision,seq,workspace_idWHEREdecision=ANYARRAY['Deny','Mask']",
    ),
    ("tracing_audit_entries_risky", "ledger,seq,workspace_idWHERErisk_score>=0.8"),
    ("tracing_audit_entries_problems", "ledger,seq,workspace_idWHEREproblemsISNOTNULL"),
    ("tracing_audit_entries_gaps", "ledger,seqWHEREaction='audit.gap'"),
    ("tracing_audit_batches_greatest", "ledger,greatest_ts,first_seq"),
    ("tracing_audit_batches_latest", "greatest_ts,first_seq,ledger"),
    ("tracing_audit_reads_at", "atWHEREendsISNULL"),
    ("tracing_audit_reads_ends", "endsWHEREendsISNOTNULL"),
    ("tracing_audit_writers_open", "ledger,hostWHEREended_atISNULL"),
];

/// The names of indexes that were created on request begin with this.
const ON_REQUEST: &str = "tracing_audit_by_";

/// Whether this crate makes an index of this name on this.
fn is_ours(name: &str, on: &str) -> bool {
    let bare = on.replace("::double precision", "").replace("::text", "");
    let bare: String = bare.chars().filter(|c| !matches!(c, ' ' | '(' | ')')).collect();
    let Some(bare) = bare.strip_prefix("USINGbtree") else { return false };
    if let Some((_, expected)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return bare == *expected;
    }
    if !name.starts_with(ON_REQUEST) {
        return false;
    }
    let is_of_ids = |id: &&str| {
        bare == format!("ledger,{id},seq") || bare == format!("ledger,{id},seqWHERE{id}ISNOTNULL")
    };
    ["agent_id", "session_id", "workspace_id", "id"].iter().any(is_of_ids) || is_of_beginnings(on)
}

/// Whether an index is on the beginnings of texts, and evaluates nothing else that could fail.
fn is_of_beginnings(on: &str) -> bool {
    const WORDS: [&str; 19] = [
        "USING",
        "btree",
        "ledger",
        "seq",
        "WHERE",
        "IS",
        "NOT",
        "NULL",
        "left",
        "COALESCE",
        "COLLATE",
        "C",
        "text",
        "metadata",
        "action",
        "resource",
        "resource_id",
        "decision",
        "reason",
    ];
    // Texts are the parts of a path, between quotation marks of which each in a text is doubled.
    let without_texts: String = on.split('\'').step_by(2).collect::<Vec<_>>().join(" ").replace(" E ", " ");
    let rest = without_texts.replace("->", " ");
    let is_known = |word: &str| WORDS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit());
    on.starts_with("USING btree (ledger, \"left\"(")
        && on.contains(", 250), seq)")
        && rest.chars().all(|c| c.is_ascii_alphanumeric() || "_ ,()\":".contains(c))
        && rest
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .all(is_known)
}

/// The condition of a function `p` that names no table in the schema of the table `c`, but in the one in which it was made. One
/// of the functions names no table.
macro_rules! names_others {
    () => {
        "(p.proname <> 'tracing_audit_is_own'
          AND strpos(p.prosrc, c.relnamespace::regnamespace::text || '.tracing_audit_') = 0)"
    };
}
pub(super) use names_others;

/// Looks for functions that are not as they should be: those that are missing, that somebody else may have made, that
/// find objects which others have put in their way, or that everybody may call.
const OTHER_FUNCTIONS: &str = concat!(
    "SELECT format('the function %s is missing', f) FROM unnest($2::text[]) f
     WHERE to_regprocedure(f) IS NULL
     UNION ALL
     SELECT CASE
         WHEN p.proowner <> c.relowner THEN
             format('the function %s belongs to %I, and not to the owner of the tables', f, pg_get_userbyid(p.proowner))
         WHEN ",
    names_others!(),
    " THEN format('the function %s names tables of another schema, in which it was made', f)
         WHEN NOT p.prosecdef OR p.proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp'] THEN
             format('the function %s does not run as its owner and with the names of the server alone (ALTER FUNCTION %s '
                    'SECURITY DEFINER SET search_path = pg_catalog, pg_temp)', f, f)
         WHEN p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) one WHERE one.grantee = 0) THEN
             format('everybody may call the function %s (REVOKE ALL ON FUNCTION %s FROM PUBLIC)', f, f)
     END
     FROM unnest($2::text[]) f JOIN pg_proc p ON p.oid = to_regprocedure(f) JOIN pg_class c ON c.oid = to_regclass($1)
     ORDER BY 1"
);

/// Describes one table: whether it exists, its columns, and its unique columns.
const SHAPE: &str = "SELECT to_regclass($1) IS NOT NULL,
     (SELECT string_agg(format('%s %s%s', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN '!' END),
                        ', ' ORDER BY attname COLLATE \"C\")
      FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped),
     (SELECT string_agg(substring(pg_get_indexdef(indexrelid) FROM '\\(.*'), '; '
                        ORDER BY substring(pg_get_indexdef(indexrelid) FROM '\\(.*') COLLATE \"C\")
      FROM pg_index WHERE indrelid = to_regclass($1) AND indisunique AND indisvalid)";

pub(super) fn names(postgres: &Postgres) -> Vec<String> {
    NAMES.iter().map(|table| postgres.table(table)).collect()
}

/// The name of a function with its schema and its parameters' types.
pub(super) fn signature(postgres: &Postgres, function: &str) -> String {
    let parameters = FUNCTIONS.iter().find(|(name, _)| *name == function).map_or("", |(_, types)| *types);
    format!("{}({parameters})", postgres.table(function))
}

/// The same of all functions.
pub(super) fn signatures(postgres: &Postgres) -> Vec<String> {
    FUNCTIONS.map(|(function, _)| signature(postgres, function)).to_vec()
}

/// The statement that finds what keeps readers from the rows of our tables: also tables that are not those found first.
fn veils_of(postgres: &Postgres) -> Sql {
    let replaced = postgres.at.as_ref().map(|place| &place.replaced);
    let replaced = replaced.map_or_else(String::new, |replaced| {
        format!(
            "UNION ALL
             SELECT true, format('the table %s is not the one that this process found first, or has another owner', r.replaced)
             FROM ({replaced}) r WHERE r.instead IS NULL"
        )
    });
    postgres.statement(&format!("{VEILS} {replaced} ORDER BY 2"))
}

/// The objects in the place of a table, and those that hide rows of it or add rows to it, in words.
pub(super) async fn veils(postgres: &Postgres) -> Result<Veils, AuditError> {
    let veils = veils_of(postgres).row().bind(names(postgres));
    within_whatever(postgres, async |connection| {
        Ok(sorted(veils.fetch_all(connection).await.map_err(store_error)?))
    })
    .await
}

fn sorted(found: Vec<(bool, String)>) -> Veils {
    let (instead, over): (Vec<_>, Vec<_>) = found.into_iter().partition(|(is_instead, _)| *is_instead);
    let texts = |found: Vec<(bool, String)>| found.into_iter().map(|(_, text)| text).collect();
    Veils { instead: texts(instead), over: texts(over) }
}

/// Everything that is not as this crate makes it, in words. Columns may be added to what it makes.
pub(super) async fn differences(postgres: &Postgres) -> Result<Vec<String>, AuditError> {
    let (veils, changers) = (veils_of(postgres), postgres.statement(CHANGERS));
    let (veils, changers) =
        (veils.row().bind(names(postgres)), changers.scalar::<String>().bind(names(postgres)));
    let version = postgres.statement(
        "SELECT coalesce(max(version), 0), coalesce(min(version), 1), count(*) FROM @tracing_audit_migrations",
    );
    within_whatever(postgres, async |connection| {
        let Veils { instead, over } = sorted(veils.fetch_all(&mut *connection).await.map_err(store_error)?);
        if instead.is_empty() && !is_table(postgres, &mut *connection, ENTRIES).await.map_err(store_error)? {
            return Ok(Vec::new());
        }
        let is_veiled = !instead.is_empty();
        let mut told = instead;
        told.extend(over);
        told.extend(changers.fetch_all(&mut *connection).await.map_err(store_error)?);
        let indexes = postgres.statement(INDEXES).row::<(String, String, Option<String>)>();
        let indexes = indexes.bind(names(postgres)).fetch_all(&mut *connection).await.map_err(store_error)?;
        let others =
            indexes.into_iter().filter(|(name, _, on)| !is_ours(name, on.as_deref().unwrap_or_default()));
        told.extend(others.map(|(name, table, on)| {
            format!(
                "there is an index {name} on {table} that this crate does not make: {}",
                on.unwrap_or_default()
            )
        }));
        let version = match postgres.may_read(&mut *connection, "tracing_audit_migrations").await {
            Ok(true) if !is_veiled => version.row::<(i64, i64, i64)>().fetch_one(&mut *connection).await,
            other => other.map(|_| (1, 1, 1)),
        };
        let (version, least, count) = version.map_err(store_error)?;
        told.extend(versions(version, (least, count), KNOWN));
        if version >= WITH_FUNCTIONS {
            let others = postgres.statement(OTHER_FUNCTIONS).scalar::<Option<String>>();
            let others = others.bind(postgres.table(ENTRIES)).bind(signatures(postgres));
            told.extend(others.fetch_all(&mut *connection).await.map_err(store_error)?.into_iter().flatten());
        }
        for (table, _, columns, unique) in TABLES.into_iter().filter(|(_, since, ..)| *since <= version) {
            let shape = postgres.statement(SHAPE).row::<(bool, Option<String>, Option<String>)>();
            let shape = shape.bind(postgres.table(table)).fetch_one(&mut *connection).await;
            let (exists, found, keys) = shape.map_err(store_error)?;
            if !exists {
                told.push(format!("the table {table} is missing"));
                continue;
            }
            let found = found.unwrap_or_default();
            let has = |column: &&str| found.split(", ").any(|one| one == *column);
            if let Some(column) = columns.split(", ").find(|column| !has(column)) {
                told.push(format!("{table} has no column \"{column}\" any more: it has {found}"));
            }
            let keys = keys.unwrap_or_default();
            if keys != unique {
                told.push(format!("what is unique in {table} should be {unique}, and is {keys}"));
            }
        }
        Ok(told)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_known_by_its_name_and_by_what_it_is_on() {
        let refused = "USING btree (ledger, decision, seq, workspace_id) WHERE (decision = ANY (ARRAY['Deny'::text, 'Mask'::text]))";
        let of_path = r#"USING btree (ledger, "left"((((metadata -> 'client'::text) -> 'it''s'::text))::text COLLATE "C"), 250), seq) WHERE ("left"((((metadata -> 'client'::text) -> 'it''s'::text))::text COLLATE "C"), 250) IS NOT NULL)"#;
        for (name, on) in [
            ("tracing_audit_entries_workspace", "USING btree (ledger, workspace_id, seq)"),
            ("tracing_audit_entries_refused", refused),
            (
                "tracing_audit_entries_risky",
                "USING btree (ledger, seq, workspace_id) WHERE (risk_score >= (0.8)::double precision)",
            ),
            ("tracing_audit_by_agent_id", "USING btree (ledger, agent_id, seq) WHERE (agent_id IS NOT NULL)"),
            ("tracing_audit_by_action", r#"USING btree (ledger, "left"(action, 250), seq)"#),
            ("tracing_audit_by_metadata.client.it's", of_path),
        ] {
            assert!(is_ours(name, on), "{name} {on}");
        }
        for (name, on) in [
            ("zz", "USING btree (writer)"),
            ("tracing_audit_entries_workspace", "USING btree (ledger, abs(seq), workspace_id)"),
            ("tracing_audit_entries_refused", "USING btree (ledger, decision, seq, workspace_id)"),
            ("tracing_audit_by_agent_id", "USING btree (ledger, reason, seq)"),
            ("tracing_audit_by_x", r#"USING btree (ledger, "left"(meddler.f(action), 250), seq)"#),
            ("tracing_audit_by_x", r#"USING btree (ledger, "left"(((seq - 9))::text, 250), seq)"#),
            ("tracing_audit_by_x", r#"USING btree (ledger, "left"((ledger)::json::text, 250), seq)"#),
            ("tracing_audit_by_x", r#"USING btree (ledger, "left"(action, 250), seq) WHERE (abs(seq) > 0)"#),
            ("tracing_audit_by_x", "USING hash (ledger)"),
        ] {
            assert!(!is_ours(name, on), "{name} {on}");
        }
    }
}
