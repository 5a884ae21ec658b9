//! Windows to the millisecond, and pages in all their forms.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use sluicegate_office::{
    Builder, ContentType, DAY_MS, Fault, Faults, HOUR_MS, Late, Office, Order, Paging, Reply,
    Windows,
};

use crate::client::{Client, NOON, code, content_type, json, next_page, stamp, window};

const KIND: ContentType = ContentType::General;

fn office() -> Builder {
    Office::builder(9)
        .content_types(&[KIND])
        .blobs(50)
        .events_per_blob(1)
        .subscribed()
}

fn client(faults: Faults) -> Client {
    Client::new(office().faults(faults))
}

fn ask(client: &mut Client, query: &str) -> Reply {
    client.api(
        "GET",
        "subscriptions/content",
        &format!("{}&{query}", content_type(KIND)),
    )
}

fn ids(page: &[Value]) -> Vec<String> {
    page.iter()
        .map(|d| d["contentId"].as_str().unwrap().to_owned())
        .collect()
}

fn page_ids(reply: Reply) -> Vec<String> {
    ids(json(reply).as_array().unwrap())
}

/// The listing of the last day as it is, page by page, without care.
fn pages(client: &mut Client) -> Vec<Vec<String>> {
    let mut reply = ask(client, &window(NOON - DAY_MS, NOON));
    let mut pages = Vec::new();
    loop {
        let next = next_page(&reply);
        pages.push(page_ids(reply));
        match next {
            Some(url) => reply = client.call("GET", &url),
            None => return pages,
        }
    }
}

fn distinct(pages: &[Vec<String>]) -> usize {
    pages.iter().flatten().collect::<HashSet<_>>().len()
}

#[test]
fn windows_are_refused_by_rule() {
    let mut client = client(Faults::none());
    let mut check = |query: &str, expected: Option<&str>| {
        // The client's clock goes on by one millisecond a request; the rules are exact.
        client.now = NOON - 1;
        let reply = ask(&mut client, query);
        match expected {
            None => assert_eq!(reply.status, 200, "{query}"),
            Some(expected) => {
                assert_eq!(reply.status, 400, "{query}");
                assert_eq!(code(reply), expected, "{query}");
            }
        }
    };
    let hour = HOUR_MS;
    let oldest = NOON - 7 * DAY_MS - hour;
    check(&window(NOON - DAY_MS, NOON), None);
    check(&window(NOON - DAY_MS - 1, NOON), Some("AF20055"));
    check(&window(oldest, oldest + hour), None);
    check(&window(oldest - 1, oldest + hour), Some("AF20055"));
    check(&window(NOON, NOON), Some("AF20055"));
    check(&window(NOON, NOON - 1), Some("AF20055"));
    check(&window(NOON, NOON + hour), None);
    check(&format!("startTime={}", stamp(NOON)), Some("AF20055"));
    check(&format!("endTime={}", stamp(NOON)), Some("AF20055"));
    check("", None);
    check("startTime=2026-03-01&endTime=2026-03-01T10:00", None);
    check(
        "starttime=2026-03-01T00:00:00&ENDTIME=2026-03-01T10%3A00%3A00%2B00:00",
        None,
    );
    check("startTime=yesterday&endTime=2026-03-01", Some("AF20002"));
    assert_eq!(client.office.stats().wide_windows, 1);
}

#[test]
fn a_refused_window_echoes_its_times() {
    let mut client = client(Faults::none());
    let text = json(ask(
        &mut client,
        "startTime=2026-01-01&endTime=2026-01-01T00:30",
    ));
    let text = text["error"]["message"].as_str().unwrap();
    assert!(
        text.ends_with("StartTime:2026-01-01T00:00:00, EndTime:2026-01-01T00:30:00"),
        "{text}"
    );
}

