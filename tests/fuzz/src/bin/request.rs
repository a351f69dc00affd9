//! A line that a client sends: JSON, or einhorn's YAML.
#![no_main]

use einhorn_proto::Request;

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    let (_, request) = Request::from_line(line);
    // What was understood is understood again.
    if let Ok(request) = request {
        let again = Request::from_json(request.to_json().as_bytes());
        assert_eq!(again.ok(), Some(request));
    }
});
