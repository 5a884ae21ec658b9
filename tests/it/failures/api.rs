//! Listings and blobs: section 8.2 of the contract, its shapes of bodies, and what goes wrong below HTTP.

use std::time::Duration;

use sluicegate_office::{Fault, Office, Operation, Script};

use super::{
    Arrives, BlobsWait, Lost, Postponed, Row, Run, SetAside, TenantWaits, TypeWaits, VICTIM, error,
    row, says,
};
use Operation::{Blob, Content, NextPage};

const DENIED: &str = r#"{"Message":"Authorization has been denied for this request."}"#;
const BUSY: &str = "{'error':{'code':'AF429','message':'Too many requests. Method=GetBlob'}}";
const BUSY_JSON: &str = r#"{"error":{"code":"AF429","message":"Too many requests."}}"#;
const IN_AN_HOUR: &str = "{'error':{'code':'AF50000','message':'An internal error occurred. Please \
    retry the request again in an hour.'}}";
const NONSENSE: &str = concat!(
    r#"{"error":{"code":"String reference not set to an instance of a String.\r\nParameter name""#,
    r#","message":"s"}}"#
);
const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a.b.c"}"#;
const HTML: &str = "<html><body>The service is being updated.</body></html>";

/// A fault of the transport, on blobs of the type.
fn plays(fault: Fault) -> Script {
    Script::plays(Blob, fault).content_type(VICTIM)
}

fn permissions() -> Vec<Row> {
    let wait = "permission missing: the type waits, the other goes on, nothing is hammered";
    let forbidden = TypeWaits("unauthorised", &["forbidden", "permissions"]);
    vec![
        row(
            "401 AF10001",
            wait,
            TypeWaits("unauthorised", &["AF10001", "`ActivityFeed.Read`"]),
        )
        .changed(|tenant| {
            tenant.subscribe(VICTIM);
            tenant.denied.push(VICTIM);
        }),
        row(
            "403 AF10001",
            wait,
            TypeWaits("unauthorised", &["AF10001", "`ActivityFeed.Read`"]),
        )
        .on(error(Content, 403, "AF10001"))
        .asked(1..=16),
        row(
            "401 AF10001 to a blob",
            "permission missing: blobs are kept and not counted against",
            BlobsWait(&["AF10001", "`ActivityFeed.Read`"]),
        )
        .on(error(Blob, 401, "AF10001"))
        .asked(1..=16),
        row(
            "401 AF19999",
            "an unknown code of the family: like AF10001",
            TypeWaits("unauthorised", &["AF19999", "lacks a permission"]),
        )
        .on(error(Content, 401, "AF19999")),
        row(
            "no role was granted",
            "permission missing, for both types",
            TenantWaits("unauthorised", &["AF10001", "permission set ()"]),
        )
        .changed(|tenant| tenant.roles.clear())
        .starts(0..=2),
        row(
            "401 with `Message`, once",
            "a new token, and the same again",
            Arrives,
        )
        .on(says(Content, 401, DENIED).times(1)),
        row(
            "401 with `Message` to a blob, once",
            "a new token, and the same again",
            Arrives,
        )
        .on(says(Blob, 401, DENIED).times(1)),
        row(
            "401 with `Message`, for ever",
            "permission missing",
            TypeWaits("unauthorised", &["refuses a fresh token"]),
        )
        .on(says(Content, 401, DENIED))
        .asked(1..=60),
        row(
            "403 without a word, for ever",
            "permission missing",
            forbidden,
        )
        .on(says(Content, 403, ""))
        .asked(1..=60),
    ]
}

fn misconfigurations() -> Vec<Row> {
    let person = "a person must act: the type waits an hour, and says what to do";
    let of = |status: u16, code: &'static str, words: &'static [&'static str]| {
        let comes = TypeWaits("misconfigured", words);
        row(code, person, comes)
            .on(error(Content, status, code))
            .asked(1..=16)
    };
    let ours = &["please report this as a defect"];
    let mut rows = vec![
        of(400, "AF20001", &["AF20001", "a defect"]),
        of(400, "AF20002", &["AF20002", "`publisher_id`"]),
        of(400, "AF20010", &["AF20010", "`directory_id`"]),
        of(400, "AF20011", &["AF20011", "`cloud`", "auditing"]),
        of(400, "AF20012", &["AF20012", "support case"]),
        of(400, "AF20013", &["AF20013", "must be a GUID"]),
        of(400, "AF20020", &["AF20020", "content type"]),
        of(400, "AF20053", &["AF20053", "a defect"]),
        of(400, "AF20054", &["AF20054", "a defect"]),
    ];
    for (input, status) in [("411", 411), ("413", 413), ("415", 415)] {
        let comes = TypeWaits("misconfigured", ours);
        rows.push(
            row(input, person, comes)
                .on(says(Content, status, ""))
                .asked(1..=16),
        );
    }
    rows
}

