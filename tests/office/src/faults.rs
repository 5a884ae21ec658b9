//! What goes wrong, and how often: rates per fault, and switches for the behaviours that are not
//! rates.
//!
//! Whether a request meets a fault follows from the seed, the request and how often it was sent
//! before, so the order in which parallel requests arrive changes nothing. A fault that concerns
//! one blob for ever (poison, gone) follows from the seed and the blob alone.

use std::fmt;

use crate::random::{Concern, Seed};

macro_rules! faults {
    ($($name:ident $text:literal $scope:ident $doc:literal),+ $(,)?) => {
        /// One kind of fault; each has a rate from 0.0 (never) to 1.0 (always).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault { $(#[doc = $doc] $name),+ }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name on the command line, such as `server-error`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// What its rate is a share of.
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope),+ }
            }

            /// What happens.
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => $doc),+ }
            }
        }
    };
}

/// What the rate of a fault is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Requests to the API; resets and delays strike token requests too.
    Api,
    /// Requests to the token endpoint.
    Token,
    /// Requests for a blob.
    Fetch,
    /// Pages of a listing.
    Page,
    /// Blobs, once and for ever.
    Blob,
    /// Records, once and for ever.
    Record,
}

faults! {
    ServerError "server-error" Api
        "500 with AF50000 in both wordings, AF50005, AF50006; 502, 503, 504 as HTML; 408.",
    Throttle "throttle" Api
        "403 with AF429 in single quotes, or 429 as JSON, with every kind of `Retry-After`.",
    Unauthorized "unauthorized" Api "401 on a token that is valid.",
    ResetBeforeHeaders "reset-before-headers" Api "The connection is reset instead of an answer.",
    ResetAfterHeaders "reset-after-headers" Api "The connection is reset after the headers.",
    SlowHeaders "slow-headers" Api "The answer begins late (`Faults::slow_ms`).",
    Close "close" Api "The connection is closed after a good answer.",
    Redirect "redirect" Api "A redirect: to another host, to itself, or to another path.",
    BadToken "token-unavailable" Token "503 `temporarily_unavailable`, 500 `server_error` or 429.",
    OddExpiry "token-odd-expiry" Token
        "`expires_in` is missing, zero, huge, or a string on the v2 endpoint.",
    Truncate "truncate" Fetch "The connection ends early; `Content-Length` promised the whole.",
    TruncateChunked "truncate-chunked" Fetch "The connection ends in the middle of a chunked body.",
    LengthShort "length-short" Fetch "A cut body whose `Content-Length` agrees with the cut.",
    LengthLong "length-long" Fetch "A whole body whose `Content-Length` promises more.",
    Stall "stall" Fetch "The body stops coming (`Faults::stall_ms`).",
    Trickle "trickle" Fetch "The body comes a few bytes at a time.",
    ErrorWith200 "error-200" Fetch "Status 200 with a JSON object that holds an error.",
    NullBody "null-body" Fetch "Status 200 with `null`.",
    EmptyBody "empty-body" Fetch "Status 200 with nothing.",
    HtmlBody "html-body" Fetch "Status 200 with an HTML page.",
    GarbageTail "garbage-tail" Fetch "A cut JSON array followed by garbage.",
    DoubleBody "double-body" Fetch "The array comes twice, one behind the other.",
    FalseEncoding "false-encoding" Fetch "Plain bytes that are labelled as gzip.",
    Missing "missing-once" Fetch "404, as if the blob were not replicated yet.",
    ByteOrderMark "bom" Fetch "Harmless: a byte-order mark before the array.",
    OctetStream "octet-stream" Fetch "Harmless: labelled as `application/octet-stream`.",
    Chunked "chunked" Fetch "Harmless: no `Content-Length`.",
    Gzip "gzip" Fetch "Harmless: compressed, when the client accepts it.",
    TruncateGzip "truncate-gzip" Fetch
        "A gzip stream that ends early, when the client accepts gzip.",
    EmptyPage "empty-page" Page "An empty page in the middle, with a next page.",
    EmptyLastPage "empty-last-page" Page "The last full page announces one more, which is empty.",
    PageLoop "page-loop" Page "The next page is the page itself.",
    ForeignPage "foreign-page" Page "The next page is on another host.",
    ForeignBlob "foreign-blob" Page "Every blob of the page is on another host.",
    ListedTwice "listed-twice" Page "The page repeats blobs of the page before.",
    ListedAgain "listed-again" Blob "Also listed in a window that starts up to a minute after it.",
    SameMillisecond "same-millisecond" Blob "Created in the same millisecond as the blob before.",
    PoisonError "poison-error" Blob "Always answers 500.",
    PoisonBody "poison-body" Blob "Never parses.",
    Gone "gone" Blob "Listed, but always AF20050.",
    EmptyBlob "empty-blob" Blob "Holds no record: `[]`.",
    CopyInBlob "copy-in-blob" Record "Comes twice in its blob, members in another order.",
    CopyInNext "copy-in-next" Record "Comes again in the next blob.",
    Republished "republished" Record
        "Comes again in a blob about five days later (or the last one).",
    ChangedCopy "changed-copy" Record "Another record has the same Id and a changed member.",
    OddValue "odd-value" Record
        "Holds deep nesting, huge integers, escapes, or text outside the BMP.",
    BadText "bad-text" Record
        "Holds bytes that are no UTF-8; it is not owed, the others of its blob are.",
    LongValue "long-value" Record "Holds a string of one megabyte.",
    // New ones stand last: what strikes follows from the place in this list.
    UnaskedGzip "gzip-unasked" Fetch "Compressed, although the client does not accept it.",
    BarePage "page-without-window" Page "The next page's URL has lost its window.",
    BadPage "bad-page" Page "Status 200 with something that is no list.",
    BadItem "bad-item" Page "The first element is no description of a blob.",
    ListedLater "listed-later" Blob "Also listed in a window that starts up to six hours after it.",
    Regrouped "regrouped" Blob
        "Some time after it came (`Faults::regroup_after_ms`) its records are listed as two blobs.",
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How blobs are ordered in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By creation.
    Sorted,
    /// By creation, but mixed inside a page.
    ShuffledPages,
    /// Mixed over all pages.
    Shuffled,
}

