//! Text that depends on where an event comes from, such as a subject or a key: `{tenant}` and `{stream}` in it.

use std::fmt;

use crate::config::check::Scope;
use crate::config::report::Path;
use crate::event::StreamKey;

/// A text with `{tenant}` and `{stream}`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Tenant,
    Stream,
}

impl Template {
    /// Reads a template; what is wrong with it is reported.
    pub(super) fn check(scope: &Scope<'_, '_>, at: &Path, text: &str) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(start) = rest.find('{') {
            let (before, braced) = rest.split_at(start);
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let end = braced.find('}').map_or(braced.len(), |end| end + 1);
            match &braced[..end] {
                "{tenant}" => pieces.push(Piece::Tenant),
                "{stream}" => pieces.push(Piece::Stream),
                other => {
                    let what = format!("`{}` is not known here", other.escape_debug());
                    let help = "known here: `{tenant}`, `{stream}`";
                    scope.report.add(at, what, help);
                }
            }
            rest = &braced[end..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Self(pieces)
    }

    /// What stands in front of the first thing that depends on an event.
    pub fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The texts that it is written with.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Tenant | Piece::Stream => None,
        })
    }

    /// The text for events of a stream. What may not stand in a name there becomes `_`.
    pub fn fill(&self, stream: &StreamKey, fine: impl Fn(char) -> bool) -> String {
        let mut filled = String::new();
        for piece in &self.0 {
            let name = match piece {
                Piece::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Piece::Tenant => &stream.tenant,
                Piece::Stream => &stream.stream,
            };
            let letters = name.chars();
            filled.extend(letters.map(|letter| if fine(letter) { letter } else { '_' }));
        }
        filled
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            formatter.write_str(match piece {
                Piece::Text(text) => text,
                Piece::Tenant => "{tenant}",
                Piece::Stream => "{stream}",
            })?;
        }
        Ok(())
    }
}
