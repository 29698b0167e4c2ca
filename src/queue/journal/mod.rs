//! The queue on disk: what was accepted survives the process.
//!
//! A log's journal is a directory of its own, named after the UUID by which the database knows it, below the one
//! that the builder is given. It holds `lock`, which its process locks for as long as it lives and in which its
//! process ID stands for people, and segments, each named after the position before its first record: see
//! [`format`](mod@format) for their bytes.
//!
//! **Append**: records go to the end of the last segment by positioned writes. Once the write has returned, the
//! record is in the kernel's hands and survives whatever happens to the process. A segment that is full is
//! followed by another, whose file is allocated whole before anything is written to it: the file `spare` if there
//! is one, which is the last that was retired or one that was [prepared](upkeep) meanwhile.
//!
//! **Read**: records are read back from the files, from any position that is not acknowledged.
//!
//! **Acknowledge**: the database is the authority on what is committed, since the transaction that adds rows
//! stores the position that it has reached, and is on stable storage before it is acknowledged. A segment is
//! retired when every record in it is below that position.
//!
//! **Sync**: with [`Durability::PowerLoss`], whatever is appended is on stable storage soon: see [`upkeep`].
//!
//! **Adopt**: what a dead process left is brought to its end by another that has the same database and ledger:
//! see [`backlog`].
//!
//! | file | what it does |
//! |---|---|
//! | `format` | a segment byte for byte: header, records, checksums |
//! | `directory` | names, lock, making and discarding a journal's directory |
//! | `segments` | `Journal`: the open segments and their bounds, and making the next one |
//! | `tail` | the end of the journal: finds room, encodes, writes |
//! | `scan` | reads consecutive records out of a segment |
//! | `upkeep` | work that may wait for the disk: the next segment's file, syncing, replacing a file that failed |
//! | `journal_queue` | the queue that the flusher sees |
//! | `backlog` | adopts what dead processes left |
//! | `inspect` | lists the journals of a directory, for people |

pub(crate) mod backlog;
mod directory;
mod format;
pub(crate) mod inspect;
mod journal_queue;
mod scan;
mod segments;
mod tail;
mod upkeep;

pub(crate) use directory::JournalHome as Place;
pub(crate) use journal_queue::JournalQueue;
#[cfg(any(test, fuzzing))]
pub(crate) use scan::fuzz;

#[cfg(test)]
mod tests;
