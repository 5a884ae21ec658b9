//! Hundreds of pipelines with one mistake each, made from the shipped ones: `validate` refuses every one of them, says
//! what is wrong in the line where it is, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::{folder, root, sluicegate};

/// A pipeline with one mistake.
struct Mistake {
    /// What was done, for a message.
    what: String,
    text: String,
    /// The line that has to be named, from 1.
    line: usize,
    /// The first line that may be named instead: that of the stage or sink, where it is only found while that is made.
    item: usize,
}

/// Mistakes that no rule makes: in which pipeline, what stands there, and what is written in its place.
fn by_hand() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(root().join("tests/fixtures/mistakes.txt")).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mistakes = lines.map(|line| {
        let (name, change) = line.split_once(": ").unwrap();
        let (from, to) = change.split_once(" => ").unwrap();
        (name.to_owned(), from.to_owned(), to.to_owned())
    });
    mistakes.collect()
}

/// The shipped pipelines by name, with their secrets in a folder that has them.
fn shipped(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        // One is Fluent Bit's, the last refers to a key of NATS's own form; some may not be in this build.
        let left_out = match name.as_str() {
            "fluent-bit" | "o365_to_nats" => true,
            "o365_to_kafka" => !cfg!(feature = "kafka"),
            "o365_to_parquet" => !cfg!(feature = "parquet"),
            "o365_to_azure_blob" | "o365_to_gcs" | "o365_to_s3" => !cfg!(feature = "s3"),
            _ => false,
        };
        if path.extension().is_some_and(|end| end == "yaml") && !left_out {
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(
                name,
                text.replace("/etc/sluicegate", &folder.display().to_string()),
            );
        }
    }
    found
}

/// What the shipped pipelines refer to.
fn provide(folder: &Path) {
    for secret in [
        "contoso.secret",
        "salt",
        "archive.token",
        "splunk.token",
        "azure.secret",
        "elasticsearch.key",
        "collector.token",
        "fluentd.key",
        "kafka.password",
        "redis.password",
        "s3.key",
    ] {
        std::fs::write(folder.join(secret), "0123456789abcdef0123456789abcdef\n").unwrap();
    }
    let auth = root().join("tests/fixtures/auth");
    let key = std::fs::read_to_string(auth.join("client.key")).unwrap();
    let account = serde_json::json!({
        "private_key": key, "private_key_id": "c0ffee", "client_email": "sluicegate@project.example",
    });
    std::fs::write(folder.join("gcp.json"), account.to_string()).unwrap();
    for (from, to) in [
        ("client.pem", "fabrikam.pem"),
        ("client.key", "fabrikam.key"),
        ("server.pem", "elasticsearch-ca.pem"),
        ("server.pem", "ca.pem"),
        ("client.pem", "sluicegate.pem"),
        ("client.key", "sluicegate.key"),
    ] {
        let _ = std::fs::copy(auth.join(from), folder.join(to)).unwrap();
    }
    std::fs::create_dir(folder.join("tenants.d")).unwrap();
    for tenant in ["contoso.yaml", "fabrikam.yaml"] {
        let text =
            std::fs::read_to_string(root().join("pipelines/tenants.d").join(tenant)).unwrap();
        let text = text.replace("/etc/sluicegate", &folder.display().to_string());
        std::fs::write(folder.join("tenants.d").join(tenant), text).unwrap();
    }
}

/// Where keys stand in a line: names of lower case letters, an optional `- ` or a brace before them, `: ` or the end of
/// the line behind. Members of maps that are free, such as `event.action`, have a dot.
fn keys(line: &str) -> Vec<(usize, usize)> {
    let code = line.split(" #").next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = Vec::new();
    for (colon, _) in code.match_indices(':') {
        let behind = &code[colon + 1..];
        let name = code[..colon]
            .rsplit(|c| !is_name(c))
            .next()
            .unwrap_or_default();
        let start = colon - name.len();
        let before = code[..start].chars().last();
        if !name.is_empty()
            && (behind.is_empty() || behind.starts_with(' '))
            && before.is_none_or(|c| c == ' ')
            && name.starts_with(|c: char| c.is_ascii_lowercase())
        {
            found.push((start, colon));
        }
    }
    found
}

/// The number of leading lines that are no test: those are free, and have mistakes of their own above.
fn before_tests(text: &str) -> usize {
    let tests = text.lines().position(|line| line.starts_with("tests:"));
    tests.unwrap_or_else(|| text.lines().count())
}

