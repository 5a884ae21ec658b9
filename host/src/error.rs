//! The one error of the host: what happened, where, and what to do.
//!
//! Types are for decisions, sentences are for people: the only thing a caller decides by is the [`Kind`], which
//! is also the exit code. Sentences never hold a secret.

use std::fmt;

/// Which family of trouble; each is one exit code of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong (64).
    Usage,
    /// Something that is needed cannot be had, such as a port or a server (69).
    Unavailable,
    /// A defect of ours (70).
    Internal,
    /// Not now; the same command may succeed later (75).
    Temporary,
    /// The configuration is wrong (78).
    Config,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Temporary => 75,
            Self::Config => 78,
        }
    }
}

/// What happened, where, and what to do about it.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    /// Which family of trouble.
    pub kind: Kind,
    /// What happened: lower case, no full stop, names in backticks.
    pub what: String,
    /// From the inside out: the innermost place first.
    pub places: Vec<String>,
    /// What to do; empty when there is nothing to say.
    pub help: String,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            places: Vec::new(),
            help: String::new(),
        }
    }

    /// The configuration is wrong.
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(Kind::Config, what)
    }

    /// Something needed cannot be had.
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, what)
    }

    /// Not now.
    pub fn temporary(what: impl Into<String>) -> Self {
        Self::new(Kind::Temporary, what)
    }

    /// A defect of ours.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Kind::Internal, what)
    }

    /// Adds a place, going outwards.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.places.push(place.to_string());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.what)?;
        if !self.places.is_empty() {
            write!(formatter, "\n  where: {}", self.places.join(", "))?;
        }
        if !self.help.is_empty() {
            write!(formatter, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {}

/// Adds a place to an error on its way out.
pub trait At<T> {
    /// Adds `place`, going outwards.
    fn at(self, place: impl fmt::Display) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, Error> {
    fn at(self, place: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|error| error.at(place))
    }
}
