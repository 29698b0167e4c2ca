//! The statement of an evidence file on itself: what was asked, by whom, when, and which parts the file has.

use serde::Serialize;

use super::template::{self, MADE_WITH};

/// The account of how the file was made. Nobody can prove it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    pub(crate) ledger: String,
    /// The conditions, as they were given. None: all entries.
    pub(crate) asked: Vec<String>,
    pub(crate) made_at: String,
    pub(crate) made_by: Option<String>,
    /// The fields that were to be withheld, or those that alone were to be shown.
    pub(crate) withheld: Vec<String>,
    pub(crate) only: Vec<String>,
    /// The lines of a trust file, by whose keys the signatures are verified.
    pub(crate) keys: String,
}

/// The statement as the page has it.
#[derive(Serialize)]
struct About<'a> {
    #[serde(rename = "tracing-audit")]
    version: &'static str,
    ledger: &'a str,
    asked: &'a [String],
    made_at: &'a str,
    made_by: Option<&'a str>,
    made_with: &'static str,
    entries: u64,
    beyond: u64,
    withheld: &'a [String],
    only: &'a [String],
    keys: &'a str,
    parts: Parts<'a>,
}

/// The hashes of the other parts.
#[derive(Serialize)]
struct Parts<'a> {
    style: String,
    script: String,
    plain: &'a str,
}

impl Statement {
    /// The statement as one line of JSON that ends no element of a page.
    pub(super) fn to_json(&self, entries: u64, beyond: u64, plain: &str) -> serde_json::Result<String> {
        let about = About {
            version: "evidence@v1",
            ledger: &self.ledger,
            asked: &self.asked,
            made_at: &self.made_at,
            made_by: self.made_by.as_deref(),
            made_with: MADE_WITH,
            entries,
            beyond,
            withheld: &self.withheld,
            only: &self.only,
            keys: &self.keys,
            parts: Parts { style: template::style_hash(), script: template::script_hash(), plain },
        };
        serde_json::to_string(&about).map(|json| json.replace('<', "\\u003c"))
    }
}