fn windows() -> Vec<Row> {
    let again = "the window is begun again from its first page";
    vec![
        row("AF20055, once", again, Arrives).on(error(Content, 400, "AF20055").times(1)),
        row("AF20030, once", again, Arrives).on(error(Content, 400, "AF20030").times(1)),
        row("AF20031 to a next page, once", again, Arrives)
            .on(error(NextPage, 400, "AF20031").times(1))
            .asked(2..=u32::MAX),
        row(
            "AF20055, for ever",
            "the type waits; nothing is given up or moved past",
            TypeWaits("failing", &["AF20055"]),
        )
        .on(error(Content, 400, "AF20055")),
        row("a code that is a sentence, once", "tried again", Arrives)
            .on(says(Content, 400, NONSENSE).times(1)),
        row(
            "a page URL without its window",
            "it gets the window back",
            Arrives,
        )
        .on(Script::plays(Content, Fault::BarePage).content_type(VICTIM))
        .on(Script::plays(NextPage, Fault::BarePage).content_type(VICTIM)),
        row("a page that is no list, twice", "tried again", Arrives).on(Script::plays(
            Content,
            Fault::BadPage,
        )
        .content_type(VICTIM)
        .times(2)),
        row("a page that points to itself, once", again, Arrives).on(Script::plays(
            NextPage,
            Fault::PageLoop,
        )
        .content_type(VICTIM)
        .times(1)),
        row(
            "a page on another host, once",
            "not followed; begun again",
            Arrives,
        )
        .on(Script::plays(Content, Fault::ForeignPage)
            .content_type(VICTIM)
            .times(1)),
        row(
            "AF50000, for ever",
            "the type waits and goes on trying",
            TypeWaits("failing", &["AF50000"]),
        )
        .on(error(Content, 500, "AF50000"))
        .asked(4..=400),
    ]
}

fn gone() -> Vec<Row> {
    let later = "tried again after a while, in case it comes; nothing is given up yet";
    let lost = "a declared loss, and on with the others";
    let of = |input: &'static str, status: u16, code: &str| {
        let script = error(Blob, status, code);
        row(input, later, Postponed).on(script).asked(4..=4)
    };
    let expired = |input: &'static str, status: u16| {
        let comes = Lost(&["AF20051", "seven days"]);
        row(input, lost, comes)
            .on(error(Blob, status, "AF20051"))
            .asked(4..=4)
    };
    vec![
        of("400 AF20050", 400, "AF20050"),
        of("404 AF20050", 404, "AF20050"),
        of("400 AF20052", 400, "AF20052"),
        row("404 without a word", later, Postponed)
            .on(says(Blob, 404, ""))
            .asked(4..=4),
        expired("400 AF20051", 400),
        expired("404 AF20051", 404),
        expired("410 AF20051", 410),
        row("410 without a word", lost, Lost(&["HTTP 410"]))
            .on(says(Blob, 410, ""))
            .asked(4..=4),
    ]
}

fn throttling() -> Vec<Row> {
    let slower = "the tenant waits as long as it is told, then goes on; no try is counted";
    let of = |input: &'static str, script: Script| row(input, slower, Arrives).on(script);
    let told = |input: &'static str, wait: &str| {
        of(
            input,
            says(Content, 429, BUSY_JSON)
                .header("Retry-After", wait)
                .times(1),
        )
    };
    vec![
        of(
            "403 AF429 in single quotes, to listings",
            says(Content, 403, BUSY).times(2),
        ),
        // More often than the tries after which a blob is set aside.
        of(
            "403 AF429 in single quotes, to blobs",
            says(Blob, 403, BUSY).times(8),
        ),
        of(
            "429 AF429 as JSON, to blobs",
            says(Blob, 429, BUSY_JSON).times(2),
        ),
        of("429 without a word", says(Content, 429, "").times(1)),
        of(
            "503 with a time",
            says(Blob, 503, HTML).header("Retry-After", "1").times(1),
        ),
        told("Retry-After: 0", "0"),
        told("Retry-After: a second", "1"),
        told("Retry-After: less than nothing", "-5"),
        told("Retry-After: garbage", "soon"),
        told(
            "Retry-After: a date in the past",
            "Wed, 21 Oct 2015 07:28:00 GMT",
        ),
        row(
            "Retry-After: ten minutes",
            "the whole tenant waits as long as it is told",
            TenantWaits("failing", &["request quota is used up"]),
        )
        .on(Script::says(Content, 429, BUSY_JSON).header("Retry-After", "600"))
        // What is in flight already comes to its end.
        .asked(1..=16),
    ]
}

