//! The commands for people who write pipelines: pictures, lists, starters, pages, completion, checks without secrets.

use crate::{folder, root, sluicegate};

/// What a command prints.
#[track_caller]
fn printed(arguments: &str) -> String {
    let folder = folder();
    let ended = sluicegate(&folder).args(arguments).run().expect(0);
    ended.text().to_owned()
}

/// The names under a heading of `sluicegate list`.
fn listed(text: &str, heading: &str) -> Vec<String> {
    let after = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows = after.take_while(|line| line.starts_with("  "));
    let names = rows.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[test]
fn what_is_listed_can_be_generated_and_what_is_generated_is_valid() {
    let list = printed("list");
    let (plugins, stages, sinks) = (
        listed(&list, "plugins"),
        listed(&list, "stages"),
        listed(&list, "sinks"),
    );
    assert!(plugins.contains(&"o365".to_owned()), "{list}");
    assert!(stages.len() >= 4 && sinks.len() >= 6, "{list}");
    let folder = folder();
    for plugin in plugins {
        let parts = format!("{plugin}/{}/{}", stages.join(","), sinks.join(","));
        let ended = sluicegate(&folder).args("generate").arg(parts).run();
        std::fs::write(folder.path().join("new.yaml"), ended.expect(0).text()).unwrap();
        let check = sluicegate(&folder).args("validate --no-environment --deny-warnings new.yaml");
        assert_eq!(check.run().expect(0).text(), "new.yaml: ok\n");
        // What is left to do is said by the check that looks at the machine.
        let check = sluicegate(&folder).args("validate new.yaml").run();
        check.expect(78).says(&["CONTOSO_SECRET"]);
    }
}

#[test]
fn the_list_for_programs_says_the_same() {
    let text = printed("list");
    let json: serde_json::Value = serde_json::from_str(&printed("list --format json")).unwrap();
    for heading in ["plugins", "stages", "sinks"] {
        let rows = json[heading].as_array().unwrap();
        let names: Vec<_> = rows
            .iter()
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, listed(&text, heading));
        let told = |row: &serde_json::Value| {
            row["description"]
                .as_str()
                .is_some_and(|it| it.ends_with('.'))
        };
        assert!(rows.iter().all(told), "{rows:?}");
    }
}

#[test]
fn every_shipped_pipeline_can_be_drawn_without_its_secrets() {
    let folder = folder();
    for entry in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("o365_") {
            continue;
        }
        let draw = |format: &str| {
            let command = sluicegate(&folder).args("graph --format").arg(format);
            command.arg(&path).run().expect(0).text().to_owned()
        };
        let (mermaid, dot) = (draw("mermaid"), draw("dot"));
        assert!(mermaid.starts_with("flowchart LR\n"), "{name}: {mermaid}");
        assert!(
            mermaid.contains("[\"o365\"]") && mermaid.contains("sink_0"),
            "{name}"
        );
        assert!(
            dot.starts_with("digraph ") && dot.ends_with("}\n"),
            "{name}: {dot}"
        );
    }
}

#[test]
fn shells_are_told_of_every_command() {
    let help = printed("--help");
    assert!(help.contains("generate"));
    for (shell, words) in [
        ("bash", "_sluicegate()"),
        ("zsh", "#compdef sluicegate"),
        ("fish", "complete -c sluicegate"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = printed(&format!("completion {shell}"));
        assert!(script.contains(words), "{shell}");
        assert!(
            script.contains("hand-over") && script.contains("no-environment"),
            "{shell}"
        );
    }
}

#[test]
fn every_command_has_its_page() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("man")).unwrap();
    let _ = sluicegate(&folder).args("man --output man").run().expect(0);
    let listed = printed("--help");
    let listed = listed.split("Commands:").nth(1).unwrap();
    let listed = listed.split("Options:").next().unwrap();
    // A long sentence goes on in lines that are indented further.
    let lines = listed.lines().filter(|line| !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let mut pages = 0;
    for name in names.filter(|name| *name != "help") {
        let page = folder.path().join(format!("man/sluicegate-{name}.1"));
        let text = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(text.contains(".SH SYNOPSIS"), "{name} has no page");
        pages += 1;
    }
    assert!(pages >= 15, "{pages}");
    assert!(printed("man").contains(".TH sluicegate 1"));
    assert!(printed("man run").contains("\\-\\-once"));
    let ended = sluicegate(&folder).args("man rnu").run().expect(64);
    ended.says(&["`rnu`"]);
}

#[test]
fn a_warning_can_be_denied() {
    let folder = folder();
    let text = "\
source:
  plugin: o365
  tenants: { directory: ./tenants.d }
sinks:
  - stdout: {}
";
    std::fs::write(folder.path().join("empty.yaml"), text).unwrap();
    std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
    let fine = sluicegate(&folder)
        .args("validate empty.yaml")
        .run()
        .expect(0);
    fine.says(&["warning: ", "holds no tenant yet"]);
    let denied = sluicegate(&folder).args("validate --deny-warnings empty.yaml");
    denied.run().expect(78).says(&["1 warning(s)"]);
}

#[test]
fn without_an_environment_the_text_is_still_checked() {
    let folder = folder();
    let good = sluicegate(&folder)
        .args("generate o365//elasticsearch")
        .run();
    let good = good.expect(0).text().to_owned();
    for (wrong, words) in [
        (good.replace("sinks:", "snks:"), "`sinks`"),
        (
            good.replace("Audit.General", "Audit.Genral"),
            "`Audit.General`",
        ),
    ] {
        std::fs::write(folder.path().join("wrong.yaml"), wrong).unwrap();
        let ended = sluicegate(&folder)
            .args("validate --no-environment wrong.yaml")
            .run();
        ended.expect(78).says(&[words, "wrong.yaml:"]);
    }
}
