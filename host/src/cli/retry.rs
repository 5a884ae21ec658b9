//! `sluicegate retry`: splits in quarantine are read again now, by the collector that runs.

use std::sync::Arc;

use clap::Args;

use super::Done;
use super::by_hand::Meant;
use crate::clock::{Clock as _, SystemClock};
use crate::secret::Redactor;

/// Have splits in quarantine read again now; a running collector does it within seconds.
///
/// They stay in quarantine until they are read. Exits 0 when all that were meant are due (or being read), 1 when
/// there were none.
#[derive(Args)]
pub(super) struct Retry {
    #[command(flatten)]
    meant: Meant,
}

impl Retry {
    #[expect(clippy::unused_async, reason = "every command is run the same way")]
    pub async fn run(self, _: Arc<Redactor>) -> Done {
        let now_ms = SystemClock.now_ms();
        let handled = self.meant.change(|hand, which| hand.retry(which, now_ms))?;
        self.meant.show(&handled, "due now", "being read already");
        let none = handled.done.is_empty() && handled.reading.is_empty();
        Ok(u8::from(none))
    }
}
