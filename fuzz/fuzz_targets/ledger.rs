//! What a ledger is proven by: checkpoints, states, openings, seeds, frontiers, proofs, metadata. The first byte says which.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _is_well_formed = tracing_audit::fuzz::ledger(bytes);
});
