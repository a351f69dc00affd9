//! A line that a master sends.
#![no_main]

use einhorn_proto::Reply;

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    let _ = Reply::<serde_json::Value>::from_line(line);
});
