//! The journal against a plain list, and its bounds.

use proptest::prelude::*;

use super::{backlog::Backlog, *};

fn place(directory: &Path) -> Place {
    Place {
        directory: directory.to_owned(),
        bytes_max: u64::MAX,
        durability: Durability::ProcessCrash,
        database: "sqlite:test".to_owned(),
        ledger: "main".to_owned(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Read {
        ahead: u64,
        count: usize,
        bytes: usize,
    },
    Ack {
        count: u64,
    },
    /// The process dies; another adopts what it left.
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop_oneof![20 => 1..60_usize, 1 => Just(500_usize)].prop_map(Step::Append),
        3 => (0..5_u64, 1..8_usize, 1..400_usize)
            .prop_map(|(ahead, count, bytes)| Step::Read { ahead, count, bytes }),
        3 => (1..12_u64).prop_map(|count| Step::Ack { count }),
        1 => Just(Step::Die),
    ]
}

/// Everything that is left after `from`, in bites.
fn drain(mut backlog: Backlog, from: u64) -> Vec<Vec<u8>> {
    let (mut found, mut at) = (Vec::new(), from);
    loop {
        let batch = backlog.read(at, 3, 100).unwrap();
        assert_eq!(batch.skipped, 0);
        if batch.len() == 0 {
            backlog.finish().unwrap();
            return found;
        }
        at += batch.len() as u64;
        found.extend(batch.records().map(<[u8]>::to_vec));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_like_a_list_that_survives_its_process(steps in proptest::collection::vec(step(), 1..120)) {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        // A few records a segment.
        let open = || JournalQueue::with(place.clone(), Uuid::new_v4(), HEADER_BYTES + 200, 0).unwrap();
        let mut queue = open();
        let (mut list, mut acked) = (Vec::<Vec<u8>>::new(), 0_u64);
        let left = |list: &[Vec<u8>], from: u64| list.get(usize::try_from(from).unwrap()..).unwrap().to_vec();
        for (number, step) in steps.into_iter().chain([Step::Die]).enumerate() {
            match step {
                Step::Append(size) => {
                    let record = vec![u8::try_from(number % 251).unwrap(); size];
                    prop_assert_eq!(queue.append(&record).unwrap().position, list.len() as u64 + 1);
                    list.push(record);
                }
                Step::Read { ahead, count, bytes } => {
                    let from = (acked + ahead).min(list.len() as u64);
                    let batch = queue.read(from, count, bytes).unwrap();
                    let records: Vec<Vec<u8>> = batch.records().map(<[u8]>::to_vec).collect();
                    let there = left(&list, from);
                    prop_assert_eq!((batch.skipped, batch.len()), (0, records.len()));
                    prop_assert!(records.len() <= count && there.starts_with(&records));
                    prop_assert!(!records.is_empty() || there.is_empty());
                }
                Step::Ack { count } => {
                    acked = (acked + count).min(list.len() as u64);
                    queue.ack(acked, Outcome::default());
                    prop_assert_eq!(queue.counts().pending(), list.len() as u64 - acked);
                }
                Step::Die => {
                    let own = Uuid::new_v4();
                    prop_assert_eq!(Backlog::adopt_all(&place, own).0.len(), 0);
                    drop(queue);
                    let (adopted, failed) = Backlog::adopt_all(&place, own);
                    prop_assert!(failed.is_none());
                    prop_assert_eq!(adopted.len(), 1);
                    for backlog in adopted {
                        prop_assert_eq!(drain(backlog, acked), left(&list, acked));
                    }
                    (queue, list, acked) = (open(), Vec::new(), 0);
                }
            }
        }
    }
}

#[test]
fn a_journal_takes_no_more_than_its_bound_and_gives_back_what_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place { bytes_max: 20_000, ..place(directory.path()) };
    let queue = JournalQueue::with(place, Uuid::new_v4(), 5000, 0).unwrap();
    let mut accepted = 0;
    while queue.append(&[1; 100]).is_ok() {
        accepted += 1;
    }
    let taken = || -> u64 {
        let files = fs::read_dir(&queue.directory).unwrap().map(|file| file.unwrap());
        files.filter(|file| file.file_name() != LOCK).map(|file| file.metadata().unwrap().len()).sum()
    };
    assert!((15_000..=20_000).contains(&taken()), "{}", taken());
    assert_eq!(queue.counts().trouble, Some(io::ErrorKind::QuotaExceeded));
    queue.ack(accepted, Outcome::default());
    // The one being written, and the spare.
    assert!(taken() <= 10_000, "{}", taken());
    queue.append(&[1; 100]).unwrap();
    assert_eq!(queue.append(&[2; 10_000]).unwrap_err(), Refused::Full);
    queue.ack(accepted + 1, Outcome::default());
    // A record larger than a segment, and than the whole bound, passes when nothing waits.
    queue.append(&vec![2; 100_000]).unwrap();
    assert_eq!(
        queue.read(accepted + 1, 10, 10).unwrap().records().map(<[u8]>::len).collect::<Vec<_>>(),
        [100_000]
    );
    queue.close();
    assert_eq!(queue.append(&[1]).unwrap_err(), Refused::Closed);
}
