//! Any header as the next page, any text as a blob's address: it leads to the tenant's own service, or nowhere.

use sluicegate_o365::api::Api;
use sluicegate_o365::config::{self, Config, Use};
use sluicegate_o365::url::Url;
use sluicegate_o365::world::{Body, Broken, Response};

const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";

/// A body of no bytes.
struct Nothing;

impl Body for Nothing {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        Ok(None)
    }
}

/// See the head of the file. A line is a header of its own.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let config = config();
    let api = Api::new(&config);
    let this = api.window("Audit.General", 1_768_003_200_000, 1_768_089_600_000);
    let names = ["NextPageUri", "nextpageuri", "NextPageUrl"];
    let headers = text.lines().take(4).enumerate();
    let headers = headers.map(|(at, value)| (names[at % 3].to_owned(), value.to_owned()));
    let answer = Response {
        status: 200,
        headers: headers.collect(),
        body: Box::new(Nothing),
    };
    if let Ok(Some(next)) = api.next_page(&this, &answer) {
        own(&next);
        for name in ["PublisherIdentifier", "contentType", "startTime", "endTime"] {
            assert!(next.has_parameter(name), "`{name}` is missing in {next}");
        }
    }
    if let Ok(request) = api.blob(text) {
        own(&request.url);
        let path = request.url.path.to_ascii_lowercase();
        assert!(path.contains(DIRECTORY), "another tenant's: {path}");
    }
}

/// What is followed has one meaning, for us as for everybody.
fn own(url: &Url) {
    let text = url.to_string();
    assert!(text.starts_with("https://manage.office.com/"), "{text}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    assert!(!text.contains(['\\', '#']), "{text}");
    assert_eq!(
        Url::parse(&text).as_ref(),
        Ok(url),
        "it reads as it was read"
    );
}

fn config() -> Config {
    let tenant = format!(
        r#"{{"tenant":{{"id":"t","directory_id":"{DIRECTORY}","resource_url":"https://manage.office.com"}}}}"#
    );
    match config::load(&tenant, Use::Source) {
        Ok(config) => config,
        Err(reason) => panic!("the config of this target: {reason}"),
    }
}