#[test]
fn a_window_is_half_open_to_the_millisecond() {
    let mut client = Client::new(office().page_size(100));
    let all = client.list(KIND, NOON - DAY_MS, NOON);
    assert_eq!(all.len(), 50);
    let created = all[40]["contentCreated"].as_str().unwrap().to_owned();
    let mut count = |from: &str, to: &str| {
        let reply = ask(&mut client, &format!("startTime={from}&endTime={to}"));
        page_ids(reply).len()
    };
    assert_eq!(
        count(&created, &later(&created)),
        1,
        "a blob on the start is in"
    );
    assert_eq!(
        count("2026-03-01T00:00:00", &created) + count(&created, "2026-03-01T12:00"),
        { count("2026-03-01T00:00:00", "2026-03-01T12:00") }
    );
}

/// The next millisecond of a listing's time.
fn later(time: &str) -> String {
    let at = time.len() - 4;
    let ms: u32 = time[at..at + 3].parse().unwrap();
    assert!(ms < 999, "choose another blob");
    format!("{}{:03}Z", &time[..at], ms + 1)
}

#[test]
fn a_wide_window_is_answered_in_part_when_the_service_is_lenient() {
    let mut faults = Faults::none();
    faults.windows = Windows::Partial;
    let builder = office()
        .faults(faults)
        .page_size(100)
        .span(Duration::from_hours(48));
    let mut client = Client::new(builder);
    let some = page_ids(ask(&mut client, &window(NOON - 2 * DAY_MS, NOON))).len();
    assert!((5..45).contains(&some), "{some}");
}

#[test]
fn no_window_can_be_met_with_nonsense() {
    let mut faults = Faults::none();
    faults.windows = Windows::Nonsense;
    let body = json(ask(&mut client(faults), ""));
    assert!(
        body["error"]["code"]
            .as_str()
            .unwrap()
            .starts_with("String reference not set")
    );
}

#[test]
fn pages_are_full_and_the_last_has_no_header() {
    let mut client = client(Faults::none());
    let pages = pages(&mut client);
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [20, 20, 10]);
    assert_eq!(distinct(&pages), 50);
    let sorted: Vec<_> = pages.concat();
    assert!(sorted.is_sorted());
    let mut exact = Client::new(office().page_size(25));
    assert_eq!(
        self::pages(&mut exact).len(),
        2,
        "an exactly full last page has no header"
    );
}

#[test]
fn a_page_url_has_the_form_of_the_service() {
    let mut client = client(Faults::none());
    let reply = ask(&mut client, &window(NOON - DAY_MS, NOON));
    let url = reply.find_header("NextPageUri").unwrap().to_owned();
    assert!(
        url.contains("contenttype=Audit.General&endtime=2026-03-01T12:00:00.0000000Z&starttime=")
    );
    assert!(!url.to_lowercase().contains("publisher"));
    let key = url.split("nextpage=").nth(1).unwrap();
    assert_eq!(
        key.split('$').map(str::len).collect::<Vec<_>>()[..2],
        [23, 23]
    );
    let encoded = client.call(
        "GET",
        &url.replace('$', "%24").replace("00:00.", "00%3A00."),
    );
    assert_eq!(encoded.status, 200, "percent-encoding is accepted");
    assert_eq!(
        client.call("GET", &url.replace("/v1.0/", "/v1/")).status,
        200
    );
}

#[test]
fn a_page_key_belongs_to_its_window_and_dies_with_it() {
    let mut client = client(Faults::none());
    let reply = ask(&mut client, &window(NOON - DAY_MS, NOON));
    let url = next_page(&reply).unwrap();
    let key = url.split("nextpage=").nth(1).unwrap();
    let other = format!("{}&nextPage={key}", window(NOON - DAY_MS + 1, NOON));
    assert_eq!(code(ask(&mut client, &other)), "AF20031");
    let cut = url.split('$').next().unwrap();
    assert_eq!(code(client.call("GET", cut)), "AF20031");
    client.now += 6 * DAY_MS + 2 * HOUR_MS;
    client.forget_token();
    assert_eq!(code(client.call("GET", &url)), "AF20055");
}

