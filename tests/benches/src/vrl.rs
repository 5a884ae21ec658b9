//! A mapping in the Vector Remap Language, run by the crate that Vector runs it with.

use std::collections::BTreeMap;

use ::vrl::compiler::runtime::Runtime;
use ::vrl::compiler::state::RuntimeState;
use ::vrl::compiler::{Program, TargetValue, TimeZone};
use ::vrl::diagnostic::Formatter;
use ::vrl::value::{Secrets, Value};
use bytes::Bytes;

const SOURCE: &str = include_str!("mapping.vrl");

/// A compiled program and what it runs in.
pub struct Script {
    program: Program,
    runtime: Runtime,
    zone: TimeZone,
}

impl Script {
    /// Compiles `mapping.vrl`.
    ///
    /// # Panics
    ///
    /// When the program is wrong, with what the compiler says.
    #[must_use]
    pub fn compile() -> Self {
        let compiled = ::vrl::compiler::compile(SOURCE, &::vrl::stdlib::all());
        let compiled = compiled.unwrap_or_else(|wrong| panic!("{}", Formatter::new(SOURCE, wrong)));
        let zone = "UTC"
            .parse()
            .map_or_else(|_| TimeZone::default(), TimeZone::Named);
        let runtime = Runtime::new(RuntimeState::default());
        Self {
            program: compiled.program,
            runtime,
            zone,
        }
    }

    /// Maps one record, as text in `.message`, and writes the event as JSON.
    ///
    /// # Panics
    ///
    /// When the program or the writing fails: the records are known to be good.
    pub fn map(&mut self, record: Bytes, out: &mut Vec<u8>) {
        let message = BTreeMap::from([("message".into(), Value::Bytes(record))]);
        let mut target = TargetValue {
            value: Value::Object(message),
            metadata: Value::Object(BTreeMap::new()),
            secrets: Secrets::default(),
        };
        let resolved = self.runtime.resolve(&mut target, &self.program, &self.zone);
        resolved.expect("the program maps these records");
        self.runtime.clear();
        serde_json::to_writer(out, &target.value).expect("a value can be written as JSON");
    }
}
