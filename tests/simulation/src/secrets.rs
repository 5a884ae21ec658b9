//! Secrets in every spelling in which they could be found where they must not be.

use memchr::memmem;

/// Needles, each with the name of its spelling.
#[derive(Debug, Default)]
pub struct Canaries(Vec<(&'static str, memmem::Finder<'static>)>);

impl Canaries {
    /// Another secret.
    pub fn learn(&mut self, secret: &str) {
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let json = serde_json::Value::from(secret).to_string();
        let json = json.trim_matches('"').to_owned();
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
        let digits = |byte: u8| [digit(byte >> 4), digit(byte & 15)];
        let hex: String = secret.bytes().flat_map(digits).collect();
        for (name, text) in [
            ("itself", secret.to_owned()),
            ("form", form),
            ("JSON", json),
            ("hex", hex),
        ] {
            let needle = text.as_bytes();
            if !self.0.iter().any(|(_, known)| known.needle() == needle) {
                self.0
                    .push((name, memmem::Finder::new(needle).into_owned()));
            }
        }
    }

    /// The spelling of a secret that stands there.
    pub fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        let stands = |(_, needle): &&(&str, memmem::Finder)| needle.find(bytes).is_some();
        self.0.iter().find(stands).map(|(name, _)| *name)
    }
}
