//! A file of --options-file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| einhyrningsins::fuzz::options(bytes));
