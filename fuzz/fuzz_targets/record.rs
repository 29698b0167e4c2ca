//! A record of a queue with these bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracing_audit::fuzz::record(bytes));
