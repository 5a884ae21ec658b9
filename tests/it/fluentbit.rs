//! The module for Fluent Bit, called as Fluent Bit calls it: copy tag and record in, call, copy the answer up to its
//! NUL, free both.
//!
//! The engine has no SIMD and no imports to offer, like Fluent Bit's own, so a module that needs either does not load.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluicegate_ecs::{Mapper, Options};
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, TypedFunc};

/// Built by the build script.
const MODULE: &str = env!("SLUICEGATE_FLUENTBIT");

/// As many records as a busy tenant has in an hour.
const RECORDS: usize = 100_000;

/// An arbitrary time, 2026-01-10T08:41:07Z.
const SECONDS: u32 = 1_768_034_467;

type Filter = TypedFunc<(u32, u32, u32, u32, u32, u32), u32>;

struct FluentBit {
    store: Store<()>,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: TypedFunc<u32, ()>,
    filter: Filter,
}

impl FluentBit {
    fn new() -> Self {
        let mut config = Config::new();
        config.wasm_relaxed_simd(false).wasm_simd(false);
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::from_file(&engine, MODULE).expect("loads without SIMD");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("needs no imports");
        let memory = instance
            .get_memory(&mut store, "memory")
            .expect("exports its memory");
        let malloc = instance
            .get_typed_func(&mut store, "malloc")
            .expect("exports malloc");
        let free = instance
            .get_typed_func(&mut store, "free")
            .expect("exports free");
        let filter = instance
            .get_typed_func(&mut store, "o365_filter")
            .expect("exports a filter");
        Self {
            store,
            memory,
            malloc,
            free,
            filter,
        }
    }

    /// Copies bytes and a NUL into the module.
    fn copy(&mut self, bytes: &[u8]) -> u32 {
        let size = wire(bytes.len() + 1);
        let block = self
            .malloc
            .call(&mut self.store, size)
            .expect("malloc returns");
        assert_ne!(block, 0, "there is memory for {size} bytes");
        let memory = &mut self.memory.data_mut(&mut self.store)[block as usize..];
        memory[..bytes.len()].copy_from_slice(bytes);
        memory[bytes.len()] = 0;
        block
    }

    /// The event of a record that Fluent Bit got at this time.
    fn map(&mut self, record: &[u8], seconds: u32) -> Vec<u8> {
        let (tag, copy) = (self.copy(b"o365"), self.copy(record));
        let arguments = (tag, 4, seconds, 0, copy, wire(record.len()));
        let answer = self
            .filter
            .call(&mut self.store, arguments)
            .expect("the filter returns");
        assert_ne!(answer, 0, "null would drop the record");
        let memory = &self.memory.data(&self.store)[answer as usize..];
        let end = memory
            .iter()
            .position(|&byte| byte == 0)
            .expect("the answer ends with a NUL");
        let event = memory[..end].to_vec();
        for block in [tag, copy] {
            self.free
                .call(&mut self.store, block)
                .expect("free returns");
        }
        event
    }

    fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }
}

fn wire(length: usize) -> u32 {
    u32::try_from(length).expect("records of the tests are small")
}

/// Every golden record, with its path.
fn fixtures() -> Vec<(PathBuf, Vec<u8>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = here.map(|folder| folder.join("tests/fixtures/o365"));
    let folder = folders
        .find(|folder| folder.is_dir())
        .expect("the fixtures are here");
    let mut fixtures = Vec::new();
    for kind in fs::read_dir(folder)
        .expect("the fixtures are here")
        .flatten()
    {
        for file in fs::read_dir(kind.path())
            .expect("one folder for each kind")
            .flatten()
        {
            // `<case>.json` is the record; `<case>.ecs.json` and `<case>.options.json` are not.
            if file.file_name().to_string_lossy().matches('.').count() == 1 {
                let record = fs::read(file.path()).expect("a fixture can be read");
                fixtures.push((file.path(), record));
            }
        }
    }
    fixtures.sort();
    assert!(fixtures.len() > 150, "{} fixtures", fixtures.len());
    fixtures
}

/// What the mapping makes of it natively; `None` when it cannot be mapped at all.
fn native(record: &[u8], seconds: u32) -> Option<Vec<u8>> {
    let mut mapper = Mapper::new(Options::default());
    mapper.set_arrival_ms(i64::from(seconds) * 1000);
    let mut event = Vec::new();
    mapper.map(record, &mut event).ok().map(|_| event)
}

fn parsed(event: &[u8]) -> Value {
    serde_json::from_slice(event).expect("an event is JSON")
}

#[test]
fn every_fixture_gives_the_event_that_it_gives_natively() {
    let mut fluent_bit = FluentBit::new();
    let (mut mapped, mut marked) = (0, 0);
    for (path, record) in fixtures() {
        let event = fluent_bit.map(&record, SECONDS);
        if let Some(expected) = native(&record, SECONDS) {
            assert!(
                event == expected,
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&event)
            );
            mapped += 1;
        } else {
            let event = parsed(&event);
            assert_eq!(
                event["event"]["kind"],
                "pipeline_error",
                "{}",
                path.display()
            );
            let original = String::from_utf8_lossy(&record).into_owned();
            assert_eq!(
                event["event"]["original"],
                json!(original),
                "{}",
                path.display()
            );
            marked += 1;
        }
    }
    assert!(mapped > 100, "{mapped} mapped, {marked} marked");
}

#[test]
fn a_line_of_text_gives_the_event_of_the_record_in_it() {
    let mut fluent_bit = FluentBit::new();
    for (path, record) in fixtures() {
        let Ok(text) = String::from_utf8(record) else {
            continue;
        };
        let Some(expected) = native(text.as_bytes(), SECONDS) else {
            continue;
        };
        for (member, line) in [("log", text.clone()), ("message", format!("{text}\n"))] {
            let wrapped = json!({ member: line }).to_string();
            let mut event = parsed(&fluent_bit.map(wrapped.as_bytes(), SECONDS));
            let mut expected = parsed(&expected);
            // The original is what came, which is the line here and the record there.
            for side in [&mut event, &mut expected] {
                let original = side["event"]
                    .as_object_mut()
                    .and_then(|event| event.remove("original"));
                assert!(
                    original.is_none_or(|original| original.is_string()),
                    "{}",
                    path.display()
                );
            }
            assert_eq!(event, expected, "{}", path.display());
        }
    }
}

#[test]
fn a_hundred_thousand_records_need_no_more_memory_than_the_first_ones() {
    let mut fluent_bit = FluentBit::new();
    let fixtures = fixtures();
    for (_, record) in &fixtures {
        fluent_bit.map(record, SECONDS);
    }
    let warm = fluent_bit.memory_bytes();
    for (_, record) in fixtures.iter().cycle().take(RECORDS) {
        fluent_bit.map(record, SECONDS);
    }
    assert_eq!(fluent_bit.memory_bytes(), warm);
}
