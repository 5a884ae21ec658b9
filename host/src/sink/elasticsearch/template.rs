//! Installs the index template of the events where it is missing or older than ours.
//!
//! The template is the one under `pipelines/elasticsearch`, with the pattern of the sink's index. Types that a server
//! does not know (OpenSearch, older versions) are replaced by the next best that it does.

use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::config::sink::elasticsearch::IndexName;
use crate::error::Error;
use crate::sink::request::Reply;
use crate::sink::service::{Answer, Service, excerpt};

const TEMPLATE: &str = include_str!("../../../../pipelines/elasticsearch/index_template.json");

/// Types that some servers do not know, and what does in their place.
const INSTEAD: [(&str, &str); 3] = [
    ("flattened", "flat_object"),
    ("match_only_text", "text"),
    ("wildcard", "keyword"),
];

const HELP: &str = "let the credential manage index templates, or install \
                    pipelines/elasticsearch/index_template.json by hand and remove `manage_template`";

/// Sees to it that the template for this index is there.
pub(super) async fn install(service: &Service, index: &IndexName) -> Result<(), Error> {
    let (name, mut template) = ours(index)?;
    let path = format!("/_index_template/{name}");
    let found = ask(service, Method::GET, &path, None).await?;
    if found.status.is_success() && is_current(&found.body, &template) {
        return Ok(());
    }
    if !found.status.is_success() && found.status != 404 {
        return Err(refused(service, &found));
    }
    // Each type can be replaced once.
    for _ in 0..=INSTEAD.len() {
        let answer = ask(service, Method::PUT, &path, Some(&template)).await?;
        if answer.status.is_success() {
            tracing::info!(template = name, "the index template is installed");
            return Ok(());
        }
        let text = String::from_utf8_lossy(&answer.body);
        let unknown = INSTEAD
            .iter()
            .find(|(kind, _)| text.contains(&format!("[{kind}]")));
        let Some((kind, instead)) = unknown.filter(|_| answer.status == 400) else {
            return Err(refused(service, &answer));
        };
        replace(&mut template, kind, instead);
    }
    let error = Error::unavailable("the server knows none of the types that would do");
    Err(error.at(service.place()).help(HELP))
}

/// The template's name and text for an index.
fn ours(index: &IndexName) -> Result<(String, Value), Error> {
    let broken = |error| Error::internal(format!("the built-in index template is broken: {error}"));
    let mut template: Value = serde_json::from_str(TEMPLATE).map_err(broken)?;
    let fits = |pattern: &&Value| {
        let prefix = pattern
            .as_str()
            .and_then(|pattern| pattern.strip_suffix('*'));
        prefix.is_some_and(|prefix| index.pattern().starts_with(prefix))
    };
    let known = template["index_patterns"].as_array().into_iter().flatten();
    let pattern = known
        .clone()
        .find(fits)
        .and_then(Value::as_str)
        .map_or_else(|| index.pattern(), str::to_owned);
    let digest = Sha256::digest(TEMPLATE.as_bytes());
    let digest = crate::secret::hex(&digest[..8]);
    template["index_patterns"] = json!([&pattern]);
    template["_meta"]["sluicegate"] =
        json!({ "version": env!("CARGO_PKG_VERSION"), "digest": digest });
    let name = pattern.replace('*', "");
    Ok((format!("sluicegate-{}", name.trim_matches('-')), template))
}

/// Whether the server's template is ours, or one of a later version.
fn is_current(body: &[u8], ours: &Value) -> bool {
    let found: Value = serde_json::from_slice(body).unwrap_or_default();
    let theirs = &found["index_templates"][0]["index_template"];
    let (theirs, ours) = (&theirs["_meta"]["sluicegate"], &ours["_meta"]["sluicegate"]);
    let (their_version, our_version) = (version(theirs), version(ours));
    their_version > our_version
        || their_version == our_version && theirs["digest"] == ours["digest"]
}

fn version(meta: &Value) -> Vec<u64> {
    let text = meta["version"].as_str().unwrap_or_default();
    text.split('.')
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Replaces a type everywhere, together with parameters that only it has.
fn replace(value: &mut Value, kind: &str, instead: &str) {
    match value {
        Value::Object(map) => {
            let is_field = map.get("type").and_then(Value::as_str) == Some(kind);
            if is_field && !map.contains_key("properties") {
                *map = Map::from_iter([("type".to_owned(), instead.into())]);
            }
            map.values_mut()
                .for_each(|value| replace(value, kind, instead));
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| replace(value, kind, instead)),
        _ => {}
    }
}

async fn ask(
    service: &Service,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer, Error> {
    let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let body = service.pack(body).await;
    let headers = HeaderMap::new();
    let sent = service.send(method, path, &headers, "application/json", &body);
    sent.await.map_err(|again| again.error)
}

fn refused(service: &Service, answer: &Answer) -> Error {
    let what = format!(
        "the index template cannot be installed: host `{}` answers {}{}",
        answer.host,
        answer.status,
        excerpt(&answer.body)
    );
    // A credential that was refused is read again.
    let reply = service.judge(answer);
    match reply {
        Reply::Again(again) if again.overloaded => again.error,
        _ => Error::unavailable(what).at(service.place()).help(HELP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_current_when_it_is_ours_or_later() {
        let (name, ours) = ours(&crate::sink::elasticsearch::tests::index(
            "logs-o365.audit-default",
        ))
        .unwrap();
        assert_eq!(name, "sluicegate-logs-o365.audit");
        assert_eq!(ours["index_patterns"], json!(["logs-o365.audit-*"]));
        let answer = |meta: Value| {
            let template = json!({ "_meta": { "sluicegate": meta } });
            json!({ "index_templates": [{ "name": "x", "index_template": template }] }).to_string()
        };
        let mine = ours["_meta"]["sluicegate"].clone();
        for (meta, current) in [
            (mine.clone(), true),
            (json!({ "version": "99.0.0", "digest": "x" }), true),
            (json!({ "version": mine["version"], "digest": "x" }), false),
            (
                json!({ "version": "0.0.1", "digest": mine["digest"] }),
                false,
            ),
            (Value::Null, false),
        ] {
            assert_eq!(
                is_current(answer(meta.clone()).as_bytes(), &ours),
                current,
                "{meta}"
            );
        }
        assert!(!is_current(b"{}", &ours));
    }

    #[test]
    fn another_index_gets_a_template_of_its_own() {
        for (index, name, pattern) in [
            ("o365-{tenant}-x", "sluicegate-o365--x", "o365-*-x"),
            ("audit", "sluicegate-audit", "audit"),
            (
                "logs-o365.audit-{tenant}",
                "sluicegate-logs-o365.audit",
                "logs-o365.audit-*",
            ),
        ] {
            let index = crate::sink::elasticsearch::tests::index(index);
            let (found, template) = ours(&index).unwrap();
            assert_eq!(
                (found.as_str(), &template["index_patterns"]),
                (name, &json!([pattern]))
            );
        }
    }

    #[test]
    fn an_unknown_type_is_replaced_with_its_parameters() {
        let mut template: Value = serde_json::from_str(TEMPLATE).unwrap();
        let before = template.to_string();
        assert!(before.contains(r#""type":"flattened""#) && before.contains("depth_limit"));
        replace(&mut template, "flattened", "flat_object");
        let after = template.to_string();
        assert!(!after.contains(r#""type":"flattened""#), "the type is gone");
        assert!(!after.contains("depth_limit"), "its parameters are gone");
        assert!(after.contains("\"wildcard\""), "other types stay");
    }
}
