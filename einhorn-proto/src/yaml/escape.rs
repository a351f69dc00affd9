//! einhorn's escapes, which put a document on one line: `%25` for `%`, `%0A` for a newline.

/// Appends `document` to `out`, escaped.
///
/// It escapes nothing else: Ruby's einhorn decodes these two and leaves every other `%` as it is.
pub(crate) fn escape_into(document: &str, out: &mut Vec<u8>) {
    for byte in document.bytes() {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'\n' => out.extend_from_slice(b"%0A"),
            byte => out.push(byte),
        }
    }
}

/// Decodes the escapes of `line`, of any byte: some clients escape more than they must.
///
/// A `%` that begins no escape stays a `%`.
#[cfg(feature = "yaml")]
pub(crate) fn unescape(line: &[u8]) -> Vec<u8> {
    let mut document = Vec::with_capacity(line.len());
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                document.push(high << 4 | low);
                rest = &rest[3..];
            }
            None => {
                document.push(*first);
                rest = tail;
            }
        }
    }
    document
}

#[cfg(feature = "yaml")]
fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(all(test, feature = "yaml"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_percent_sign_that_escapes_nothing_stays() {
        assert_eq!(unescape(b"100%, %, %4, %zz and %2"), b"100%, %, %4, %zz and %2");
    }

    #[test]
    fn any_byte_may_be_escaped_in_either_case() {
        assert_eq!(unescape(b"a%3a%20b%0a%2B%250A"), b"a: b\n+%0A");
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_one_line_and_comes_back(document in "(?s).{0,200}") {
            let mut line = Vec::new();
            escape_into(&document, &mut line);
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(unescape(&line), document.as_bytes());
        }

        #[test]
        fn any_line_is_unescaped_and_grows_no_longer(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(unescape(&line).len() <= line.len());
        }
    }
}
