//! Cuts a byte stream into lines of bounded length.

/// The longest line that either side accepts, newline not counted, in bytes.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// A line was longer than the limit of its [`LineBuffer`]; the stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {limit} bytes")]
pub struct LineTooLong {
    /// The limit that was exceeded, in bytes.
    pub limit: usize,
}

/// Collects bytes as they arrive and returns them line by line.
///
/// Holds at most one unfinished line of the limit plus what was pushed last. A line ends at `\n`; one
/// `\r` before it is dropped.
///
/// ```
/// let mut buffer = einhorn_proto::LineBuffer::default();
/// buffer.push(b"one\ntw");
/// assert_eq!(buffer.next_line().unwrap(), Some(b"one".to_vec()));
/// assert_eq!(buffer.next_line().unwrap(), None);
/// buffer.push(b"o\n");
/// assert_eq!(buffer.next_line().unwrap(), Some(b"two".to_vec()));
/// ```
#[derive(Debug, Clone)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Start of the first line that was not yet returned.
    start: usize,
    /// No byte before this is a newline, so a slow sender causes no rescans.
    scanned: usize,
    limit: usize,
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self::with_limit(LINE_BYTES_MAX)
    }
}

impl LineBuffer {
    /// Makes a buffer whose lines may have `limit` bytes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, scanned: 0, limit }
    }

    /// Adds bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole line, without its newline; `None` if it has not all arrived.
    ///
    /// # Errors
    /// [`LineTooLong`], from then on at every call: where the next line begins is not known.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        let end = self.bytes[self.scanned..].iter().position(|&byte| byte == b'\n');
        let Some(end) = end.map(|at| self.scanned + at) else {
            self.scanned = self.bytes.len();
            return if self.scanned - self.start > self.limit { Err(self.too_long()) } else { Ok(None) };
        };
        if end - self.start > self.limit {
            return Err(self.too_long());
        }
        let line = &self.bytes[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.start = end + 1;
        self.scanned = self.start;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            self.scanned = 0;
        }
        Ok(Some(line))
    }

    /// Takes the last line of a stream that ended without a newline.
    pub fn take_rest(&mut self) -> Option<Vec<u8>> {
        let rest = self.bytes.split_off(self.start);
        *self = Self::with_limit(self.limit);
        (!rest.is_empty()).then_some(rest)
    }

    /// The bytes that were pushed and not yet taken.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether a whole line is waiting.
    #[must_use]
    pub fn has_line(&self) -> bool {
        self.bytes[self.scanned..].contains(&b'\n')
    }

    fn too_long(&self) -> LineTooLong {
        LineTooLong { limit: self.limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_over_the_limit_is_refused_before_its_newline_arrives() {
        let mut buffer = LineBuffer::with_limit(4);
        buffer.push(b"1234");
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"5");
        assert_eq!(buffer.next_line(), Err(LineTooLong { limit: 4 }));
        assert_eq!(buffer.next_line(), Err(LineTooLong { limit: 4 }));
    }

    #[test]
    fn a_last_line_without_newline_is_not_lost() {
        let mut buffer = LineBuffer::default();
        buffer.push(b"a\nb");
        assert_eq!(buffer.next_line(), Ok(Some(b"a".to_vec())));
        assert_eq!(buffer.take_rest(), Some(b"b".to_vec()));
        assert_eq!(buffer.take_rest(), None);
    }

    proptest! {
        #[test]
        fn lines_come_back_however_the_stream_is_cut(
            lines in proptest::collection::vec("[^\r\n]{0,40}", 0..20),
            cuts in proptest::collection::vec(1_usize..30, 1..40),
        ) {
            let stream: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
            let mut buffer = LineBuffer::default();
            let mut seen = Vec::new();
            let mut rest = stream.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                buffer.push(piece);
                rest = tail;
                while let Some(line) = buffer.next_line().unwrap() {
                    seen.push(String::from_utf8(line).unwrap());
                }
            }
            prop_assert_eq!(seen, lines);
            prop_assert_eq!(buffer.take_rest(), None);
        }
    }
}
