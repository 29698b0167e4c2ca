//! Standard output, where it is a file that can be taken back to a place.

use std::{fs::File, io::Read};

use serde::{Deserialize, Serialize};
use tracing_audit::SequencedEntry;

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    device: u64,
    inode: u64,
    length: u64,
}

/// Standard output itself.
#[cfg(unix)]
fn file() -> Option<File> {
    use std::os::fd::AsFd;
    std::io::stdout().as_fd().try_clone_to_owned().ok().map(File::from)
}

#[cfg(not(unix))]
fn file() -> Option<File> {
    None
}

#[cfg(unix)]
fn place_of(file: &File) -> Option<Place> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(Place { device: found.dev(), inode: found.ino(), length: found.len() })
}

#[cfg(not(unix))]
fn place_of(_: &File) -> Option<Place> {
    None
}

/// None for what is not a file.
pub(crate) fn place() -> Option<Place> {
    place_of(&file()?)
}

/// Cuts off what a killed command has written after it was last known how far it had come, if that is nothing but entries
/// of this ledger from this `seq` on, the last of them perhaps in part.
pub(crate) fn go_back_to(known: Place, ledger: &str, next_seq: u64) -> std::io::Result<()> {
    let Some(out) = file() else { return Ok(()) };
    let Some(place) = place_of(&out) else { return Ok(()) };
    if (place.device, place.inode) != (known.device, known.inode) || place.length <= known.length {
        return Ok(());
    }
    // What is appended to cannot be read itself. Where this is not possible, entries may come again.
    let Ok(mut read) = File::open("/proc/self/fd/1") else { return Ok(()) };
    let mut bytes = Vec::new();
    std::io::Seek::seek(&mut read, std::io::SeekFrom::Start(known.length))?;
    read.read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (whole, part) = bytes.split_at(end);
    let is_ours = |line: &[u8]| {
        serde_json::from_slice(line)
            .is_ok_and(|found: SequencedEntry| found.ledger == ledger && found.seq >= next_seq)
    };
    let begin = format!("{{\"ledger\":{},\"seq\":", serde_json::Value::from(ledger));
    let shorter = part.len().min(begin.len());
    if whole.split_inclusive(|byte| *byte == b'\n').all(is_ours)
        && part.get(..shorter) == begin.as_bytes().get(..shorter)
    {
        out.set_len(known.length)?;
    }
    Ok(())
}
