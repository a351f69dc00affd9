//! The token that opens what `serve` shows of a pool beyond its metrics.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use constant_time_eq::constant_time_eq;
use hyper::header::HeaderValue;

/// How many random bytes a token has.
const RANDOM_BYTES: usize = 32;

/// The length of a token in a file.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=1024;

/// Everybody may read.
const READABLE_BY_ALL: u32 = 0o004;

/// A secret text of visible ASCII characters.
#[derive(Clone)]
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("cannot read the token in {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("everybody may read the token in {}; chmod o-r it, and change the token", .0.display())]
    Open(PathBuf),
    #[error(
        "the token in {} is not one line of {} to {} visible ASCII characters",
        .0.display(), LENGTHS.start(), LENGTHS.end()
    )]
    Form(PathBuf),
    #[error("no random numbers to make a token of")]
    Random(#[source] io::Error),
}

impl Token {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub(super) fn make() -> Result<Self, TokenError> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| TokenError::Random(error.into()))?;
        Ok(Self(random.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Reads one from a file, whose first line it is.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File(path.to_owned(), source);
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & READABLE_BY_ALL != 0 {
            return Err(TokenError::Open(path.to_owned()));
        }
        let mut text = Vec::new();
        file.take(2 * *LENGTHS.end() as u64).read_to_end(&mut text).map_err(failed)?;
        let text = text.trim_ascii();
        let is_token = LENGTHS.contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        let token = String::from_utf8(text.to_vec()).ok().filter(|_| is_token);
        token.map(Self).ok_or_else(|| TokenError::Form(path.to_owned()))
    }

    /// As a text, for whoever started this program.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is in the value of an `Authorization` header, as `Bearer TOKEN`. Takes as long for any token of its length.
    pub(super) fn is_in(&self, authorization: &HeaderValue) -> bool {
        let value = authorization.as_bytes();
        let Some((scheme, given)) = value.split_at_checked(b"Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && constant_time_eq(given, self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    #[test]
    fn a_token_is_random_and_known_only_whole() {
        let (token, other) = (Token::make().unwrap(), Token::make().unwrap());
        let text = token.reveal().to_owned();
        assert_eq!(text.len(), 64);
        assert_ne!(text, other.reveal());
        assert!(
            token.is_in(&value(&format!("Bearer {text}"))) && token.is_in(&value(&format!("bearer {text}")))
        );
        let changed = text.replace(|char| char == text.chars().next().unwrap(), "x");
        for wrong in [
            String::new(),
            "Bearer ".to_owned(),
            text.clone(),
            format!("Basic {text}"),
            format!("Bearer {}", &text[1..]),
            format!("Bearer {text}0"),
            format!("Bearer  {text}"),
            format!("Bearer {changed}"),
            format!("Bearer {}", other.reveal()),
        ] {
            assert!(!token.is_in(&value(&wrong)), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(&text), "a secret stays out of messages");
    }

    #[test]
    fn the_token_of_a_file_is_one_long_line_that_not_everybody_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let read = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        assert!(matches!(Token::read(&path), Err(TokenError::File(..))));
        assert_eq!(read("a-long-secret-of-ours\n", 0o640).unwrap().reveal(), "a-long-secret-of-ours");
        assert!(matches!(read("a-long-secret-of-ours", 0o644), Err(TokenError::Open(_))));
        for text in
            ["", "short", "two words are no token", "two-lines-are\nno-token-either", "żółw-żółw-żółw-żółw"]
        {
            assert!(matches!(read(text, 0o600), Err(TokenError::Form(_))), "{text}");
        }
        assert!(matches!(read(&"x".repeat(1025), 0o600), Err(TokenError::Form(_))));
    }
}