fn with_line(text: &str, index: usize, line: &str) -> String {
    let mut changed = String::new();
    for (number, old) in text.lines().enumerate() {
        let _ = writeln!(changed, "{}", if number == index { line } else { old });
    }
    changed
}

/// Every key misspelt, and every plain value of another type.
fn by_rule(name: &str, text: &str) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut program = usize::MAX;
    for (index, line) in text.lines().enumerate().take(before_tests(text)) {
        let indent = line.len() - line.trim_start().len();
        if line.trim().is_empty() || line.trim_start().starts_with('#') || indent > program {
            continue;
        }
        program = if line.ends_with('|') {
            indent
        } else {
            usize::MAX
        };
        for (start, colon) in keys(line) {
            let (key, rest) = (&line[start..colon], &line[colon + 1..]);
            let mut mistake = |what: String, line: &str| {
                mistakes.push(Mistake {
                    what: format!("{name}:{}: {what}", index + 1),
                    text: with_line(text, index, line),
                    line: index + 1,
                    item: index + 1,
                });
            };
            let misspelt = format!("{}{key}x:{rest}", &line[..start]);
            mistake(format!("`{key}x` for `{key}`"), &misspelt);
            let value = rest
                .split([',', '}', '#'])
                .next()
                .unwrap_or_default()
                .trim();
            let plain = !value.is_empty() && !value.starts_with(['[', '{', '\'', '|']);
            if plain {
                let other = format!(
                    "{}{key}:{}",
                    &line[..start],
                    rest.replacen(value, "[[1]]", 1)
                );
                mistake(format!("a list for `{key}`"), &other);
            }
        }
    }
    mistakes
}

fn mistakes(pipelines: &BTreeMap<String, String>, folder: &Path) -> Vec<Mistake> {
    let mut all = Vec::new();
    for (name, text) in pipelines {
        all.extend(by_rule(name, text));
    }
    for (name, from, to) in by_hand() {
        let inside = |text: &str| text.replace("FOLDER", &folder.display().to_string());
        let (text, from, to) = (&pipelines[&name], inside(&from), inside(&to));
        let at = text
            .find(&from)
            .unwrap_or_else(|| panic!("`{from}` is not in {name}"));
        let before = || text[..at].lines().enumerate();
        let item = before().filter(|(_, line)| line.starts_with("  - ")).last();
        let line = text[..at].matches('\n').count() + 1;
        all.push(Mistake {
            what: format!("{name}: `{to}` for `{from}`"),
            text: text.replacen(&from, &to, 1),
            line,
            item: item.map_or(line, |(index, _)| index + 1),
        });
    }
    all
}

#[test]
fn every_mistake_is_refused_with_its_line_and_what_to_do() {
    let folder = folder();
    provide(folder.path());
    let pipelines = shipped(folder.path());
    let validate = |names: &[String]| {
        let mut command = sluicegate(&folder)
            .arg("validate")
            .env("CONTOSO_SECRET", "known");
        command = command.env("SLUICEGATE_DEMO_SECRET", "known");
        for name in names {
            command = command.arg(name);
        }
        command.run()
    };
    // Without a mistake each is good; otherwise nothing below would mean anything.
    for (name, text) in &pipelines {
        std::fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
        let _ = validate(&[format!("{name}.yaml")]).expect(0);
    }
    let mistakes = mistakes(&pipelines, folder.path());
    assert!(mistakes.len() >= 200, "only {}", mistakes.len());
    let mut names = Vec::new();
    for (number, mistake) in mistakes.iter().enumerate() {
        let name = format!("mistake{number:03}.yaml");
        std::fs::write(folder.path().join(&name), &mistake.text).unwrap();
        names.push(name);
    }
    let ended = validate(&names).expect(78);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    let said: Vec<&str> = ended.stderr.split("error: ").skip(1).collect();
    let mut wrong = Vec::new();
    for (mistake, name) in mistakes.iter().zip(&names) {
        let about: Vec<&&str> = said.iter().filter(|error| error.contains(name)).collect();
        let lines = mistake.item..=mistake.line;
        let places: Vec<_> = lines.map(|line| format!("{name}:{line}:")).collect();
        let good = |error: &&&str| {
            // An expected type is its own help.
            let what = error.lines().next().unwrap_or_default();
            let helps = error.contains("\n  help: ") || what.contains("expected ");
            places.iter().any(|place| error.contains(place)) && helps
        };
        if !about.iter().any(good) {
            wrong.push(format!(
                "{} (line {}): {about:#?}",
                mistake.what, mistake.line
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are not refused in their line:\n{}",
        wrong.len(),
        mistakes.len(),
        wrong.join("\n")
    );
}
