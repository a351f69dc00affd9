//! Bytes that come in pieces, and are cut into lines.
#![no_main]

use einhorn_proto::LineBuffer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let limit = 64;
    let mut buffer = LineBuffer::with_limit(limit);
    for piece in bytes.chunks(usize::from(*size) + 1) {
        buffer.push(piece);
        while let Ok(Some(line)) = buffer.next_line() {
            assert!(line.len() <= limit && !line.contains(&b'\n'));
        }
    }
    let _ = buffer.take_rest();
});