#[test]
fn order_can_be_mixed_and_nothing_is_lost() {
    for order in [Order::ShuffledPages, Order::Shuffled] {
        let mut faults = Faults::none();
        faults.order = order;
        faults.random_pages = true;
        let pages = pages(&mut client(faults));
        assert_eq!((distinct(&pages), pages.concat().len()), (50, 50));
        let flat = pages.concat();
        assert!(!flat.is_sorted());
        let by_page = pages
            .windows(2)
            .all(|w| w[0].iter().max() < w[1].iter().min());
        assert_eq!(by_page, order == Order::ShuffledPages);
    }
}

#[test]
fn empty_pages_stand_in_the_middle_and_at_the_end() {
    let mut middle = client(Faults::none().with(Fault::EmptyPage, 1.0));
    let seen = pages(&mut middle);
    let sizes: Vec<_> = seen.iter().map(Vec::len).collect();
    assert_eq!(sizes, [20, 0, 20, 0, 10]);
    let mut last = client(Faults::none().with(Fault::EmptyLastPage, 1.0));
    let sizes: Vec<_> = pages(&mut last).iter().map(Vec::len).collect();
    assert_eq!(sizes, [20, 20, 10, 0]);
}

#[test]
fn blobs_are_listed_twice_in_one_pass_and_in_the_next_window() {
    let pages = pages(&mut client(Faults::none().with(Fault::ListedTwice, 1.0)));
    assert_eq!((distinct(&pages), pages.concat().len()), (50, 54));
    let builder = office().span(Duration::from_mins(10));
    let count = |faults: Faults| {
        let mut client = Client::new(builder_with(faults));
        let middle = NOON - 5 * 60_000;
        let (a, b) = (
            client.list(KIND, NOON - HOUR_MS, middle),
            client.list(KIND, middle, NOON),
        );
        (a.len() + b.len(), distinct(&[ids(&a), ids(&b)]))
    };
    drop(builder);
    assert_eq!(count(Faults::none()), (50, 50));
    let (listed, different) = count(Faults::none().with(Fault::ListedAgain, 1.0));
    assert_eq!(different, 50);
    assert!((53..58).contains(&listed), "{listed}");
}

fn builder_with(faults: Faults) -> Builder {
    office().span(Duration::from_mins(10)).faults(faults)
}

#[test]
fn a_border_inside_a_blob_lists_its_two_parts() {
    let mut faults = Faults::none();
    faults.regroup = true;
    let builder = Office::builder(9)
        .content_types(&[KIND])
        .blobs(50)
        .page_size(100);
    let mut client = Client::new(builder.subscribed().faults(faults));
    let list = |client: &mut Client, from: &str, to: &str| {
        let reply = ask(client, &format!("startTime={from}&endTime={to}"));
        json(reply).as_array().unwrap().clone()
    };
    let (from, to) = (stamp(NOON - DAY_MS), stamp(NOON));
    let whole = list(&mut client, &from, &to)[30].clone();
    let border = whole["contentCreated"].as_str().unwrap().to_owned();
    let head = list(&mut client, &from, &border)[30].clone();
    let tail = list(&mut client, &border, &to)[0].clone();
    assert_eq!(tail["contentCreated"], whole["contentCreated"]);
    assert!(head["contentCreated"].as_str() < Some(&border), "{head}");
    let ids = [&whole, &head, &tail].map(|d| d["contentId"].as_str().unwrap());
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 3);
    let [all, head, tail] =
        [&whole, &head, &tail].map(|d| client.fetch(d["contentUri"].as_str().unwrap()));
    assert!(!tail.is_empty() || !head.is_empty());
    assert_eq!([head, tail].concat(), all, "together they are the blob");
}

#[test]
fn late_blobs_appear_in_a_window_that_was_listed() {
    let mut faults = Faults::none();
    faults.late = Late::UpTo(2 * HOUR_MS);
    let mut client = Client::new(
        office()
            .blobs(200)
            .span(Duration::from_hours(1))
            .faults(faults),
    );
    let before = client.list(KIND, NOON - HOUR_MS, NOON).len();
    client.now = NOON + 2 * HOUR_MS;
    client.forget_token();
    let after = client.list(KIND, NOON - HOUR_MS, NOON).len();
    assert!(before < after && after == 200, "{before} {after}");
}

