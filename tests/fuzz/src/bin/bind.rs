//! The text of a -b.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| einhyrningsins::fuzz::bind(bytes));
