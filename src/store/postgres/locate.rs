//! Looks for the audit tables, once, and remembers where they were.

use std::sync::Arc;

use sqlx::{Connection, PgConnection};

use super::{
    borrowed::Borrowed,
    error::store_error,
    place::{MIGRATIONS, Place, Table, own_names},
    quote::identifier,
    source::{Postgres, Source},
    sql::{ENTRIES, TABLES},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::is_on_own_runtime;

/// The server's version, for comparing and for people.
const VERSION: &str = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, \
                       pg_catalog.current_setting('server_version')";

/// The schemas of a path that the current role can use, in their order.
const SCHEMAS: &str = "SELECT pg_catalog.current_schemas(false)::pg_catalog.text[]";

/// Reads three facts about each of these schemas: its name, whether it counts only because it has the name of the role
/// although it is another role's, and which relations in it have the name of an audit table. Any role that may create
/// schemas can make such a one.
const FIND: &str = "SELECT n.nspname::text,
            NOT $3 AND n.nspname = current_user
            AND NOT (owner.rolname IN (current_user, 'pg_database_owner') OR owner.rolsuper
                     OR owner.oid = (SELECT datdba FROM pg_database WHERE datname = current_database())),
            ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = n.oid AND relname = ANY ($2) ORDER BY relname),
            ARRAY(SELECT oid::bigint FROM pg_class WHERE relnamespace = n.oid AND relname = ANY ($2) ORDER BY relname),
            ARRAY(SELECT relowner::bigint FROM pg_class
                  WHERE relnamespace = n.oid AND relname = ANY ($2) ORDER BY relname),
            ARRAY(SELECT relkind IN ('r', 'p') FROM pg_class
                  WHERE relnamespace = n.oid AND relname = ANY ($2) ORDER BY relname)
     FROM unnest($1::text[]) WITH ORDINALITY named (name, place)
          JOIN pg_namespace n ON n.nspname = named.name JOIN pg_roles owner ON owner.oid = n.nspowner
     ORDER BY place";

/// The outcome of a look for the tables.
struct Look {
    place: Option<Place>,
    /// The schema that tables are created in if there are none.
    first: Option<String>,
    /// A schema with audit tables that does not count: see [`FIND`].
    foreign: Option<String>,
}

impl Postgres {
    /// The database with the place of its tables, for an operation of a reader.
    pub(super) async fn found(&self) -> Result<Self, AuditError> {
        self.found_for(is_on_own_runtime()).await
    }

    /// The same for readers that block, or for those that do not.
    pub(super) async fn found_for(&self, blocking: bool) -> Result<Self, AuditError> {
        if let Some(place) = self.place.lock().clone() {
            return Ok(self.at(place));
        }
        let mut connection = Borrowed::as_it_is(self.readers_for(blocking).await?).await?;
        let look = connection.within(async |connection| self.look_for(connection).await).await?;
        match look {
            // The table that belongs there is still to be found.
            Look { place: Some(place), .. } if place.is_veiled => Ok(self.at(Arc::new(place))),
            Look { place: Some(place), .. } => Ok(self.at(self.remember(place))),
            Look { foreign: Some(foreign), .. } => Err(not_ours(&foreign)),
            Look { .. } => Ok(self.at(Arc::new(Place::nowhere()))),
        }
    }

    /// The same for a connection of its own, which looks again.
    pub(super) async fn located(&self, connection: &mut PgConnection) -> Result<Self, AuditError> {
        let mut transaction = connection.begin().await.map_err(store_error)?;
        let look = self.look_for(&mut transaction).await?;
        transaction.commit().await.map_err(store_error)?;
        let known = self.place.lock().clone();
        if let Some(known) = known.filter(|known| known.has(MIGRATIONS))
            && !look.place.as_ref().is_some_and(|place| place.is_veiled || place.has(MIGRATIONS))
        {
            let message = format!(
                "the audit tables that this process found first, in the schema {}, are not there any more: put them back. \
                 If that is meant, start this process anew",
                identifier(&known.schema)
            );
            return Err(AuditError::new(ErrorKind::Store, message));
        }
        match look {
            Look { place: Some(place), .. } => Ok(self.at(self.remember(place))),
            Look { foreign: Some(foreign), .. } => Err(not_ours(&foreign)),
            Look { first: Some(schema), .. } => Ok(self.at(Arc::new(Place::new(schema, Vec::new())))),
            Look { .. } => {
                let message = "the role's search_path names no schema that exists and that the role can use: create one, \
                               or name the schema of the audit tables";
                Err(AuditError::new(ErrorKind::Config, message))
            }
        }
    }

