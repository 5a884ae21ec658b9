//! Subscriptions: what a start, a list of them and a listing without one may be answered.

use sluicegate_office::{Operation, Script};

use super::{Arrives, Row, Run, TypeWaits, VICTIM, error, row, says};
use Operation::{Content, Start, Stop, Subscriptions};

/// What a start is told while auditing is off: the code is cut out of an exception's text.
const AUDITING_OFF: &str = concat!(
    r#"{"error":{"code":"StartSubscription [CorrId=0d6f][TenantId=3f2c,ContentType=Audit.Exchange"#,
    r#",ApplicationId=5d0a,PublisherId=9b7e][AppId","message":"d0a8] failed. Exception: Microsoft."#,
    r#"Office.Compliance.Audit.DataServiceException: Tenant 3f2c does not exist.\r\n   at X"}}"#
);
const BUSY: &str =
    "{'error':{'code':'AF429','message':'Too many requests. Method=StartSubscription'}}";

fn lacking() -> Vec<Row> {
    vec![
        row("AF20022: there is none", "it is started, once", Arrives).starts(1..=1),
        row(
            "AF20022 although the list says enabled",
            "it is starting: the type waits half a minute, is not started again, gives nothing up",
            TypeWaits("failing", &["AF20022"]),
        )
        .on(error(Content, 400, "AF20022"))
        .changed(|tenant| tenant.subscribe(VICTIM))
        .starts(0..=0),
        row(
            "AF20023: somebody disabled it",
            "it is started again, once",
            Arrives,
        )
        .changed(|tenant| tenant.disable(VICTIM))
        .starts(1..=1),
        row(
            "400 AF20024 to a start",
            "it was enabled already: success",
            Arrives,
        )
        .on(says(Subscriptions, 200, "[]"))
        .changed(|tenant| tenant.subscribe(VICTIM))
        .unsaid("AF20024")
        .starts(1..=1),
        row(
            "a list without a status",
            "unknown: listing is tried",
            Arrives,
        )
        .on(says(
            Subscriptions,
            200,
            r#"[{"contentType":"AUDIT.exchange"},
                {"contentType":"Audit.SharePoint"}]"#,
        ))
        .changed(|tenant| {
            tenant.subscribe(VICTIM);
            tenant.subscribe(super::BYSTANDER);
        })
        .starts(0..=0),
    ]
}

fn refused() -> Vec<Row> {
    vec![
        row(
            "a start finds that the tenant does not exist",
            "auditing is off: a person switches it on, nothing is hammered",
            TypeWaits("misconfigured", &["auditing is off", "Purview portal"]),
        )
        .on(says(Start, 400, AUDITING_OFF)),
        row(
            "401 AF10001 to a start",
            "permission missing",
            TypeWaits("unauthorised", &["AF10001", "ActivityFeed.Read", "starting"]),
        )
        .on(error(Start, 401, "AF10001"))
        // Renewed with a new token once; the office counts both.
        .starts(1..=2),
        row(
            "AF20003 to a start",
            "a person looks at somebody's webhook",
            TypeWaits("misconfigured", &["AF20003", "webhook"]),
        )
        .on(error(Start, 400, "AF20003")),
        row(
            "AF20021 to a start",
            "a person looks at somebody's webhook",
            TypeWaits("misconfigured", &["AF20021", "webhook"]),
        )
        .on(error(Start, 400, "AF20021")),
        row(
            "a start meets AF50000 twice",
            "tried again within the call",
            Arrives,
        )
        .on(error(Start, 500, "AF50000").times(2))
        .starts(3..=3),
        row(
            "a start is throttled once",
            "tried again behind the pause",
            Arrives,
        )
        .on(says(Start, 403, BUSY).times(1).header("Retry-After", "1"))
        .starts(2..=2),
        row(
            "a start is throttled for a quarter of an hour",
            "the type waits as long as it is told",
            TypeWaits("failing", &["AF429", "starting"]),
        )
        .on(says(Start, 403, BUSY))
        .starts(1..=3),
        row("a start is answered 204", "success", Arrives)
            .on(says(Start, 204, ""))
            .changed(|tenant| tenant.subscribe(VICTIM))
            .on(says(Subscriptions, 200, "[]"))
            .starts(1..=1),
        row(
            "the list of subscriptions is HTML, twice",
            "asked for again",
            Arrives,
        )
        .on(says(Subscriptions, 200, "<html>updating</html>").times(2)),
        row(
            "the list of subscriptions meets AF50000 twice",
            "asked for again",
            Arrives,
        )
        .on(error(Subscriptions, 500, "AF50000").times(2)),
    ]
}

#[test]
fn every_answer_about_a_subscription_has_its_decision() {
    let rows = [lacking(), refused()];
    Run::new(401, rows.into_iter().flatten().collect()).check();
}

#[test]
fn what_is_no_longer_configured_is_stopped_only_when_it_is_asked_for() {
    use sluicegate_office::{ContentType, Office};
    use sluicegate_tests::{Pipeline, Simulated};

    let office = Simulated::start(
        Office::builder(402)
            .blobs(10)
            .events_per_blob(2)
            .subscribed(),
    );
    let folder = crate::folder();
    let subscribed =
        || office.tenants(|tenant| ContentType::ALL.map(|kind| tenant.is_subscribed(kind)))[0];
    let run = |config: &str| {
        let pipeline = Pipeline::o365("fewer", &office).config(config);
        pipeline
            .give(crate::sluicegate(&folder).args("run --once"))
            .run()
            .expect(0)
    };
    // One stop fails; the next look is not due before a quarter of an hour has passed.
    let failing = Script::says(Stop, 500, "")
        .content_type(ContentType::General)
        .times(1);
    office.change(|office| office.follow(failing));
    let _ = run("content_types: [Audit.Exchange, Audit.SharePoint]");
    assert_eq!(subscribed(), [true; 5], "nobody asked for it");
    let ended = run("content_types: [Audit.Exchange, Audit.SharePoint], unsubscribe: true");
    ended.says(&[
        "subscription stopped, as configured",
        "could not be stopped",
        "DLP.All",
    ]);
    assert_eq!(subscribed(), [false, true, true, true, false]);
    assert_eq!(
        office.stats().stop_requests,
        2,
        "the third was answered by the script"
    );
    // What is wanted again is started again.
    let types = "Audit.Exchange, Audit.SharePoint, Audit.AzureActiveDirectory";
    let _ = run(&format!("content_types: [{types}], unsubscribe: true"));
    assert_eq!(subscribed()[..3], [true; 3]);
    assert_eq!(
        (office.stats().start_requests, office.stats().hasty_starts),
        (1, 0)
    );
}
