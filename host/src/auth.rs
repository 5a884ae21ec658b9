//! Secrets to bearer tokens, attached by the host to granted origins only.

pub mod microsoft;
