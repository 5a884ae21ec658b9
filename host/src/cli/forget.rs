//! `sluicegate forget`: splits in quarantine are given up, as declared losses with a person's reason.

use std::sync::Arc;

use clap::Args;

use super::Done;
use super::by_hand::Meant;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, Kind};
use crate::secret::Redactor;

/// Longest reason that is kept.
const REASON_BYTES: usize = 1_000;

/// Give splits in quarantine up: each is declared as lost, with your reason.
///
/// They are never read again. A split that is being read at this moment is left alone. Exits 0 when all that were
/// meant are given up, 1 when there were none, 75 when some are being read: try again.
#[derive(Args)]
pub(super) struct Forget {
    #[command(flatten)]
    meant: Meant,
    /// Why; kept with the declared loss.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl Forget {
    #[expect(clippy::unused_async, reason = "every command is run the same way")]
    pub async fn run(self, _: Arc<Redactor>) -> Done {
        let reason = self.reason.trim();
        if reason.is_empty() || reason.len() > REASON_BYTES {
            let what = format!("`--reason` needs 1 to {REASON_BYTES} bytes of text");
            return Err(vec![Error::new(Kind::Usage, what).help(
                "say why nobody needs this content; it is shown with the loss for good",
            )]);
        }
        let reason = format!("given up by hand: {reason}");
        let now_ms = SystemClock.now_ms();
        let handled = self
            .meant
            .change(|hand, which| hand.forget(which, &reason, now_ms))?;
        self.meant.show(
            &handled,
            "given up",
            "left alone, it is being read at this moment",
        );
        Ok(
            match (handled.done.is_empty(), handled.reading.is_empty()) {
                (_, false) => Kind::Temporary.code(),
                (none, true) => u8::from(none),
            },
        )
    }
}