/// How long after its creation a blob can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// At once.
    Never,
    /// 95 % within 2 s, the others within 10 minutes.
    Usual,
    /// 80 % within 10 s, the others within this many milliseconds.
    UpTo(i64),
}

/// What the office does with a window it should refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// AF20055.
    Strict,
    /// AF20030, as the older wording has it.
    Older,
    /// A window of more than 24 h is answered with a part of its blobs.
    Partial,
    /// No window at all is answered with a code that is no code, as in 2019.
    Nonsense,
}

/// What becomes of blobs that can be listed for the first time while a client goes from page to page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// They come on a later page when they sort behind the key, and are missed when before.
    Live,
    /// They are not in this pass at all.
    Snapshot,
}

/// What throttled answers say about waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Nothing, zero, or one second.
    Short,
    /// Also a date in the past, ten years, less than nothing, and garbage.
    Odd,
}

/// What goes wrong, how often, and which of its known characters the service shows.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Faults {
    rates: Vec<f64>,
    /// Order of listings.
    pub order: Order,
    /// Lag from creation to listing; read when the office is built.
    pub late: Late,
    /// What happens to bad windows.
    pub windows: Windows,
    /// What `Retry-After` says.
    pub waits: Waits,
    /// What a pass sees of blobs that appear while it is under way.
    pub paging: Paging,
    /// Pages of random size, up to the page size.
    pub random_pages: bool,
    /// A window that starts inside a blob's key range lists the rest of it under another id.
    pub regroup: bool,
    /// How long after its creation a blob is listed whole under [`Fault::Regrouped`].
    pub regroup_after_ms: i64,
    /// `NextPageUri` is spelled in changing ways.
    pub odd_header_case: bool,
    /// Expired blobs answer a bare 404 instead of AF20051.
    pub expired_is_404: bool,
    /// The list of subscriptions leaves `status` out for its first element.
    pub status_missing: bool,
    /// The path's tenant must be the token's (AF20010).
    pub strict_tenant: bool,
    /// How long a listing answers AF20022 after a successful start, and the list of subscriptions leaves it out.
    pub start_lag_ms: i64,
    /// A second start of a type within this time is throttled; 0 for never.
    pub start_gap_ms: i64,
    /// A new subscription sees only what is created after its start.
    pub no_history: bool,
    /// How long after its first start a subscription lists nothing.
    pub first_blob_delay_ms: i64,
    /// How far before seven days a window may start.
    pub window_tolerance_ms: i64,
    /// Error of the `Date` header.
    pub date_skew_ms: i64,
    /// Requests in each sliding minute per tenant and publisher, above which AF429 answers.
    pub requests_per_minute: Option<u32>,
    /// The same for requests without a publisher, which share one pool.
    pub anonymous_per_minute: Option<u32>,
    /// Token requests in each sliding minute per application, above which AADSTS50196 answers.
    pub tokens_per_minute: Option<u32>,
    /// How late an answer is under [`Fault::SlowHeaders`].
    pub slow_ms: u64,
    /// How long a body stalls under [`Fault::Stall`].
    pub stall_ms: u32,
    /// Under [`Fault::Trickle`]: so many bytes, every so many milliseconds.
    pub trickle: (u32, u32),
}

