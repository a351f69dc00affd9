//! A file of --env-file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| einhyrningsins::fuzz::env_file(bytes));
