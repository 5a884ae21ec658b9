//! Scripts: this answer or this fault on these requests, so many times.

use sluicegate_office::{
    ContentType, DAY_MS, End, Fault, Framing, Office, Operation, Reply, Script,
};

use crate::client::{Client, NOON, code, content_type, json, window};

const EXCHANGE: ContentType = ContentType::Exchange;
const BUSY: &str = "{'error':{'code':'AF429','message':'Too many requests.'}}";

fn client() -> Client {
    Client::new(Office::builder(8).tenants(2).subscribed())
}

fn listing(client: &mut Client, kind: ContentType) -> Reply {
    let query = format!("{}&{}", content_type(kind), window(NOON - DAY_MS, NOON));
    client.api("GET", "subscriptions/content", &query)
}

#[test]
fn an_answer_is_given_so_many_times_and_to_nobody_else() {
    let mut client = client();
    let script = Script::says(Operation::Content, 403, BUSY)
        .header("Retry-After", "7")
        .tenant(0)
        .content_type(EXCHANGE)
        .after(1)
        .times(2);
    let number = client.office.follow(script);
    let statuses = [(); 5].map(|()| listing(&mut client, EXCHANGE).status);
    assert_eq!(statuses, [200, 403, 403, 200, 200]);
    assert_eq!(client.office.heard(number), 5);
    assert_eq!(listing(&mut client, ContentType::General).status, 200);
    client.tenant = 1;
    assert_eq!(listing(&mut client, EXCHANGE).status, 200);
    assert_eq!(client.office.heard(number), 5);
}

#[test]
fn an_answer_comes_word_for_word_with_its_headers() {
    let mut client = client();
    let script = Script::says(Operation::Subscriptions, 503, "<html></html>")
        .header("content-type", "text/html")
        .header("Retry-After", "0");
    client.office.follow(script);
    let reply = client.api("GET", "subscriptions/list", "");
    assert_eq!(reply.find_header("Content-Type"), Some("text/html"));
    assert_eq!(reply.find_header("Retry-After"), Some("0"));
    assert_eq!(
        (reply.status, reply.content.into_bytes()),
        (503, "<html></html>".into())
    );
}

#[test]
fn every_operation_can_be_scripted() {
    let mut client = client();
    let uri = client.list(EXCHANGE, NOON - DAY_MS, NOON)[0]["contentUri"].clone();
    let uri = uri.as_str().unwrap().to_owned();
    let refusal = r#"{"error":{"code":"AF50000","message":"m"}}"#;
    for operation in [
        Operation::Start,
        Operation::Stop,
        Operation::Subscriptions,
        Operation::Content,
        Operation::Blob,
    ] {
        client
            .office
            .follow(Script::says(operation, 500, refusal).times(1));
    }
    let kind = content_type(EXCHANGE);
    assert_eq!(
        code(client.api("POST", "subscriptions/start", &kind)),
        "AF50000"
    );
    assert_eq!(
        code(client.api("POST", "subscriptions/stop", &kind)),
        "AF50000"
    );
    assert_eq!(code(client.api("GET", "subscriptions/list", "")), "AF50000");
    assert_eq!(code(listing(&mut client, EXCHANGE)), "AF50000");
    assert_eq!(code(client.call("GET", &uri)), "AF50000");
    assert!(
        client.office.tenants()[0].is_subscribed(EXCHANGE),
        "it never stopped"
    );
    assert_eq!(client.fetch(&uri).len(), 50);

    client
        .office
        .follow(Script::says(Operation::Token, 400, r#"{"error":"x"}"#).tenant(0));
    let (url, form) = client.token_form();
    assert_eq!(json(client.ask_token(&url, &form))["error"], "x");
    client.tenant = 1;
    let (url, form) = client.token_form();
    assert_eq!(client.ask_token(&url, &form).status, 200);
}

#[test]
fn the_pages_behind_the_first_are_an_operation_of_their_own() {
    let mut client = Client::new(Office::builder(8).page_size(5).subscribed());
    let refusal = r#"{"error":{"code":"AF20031","message":"m"}}"#;
    let script = Script::says(Operation::NextPage, 400, refusal);
    client.office.follow(script.times(1));
    let reply = listing(&mut client, EXCHANGE);
    assert_eq!(reply.status, 200);
    let next = crate::client::next_page(&reply).unwrap();
    assert_eq!(code(client.call("GET", &next)), "AF20031");
    assert_eq!(client.call("GET", &next).status, 200);
}

#[test]
fn a_script_is_not_for_those_who_may_not_enter() {
    let mut client = client();
    client
        .office
        .follow(Script::says(Operation::Content, 200, "[]"));
    assert_eq!(listing(&mut client, EXCHANGE).status, 200);
    client.office.revoke_tokens(0);
    assert_eq!(listing(&mut client, EXCHANGE).status, 401);
}

#[test]
fn a_fault_can_be_played_to_the_letter() {
    let mut client = client();
    let kinds = [EXCHANGE, ContentType::General];
    let mut uri = |kind: ContentType| {
        let list = client.list(kind, NOON - DAY_MS, NOON);
        list[0]["contentUri"].as_str().unwrap().to_owned()
    };
    let [uri, other] = kinds.map(&mut uri);
    for (fault, times) in [
        (Fault::LengthLong, 2),
        (Fault::Truncate, 1),
        (Fault::Gone, 1),
    ] {
        let script = Script::plays(Operation::Blob, fault).content_type(EXCHANGE);
        client.office.follow(script.times(times));
    }
    let ends = |reply: &Reply| reply.transport;
    let reply = client.call("GET", &uri);
    assert!(
        matches!(ends(&reply).framing, Framing::LengthPlus(_)),
        "the first that fits"
    );
    assert_eq!(ends(&client.call("GET", &other)).framing, Framing::Length);
    let reply = client.call("GET", &uri);
    assert!(matches!(ends(&reply).framing, Framing::LengthPlus(_)));
    // The others counted the first requests as well, so their turn is over.
    let reply = client.call("GET", &uri);
    assert_eq!((reply.status, ends(&reply).end), (200, End::Complete));
    assert_eq!(client.office.stats().faults["length-long"], 2);
}