impl Faults {
    /// A service on its best day.
    pub fn none() -> Self {
        Self {
            rates: vec![0.0; Fault::ALL.len()],
            order: Order::Sorted,
            late: Late::Never,
            windows: Windows::Strict,
            waits: Waits::Short,
            paging: Paging::Live,
            random_pages: false,
            regroup: false,
            regroup_after_ms: 3_600_000,
            odd_header_case: false,
            expired_is_404: false,
            status_missing: false,
            strict_tenant: true,
            start_lag_ms: 0,
            start_gap_ms: 15 * 60_000,
            no_history: false,
            first_blob_delay_ms: 0,
            window_tolerance_ms: 3_600_000,
            date_skew_ms: 0,
            requests_per_minute: None,
            anonymous_per_minute: None,
            tokens_per_minute: Some(60),
            slow_ms: 2_000,
            stall_ms: 60_000,
            // About a second for a blob of 64 KiB, for ever for one of 64 MiB.
            trickle: (1_024, 16),
        }
    }

    /// Each fault that a careful client survives without loss is on with one chance in two, at a
    /// rate of up to 10 %; the switches likewise. Poison and long values are left for `with`.
    pub fn swarm(seed: u64) -> Self {
        let mut faults = Self::none();
        let seed = Seed(seed).of(Concern::Swarm);
        for fault in Fault::ALL {
            let of_fault = seed.text(fault.name());
            let for_ever = matches!(
                fault,
                Fault::PoisonError | Fault::PoisonBody | Fault::Gone | Fault::BadText
            );
            if !for_ever && *fault != Fault::LongValue && of_fault.chance(0.5) {
                let per_mille = u32::try_from(1 + of_fault.with(1).below(100)).unwrap_or(1);
                faults.set(*fault, f64::from(per_mille) / 1_000.0);
            }
        }
        let on = |name: &str| seed.text(name).chance(0.5);
        let pick = |name: &str, of: u64| seed.text(name).below(of);
        faults.order = [Order::Sorted, Order::ShuffledPages, Order::Shuffled]
            [usize::from(u8::try_from(pick("order", 3)).unwrap_or(0))];
        faults.late = match pick("late", 3) {
            0 => Late::Never,
            1 => Late::Usual,
            _ => Late::UpTo(2 * 3_600_000),
        };
        faults.windows = if on("windows") {
            Windows::Partial
        } else {
            Windows::Strict
        };
        faults.waits = if on("waits") {
            Waits::Odd
        } else {
            Waits::Short
        };
        faults.paging = if on("paging") {
            Paging::Snapshot
        } else {
            Paging::Live
        };
        faults.random_pages = on("random pages");
        faults.regroup = on("regroup");
        faults.odd_header_case = on("header case");
        faults.expired_is_404 = on("expired");
        faults.status_missing = on("status");
        faults.strict_tenant = on("tenant");
        faults.start_lag_ms = if on("start lag") { 30_000 } else { 0 };
        faults.slow_ms = 200;
        faults.stall_ms = 1_000;
        faults
    }

    /// The same with this rate for this fault.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate: f64) -> Self {
        self.set(fault, rate);
        self
    }

    /// Sets the rate of a fault.
    pub fn set(&mut self, fault: Fault, rate: f64) {
        self.rates[fault as usize] = rate.clamp(0.0, 1.0);
    }

    /// The rate of a fault.
    pub fn rate(&self, fault: Fault) -> f64 {
        self.rates[fault as usize]
    }

    /// Reads `name=rate`, as the command line writes it.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        let (name, rate) = text.split_once('=').unwrap_or((text, "1"));
        let fault = Fault::ALL.iter().find(|fault| fault.name() == name);
        let fault = fault.ok_or_else(|| format!("unknown fault `{name}`"))?;
        let rate = rate.parse().map_err(|e| format!("rate of `{name}`: {e}"))?;
        self.set(*fault, rate);
        Ok(())
    }

    pub(crate) fn hits(&self, fault: Fault, seed: Seed) -> bool {
        let rate = self.rate(fault);
        rate > 0.0 && seed.of(Concern::Fault).with(fault as u64).chance(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_can_be_read() {
        let mut faults = Faults::none();
        for fault in Fault::ALL {
            faults.read(&format!("{fault}=0.25")).unwrap();
            assert!((faults.rate(*fault) - 0.25).abs() < 1e-9, "{fault}");
        }
        assert!(faults.read("no-such=1").unwrap_err().contains("no-such"));
        assert!(faults.read("bom=often").is_err());
    }

    #[test]
    fn a_swarm_follows_from_its_seed_and_never_poisons() {
        let of = |seed| format!("{:?}", Faults::swarm(seed));
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        for seed in 0..50 {
            assert!(Faults::swarm(seed).rate(Fault::PoisonBody) == 0.0);
        }
    }
}