#[test]
fn blobs_share_a_millisecond() {
    let mut client = client(Faults::none().with(Fault::SameMillisecond, 0.5));
    let all = client.list(KIND, NOON - DAY_MS, NOON);
    let times: HashSet<_> = all
        .iter()
        .map(|d| d["contentCreated"].as_str().unwrap())
        .collect();
    assert_eq!(all.len(), 50);
    assert!(times.len() < 40, "{}", times.len());
    assert_eq!(distinct(&[ids(&all)]), 50);
}

#[test]
fn the_service_can_point_elsewhere_and_in_circles() {
    let mut foreign = client(Faults::none().with(Fault::ForeignPage, 1.0));
    let reply = ask(&mut foreign, &window(NOON - DAY_MS, NOON));
    let url = next_page(&reply).unwrap();
    assert!(url.starts_with("https://manage.example.net/"), "{url}");
    assert_eq!(foreign.office.stats().leaked_tokens, 0);
    foreign.call("GET", &url);
    assert_eq!(
        foreign.office.stats().leaked_tokens,
        1,
        "the host that is not ours saw it"
    );

    let mut blobs = client(Faults::none().with(Fault::ForeignBlob, 1.0));
    let page = json(ask(&mut blobs, &window(NOON - DAY_MS, NOON)));
    assert!(
        page[0]["contentUri"]
            .as_str()
            .unwrap()
            .starts_with("https://manage.example.net/")
    );

    let mut circle = client(Faults::none().with(Fault::PageLoop, 1.0));
    let reply = ask(&mut circle, &window(NOON - DAY_MS, NOON));
    let second = next_page(&reply).unwrap();
    let reply = circle.call("GET", &second);
    assert_eq!(next_page(&reply).unwrap(), second);
}

#[test]
fn the_header_is_spelled_in_changing_ways() {
    let mut faults = Faults::none();
    faults.odd_header_case = true;
    let mut client = client(faults);
    let mut names = HashSet::new();
    for _ in 0..40 {
        let reply = ask(&mut client, &window(NOON - DAY_MS, NOON));
        names.extend(
            reply
                .headers
                .into_iter()
                .map(|(n, _)| n)
                .filter(|n| n.len() == 11),
        );
    }
    names.retain(|name| name.to_lowercase().starts_with("nextpage"));
    assert!(names.len() >= 4, "{names:?}");
}

#[test]
fn the_older_wording_has_another_code() {
    let mut faults = Faults::none();
    faults.windows = Windows::Older;
    let mut client = client(faults);
    for query in [window(NOON, NOON), format!("startTime={}", stamp(NOON))] {
        let body = json(ask(&mut client, &query));
        assert_eq!(body["error"]["code"], "AF20030");
        let text = body["error"]["message"].as_str().unwrap();
        assert!(
            !text.contains("StartTime:") && !text.contains("prior"),
            "{text}"
        );
    }
}

#[test]
fn blobs_that_appear_between_two_pages_come_later_or_not_in_this_pass() {
    let second_page = |paging: Paging| {
        let mut faults = Faults::none();
        faults.paging = paging;
        let later = office().blobs(20).later(100, Duration::from_mins(10));
        let mut client = Client::new(later.page_size(10).faults(faults));
        let reply = ask(&mut client, &window(NOON - HOUR_MS * 23, NOON + HOUR_MS));
        client.now += 20 * 60_000;
        let mut seen = page_ids(reply.clone()).len();
        let mut reply = reply;
        while let Some(url) = next_page(&reply) {
            reply = client.call("GET", &url);
            seen += page_ids(reply.clone()).len();
        }
        let again = client.list(KIND, NOON - HOUR_MS * 23, NOON + HOUR_MS);
        (seen, again.len())
    };
    let (seen, all) = second_page(Paging::Live);
    assert_eq!(seen, all, "they sort behind the first page");
    let (seen, all) = second_page(Paging::Snapshot);
    assert!((18..=20).contains(&seen) && all >= 118, "{seen} of {all}");
}