fn server_errors() -> Vec<Row> {
    let again = "tried again, soon";
    let aside = "set aside after six tries, tried slowly, in nobody's way";
    let of = |input: &'static str, script: Script| row(input, again, Arrives).on(script.times(3));
    let ever = |input: &'static str, words: &'static [&'static str], script: Script| {
        // Six tries of four blobs.
        row(input, aside, SetAside(words)).on(script).asked(24..=28)
    };
    vec![
        of("AF50000 to listings", error(Content, 500, "AF50000")),
        of("AF50000 to blobs", error(Blob, 500, "AF50000")),
        of(
            "AF50000 in single quotes, in an hour",
            says(Blob, 500, IN_AN_HOUR),
        ),
        of("AF50005", error(Blob, 500, "AF50005")),
        of("AF50006", error(Blob, 500, "AF50006")),
        of(
            "AF59999, an unknown code of the family",
            error(Blob, 500, "AF59999"),
        ),
        of("500 without a word", says(Blob, 500, "")),
        of("502 as HTML", says(Blob, 502, HTML)),
        of("503 as HTML", says(Blob, 503, HTML)),
        of("504 as HTML", says(Content, 504, HTML)),
        of("408 as HTML", says(Blob, 408, HTML)),
        of("302", says(Blob, 302, "").header("Location", "/error.htm")),
        ever(
            "AF50000 to a blob, for ever",
            &["AF50000"],
            error(Blob, 500, "AF50000"),
        ),
        ever(
            "AF29999, an unknown code of the family",
            &["AF29999"],
            error(Blob, 400, "AF29999"),
        ),
        ever("400 without a word", &["HTTP 400"], says(Blob, 400, "")),
    ]
}

fn bodies() -> Vec<Row> {
    let again = "taken for a broken transport: tried again, nothing of it is believed";
    let of =
        |input: &'static str, fault: Fault| row(input, again, Arrives).on(plays(fault).times(3));
    let said = |input: &'static str, body: &str| {
        row(input, again, Arrives).on(says(Blob, 200, body).times(3))
    };
    vec![
        said("200 with HTML", HTML),
        said(
            "200 with an error",
            r#"{"error":{"code":"AF50000","message":"m"}}"#,
        ),
        said("200 with `null`", "null"),
        said("200 with nothing", ""),
        row(
            "200 with HTML, for ever",
            "set aside, kept, in nobody's way",
            SetAside(&["begins with `<html>"]),
        )
        .on(says(Blob, 200, HTML))
        .asked(24..=28),
        row("200 with HTML to a listing, twice", "tried again", Arrives)
            .on(says(Content, 200, HTML).times(2)),
        of("a `Content-Length` that promises more", Fault::LengthLong),
        of(
            "a `Content-Length` that agrees with a cut",
            Fault::LengthShort,
        ),
        of("a body that ends early", Fault::Truncate),
        of("a chunked body that ends early", Fault::TruncateChunked),
        of("a gzip stream that ends early", Fault::TruncateGzip),
        of("plain bytes called gzip", Fault::FalseEncoding),
        of("an array with garbage behind it", Fault::GarbageTail),
        of("a reset instead of an answer", Fault::ResetBeforeHeaders),
        of("a reset behind the headers", Fault::ResetAfterHeaders),
        of("gzip that nobody asked for", Fault::UnaskedGzip),
        of("a byte-order mark", Fault::ByteOrderMark),
        of("another media type", Fault::OctetStream),
        row(
            "the resource host is not there",
            "trouble of the network, by the host's name",
            TenantWaits("failing", &["host `127.0.0.1`", "refused"]),
        )
        .on(Script::says(Operation::Token, 200, TOKEN))
        .rewrite(
            "resource_url: http://127.0.0.1:",
            "resource_url: http://127.0.0.1:1 # ",
        )
        .starts(0..=0),
    ]
}

#[test]
fn every_refusal_of_a_listing_has_its_decision() {
    let rows = [permissions(), misconfigurations(), windows(), throttling()];
    // Both types of a tenant have asked before the first answer says that it is to wait.
    let builder = Office::builder(411).latency(Duration::from_millis(300));
    Run::with(builder, rows.into_iter().flatten().collect()).check();
}

#[test]
fn every_refusal_of_a_blob_has_its_decision() {
    let rows = [gone(), server_errors(), bodies()];
    Run::new(412, rows.into_iter().flatten().collect()).check();
}
