//! One test for each guest that runs and misbehaves: what was said of it, what came out of it.

use super::run;

#[test]
pub fn calm() {
    let run = run();
    assert_eq!(run.delivered("calm").ids(), ["one"]);
    run.says(&["calm: 1 tenant(s)", "1 event(s) delivered"]);
}

#[test]
pub fn spin() {
    let run = run();
    let limit = "computed for 0.1 s without handing anything over (`limits.cpu_timeout`)";
    for (tenant, function) in [
        ("spin", "read"),
        ("spin_discover", "discover"),
        ("spin_fill", "read"),
    ] {
        let stopped = format!("plugin `spin` was stopped in `{function}` for tenant `{tenant}`");
        run.says(&[&stopped, limit]);
        assert!(run.delivered(tenant).events.is_empty());
    }
}

#[test]
pub fn hoard() {
    let run = run();
    let stopped = "plugin `hoard` was stopped in `read` for tenant `hoard`";
    run.says(&[stopped, "more than its 16 MiB of memory (`limits.memory`)"]);
    let stopped = "plugin `hoard` was stopped in `read` for tenant `hoard_default`";
    run.says(&[stopped, "more than its 192 MiB of memory (`limits.memory`)"]);
}

#[test]
pub fn overflow() {
    let stopped = "plugin `overflow` was stopped in `read` for tenant `overflow`";
    run().says(&[stopped, "it used up its call stack"]);
}

#[test]
pub fn trap() {
    let run = run();
    run.says(&[
        "plugin `trap` was stopped in `read` for tenant `trap`:",
        "it trapped",
    ]);
    run.says(&[
        "plugin `trap` was stopped in `read` for tenant `trap_panic`:",
        "it panicked",
        "forged",
    ]);
    run.says(&["plugin `trap` was stopped in `read` for tenant `trap_midway`:"]);
    // What it handed over before it trapped may have been delivered, but not once for each try.
    let repeated = run.delivered("trap_midway");
    assert!(repeated.repeated().is_empty(), "{:?}", repeated.ids());
}

#[test]
pub fn nap() {
    let stopped = "plugin `nap` was stopped in `read` for tenant `nap`";
    run().says(&[stopped, "longer than 0.3 s (`limits.call_timeout`)"]);
}

#[test]
pub fn flood() {
    let run = run();
    // Its lines are few, and the rest is counted; the event behind them came through.
    assert_eq!(run.delivered("flood_log").ids(), ["flood-log"]);
    let lines = run
        .ended
        .stderr
        .lines()
        .filter(|line| line.contains("line 0\\u{d}\\u{a}"))
        .count();
    assert_eq!(lines, 1, "a line is escaped and stays one");
    let shown = run
        .ended
        .stderr
        .lines()
        .filter(|line| line.contains("\\u{d}\\u{a}\\u{1b}[31m"))
        .count();
    let seconds = run.ended.took.as_secs() + 1;
    assert!(
        shown as u64 <= 10 * (seconds + 1),
        "{shown} of 100,000 lines are shown in {seconds} s, 10 a second are allowed"
    );
    run.says(&[
        "flood_log",
        "the plugin wrote more lines than are shown",
        "suppressed=",
    ]);

    run.says(&[
        "tenant=flood_emit",
        "handed over all that it may (`limits.output_bytes`)",
    ]);
    assert_eq!(run.delivered("flood_emit").ids(), ["same"]);
    run.says(&[
        "tenant `flood_empty`",
        "longer than 0.5 s (`limits.call_timeout`)",
    ]);
    run.says(&["tenant=flood_entries", "1500000 events in a batch"]);
    run.says(&["plugin `flood` was stopped in `read` for tenant `flood_handles`"]);
    run.says(&["plugin `flood` was stopped in `read` for tenant `flood_fields`"]);
    run.says(&[
        "tenant=flood_state",
        "the state would hold",
        "of 65536 bytes",
    ]);
    run.says(&["tenant=flood_state_default", "of 67108864 bytes"]);
    run.says(&["tenant=flood_keys", "the state holds 10000 keys"]);
    // What is set and deleted in turns is nothing, and done quickly enough.
    assert_eq!(run.delivered("flood_churn").ids(), ["churned"]);
    run.says(&[
        "tenant=flood_letters",
        "handed over all that it may (`limits.output_bytes`)",
    ]);
    let letters = run.dead_letters("flood_letters").events;
    assert!(
        !letters.is_empty() && letters.len() < 100,
        "{}",
        letters.len()
    );
    for letter in &letters {
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.len() <= 1_024, "a reason of {} bytes", reason.len());
    }
    // One that lists again and again without getting anywhere is taken to be done.
    run.says(&["flood_again: 1 tenant(s)", "1 event(s) delivered"]);
}