#[test]
fn a_page_url_can_lose_its_window() {
    let mut client = client(Faults::none().with(Fault::BarePage, 1.0));
    let wanted = window(NOON - DAY_MS, NOON);
    let reply = ask(&mut client, &wanted);
    let url = next_page(&reply).unwrap();
    assert!(!url.contains("time="), "{url}");
    assert_eq!(
        code(client.call("GET", &url)),
        "AF20031",
        "as it is, it leads nowhere"
    );
    let reply = client.call("GET", &format!("{url}&{wanted}"));
    assert_eq!(page_ids(reply).len(), 20);
}

#[test]
fn a_page_can_be_anything_but_a_list() {
    let mut client = client(Faults::none().with(Fault::BadPage, 1.0));
    let mut bodies = HashSet::new();
    for _ in 0..60 {
        let reply = ask(&mut client, &window(NOON - DAY_MS, NOON));
        assert_eq!(reply.status, 200);
        let bytes = reply.content.into_bytes();
        assert!(serde_json::from_slice::<Vec<Value>>(&bytes).is_err());
        bodies.insert(bytes);
    }
    assert!(bodies.len() >= 6, "{bodies:?}");
}

#[test]
fn an_element_can_be_no_description() {
    let mut client = client(Faults::none().with(Fault::BadItem, 1.0));
    let page = json(ask(&mut client, &window(NOON - DAY_MS, NOON)));
    let page = page.as_array().unwrap();
    assert_eq!(page.len(), 20, "it stands in the place of a blob");
    assert!(page[0]["contentUri"].as_str().is_none(), "{}", page[0]);
    assert!(page[1]["contentUri"].is_string());
}

#[test]
fn a_blob_can_be_listed_again_hours_later() {
    let count = |faults: Faults| {
        let mut client = Client::new(office().span(Duration::from_hours(1)).faults(faults));
        client.now = NOON + 6 * HOUR_MS;
        client.forget_token();
        client
            .list(KIND, NOON + 4 * HOUR_MS, NOON + 5 * HOUR_MS)
            .len()
    };
    assert_eq!(count(Faults::none()), 0);
    assert_eq!(count(Faults::none().with(Fault::ListedLater, 1.0)), 50);
}

#[test]
fn records_can_be_grouped_anew_in_a_window_that_was_listed() {
    let builder = Office::builder(9)
        .content_types(&[KIND])
        .blobs(30)
        .page_size(7);
    let faults = Faults::none().with(Fault::Regrouped, 0.5);
    let span = Duration::from_mins(30);
    let mut client = Client::new(builder.span(span).subscribed().faults(faults));
    let list = |client: &mut Client| client.list(KIND, NOON - HOUR_MS, NOON);
    let before = list(&mut client);
    assert_eq!(before.len(), 30);
    client.now = NOON + HOUR_MS;
    client.forget_token();
    let after = list(&mut client);
    assert!((38..52).contains(&after.len()), "{}", after.len());
    let known: HashSet<_> = ids(&before).into_iter().collect();
    let mut fresh = 0;
    let mut records = HashSet::new();
    for descriptor in &after {
        fresh += usize::from(!known.contains(descriptor["contentId"].as_str().unwrap()));
        let blob = client.fetch(descriptor["contentUri"].as_str().unwrap());
        records.extend(blob.iter().map(|r| r["Id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(
        after.len() + fresh / 2,
        30 + fresh,
        "two for each that is gone"
    );
    assert_eq!(records.len(), 30 * 50, "together they hold what there was");
    // The ids of before can still be fetched.
    let first = before[0]["contentUri"].as_str().unwrap();
    assert_eq!(client.fetch(first).len(), 50);
}

#[test]
fn several_blobs_come_in_one_second() {
    let mut client = Client::new(office().span(Duration::from_secs(10)));
    let all = client.list(KIND, NOON - HOUR_MS, NOON);
    let second = |d: &Value| d["contentCreated"].as_str().unwrap()[..19].to_owned();
    let seconds: HashSet<_> = all.iter().map(second).collect();
    assert!(all.len() == 50 && seconds.len() <= 11, "{}", seconds.len());
}
