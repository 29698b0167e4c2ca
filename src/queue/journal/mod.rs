//! The queue on disk: accepted entries survive the process.
//!
//! Each log has a journal of its own: a directory below the one that the builder was given, named after the log's
//! `writer`, the UUID by which the database knows the journal. The directory holds the file `lock` and the segments.
//! The log's process holds a lock on `lock` for as long as it lives; the file contains the process ID, for people to
//! read. Each segment is named after the position before its first record; [`format`](mod@format) describes its bytes.
//!
//! **Append**: records are written to the end of the last segment by positioned writes. Once the write has returned,
//! the kernel holds the record, which survives whatever happens to the process. When a segment is full, another one
//! follows it, whose file is allocated whole before anything is written to it. If the file `spare` exists, it becomes
//! that segment: it is either the last segment that was retired or a file that [`upkeep`] has prepared.
//!
//! **Read**: records are read back from the files, from any position that is not acknowledged.
//!
//! **Acknowledge**: the database is the authority on what is committed. The transaction that adds rows also stores the
//! position that it has reached. It is on stable storage before that position is acknowledged. A segment is retired
//! when the acknowledged position has passed every record in it.
//!
//! **Sync**: with [`Durability::PowerLoss`](crate::Durability::PowerLoss), appended records reach stable storage within
//! the time that it states: see [`upkeep`].
//!
//! **Adopt**: records that a dead process left are settled by another process with the same database and ledger: see
//! [`backlog`]. Fields that an event leaves out get the values of the log that accepted it, which each segment's header
//! holds.
//!
//! **Reject**: a rejection is written at once to a file of its own, so that the next log reports it if this one cannot:
//! see [`rejected`].
//!
//! | file | what it does |
//! |---|---|
//! | `format` | a segment byte for byte: header, records, checksums |
//! | `directory` | names, lock, making and discarding a journal's directory |
//! | `segments` | `OpenJournal`: the open segments and their bounds, and making the next one |
//! | `room` | leaves room for the database, where it grows in the same file system |
//! | `tail` | the end of the journal: finds room, encodes, writes |
//! | `scan` | reads the header of a segment, and consecutive records |
//! | `rejected` | keeps on disk the rejections that no entry reports yet |
//! | `upkeep` | work that may wait for the disk: the next segment's file, syncing, replacing a file that failed |
//! | `look` | finds files of the running log that somebody has removed, and creates them again |
//! | `journal_queue` | the queue that the flusher sees |
//! | `whose` | finds out whose a journal is: that of a process that is alive, of a dead one, or of another database |
//! | `backlog` | adopts what dead processes left |
//! | `inspect` | lists the journals of a directory, for people |

mod backlog;
mod directory;
mod format;
mod inspect;
mod journal_queue;
mod look;
mod rejected;
mod room;
mod scan;
mod segments;
mod tail;
mod upkeep;
mod whose;

pub(crate) use backlog::{Backlog, Found, JournalEnd, Known};
pub(crate) use directory::{JournalHome, journal_error};
pub(crate) use inspect::inspect_journal;
pub use inspect::{Journal, JournalSegment, SegmentTrouble, inspect_journals};
pub(crate) use journal_queue::JournalQueue;
#[cfg(any(test, fuzzing))]
pub(crate) use scan::fuzz;
pub(crate) use whose::{Stranger, left_behind};

#[cfg(test)]
mod tests;
