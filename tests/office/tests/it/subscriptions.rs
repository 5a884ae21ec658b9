//! Subscriptions, permissions, and who may ask at all.

use sluicegate_office::{ContentType, Faults, HOUR_MS, Office, Request};

use crate::client::{Client, NOON, PUBLISHER, code, content_type, json, window};

const EXCHANGE: ContentType = ContentType::Exchange;

fn listing(client: &mut Client, kind: ContentType) -> sluicegate_office::Reply {
    let query = format!("{}&{}", content_type(kind), window(NOON - HOUR_MS, NOON));
    client.api("GET", "subscriptions/content", &query)
}

fn start(client: &mut Client, kind: ContentType) -> sluicegate_office::Reply {
    client.api("POST", "subscriptions/start", &content_type(kind))
}

#[test]
fn a_subscription_is_started_listed_and_stopped() {
    let mut client = Client::new(Office::builder(2));
    assert_eq!(
        json(client.api("GET", "subscriptions/list", "")),
        serde_json::json!([])
    );
    let refusal = listing(&mut client, EXCHANGE);
    assert_eq!((refusal.status, code(refusal)), (400, "AF20022".to_owned()));
    let reply = start(&mut client, EXCHANGE);
    let expected =
        serde_json::json!({"contentType": "Audit.Exchange", "status": "enabled", "webhook": null});
    assert_eq!(json(reply), expected);
    assert_eq!(
        json(client.api("GET", "subscriptions/list", "")),
        serde_json::json!([expected])
    );
    assert_eq!(listing(&mut client, EXCHANGE).status, 200);
    let stopped = client.api("POST", "subscriptions/stop", &content_type(EXCHANGE));
    assert_eq!(
        (stopped.status, stopped.content.into_bytes().len()),
        (200, 0)
    );
    assert_eq!(code(listing(&mut client, EXCHANGE)), "AF20022");
}

