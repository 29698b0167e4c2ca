//! Asks all witnesses of a notary at the same time, each with the proof that it needs.

use std::thread::Builder;

use super::{
    tiles::{Tiles, impossible},
    witness::{Answered, Request, Witness},
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, Hash, NoteSignature, ProofShape, verify_consistency};
use crate::reader::AuditReader;

/// The number of times that a witness is asked for one checkpoint: once more, if it says from where the proof has to
/// lead.
const ATTEMPTS: u8 = 2;

/// The witnesses of a notary.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    all: Vec<Witness>,
}

/// The result of asking all of them.
#[derive(Default)]
pub(super) struct Cosigned {
    pub(super) signatures: Vec<NoteSignature>,
    /// An error for each witness that has not cosigned.
    pub(super) failed: Vec<AuditError>,
}

impl Witnesses {
    pub(super) fn add(&mut self, witness: Witness) {
        self.all.push(witness);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Asks for cosignatures of a signed checkpoint. Blocks the thread until every witness has answered, or its
    /// transport has given up.
    pub(super) async fn cosign(
        &mut self,
        reader: &AuditReader,
        checkpoint: &Checkpoint,
        note: &str,
    ) -> Cosigned {
        let mut result = Cosigned::default();
        let mut from: Vec<Option<u64>> = self.all.iter().map(|witness| Some(witness.cosigned())).collect();
        for attempt in 1..=ATTEMPTS {
            let mut requests = Vec::with_capacity(from.len());
            for size in &from {
                requests.push(match size {
                    Some(size) => Some(request(reader, checkpoint, note, *size).await),
                    None => None,
                });
            }
            from.clear();
            let answers = ask(&mut self.all, requests);
            for (witness, answer) in self.all.iter().zip(answers) {
                from.push(match answer {
                    None => None,
                    Some(Ok(Answered::Cosigned(signature))) => {
                        result.signatures.push(signature);
                        None
                    }
                    Some(Ok(Answered::From(size))) if attempt < ATTEMPTS => Some(size),
                    Some(Ok(Answered::From(size))) => {
                        result.failed.push(witness.undecided(size));
                        None
                    }
                    Some(Err(error)) => {
                        result.failed.push(error);
                        None
                    }
                });
            }
        }
        result
    }
}

/// The request with the proof that the checkpoint continues the tree of this size.
async fn request(
    reader: &AuditReader,
    checkpoint: &Checkpoint,
    note: &str,
    from: u64,
) -> Result<Request, AuditError> {
    let proof = if from == 0 || from >= checkpoint.size() {
        Vec::new()
    } else {
        proof(reader, from, checkpoint).await?
    };
    Ok(Request::new(checkpoint, note, from, &proof))
}

/// The proof that the checkpoint continues the tree that its ledger had with this size. It holds, so that a witness who
/// refuses it has seen another tree.
async fn proof(reader: &AuditReader, from: u64, checkpoint: &Checkpoint) -> Result<Vec<Hash>, AuditError> {
    let shape = ProofShape::consistency(from, checkpoint.size()).map_err(impossible)?;
    let evidence = reader.store.backend().evidence()?;
    let mut tiles = Tiles::new(evidence, &reader.ledger, checkpoint.size());
    let proof = tiles.proof(&shape).await?;
    let root = tiles.frontier(from).await?.root();
    let held = verify_consistency(from, checkpoint.size(), &proof, &root, checkpoint.root());
    held.map_err(|cause| {
        let message =
            "the stored hashes do not lead to the checkpoint: verify the ledger, which says what was changed";
        AuditError::new(ErrorKind::Altered, message).because(cause)
    })?;
    Ok(proof)
}

/// Sends each request to its witness, each on a thread of its own.
fn ask(
    witnesses: &mut [Witness],
    requests: Vec<Option<Result<Request, AuditError>>>,
) -> Vec<Option<Result<Answered, AuditError>>> {
    std::thread::scope(|scope| {
        let asked = witnesses.iter_mut().zip(requests).map(|(witness, request)| {
            let (failed, panicked) = (
                witness.refusal("no thread can be started for it"),
                witness.refusal("its transport has panicked"),
            );
            let unproven = witness.refusal("there is no proof for it");
            let thread = match request? {
                Ok(request) => Builder::new().spawn_scoped(scope, move || witness.ask(&request)),
                Err(cause) => return Some(Err(unproven.because(cause))),
            };
            Some(thread.map(|thread| (thread, panicked)).map_err(|cause| failed.because(cause)))
        });
        // All of them are started before the first is waited for.
        let asked: Vec<_> = asked.collect();
        let answered = asked.into_iter().map(|thread| {
            Some(match thread? {
                Ok((thread, panicked)) => thread.join().unwrap_or(Err(panicked)),
                Err(error) => Err(error),
            })
        });
        answered.collect()
    })
}
