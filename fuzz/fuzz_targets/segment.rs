//! A segment of a journal with these bytes after its header.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracing_audit::fuzz::segment(bytes));
