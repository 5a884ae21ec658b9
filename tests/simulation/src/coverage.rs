//! Situations that a batch of seeds must have been in: a net that never catches anything may be empty.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::effects::{Kind, Moment};

macro_rules! points {
    ($($name:ident $text:literal),+ $(,)?) => {
        /// A situation with a name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point { $(#[doc = $text] $name),+ }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What happened.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

points! {
    CrashBeforeRequest "crash before a request",
    CrashAfterRequest "crash after the service took a request",
    CrashInBody "crash while an answer arrives",
    CrashBeforeDiscovered "crash before a discovery is committed",
    CrashAfterDiscovered "crash after a discovery is committed",
    CrashAtTake "crash when splits are taken",
    CrashAtSetback "crash when a split is put back",
    CrashBeforeCommit "crash between the last acknowledgement and the commit",
    CrashAfterCommit "crash after a commit",
    CrashAtPrune "crash when old things are forgotten",
    CrashInRecovery "crash while a file is cut back",
    CrashBeforeAppend "crash before a file is written",
    CrashInAppend "crash with half of a piece written",
    CrashAfterAppend "crash between a file's write and the commit",
    CrashBeforeSend "crash before a sink's request",
    CrashInSend "crash with half of a sink's request taken",
    CrashAfterSend "crash between a sink's acknowledgement and the commit",
    CutBack "a file is cut back to what was committed",
    SentAgainAfterCrash "a document is sent again after a crash",
    StoppedGracefully "a graceful stop with work under way",
    Refused "a connection is refused",
    Reset "a connection is reset before an answer",
    NoName "a host's name is not found",
    BadCertificate "a certificate is not accepted",
    NoAnswer "an answer does not begin in time",
    SlowAnswer "an answer takes minutes",
    BodyBroken "a body breaks off",
    BodyStalled "a body stalls",
    Throttled "the service throttles",
    ThrottledWithWait "the service says how long to wait",
    ThrottledAbsurdly "the service says an absurd wait",
    Unauthorised "a token is refused",
    TokenRevoked "tokens are revoked in the middle of a window",
    TokenExpired "a token expires between listing and reading",
    SignInRefused "a sign-in is refused for a while",
    TypeDenied "one content type is denied for a while",
    SubscriptionGone "a subscription is disabled by somebody",
    SubscriptionStarted "a subscription is started",
    PageFollowed "a second page is listed",
    Redirected "the service redirects",
    ServerErrors "the service has errors",
    NotThereYet "a blob that was listed is not there yet",
    HtmlInsteadOfJson "HTML comes with status 200",
    ListedTwice "a blob is listed twice",
    LateBlob "a blob is listed late, in a closed window",
    DuplicateRecord "the service repeats a record",
    ChangedRecord "the service changes a record and keeps its id",
    OddToken "a token's life is odd",
    ClockForward "the clock jumps forward",
    ClockBack "the clock jumps back",
    LedgerFailed "the ledger fails",
    LedgerFailedAfter "the ledger reports an error for what it has done",
    DiskFull "a file cannot be written",
    SinkDown "a sink is down for a while",
    SinkPartial "a sink takes a part of a request",
    SinkRefused "a sink refuses an event for ever",
    SinkSplit "a sink refuses a request as a whole",
    AckLost "a sink's answer is lost",
    AckLate "a sink's answer comes late",
    SentAgainSameId "a document comes twice and is one",
    DeadLetter "an event is kept as a dead letter",
    SetAside "a split is set aside",
    DeclaredLost "content is declared lost",
    LongAbsence "the collector is away for days",
    TwoTenants "two tenants run side by side",
    BudgetSpent "the budget of a minute is used up",
    Drained "everything is delivered in time",
}

impl Point {
    /// The situation of a crash.
    pub fn of_crash(kind: Kind, moment: Moment) -> Self {
        match (kind, moment) {
            (Kind::Request, Moment::Before) => Self::CrashBeforeRequest,
            (Kind::Request, _) => Self::CrashAfterRequest,
            (Kind::Body, _) => Self::CrashInBody,
            (Kind::Discovered, Moment::Before) => Self::CrashBeforeDiscovered,
            (Kind::Discovered, _) => Self::CrashAfterDiscovered,
            (Kind::Take, _) => Self::CrashAtTake,
            (Kind::Setback, _) => Self::CrashAtSetback,
            (Kind::Commit, Moment::Before) => Self::CrashBeforeCommit,
            (Kind::Commit, _) => Self::CrashAfterCommit,
            (Kind::Prune, _) => Self::CrashAtPrune,
            (Kind::Recover, _) => Self::CrashInRecovery,
            (Kind::Append, Moment::Before) => Self::CrashBeforeAppend,
            (Kind::Append, Moment::Inside) => Self::CrashInAppend,
            (Kind::Append, Moment::After) => Self::CrashAfterAppend,
            (Kind::Send, Moment::Before) => Self::CrashBeforeSend,
            (Kind::Send, Moment::Inside) => Self::CrashInSend,
            (Kind::Send, Moment::After) => Self::CrashAfterSend,
        }
    }
}

/// How often each situation came up.
#[derive(Debug, Default)]
pub struct Coverage(Mutex<BTreeMap<Point, u64>>);

impl Coverage {
    /// It came up.
    pub fn mark(&self, point: Point) {
        self.add(point, 1);
    }

    /// It came up so often.
    pub fn add(&self, point: Point, times: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(point).or_default() += times;
    }

    /// Adds what another one saw.
    pub fn merge(&self, other: &Self) {
        for (point, times) in other.counts() {
            self.add(point, times);
        }
    }

    /// All counts.
    pub fn counts(&self) -> BTreeMap<Point, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What never came up.
    pub fn missed(&self) -> Vec<Point> {
        let counts = self.counts();
        let missed = Point::ALL
            .iter()
            .filter(|point| !counts.contains_key(point));
        missed.copied().collect()
    }
}
