//! A program in the Vector Remap Language, compiled once and run for each event.
//!
//! It sees the event as `.` and may read `%tenant`, `%stream` and `%id`. It reaches no file, no
//! network and no environment: functions that do are not known to it. It ends: the language has no
//! endless loops, and one that would take too many steps is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::{ExternalEnv, RuntimeState};
use vrl::compiler::{
    CompileConfig, ExpressionError, Function, Program, TargetValue, TimeZone, compile_with_external,
};
use vrl::diagnostic::{Diagnostic, Formatter};
use vrl::path::{OwnedSegment, OwnedTargetPath, PathPrefix};
use vrl::value::kind::Collection;
use vrl::value::{Kind, Secrets, Value};

use crate::event::{Event, StreamKey};

/// What reaches outside, or fills the log with events. Most of these are not even built in; the list
/// holds when another crate of the same build asks `vrl` for more.
const LEFT_OUT: [&str; 12] = [
    "dns_lookup",
    "encode_proto",
    "get_env_var",
    "get_hostname",
    "get_timezone_name",
    "http_request",
    "log",
    "parse_etld",
    // Its alias files are read when the program is compiled.
    "parse_groks",
    "parse_proto",
    "reverse_dns",
    "validate_json_schema",
];

/// What a program may read beside the event.
const METADATA: [&str; 3] = ["id", "stream", "tenant"];

/// Expressions that one event may take: some seconds of work, and far more than a program needs that
/// looks at each value of the largest event a few times.
const STEPS: u32 = 20_000_000;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It changes the event.
    Remap,
    /// It says `true` or `false` and changes nothing.
    Condition,
}

/// Something that is wrong with a program.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line of the program, from 1.
    pub line: usize,
    /// The column in the line, in characters from 1.
    pub column: usize,
    /// The compiler's words.
    pub what: String,
    /// The lines around it, with what is meant underlined.
    pub picture: String,
}

/// A compiled program.
pub struct Script(Program);

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Script")
    }
}

impl Script {
    /// Compiles a program, or says all that is wrong with it.
    pub fn compile(source: &str, purpose: Purpose) -> Result<Self, Vec<Mistake>> {
        let mut config = CompileConfig::default();
        config.set_read_only_path(OwnedTargetPath::metadata_root(), true);
        if purpose == Purpose::Condition {
            config.set_read_only();
        }
        let known = METADATA.map(|name| (name.into(), Kind::bytes()));
        let metadata = Collection::from_parts(BTreeMap::from(known), Kind::undefined());
        let event = Kind::object(Collection::any());
        let external = ExternalEnv::new_with_kind(event, Kind::object(metadata));
        let compiled = compile_with_external(source, &functions(), &external, config);
        let program = compiled
            .map_err(|list| {
                let mistakes = list.iter().filter(|one| one.is_problem());
                mistakes.map(|one| mistake(source, one)).collect::<Vec<_>>()
            })?
            .program;
        let unknown: Vec<_> = unknown_metadata(source, &program);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let result = program.final_type_info().result;
        if purpose == Purpose::Condition && !result.is_boolean() {
            return Err(vec![Mistake {
                line: 1,
                column: 1,
                what: format!(
                    "a condition ends in a boolean, this one in: {}",
                    result.kind()
                ),
                picture: String::new(),
            }]);
        }
        Ok(Self(program))
    }
}

fn functions() -> Vec<Box<dyn Function>> {
    let mut all = vrl::stdlib::all();
    all.retain(|function| !LEFT_OUT.contains(&function.identifier()));
    all
}

/// Metadata that a program asks for and that there is not: to the language it would be `null`.
fn unknown_metadata(source: &str, program: &Program) -> Vec<Mistake> {
    let queries = program.info().target_queries.iter();
    let names = queries.filter_map(|query| match query.path.segments.first() {
        Some(OwnedSegment::Field(name)) if query.prefix == PathPrefix::Metadata => Some(name),
        _ => None,
    });
    let unknown: BTreeSet<&str> = names
        .map(vrl::value::KeyString::as_str)
        .filter(|name| !METADATA.contains(name))
        .collect();
    let mistake = |name: &str| {
        let (line, column) = place(source, source.find(&format!("%{name}")).unwrap_or(0));
        Mistake {
            line,
            column,
            what: format!("`%{name}` is not there: programs can read `%id`, `%stream`, `%tenant`"),
            picture: String::new(),
        }
    };
    unknown.into_iter().map(mistake).collect()
}

