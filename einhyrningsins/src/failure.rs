//! Why the program ended without doing what it was started for: an error, and a hint for whoever started it.

/// What failed, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// What failed, with its causes.
    pub error: anyhow::Error,
    /// What to do about it.
    pub hint: Option<String>,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None }
    }
}
