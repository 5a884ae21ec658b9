//! Imports interfaces that it may not have: the environment, and one that no host knows.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package acme:greedy;
            interface disk {
                format: func(name: string);
            }
            world component {
                include sluicegate:plugin/transform-plugin@0.1.0;
                import wasi:cli/environment@0.2.12;
                import disk;
            }
        ",
        path: "../../../wit",
        world: "acme:greedy/component",
        generate_all,
    });
}

use bindings::exports::sluicegate::plugin::transform::{Applied, Guest};
use bindings::sluicegate::plugin::types::{Batch, Descriptor, Diagnostic, Failure, Limits};
use bindings::wasi::cli::environment;

struct AskTooMuch;

impl Guest for AskTooMuch {
    fn describe() -> Descriptor {
        let schema = format!("{:?}", environment::get_environment());
        Descriptor {
            name: "ask_too_much".into(),
            version: "0.1.0".into(),
            config_schema: schema,
        }
    }

    fn check_config(_: String) -> Vec<Diagnostic> {
        Vec::new()
    }

    fn apply(config: String, _: Batch, _: Limits) -> Result<Applied, Failure> {
        bindings::acme::greedy::disk::format(&config);
        Err(Failure::Cancelled)
    }
}

bindings::export!(AskTooMuch with_types_in bindings);