#[test]
fn starting_what_is_enabled_changes_nothing_in_97_bytes() {
    let mut client = Client::new(Office::builder(2).subscribed());
    let reply = start(&mut client, EXCHANGE);
    assert_eq!(reply.status, 400);
    let bytes = reply.content.into_bytes();
    assert_eq!(bytes.len(), 97, "{}", String::from_utf8_lossy(&bytes));
    assert!(bytes.starts_with(br#"{"error":{"code":"AF20024""#));
}

#[test]
fn a_second_start_within_fifteen_minutes_is_throttled() {
    let mut client = Client::new(Office::builder(2));
    assert_eq!(start(&mut client, EXCHANGE).status, 200);
    let reply = start(&mut client, EXCHANGE);
    assert_eq!(reply.status, 403);
    let text = String::from_utf8(reply.content.into_bytes().to_vec()).unwrap();
    assert!(
        text.starts_with("{'error':{'code':'AF429','message':'Too many requests. Method=Start")
    );
    assert_eq!(client.office.stats().hasty_starts, 1);
    assert_eq!(
        start(&mut client, ContentType::General).status,
        200,
        "another type is another matter"
    );
    client.now += 15 * 60_000;
    assert_eq!(code(start(&mut client, EXCHANGE)), "AF20024");
}

#[test]
fn a_new_subscription_is_not_found_for_a_while() {
    let mut faults = Faults::none();
    faults.start_lag_ms = 30_000;
    let mut client = Client::new(Office::builder(2).faults(faults));
    start(&mut client, EXCHANGE);
    assert_eq!(code(listing(&mut client, EXCHANGE)), "AF20022");
    let list = client.api("GET", "subscriptions/list", "");
    assert_eq!(list.content.into_bytes(), "[]");
    client.now += 30_000;
    assert_eq!(listing(&mut client, EXCHANGE).status, 200);
    let list = client.api("GET", "subscriptions/list", "");
    assert_ne!(list.content.into_bytes(), "[]");
}

#[test]
fn a_disabled_subscription_says_so_until_it_is_started() {
    let mut client = Client::new(Office::builder(2).subscribed());
    client.office.tenant_mut(0).disable(EXCHANGE);
    assert_eq!(code(listing(&mut client, EXCHANGE)), "AF20023");
    assert_eq!(start(&mut client, EXCHANGE).status, 200);
    assert_eq!(listing(&mut client, EXCHANGE).status, 200);
}

#[test]
fn what_came_between_a_stop_and_a_start_is_never_listed() {
    let span = std::time::Duration::from_hours(1);
    let builder = Office::builder(2)
        .blobs(0)
        .later(50, span)
        .content_types(&[EXCHANGE]);
    let mut client = Client::new(builder);
    start(&mut client, EXCHANGE);
    client.api("POST", "subscriptions/stop", &content_type(EXCHANGE));
    let stopped = client.now;
    client.now = NOON + HOUR_MS / 2;
    start(&mut client, EXCHANGE);
    let started = client.now;
    client.now = NOON + 2 * HOUR_MS;
    let found = client.list(EXCHANGE, NOON, NOON + HOUR_MS);
    assert!((20..30).contains(&found.len()), "{}", found.len());
    let owed = client.office.oracle(client.now).owed();
    assert_eq!(owed, found.len() as u64 * 50);
    assert!(stopped < started);
}

#[test]
fn without_history_a_subscription_begins_at_its_start() {
    let mut faults = Faults::none();
    faults.no_history = true;
    let mut client = Client::new(Office::builder(2).faults(faults));
    client.subscribe(&[EXCHANGE]);
    assert!(client.list(EXCHANGE, NOON - 24 * HOUR_MS, NOON).is_empty());
    assert_eq!(client.office.oracle(client.now).owed(), 0);
}

#[test]
fn the_first_content_can_take_hours_to_appear() {
    let mut faults = Faults::none();
    faults.first_blob_delay_ms = 12 * HOUR_MS;
    let mut client = Client::new(Office::builder(2).faults(faults));
    client.subscribe(&[EXCHANGE]);
    let from = NOON - 24 * HOUR_MS;
    assert!(client.list(EXCHANGE, from, NOON).is_empty());
    assert_eq!(client.office.oracle(client.now).owed(), 0);
    client.now += 12 * HOUR_MS;
    client.forget_token();
    assert_eq!(client.list(EXCHANGE, from, NOON).len(), 20);
    assert_eq!(client.office.oracle(client.now).owed(), 1_000);
    // It is the first start that takes so long, not another one behind a stop.
    client.office.tenant_mut(0).disable(EXCHANGE);
    client.now += HOUR_MS;
    client.forget_token();
    assert_eq!(start(&mut client, EXCHANGE).status, 200);
    assert_eq!(client.list(EXCHANGE, from, NOON).len(), 20);
}

#[test]
fn a_stop_is_counted_and_ends_the_subscription() {
    let mut client = Client::new(Office::builder(2).subscribed());
    assert!(client.office.tenants()[0].is_subscribed(EXCHANGE));
    let stop = content_type(EXCHANGE);
    assert_eq!(client.api("POST", "subscriptions/stop", &stop).status, 200);
    assert!(!client.office.tenants()[0].is_subscribed(EXCHANGE));
    assert_eq!(
        code(client.api("POST", "subscriptions/stop", &stop)),
        "AF20022"
    );
    assert_eq!(client.office.stats().stop_requests, 2);
}

#[test]
fn a_permission_that_is_taken_away_closes_listings_and_blobs() {
    let mut client = Client::new(Office::builder(2).subscribed());
    let list = client.list(EXCHANGE, NOON - 24 * HOUR_MS, NOON);
    let uri = list[0]["contentUri"].as_str().unwrap().to_owned();
    let roles = std::mem::take(&mut client.office.tenant_mut(0).roles);
    assert_eq!(
        client.call("GET", &uri).status,
        200,
        "the token says otherwise yet"
    );
    client.forget_token();
    let refusal = client.call("GET", &uri);
    assert_eq!((refusal.status, code(refusal)), (401, "AF10001".to_owned()));
    assert_eq!(code(listing(&mut client, EXCHANGE)), "AF10001");
    client.office.tenant_mut(0).roles = roles;
    client.forget_token();
    assert_eq!(client.call("GET", &uri).status, 200);
    client.office.tenant_mut(0).denied.push(EXCHANGE);
    assert_eq!(code(client.call("GET", &uri)), "AF10001");
}

#[test]
fn before_auditing_takes_effect_there_is_no_such_tenant() {
    let mut client = Client::new(Office::builder(2));
    client.office.tenant_mut(0).auditing_from_ms = NOON + HOUR_MS;
    let reply = start(&mut client, EXCHANGE);
    assert_eq!(reply.status, 400);
    let body = json(reply);
    assert!(
        body["error"]["code"]
            .as_str()
            .unwrap()
            .starts_with("StartSubscription [CorrId=")
    );
    let text = body["error"]["message"].as_str().unwrap();
    assert!(text.contains("DataServiceException: Tenant ") && text.contains(" does not exist."));
    client.now += HOUR_MS;
    client.forget_token();
    assert_eq!(start(&mut client, EXCHANGE).status, 200);
}

#[test]
fn a_missing_permission_heals_with_a_new_token() {
    let mut client = Client::new(Office::builder(2).subscribed());
    client.office.tenant_mut(0).roles = vec!["ActivityFeed.Read".into()];
    let reply = listing(&mut client, ContentType::Dlp);
    assert_eq!(reply.status, 401);
    let body = json(reply);
    assert_eq!(body["error"]["code"], "AF10001");
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("set (ActivityFeed.Read) sent")
    );
    assert_eq!(
        listing(&mut client, EXCHANGE).status,
        200,
        "other types keep working"
    );

    client
        .office
        .tenant_mut(0)
        .roles
        .push("ActivityFeed.ReadDlp".into());
    assert_eq!(
        code(listing(&mut client, ContentType::Dlp)),
        "AF10001",
        "the token is older"
    );
    client.forget_token();
    assert_eq!(listing(&mut client, ContentType::Dlp).status, 200);

    client.office.tenant_mut(0).roles.clear();
    client.forget_token();
    let text = json(listing(&mut client, EXCHANGE))["error"]["message"].to_string();
    assert!(text.contains("permission set () sent"), "{text}");
}

#[test]
fn one_type_can_be_denied_alone() {
    let mut client = Client::new(Office::builder(2).subscribed());
    client.office.tenant_mut(0).denied.push(EXCHANGE);
    assert_eq!(code(listing(&mut client, EXCHANGE)), "AF10001");
    assert_eq!(listing(&mut client, ContentType::General).status, 200);
}

#[test]
fn a_token_that_expired_or_was_revoked_is_denied_in_its_own_shape() {
    let mut client = Client::new(Office::builder(2).subscribed());
    let mut denied = |change: &dyn Fn(&mut Client)| {
        client.forget_token();
        assert_eq!(listing(&mut client, EXCHANGE).status, 200);
        change(&mut client);
        let reply = listing(&mut client, EXCHANGE);
        assert_eq!(reply.status, 401);
        assert_eq!(reply.find_header("www-authenticate"), Some("Bearer"));
        assert_eq!(
            json(reply)["Message"],
            "Authorization has been denied for this request."
        );
    };
    denied(&|client| client.now += 3_599_000);
    denied(&|client| client.office.revoke_tokens(0));
    assert_eq!(client.office.stats().expired_tokens, 2);
    assert_eq!(client.office.stats().expired_tokens_again, 0);
    listing(&mut client, EXCHANGE);
    assert_eq!(client.office.stats().expired_tokens_again, 1);
}

#[test]
fn the_tenant_in_the_path_is_checked_or_ignored() {
    let mut client = Client::new(Office::builder(2).tenants(2).subscribed());
    let other = client.office.tenants()[1].directory_id.clone();
    let own = client.office.tenants()[0].directory_id.clone();
    let root = client.office.resource_url().to_owned();
    let url = |tenant: &str| {
        let query = format!(
            "{}&{}",
            content_type(EXCHANGE),
            window(NOON - 24 * HOUR_MS, NOON)
        );
        format!("{root}/api/v1.0/{tenant}/activity/feed/subscriptions/content?{query}")
    };
    assert_eq!(code(client.call("GET", &url(&other))), "AF20010");
    assert_eq!(code(client.call("GET", &url("no-guid"))), "AF20013");
    client.office.faults_mut().strict_tenant = false;
    let listed = json(client.call("GET", &url(&other)));
    assert!(
        listed[0]["contentUri"].as_str().unwrap().contains(&own),
        "the token's tenant answers"
    );
}

#[test]
fn parameters_are_checked() {
    let mut client = Client::new(Office::builder(2).subscribed());
    assert_eq!(
        code(client.api("GET", "subscriptions/content", "")),
        "AF20001"
    );
    assert_eq!(
        code(client.api("GET", "subscriptions/content", "contentType=Audit.X")),
        "AF20020"
    );
    let reply = client.api("GET", "subscriptions/list", "PublisherIdentifier=me");
    assert_eq!(code(reply), "AF20002");
    let reply = client.api("GET", "resources/dlpSensitiveTypes", "");
    assert_eq!(json(reply)[0]["name"], "Credit Card Number");
    assert_eq!(client.api("GET", "nothing", "").status, 404);
}

#[test]
fn a_budget_is_kept_per_tenant_and_publisher_and_strangers_share_one() {
    let mut faults = Faults::none();
    faults.requests_per_minute = Some(5);
    faults.anonymous_per_minute = Some(2);
    let mut client = Client::new(Office::builder(2).tenants(2).subscribed().faults(faults));
    let statuses = |client: &mut Client| {
        (0..7)
            .map(|_| client.api("GET", "subscriptions/list", "").status)
            .collect::<Vec<_>>()
    };
    let first = statuses(&mut client);
    assert_eq!(first[..5], [200; 5]);
    assert!(
        first[5..].iter().all(|status| [403, 429].contains(status)),
        "{first:?}"
    );
    client.tenant = 1;
    assert_eq!(
        statuses(&mut client)[..5],
        [200; 5],
        "another tenant has its own"
    );
    client.now += 60_000;
    assert_eq!(client.api("GET", "subscriptions/list", "").status, 200);

    let mut anonymous = |tenant: usize| {
        client.tenant = tenant;
        let token = client.token();
        let directory = client.office.tenants()[tenant].directory_id.clone();
        let root = client.office.resource_url();
        let url = format!("{root}/api/v1.0/{directory}/activity/feed/subscriptions/list");
        client
            .send(&Request::get(&url).header("authorization", &format!("Bearer {token}")))
            .status
    };
    let statuses = [anonymous(0), anonymous(1), anonymous(0)];
    assert_eq!(statuses[..2], [200; 2]);
    assert_ne!(statuses[2], 200, "one pool for all of them");
    assert_eq!(client.office.stats().without_publisher, 3);
    assert_eq!(PUBLISHER.len(), 36);
}

#[test]
fn a_status_can_be_left_out() {
    let mut faults = Faults::none();
    faults.status_missing = true;
    let mut client = Client::new(Office::builder(2).subscribed().faults(faults));
    let list = json(client.api("GET", "subscriptions/list", ""));
    assert!(list[0].get("status").is_none());
    assert_eq!(list[1]["status"], "enabled");
}

#[test]
fn a_webhook_is_checked_kept_and_taken_away() {
    let mut client = Client::new(Office::builder(2));
    let token = client.token();
    let directory = client.office.tenants()[0].directory_id.clone();
    let root = client.office.resource_url().to_owned();
    let url = format!("{root}/api/v1.0/{directory}/activity/feed/subscriptions/start");
    let with_webhook = |client: &mut Client, address: &str, expiration: &str| {
        client.now += 15 * 60_000;
        let body = serde_json::json!({"webhook": {"address": address, "expiration": expiration}});
        let request = Request::post(&format!("{url}?{}", content_type(EXCHANGE)))
            .header("authorization", &format!("Bearer {token}"))
            .with_body(body.to_string());
        client.send(&request)
    };
    assert_eq!(
        code(with_webhook(&mut client, "http://hook.example.org/", "")),
        "AF20021"
    );
    let past = with_webhook(
        &mut client,
        "https://hook.example.org/",
        "2026-02-01T00:00:00",
    );
    assert_eq!(code(past), "AF20003");
    let reply = json(with_webhook(&mut client, "https://hook.example.org/", ""));
    assert_eq!(reply["webhook"]["address"], "https://hook.example.org/");
    client.now += 15 * 60_000;
    client.forget_token();
    assert_eq!(
        start(&mut client, EXCHANGE).status,
        200,
        "a start without it takes it away"
    );
    assert_eq!(client.office.stats().webhooks_removed, 1);
    client
        .office
        .tenant_mut(0)
        .set_webhook(EXCHANGE, "https://hook.example.org/");
    let list = json(client.api("GET", "subscriptions/list", ""));
    assert_eq!(list[0]["webhook"]["status"], "enabled");
}
