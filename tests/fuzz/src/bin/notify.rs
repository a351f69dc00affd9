//! A message to the notify socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| einhyrningsins::fuzz::notify(bytes));
