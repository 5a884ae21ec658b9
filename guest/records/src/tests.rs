//! Splitting by hand-written cases.
use super::*;
