//! The questions that can be asked of a log. Knows no SQL and no database.
//!
//! | file | what it does |
//! |---|---|
//! | `filter` | `AuditFilter`: the seven plain conditions |
//! | `audit_query` | `AuditQuery`: the builder, the bounds in time, the description for the record of reads |
//! | `column` | the columns that are compared with values |
//! | `condition` | one condition, in addition to ledger, time and `seq` |
//! | `field` | a column, the risk score, or a path in the metadata |
//! | `criterion` | a condition as a value, which can be negated and combined; the criteria of a field |
//! | `operand` | what a field is compared with |
//! | `decimal` | decimal numbers, compared exactly |
//! | `path` | paths into the metadata: parsed, spelled, and the places that they lead to |
//! | `count_by` | the properties that entries can be counted by |
//! | `zone_offsets` | `ZoneOffsets`: how far a clock is from UTC, and when that changes |
//! | `served` | the indexes that serve each condition: built-in ones and those on request |

mod audit_query;
mod column;
mod condition;
mod count_by;
mod criterion;
mod decimal;
mod field;
mod filter;
mod operand;
mod path;
mod served;
mod zone_offsets;

pub use audit_query::AuditQuery;
pub use column::Column;
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) use condition::{Bound, Condition, Order, Pattern, after_prefix};
pub use count_by::CountBy;
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) use count_by::{spelled, spelled_date};
pub use criterion::Criterion;
#[cfg(feature = "_sqlite")]
pub(crate) use decimal::Decimal;
pub use field::Field;
pub use filter::AuditFilter;
pub use operand::Operand;
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) use path::PathStep;
pub use path::value_at;
pub(crate) use path::{places, steps};
pub use served::IndexOn;
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) use served::Served;
pub use zone_offsets::ZoneOffsets;