/// The line and column of a byte of a program, from 1.
fn place(source: &str, byte: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(byte)];
    let line = before.rsplit('\n').next().unwrap_or_default();
    let lines = before.matches('\n').count();
    (lines + 1, line.chars().count() + 1)
}

fn mistake(source: &str, found: &Diagnostic) -> Mistake {
    let labels = found.labels();
    let label = labels.iter().find(|label| label.primary).or(labels.first());
    let start = label.map_or(0, |label| label.span.start());
    let (line, column) = place(source, start);
    let drawn = Formatter::new(source, found.clone()).to_string();
    let picture = drawn
        .lines()
        // The first line is the sentence; the last ones advertise.
        .filter(|line| !line.starts_with("error[") && !line.contains("https://"))
        .filter(|line| !line.contains("VRL REPL") && !line.trim().is_empty())
        .collect::<Vec<_>>();
    Mistake {
        line,
        column,
        what: format!("{} (E{:03})", found.message(), found.code),
        picture: picture.join("\n"),
    }
}

/// What a program did to an event.
#[derive(Debug, PartialEq)]
pub enum Ran {
    /// It came to its end.
    Ended {
        /// The value of its last expression.
        result: Value,
        /// What it left of the event.
        event: Value,
    },
    /// It said `abort`; why, if it says so.
    Aborted(String),
    /// It failed.
    Failed(String),
}

/// Runs programs, one event after the other.
#[derive(Debug)]
pub struct Runner {
    runtime: Runtime,
    zone: TimeZone,
    steps: u32,
}

impl Default for Runner {
    fn default() -> Self {
        let zone = "UTC".parse();
        Self {
            runtime: Runtime::new(RuntimeState::default()),
            zone: zone.map_or_else(|_| TimeZone::default(), TimeZone::Named),
            steps: STEPS,
        }
    }
}

