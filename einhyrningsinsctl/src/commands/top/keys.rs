//! Reads keys from the bytes that a terminal sends for them.
//!
//! It does no I/O. The reader of crossterm is not used: it does not end when the terminal does, but tries again without a pause.
//!
//! # Source
//! ECMA-48, 5.4 (control sequences); xterm's `ctlseqs`, "PC-Style Function Keys"; `console_codes(4)`.

/// The escape character, which is the key Esc if nothing follows it.
const ESCAPE: u8 = 0x1b;

/// The longest sequence that is waited for, in bytes. Those of the keys have at most seven.
const SEQUENCE_MAX: usize = 32;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// A letter together with Ctrl.
    Control(char),
    Esc,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Any other.
    Other,
}

/// The keys of a terminal.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The beginning of a key whose rest has not come.
    pending: Vec<u8>,
}

/// What stands at the beginning of some bytes.
enum Found {
    /// A key, of so many bytes.
    Key(Key, usize),
    /// Nothing of so many bytes.
    Nothing(usize),
    /// The beginning of a key.
    Beginning,
}

impl Keys {
    /// Takes bytes, and returns the keys that are whole.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut rest = self.pending.as_slice();
        while !rest.is_empty() {
            let length = match first(rest) {
                Found::Key(key, length) => {
                    keys.push(key);
                    length
                }
                Found::Nothing(length) => length,
                Found::Beginning if rest.len() >= SEQUENCE_MAX => rest.len(),
                Found::Beginning => break,
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        self.pending = rest.to_vec();
        keys
    }

    /// Whether the rest of a key is missing.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The key that has begun, if its rest does not come: Esc, which other keys begin with.
    pub(super) fn give_up(&mut self) -> Option<Key> {
        (std::mem::take(&mut self.pending) == [ESCAPE]).then_some(Key::Esc)
    }
}

fn first(bytes: &[u8]) -> Found {
    match *bytes {
        [] | [ESCAPE] | [ESCAPE, b'O'] => Found::Beginning,
        // Two keys, the first of them Esc.
        [ESCAPE, ESCAPE, ..] => Found::Key(Key::Esc, 1),
        [ESCAPE, b'[', ref rest @ ..] => match rest.iter().position(|byte| !matches!(byte, 0x20..=0x3f)) {
            None => Found::Beginning,
            Some(end) => match rest[end] {
                last @ 0x40..=0x7e => Found::Key(sequence(&rest[..end], last), end + 3),
                // The sequence is broken off.
                _ => Found::Nothing(end + 2),
            },
        },
        [ESCAPE, b'O', last, ..] => Found::Key(sequence(b"", last), 3),
        // Together with Alt.
        [ESCAPE, ref rest @ ..] => match character(rest) {
            Found::Key(_, length) => Found::Key(Key::Other, length + 1),
            Found::Nothing(length) => Found::Nothing(length + 1),
            Found::Beginning => Found::Beginning,
        },
        _ => character(bytes),
    }
}

/// The key of a control sequence.
fn sequence(parameters: &[u8], last: u8) -> Key {
    // With Shift or Ctrl, the first parameter of some is 1, and of others the number of the key.
    let number = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
    match (last, number) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        _ => Key::Other,
    }
}

/// A character in UTF-8, or a letter together with Ctrl.
fn character(bytes: &[u8]) -> Found {
    let length = match bytes.first() {
        None => return Found::Beginning,
        Some(b'\r' | b'\n' | b'\t' | 0 | 0x1c..=0x1f | 0x7f) => return Found::Key(Key::Other, 1),
        Some(byte @ 0x01..=0x1a) => return Found::Key(Key::Control(char::from(byte | 0x60)), 1),
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        Some(_) => 1,
    };
    let (is_whole, bytes) = match bytes.get(..length) {
        Some(bytes) => (true, bytes),
        None => (false, bytes),
    };
    match str::from_utf8(bytes) {
        Ok(text) => text.chars().next().map_or(Found::Nothing(1), |key| Found::Key(Key::Char(key), length)),
        Err(error) if !is_whole && error.error_len().is_none() => Found::Beginning,
        Err(_) => Found::Nothing(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Keys::default().take(bytes)
    }

    #[test]
    fn keys_are_read_as_terminals_send_them() {
        for (bytes, key) in [
            ("u", Key::Char('u')),
            ("R", Key::Char('R')),
            ("ż", Key::Char('ż')),
            ("\x03", Key::Control('c')),
            ("\x1a", Key::Control('z')),
            ("\r", Key::Other),
            ("\x7f", Key::Other),
            ("\x1b[A", Key::Up),
            ("\x1bOB", Key::Down),
            ("\x1b[1;5B", Key::Down),
            ("\x1b[5~", Key::PageUp),
            ("\x1b[6;2~", Key::PageDown),
            ("\x1b[H", Key::Home),
            ("\x1bOH", Key::Home),
            ("\x1b[1~", Key::Home),
            ("\x1b[7~", Key::Home),
            ("\x1b[F", Key::End),
            ("\x1b[4~", Key::End),
            // F5, Alt-u, focus, a report of the cursor.
            ("\x1b[15~", Key::Other),
            ("\x1bu", Key::Other),
            ("\x1b[I", Key::Other),
            ("\x1b[12;40R", Key::Other),
        ] {
            assert_eq!(keys(bytes.as_bytes()), [key], "{bytes:?}");
        }
        assert_eq!(keys(b"uy\x1b[Bq"), [Key::Char('u'), Key::Char('y'), Key::Down, Key::Char('q')]);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Esc, Key::Up]);
        assert_eq!(keys(b"\xffu\xc3q"), [Key::Char('u'), Key::Char('q')], "no UTF-8");
        assert_eq!(keys(b"\x1b[1\x1b[Aq"), [Key::Up, Key::Char('q')], "a sequence that is broken off");
    }

    #[test]
    fn an_escape_is_a_key_only_if_nothing_follows() {
        let mut reader = Keys::default();
        assert_eq!(reader.take(b"\x1b"), []);
        assert!(reader.is_pending());
        // The rest of an arrow comes later, over a slow line.
        assert_eq!(reader.take(b"["), []);
        assert_eq!(reader.take(b"A"), [Key::Up]);
        assert!(!reader.is_pending());
        assert_eq!(reader.take(b"\x1b"), []);
        assert_eq!(reader.give_up(), Some(Key::Esc));
        assert_eq!((reader.is_pending(), reader.give_up()), (false, None));
        reader.take(b"\x1b[1");
        assert_eq!((reader.give_up(), reader.is_pending()), (None, false));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_bytes_come(
            bytes in prop::collection::vec(prop_oneof![Just(0x1b), Just(b'['), Just(b'O'), 0x30_u8..0x40, any::<u8>()], 0..60),
            cut in 0_usize..60,
        ) {
            let (mut whole, mut pieces) = (Keys::default(), Keys::default());
            let expected = whole.take(&bytes);
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut keys = pieces.take(head);
            keys.extend(pieces.take(tail));
            prop_assert_eq!(keys, expected);
            prop_assert!(whole.pending.len() < SEQUENCE_MAX && whole.pending == pieces.pending);
        }
    }
}
