//! Decisions that are wrong on purpose, to show that the simulation finds each.
//!
//! Without the feature `mutants` (it is off wherever the product is built) every question here is answered `false`
//! at compile time and nothing of it is left. With it, one mutant at a time is switched on for a thread.

/// Every mutant: its name where it stands in the code, and what it does wrong.
pub const ALL: &[(&str, &str)] = &[
    ("commit_before_ack", "commits without waiting for the sinks"),
    (
        "ack_before_write",
        "a file's batch is acknowledged before it is written",
    ),
    (
        "partial_is_whole",
        "events that a sink wants again count as delivered",
    ),
    (
        "no_answer_is_success",
        "a sink's request without an answer counts as delivered",
    ),
    (
        "new_id_on_retry",
        "an event that is sent again has another id",
    ),
    (
        "dedupe_before_delivery",
        "events are remembered before any sink has them",
    ),
    ("dedupe_forgotten", "events that are known are sent again"),
    (
        "split_before_events",
        "a split is committed before its last events",
    ),
    ("positions_forgotten", "the file's length is not committed"),
    (
        "letters_after_commit",
        "dead letters are written behind the commit",
    ),
    ("letters_dropped", "dead letters are not written"),
    (
        "retry_after_ignored",
        "the service's wish to be left alone is not heard",
    ),
    (
        "budget_ignored",
        "more requests leave in a minute than allowed",
    ),
    (
        "token_kept_for_ever",
        "a token is used after its end, and after a refusal",
    ),
    ("token_logged", "a token stands in the log"),
    (
        "quarantine_blocks",
        "a split that is set aside stops its stream",
    ),
    (
        "lost_at_first_failure",
        "a split that fails once is declared lost",
    ),
    (
        "failed_read_is_delivered",
        "a split that broke off counts as read",
    ),
    (
        "split_dropped",
        "the last split of a discovery is not committed",
    ),
    (
        "state_before_splits",
        "a discovery's state is committed before its splits",
    ),
    (
        "closed_is_taken",
        "what is handed over while stopping counts as taken",
    ),
    (
        "file_not_cut_back",
        "what was not committed stays in the file",
    ),
    (
        "refused_blocks",
        "an event that a sink refuses is sent for ever",
    ),
    (
        "refused_dropped",
        "an event that a sink refuses is forgotten",
    ),
    (
        "half_dropped",
        "the second half of a request that was too large is forgotten",
    ),
];

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Switches a mutant on for this thread, or all off.
    pub fn set(name: Option<&'static str>) {
        ON.set(name);
    }

    /// Whether this mutant is on.
    pub fn is_on(name: &str) -> bool {
        ON.get() == Some(name)
    }
}

#[cfg(feature = "mutants")]
pub use switch::{is_on, set};

/// Whether this mutant is on: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn is_on(_name: &str) -> bool {
    false
}