impl Runner {
    /// Runs a program on an event whose body is `value`.
    pub fn run(&mut self, script: &Script, value: Value, event: &Event, stream: &StreamKey) -> Ran {
        let text = |text: &str| Value::from(text.to_owned());
        let metadata = BTreeMap::from([
            ("id".into(), text(&event.id)),
            ("stream".into(), text(&stream.stream)),
            ("tenant".into(), text(&stream.tenant)),
        ]);
        let mut target = TargetValue {
            value,
            metadata: Value::Object(metadata),
            secrets: Secrets::default(),
        };
        let mut steps = self.steps;
        let mut control = || {
            steps = steps.saturating_sub(1);
            if steps == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let ran =
            self.runtime
                .resolve_with_control(&mut target, &script.0, &self.zone, &mut control);
        self.runtime.clear();
        match ran {
            Ok(result) => Ran::Ended {
                result,
                event: target.value,
            },
            Err(Terminate::Abort(ExpressionError::Abort { message, .. })) => {
                Ran::Aborted(message.unwrap_or_else(|| "aborted".to_owned()))
            }
            Err(Terminate::Interrupted) => {
                Ran::Failed(format!("it took more than {} steps", self.steps))
            }
            Err(Terminate::Abort(error) | Terminate::Error(error)) => {
                Ran::Failed(error.to_string())
            }
        }
    }

    /// Whether a condition holds. One that fails or aborts does not hold, as in Vector; an event that
    /// is no JSON object is an error.
    pub fn holds(
        &mut self,
        script: &Script,
        event: &Event,
        stream: &StreamKey,
    ) -> Result<bool, String> {
        match self.run(script, read(&event.body)?, event, stream) {
            Ran::Ended { result, .. } => Ok(result == Value::Boolean(true)),
            Ran::Aborted(reason) | Ran::Failed(reason) => {
                tracing::debug!(%reason, "a condition failed; it does not hold");
                Ok(false)
            }
        }
    }
}

/// An event as the language sees it.
pub fn read(body: &[u8]) -> Result<Value, String> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("the event is not a JSON object".to_owned()),
        Err(error) => Err(format!("the event is not a JSON object: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Identity;

    fn event(body: &str) -> Event {
        Event {
            id: "one".into(),
            fingerprint: 0,
            time_ms: 0,
            body: body.to_owned().into(),
            identity: Identity::of("contoso", "one", 0),
        }
    }

    #[track_caller]
    fn run(source: &str, body: &str) -> Ran {
        let script = Script::compile(source, Purpose::Remap).unwrap();
        let stream = StreamKey::new("contoso", "Audit.General");
        let value = read(body.as_bytes()).unwrap();
        Runner::default().run(&script, value, &event(body), &stream)
    }

    #[track_caller]
    fn refused(source: &str, purpose: Purpose) -> Vec<Mistake> {
        Script::compile(source, purpose).unwrap_err()
    }

    #[test]
    fn a_program_reads_where_an_event_comes_from_and_cannot_change_it() {
        let ran = run(".a = %tenant + \"/\" + %stream + \"/\" + %id\n.", "{}");
        let Ran::Ended { event, .. } = ran else {
            panic!("{ran:?}")
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"a":"contoso/Audit.General/one"}"#
        );
        for source in ["%tenant = \"x\"", "% = {}", "%x = 1", "del(%id)"] {
            assert!(!refused(source, Purpose::Remap).is_empty(), "{source}");
        }
    }

    #[test]
    fn metadata_that_is_not_there_is_refused_with_its_place() {
        let mistakes = refused(".a = %id\n.b = [%tenants]", Purpose::Remap);
        assert!(mistakes[0].what.contains("`%tenants`"), "{mistakes:?}");
        assert_eq!((mistakes[0].line, mistakes[0].column), (2, 7));
        assert!(matches!(run(".a = %", "{}"), Ran::Ended { .. }));
    }

    #[test]
    fn nothing_outside_is_within_reach() {
        for call in [
            "get_env_var!(\"HOME\")",
            "get_hostname!()",
            "dns_lookup!(\"a.example\")",
            "reverse_dns!(\"192.0.2.1\")",
            "http_request!(\"http://a.example\")",
            "log(\"x\")",
            "parse_groks!(.m, patterns: [\"%{x}\"], alias_sources: [\"/etc/passwd\"])",
            "validate_json_schema!(.m, \"/etc/passwd\")",
            "parse_proto!(.m, \"/etc/passwd\", \"a\")",
        ] {
            let mistakes = refused(&format!(".x = {call}"), Purpose::Remap);
            assert!(
                mistakes[0].what.contains("undefined function"),
                "{call}: {mistakes:?}"
            );
        }
    }

    #[test]
    fn mistakes_have_a_place_words_and_a_picture() {
        let mistakes = refused(".a = 1\n  .b = parse_json(.c)\n", Purpose::Remap);
        assert_eq!((mistakes[0].line, mistakes[0].column), (2, 8));
        assert_eq!(mistakes[0].what, "unhandled fallible assignment (E103)");
        assert!(
            mistakes[0].picture.contains("^^^^"),
            "{}",
            mistakes[0].picture
        );
        assert!(!mistakes[0].picture.contains("https://"));
    }

    #[test]
    fn a_condition_is_a_boolean_and_changes_nothing() {
        assert!(
            refused(".a", Purpose::Condition)[0]
                .what
                .contains("boolean")
        );
        assert!(!refused(".a = 1\ntrue", Purpose::Condition).is_empty());
        let condition = Script::compile(".a == 1 && %tenant == \"contoso\"", Purpose::Condition);
        let condition = condition.unwrap();
        let stream = StreamKey::new("contoso", "Audit.General");
        let mut runner = Runner::default();
        for (body, expected) in [
            (r#"{"a":1}"#, Ok(true)),
            (r#"{"a":2}"#, Ok(false)),
            ("{}", Ok(false)),
            ("[]", Err(())),
            (r#"{"a":1"#, Err(())),
        ] {
            let held = runner.holds(&condition, &event(body), &stream);
            assert_eq!(held.map_err(|_| ()), expected, "{body}");
        }
        let failing = Script::compile("to_int!(.a) == 1", Purpose::Condition).unwrap();
        assert_eq!(
            runner.holds(&failing, &event(r#"{"a":[]}"#), &stream),
            Ok(false)
        );
    }

    #[test]
    fn a_program_that_takes_too_many_steps_is_stopped() {
        let source = "n = 0\nfor_each(range!(0, 1000, 1)) -> |_i, _v| { n = n + 1 }\n.n = n";
        let script = Script::compile(source, Purpose::Remap).unwrap();
        let stream = StreamKey::new("contoso", "Audit.General");
        let mut runner = Runner {
            steps: 500,
            ..Runner::default()
        };
        let ran = runner.run(&script, read(b"{}").unwrap(), &event("{}"), &stream);
        assert_eq!(ran, Ran::Failed("it took more than 500 steps".into()));
        assert!(matches!(run(source, "{}"), Ran::Ended { .. }));
    }
}