    /// Whether every table that this version makes was found.
    pub(super) fn has_all_tables(&self) -> bool {
        self.at.as_ref().is_some_and(|place| place.tables.len() == TABLES.len())
    }

    fn at(&self, place: Arc<Place>) -> Self {
        let mut found = self.clone();
        found.at = Some(place);
        found
    }

    /// Keeps what is known already, and adds the tables that a migration has made since.
    fn remember(&self, found: Place) -> Arc<Place> {
        let mut known = self.place.lock();
        let place = match known.take() {
            None => Arc::new(found),
            Some(place) => {
                let new: Vec<Table> =
                    found.tables.into_iter().filter(|(name, ..)| !place.has(name)).collect();
                if new.is_empty() || place.schema != found.schema {
                    place
                } else {
                    Arc::new(Place::new(place.schema.clone(), [place.tables.as_slice(), &new].concat()))
                }
            }
        };
        *known = Some(Arc::clone(&place));
        place
    }

    /// Looks for the tables, in the schema that was given or found before, or else in the schemas of the role's
    /// `search_path`. A change of that path in the session counts only for an application's pool: a pooler's client
    /// before us may have changed it.
    async fn look_for(&self, connection: &mut PgConnection) -> Result<Look, AuditError> {
        let version = self.statement(VERSION).row().fetch_one(&mut *connection).await;
        let (version, named): (i32, String) = version.map_err(store_error)?;
        check_version(version, &named)?;
        let is_named = self.schema.clone().or_else(|| Some(self.place.lock().as_ref()?.schema.clone()));
        let mut schemas: Vec<String> = is_named.iter().cloned().collect();
        if is_named.is_none() {
            let of_path = self.statement(SCHEMAS);
            let of_session = match self.source {
                Source::Pool(_) => of_path.scalar().fetch_one(&mut *connection).await.map_err(store_error)?,
                Source::Servers(_) => Vec::new(),
            };
            sqlx::raw_sql("SET LOCAL search_path TO DEFAULT")
                .execute(&mut *connection)
                .await
                .map_err(store_error)?;
            schemas = of_path.scalar().fetch_one(&mut *connection).await.map_err(store_error)?;
            schemas.extend(of_session);
        }
        sqlx::raw_sql(own_names!()).execute(&mut *connection).await.map_err(store_error)?;
        let find = self.statement(FIND).row::<(String, bool, Vec<String>, Vec<i64>, Vec<i64>, Vec<bool>)>();
        let find = find.bind(&schemas).bind(TABLES.map(str::to_owned).to_vec()).bind(is_named.is_some());
        let found = find.fetch_all(connection).await.map_err(store_error)?;
        let mut look = Look { place: None, first: is_named, foreign: None };
        for (schema, is_foreign, names, tables, owners, are_tables) in found {
            let has_tables = names.iter().any(|name| name == ENTRIES || name == MIGRATIONS);
            let is_veiled = are_tables.contains(&false);
            let tables = names.into_iter().zip(tables).zip(owners).zip(are_tables);
            let tables = tables
                .filter_map(|(((name, table), owner), is_table)| is_table.then_some((name, table, owner)));
            let place = Place { is_veiled, ..Place::new(schema.clone(), tables.collect()) };
            match (is_foreign, has_tables) {
                (true, true) => look.foreign = Some(schema),
                (true, false) => {}
                (false, true) if look.place.is_none() => look.place = Some(place),
                (false, _) => drop(look.first.get_or_insert(schema)),
            }
        }
        Ok(look)
    }
}

/// The oldest server that has everything: statistics of expressions, and the end of statements whose client is gone.
const OLDEST: i32 = 14;

fn check_version(version: i32, named: &str) -> Result<(), AuditError> {
    if version >= OLDEST * 10_000 {
        return Ok(());
    }
    let message = format!("the database server is PostgreSQL {named}: an audit log needs {OLDEST} or later");
    Err(AuditError::new(ErrorKind::Config, message))
}

fn not_ours(schema: &str) -> AuditError {
    let message = format!(
        "the schema {} has the name of the role and belongs to another one, who may have made it to take the entries: \
         name the schema of the audit tables, or make the role the schema's owner",
        identifier(schema)
    );
    AuditError::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn a_server_that_is_too_old_is_refused_with_a_sentence() {
        for (version, named) in [(90_624, "9.6.24"), (130_023, "13.23"), (139_999, "13.99")] {
            let refused = check_version(version, named).unwrap_err();
            assert!(refused.is_config(), "{refused:?}");
            assert_eq!(
                refused.to_string(),
                format!("the database server is PostgreSQL {named}: an audit log needs 14 or later")
            );
        }
        for (version, named) in [(140_000, "14.0"), (180_004, "18.4")] {
            check_version(version, named).unwrap();
        }
    }
}
