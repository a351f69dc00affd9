//! The state that another image of the master has left.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| einhyrningsins::fuzz::state(bytes));