#[test]
pub fn lie() {
    let run = run();
    let said = [
        ("lengths_short", "belong to no event"),
        ("lengths_long", "past the end of the bytes"),
        ("lengths_overflow", "its id has 4294967295 bytes"),
        ("not_text", "not UTF-8"),
        ("not_json", "not a JSON object"),
        ("newline", "has a newline"),
        ("long_id", "its id has 600 bytes"),
        ("big_event", "at most 65536 are allowed"),
        ("state_in_read", "ReadOnly"),
        (
            "many_splits",
            "101 splits; at most 100 are allowed (`limits.splits_per_call`)",
        ),
        (
            "many_splits_default",
            "10001 splits; at most 10000 are allowed (`limits.splits_per_call`)",
        ),
        ("huge_event", "at most 33554432 are allowed"),
        (
            "big_batch",
            "bytes in a batch of 2 events; at most 1048576 are allowed",
        ),
        ("split_id", "a split's id has 1 to 1024 bytes"),
        ("split_payload", "its payload at most 16384"),
        ("same_streams", "`feed` is empty, too long or not unique"),
        ("many_streams", "5000 streams; at most 1000"),
        ("lost", "content is lost; it was never delivered"),
        (
            "times",
            "when a split was created is -9223372036854775808 ms",
        ),
        ("watermark", "the watermark is 9223372036854775807 ms"),
        ("gaps", "5000 gaps; at most 1000"),
        ("stream_name", "`forged\\u{a}\\u{1b}[31mforged"),
        ("after", "come back in 584 million years"),
    ];
    for (mode, words) in said {
        let tenant = format!("tenant=lie_{mode} ");
        run.says(&[&tenant, words]);
        let delivered = run.delivered(&format!("lie_{mode}"));
        assert!(delivered.events.is_empty(), "{mode}: {:?}", delivered.ids());
    }
    run.says(&["tenant=lie_lost ", "it says so"]);
    // When an event happened is its own affair; no time is too odd to be delivered.
    assert_eq!(run.delivered("lie_event_times").ids(), ["before", "after"]);
}

#[test]
fn an_event_too_deep_for_a_stage_is_a_dead_letter() {
    let run = run();
    for (name, _) in super::DEEP {
        let name = format!("deep_{name}");
        let folder = run.folder.path();
        let kept = format!("state/{name}/dead-letters/{name}.rejected.ndjson");
        // Too deep for the reader of these tests as well.
        let lines = [folder.join(format!("{name}.ndjson")), folder.join(kept)]
            .map(|path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count()));
        assert_eq!(
            lines.iter().sum::<usize>(),
            1,
            "{name}: the event is somewhere, once"
        );
    }
}

#[test]
pub fn miscount() {
    let run = run();
    let kept = [
        ("stage_few", "0 verdicts for 1 events"),
        ("stage_many", "promise more events than it gave"),
        (
            "stage_leftover",
            "more events than its verdicts account for",
        ),
        ("stage_trap", "it trapped"),
        ("stage_spin", "computed for 0.1 s"),
    ];
    for (name, words) in kept {
        assert!(run.delivered(name).events.is_empty(), "{name}");
        let kept = run.dead_letters(name).events;
        assert_eq!(kept.len(), 1, "{name}: the event is kept");
        let reason = kept[0]["reason"].as_str().unwrap();
        assert!(
            reason.contains(words) && reason.contains("plugin `miscount`"),
            "{name}: {reason}"
        );
        assert_eq!(
            kept[0]["body"]["event"]["id"], "one",
            "{name}: {:?}",
            kept[0]
        );
        run.says(&[&format!("{name}: 1 tenant(s)")]);
    }
    // To drop is its right; it is counted.
    assert!(run.delivered("stage_none").events.is_empty());
    assert!(run.dead_letters("stage_none").events.is_empty());
}

#[test]
pub fn dial_out() {
    let run = run();
    let foreign = &run.victim.server().foreign_url;
    let name = run.victim.tenants(|tenant| tenant.name.clone()).remove(0);
    run.says(&[
        "plugin `dial_out`",
        &name,
        &format!("asks for `{foreign}`, which is not granted"),
    ]);
    // A host that is granted and not the tenant's own gets the request and no token.
    run.says(&["a foreign host answered 200"]);
    assert_eq!(run.victim.stats().leaked_tokens, 0);
    assert_eq!(run.delivered("dial_forge").ids(), ["forged-nothing"]);
    assert_eq!(run.delivered("dial_tricks").ids(), ["tricked-nobody"]);
    run.says(&["sent more requests in one call than it may"]);
    // What reached the office's own origin are the requests that were allowed, as the host wrote them.
    let recent: Vec<String> = run.victim.change(|office| office.recent().collect());
    for line in &recent {
        let allowed =
            line.ends_with(" GET /?") || line.contains("/steal?") || line.contains("/oauth2/");
        assert!(allowed, "{line}");
    }
}
