//! Moves records from the queue to the store: reads and interprets them, commits them in batches, retries for as
//! long as it takes, and only then acknowledges them.
//!
//! | file | what it does |
//! |---|---|
//! | `work.rs` | the loop |
//! | `batch.rs` | consecutive records as rows, and how many of them are settled |
//! | `settle.rs` | commits or quarantines each item of a batch, by bisection |
//! | `commit.rs` | the connection to the database, and the books of what it answers |
//! | `judge.rs` | whether an entry that the database refuses is at fault, or the database |
//! | `clock.rs` | notices a clock that goes backwards |
//! | `adopt.rs` | adopts and reads the journals of dead processes, on other threads |
//! | `holdings.rs` | the books of what these journals hold, and who waits for it |
//! | `strangers.rs` | reports journals that name another database |
//! | `reading.rs` | reads the next records of one of these journals |
//! | `recover.rs` | commits what these journals hold, batch by batch between our own |
//! | `twins.rs` | two processes with one writer: finds out, and goes on under another one |
//! | `writers.rs` | states how far this log's writer has come, and reports dead writers whose queue is gone |
//! | `tidy.rs` | brings everything into the database's main file, once the log is idle |
//! | `farewell.rs` | looks, before the log ends, whether everything that was committed is still there |
//! | `pause.rs` | pauses between attempts, and what the flusher waits for |

mod adopt;
mod batch;
mod clock;
mod commit;
mod farewell;
mod holdings;
mod judge;
mod pause;
mod reading;
mod recover;
mod settle;
mod strangers;
mod tidy;
mod twins;
mod work;
mod writers;

#[cfg(all(test, feature = "_sqlite"))]
mod tests;

pub(super) use work::run;
