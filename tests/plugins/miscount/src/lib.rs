//! A transform that cheats: fewer verdicts than events, more events than verdicts, traps, endless loops.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "sluicegate:plugin/transform-plugin",
        generate_all,
    });
}

use std::hint::black_box;

use bindings::exports::sluicegate::plugin::transform::{Applied, Guest, Verdict};
use bindings::sluicegate::plugin::types::{Batch, Descriptor, Diagnostic, Failure, Limits};

struct Miscount;

impl Guest for Miscount {
    fn describe() -> Descriptor {
        let (name, version) = ("miscount".into(), "0.1.0".into());
        Descriptor {
            name,
            version,
            config_schema: "{}".into(),
        }
    }

    fn check_config(_: String) -> Vec<Diagnostic> {
        Vec::new()
    }

    fn apply(config: String, batch: Batch, _: Limits) -> Result<Applied, Failure> {
        let has = |mode: &str| config.contains(&format!("\"mode\":\"{mode}\""));
        let mut verdicts: Vec<_> = batch.entries.iter().map(|_| Verdict::Keep).collect();
        if has("few") {
            verdicts.pop();
        } else if has("many") {
            verdicts[0] = Verdict::Many(u32::MAX);
        } else if has("none") {
            let drop = |_| Verdict::Drop("as asked".into());
            let verdicts = batch.entries.iter().map(drop).collect();
            let (bytes, entries) = (Vec::new(), Vec::new());
            return Ok(Applied {
                output: Batch { bytes, entries },
                verdicts,
            });
        } else if has("leftover") {
            verdicts[0] = Verdict::Drop("and yet it is given".into());
        } else if has("trap") {
            std::process::abort();
        } else if has("hoard") {
            let mut kept = Vec::new();
            loop {
                kept.push(black_box(vec![1_u8; 64 << 10]));
            }
        } else if has("spin") {
            let mut turns = 0_u64;
            loop {
                turns = black_box(turns.wrapping_add(1));
            }
        }
        Ok(Applied {
            output: batch,
            verdicts,
        })
    }
}

bindings::export!(Miscount with_types_in bindings);
