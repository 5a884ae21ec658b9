//! Whatever is asked for by name is a pipeline.

use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::pipeline::{Runtime, check_offline};
use crate::secret::Redactor;

fn names(components: Vec<Component>) -> Vec<String> {
    components.into_iter().map(|one| one.name).collect()
}

/// No part, each part, each two parts in this order.
fn lists(names: &[String], twice: bool) -> Vec<String> {
    let mut lists = vec![String::new()];
    lists.extend(names.iter().cloned());
    for one in names {
        let others = names.iter().filter(|other| twice || *other != one);
        lists.extend(others.map(|other| format!("{one},{other}")));
    }
    lists
}

#[test]
fn every_built_in_plugin_has_a_start() {
    let known: Vec<_> = SOURCES.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, BUILT_IN);
}

#[test]
fn the_form_is_for_people() {
    let wanted = "\
stages:
  # Takes `user_agent.original` apart into name, version, system and device.
  - user_agent: {}
sinks:
  # Writes events to standard output, one JSON object a line.
  - stdout: {}
      # also: name, when
";
    let text = pipeline("o365/user_agent/stdout").unwrap();
    assert!(text.ends_with(wanted), "{text}");
    let text = pipeline("o365//elasticsearch").unwrap();
    let wanted =
        "  - elasticsearch:\n      endpoints:\n        - https://search.example.com:9200\n";
    assert!(text.contains(wanted), "{text}");
}

/// Each combination of a source, up to two stages and up to two sinks is a checked config; but two of both say nothing
/// more.
#[test]
fn every_combination_is_a_pipeline() {
    let path = std::path::Path::new("a.yaml");
    let (stages, sinks) = (names(catalog::stages()), names(catalog::sinks()));
    let mut seen = 0;
    for (source, _) in SOURCES {
        for stages in lists(&stages, true) {
            for sinks in lists(&sinks, false).iter().skip(1) {
                if stages.contains(',') && sinks.contains(',') {
                    continue;
                }
                let parts = format!("{source}/{stages}/{sinks}");
                let text = pipeline(&parts).unwrap();
                let config = Config::parse(path, &text, None);
                assert!(config.is_ok(), "{parts}: {config:?}\n{text}");
                seen += 1;
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

/// And passes what `validate --no-environment` asks, which loads plugins: all parts of a kind at once.
#[tokio::test(flavor = "multi_thread")]
async fn every_part_passes_validation_without_an_environment() {
    let runtime = Runtime::new(Arc::new(Redactor::new())).unwrap();
    let path = std::path::Path::new("a.yaml");
    let (stages, sinks) = (names(catalog::stages()), names(catalog::sinks()));
    for (source, _) in SOURCES {
        let parts = format!("{source}/{}/{}", stages.join(","), sinks.join(","));
        let config = Config::parse(path, &pipeline(&parts).unwrap(), None).unwrap();
        let warnings = check_offline(config, &runtime).await.unwrap();
        assert!(warnings.is_empty(), "{parts}: {warnings:?}");
    }
}

#[test]
fn what_is_not_there_is_named_with_what_was_meant() {
    for (parts, words) in [
        ("o356//stdout", "`o356`"),
        ("o365/fitler/stdout", "`filter`?"),
        ("o365//stdot", "`stdout`?"),
        ("o365/", "SOURCE/STAGES/SINKS"),
        ("o365//", "needs a sink"),
        ("o365//file,file", "named twice"),
    ] {
        let error = pipeline(parts).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.to_string().contains(words), "{parts}: {error}");
    }
}

#[test]
fn text_that_could_be_something_else_is_quoted() {
    for (text, wanted) in [
        ("events.ndjson", "events.ndjson"),
        ("https://a.example:9200", "https://a.example:9200"),
        ("true", "\"true\""),
        ("5", "\"5\""),
        ("a: b", "\"a: b\""),
        (".a == \"b\"", "\".a == \\\"b\\\"\""),
    ] {
        assert_eq!(scalar(text), wanted);
    }
}
