//! The bodies of the fuzz targets, which the tests replay on the seeds. They check that reading does not panic,
//! whatever bytes are on a disk, and that the records read are those that were written.

use crate::entry::encode_entry;
use crate::entry::{EventDefaults, interpret};
use crate::queue;

/// Reads a segment with these bytes after its header.
pub fn segment(bytes: &[u8]) {
    queue::fuzz(bytes);
}

/// Reads a record with these bytes, encodes the row that it becomes, and reads that again.
#[allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a finding is a panic")]
pub fn record(bytes: &[u8]) {
    let Ok(row) = interpret(bytes, &EventDefaults::default()) else { return };
    // The row must survive encoding to the last bit.
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    encode_entry(&mut once, &row);
    let again = interpret(&once, &EventDefaults::default()).expect("what was encoded can be read");
    encode_entry(&mut twice, &again);
    assert_eq!(once, twice);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, run: fn(&[u8])) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut replayed = 0;
        for found in std::fs::read_dir(seeds).unwrap() {
            run(&std::fs::read(found.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed > 2, "{replayed}");
    }

    #[test]
    fn the_seeds_of_segments_are_read() {
        replay("segment", super::segment);
    }

    #[test]
    fn the_seeds_of_records_are_read() {
        replay("record", super::record);
    }
}
