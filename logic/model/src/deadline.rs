use std::time::Duration;

/// How long requests may take, and how that is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// The longest that a request may take, where its route says nothing else.
    pub timeout: Option<Duration>,
    /// The header field that says, in milliseconds, how much time is left. In lower case.
    pub header: Option<Box<str>>,
    /// Whose field is listened to.
    pub accept: Heeded,
}

/// Whose word is heeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heeded {
    /// Every client's.
    #[default]
    All,
    /// That of trusted peers.
    Trusted,
    /// Nobody's.
    Nobody,
}

impl Heeded {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::Trusted, Self::Nobody];

    /// The word used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Trusted => "trusted",
            Self::Nobody => "none",
        }
    }
}
