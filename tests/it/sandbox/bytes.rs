//! Components written byte by byte: what no compiler makes is refused or stopped like everything else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sluicegate::capability::{self, Grants};
use sluicegate::sandbox::Sandbox;
use wasm_encoder::{BlockType, Function, ValType};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::by_hand::{ByHand, constant, endless};
use super::load::validate_bytes;
use crate::guest;

#[test]
fn a_component_made_by_hand_that_does_nothing_is_taken() {
    let ended = validate_bytes(&ByHand::default().component());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn an_endless_start_function_is_stopped() {
    let start = Some(endless(false));
    let by_hand = ByHand {
        start,
        ..ByHand::default()
    };
    let ended = validate_bytes(&by_hand.component()).expect(78);
    ended.says(&["plugin `suspect` does not start", "computed for 5 s"]);
}

#[test]
fn an_endless_realloc_is_stopped() {
    let realloc = endless(true);
    let by_hand = ByHand {
        realloc,
        ..ByHand::default()
    };
    let ended = validate_bytes(&by_hand.component()).expect(78);
    ended.says(&[
        "plugin `suspect` was stopped in `check-config`",
        "computed for 5 s",
    ]);
}

#[test]
fn room_where_there_is_none_is_a_trap() {
    let realloc = constant(-8);
    let by_hand = ByHand {
        realloc,
        ..ByHand::default()
    };
    let ended = validate_bytes(&by_hand.component()).expect(78);
    ended.says(&["plugin `suspect` was stopped in `check-config`"]);
}

#[test]
fn what_declares_more_than_it_may_is_refused() {
    let of = |by_hand: ByHand| by_hand.component();
    let made = [
        (
            "a memory of four gigabytes",
            of(ByHand {
                pages: 65_536,
                ..ByHand::default()
            }),
        ),
        (
            "a table of a billion",
            of(ByHand {
                tables: vec![1 << 30],
                ..ByHand::default()
            }),
        ),
        (
            "forty tables",
            of(ByHand {
                tables: vec![1; 40],
                ..ByHand::default()
            }),
        ),
        (
            "ten megabytes of elements",
            of(ByHand {
                tables: vec![5_000_000],
                elements: 5_000_000,
                ..ByHand::default()
            }),
        ),
    ];
    for (what, bytes) in made {
        let ended = validate_bytes(&bytes);
        assert_eq!(ended.code, Some(78), "{what}: {}", ended.stderr);
        ended.says(&["plugin `suspect`"]);
        assert!(
            !ended.stderr.contains("panicked"),
            "{what}: {}",
            ended.stderr
        );
    }
}

/// A function of so many blocks, one in the other.
fn nested(blocks: usize) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for _ in 0..blocks {
        code.block(BlockType::Empty);
    }
    for _ in 0..=blocks {
        code.end();
    }
    function
}

/// A function with so many locals, all of them set at so many joins.
fn joins(locals: u32, joins: usize) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    let mut code = function.instructions();
    for number in 0..joins {
        let local = u32::try_from(number).unwrap() % locals;
        code.local_get(local).if_(BlockType::Empty);
        code.i32_const(1).local_set(local).end();
    }
    code.end();
    function
}

#[test]
fn what_is_made_to_choke_the_compiler_is_refused_before_it() {
    let more = |more| {
        ByHand {
            more,
            ..ByHand::default()
        }
        .component()
    };
    let elements = ByHand {
        tables: vec![20_000],
        elements: 100_001,
        ..ByHand::default()
    };
    let made = [
        (
            "1000000 locals in a function; at most 10000",
            more(vec![joins(1_000_000, 1)]),
        ),
        (
            "bytes in a function; at most 1048576",
            more(vec![nested(400_000)]),
        ),
        ("functions; at most 100000", more(vec![nested(0); 100_000])),
        (
            "100001 elements of tables; at most 100000",
            elements.component(),
        ),
    ];
    for (why, bytes) in made {
        validate_bytes(&bytes).expect(78).says(&[
            "plugin `suspect` is not a component that can be loaded",
            why,
        ]);
    }
}

#[test]
fn what_is_just_small_enough_is_compiled_or_refused() {
    for more in [joins(10_000, 2_000), nested(50_000)] {
        let ended = validate_bytes(
            &ByHand {
                more: vec![more],
                ..ByHand::default()
            }
            .component(),
        );
        let refused = ended.code == Some(78) && ended.stderr.contains("plugin `suspect`");
        assert!(
            ended.code == Some(0) || refused,
            "{:?} {}",
            ended.code,
            ended.stderr
        );
    }
}

/// As the host does: compile, look at the imports, link. Whether it got that far.
fn load(engine: &Engine, bytes: &[u8]) -> bool {
    let Ok(component) = Component::from_binary(engine, bytes) else {
        return false;
    };
    let grants = Grants {
        http: true,
        wasi: false,
    };
    let imports = capability::imports(engine, &component);
    let known = capability::check("suspect", &imports, grants).is_ok();
    let linker = capability::link(engine, grants).unwrap();
    known && linker.instantiate_pre(&component).is_ok()
}

/// Bytes with a few changes of the kinds that break formats: a bit, a byte, a stretch gone, repeated or overwritten.
fn damaged(whole: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..bytes.len());
        let end = (at + random.usize(1..40)).min(bytes.len());
        match random.u8(..6) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap(),
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, whole[at..end.min(whole.len()).max(at)].to_vec())),
            4 => bytes[at..end].fill(random.u8(..)),
            _ => bytes.truncate(at.max(8)),
        }
        if bytes.len() < 8 {
            break;
        }
    }
    bytes
}

#[test]
fn no_damage_to_a_component_brings_the_compiler_down() {
    let sandbox = Sandbox::without_ticks().unwrap();
    let small = ByHand {
        tables: vec![8],
        elements: 4,
        ..ByHand::default()
    }
    .component();
    let real = std::fs::read(guest("calm")).unwrap();
    assert!(load(sandbox.engine(), &small) && load(sandbox.engine(), &real));
    let mut loaded = 0;
    for (whole, cases) in [(&small, 2_000), (&real, 60)] {
        for case in 0..cases {
            let bytes = damaged(whole, &mut fastrand::Rng::with_seed(case));
            let outcome = catch_unwind(AssertUnwindSafe(|| load(sandbox.engine(), &bytes)));
            let Ok(fits) = outcome else {
                panic!("damage {case} of a component of {} bytes", whole.len());
            };
            loaded += u64::from(fits);
        }
    }
    assert!(loaded > 0, "some damage means nothing");
    assert!(loaded < 1_500, "most damage is seen: {loaded}");
}

/// Counts the words, slots and globals that are not as they were made, of memory that has grown as well.
fn look() -> Function {
    let mut body = Function::new([(2, ValType::I32)]);
    let mut code = body.instructions();
    let word = wasm_encoder::MemArg {
        offset: 0,
        align: 3,
        memory_index: 0,
    };
    // What grows is looked at as well.
    code.i32_const(2).memory_grow(0).drop();
    code.loop_(BlockType::Empty);
    code.local_get(0)
        .i64_load(word)
        .i64_eqz()
        .i32_eqz()
        .local_get(1)
        .i32_add()
        .local_set(1);
    code.local_get(0).i32_const(8).i32_add().local_tee(0);
    code.memory_size(0)
        .i32_const(16)
        .i32_shl()
        .i32_lt_u()
        .br_if(0)
        .end();
    code.i32_const(0).local_set(0);
    code.loop_(BlockType::Empty);
    code.local_get(0)
        .table_get(0)
        .ref_is_null()
        .i32_eqz()
        .local_get(1)
        .i32_add()
        .local_set(1);
    code.local_get(0)
        .i32_const(1)
        .i32_add()
        .local_tee(0)
        .table_size(0)
        .i32_lt_u()
        .br_if(0)
        .end();
    code.global_get(0)
        .i64_eqz()
        .i32_eqz()
        .local_get(1)
        .i32_add()
        .end();
    body
}

/// Leaves nothing as it was made.
fn soil() -> Function {
    let mut body = Function::new([]);
    let mut code = body.instructions();
    code.i32_const(0)
        .i32_const(0xa5)
        .memory_size(0)
        .i32_const(16)
        .i32_shl()
        .memory_fill(0);
    code.i32_const(0).ref_func(1).table_size(0).table_fill(0);
    code.i64_const(-1).global_set(0).end();
    body
}

/// Memory, a table and a global, a function that counts what is not as it was made, and one that soils it all.
fn remembering(pages: u64, slots: u64) -> Vec<u8> {
    use wasm_encoder::{
        CodeSection, ConstExpr, ElementSection, Elements, ExportKind, ExportSection,
        FunctionSection, GlobalSection, GlobalType, MemorySection, MemoryType, Module, RefType,
        TableSection, TableType, TypeSection,
    };
    let (mut types, mut functions) = (TypeSection::new(), FunctionSection::new());
    types.ty().function([], [ValType::I32]);
    types.ty().function([], []);
    functions.function(0).function(1);
    let mut tables = TableSection::new();
    let minimum = slots;
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum,
        maximum: None,
        shared: false,
    });
    let mut memories = MemorySection::new();
    let minimum = pages;
    memories.memory(MemoryType {
        minimum,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    let global = GlobalType {
        val_type: ValType::I64,
        mutable: true,
        shared: false,
    };
    globals.global(global, &ConstExpr::i64_const(0));
    let mut exports = ExportSection::new();
    exports
        .export("look", ExportKind::Func, 0)
        .export("soil", ExportKind::Func, 1);
    let mut elements = ElementSection::new();
    elements.declared(Elements::Functions(vec![1].into()));

    let mut bodies = CodeSection::new();
    bodies.function(&look()).function(&soil());
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&tables)
        .section(&memories);
    module
        .section(&globals)
        .section(&exports)
        .section(&elements)
        .section(&bodies);
    module.finish()
}

#[test]
fn nothing_of_an_instance_is_there_for_the_next() {
    use wasmtime::{Instance, Module, Store};
    let sandbox = Sandbox::without_ticks().unwrap();
    let engine = sandbox.engine();
    let modules = [(3, 50), (1, 500)]
        .map(|(pages, slots)| Module::new(engine, remembering(pages, slots)).unwrap());
    let mut soiled = 0;
    for round in 0..3_000 {
        // Two tenants with plugins of different sizes take turns, so that each gets what the other has left.
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(1);
        let instance = Instance::new(&mut store, &modules[round % 2], &[]).unwrap();
        let look = instance
            .get_typed_func::<(), i32>(&mut store, "look")
            .unwrap();
        assert_eq!(look.call(&mut store, ()).unwrap(), 0, "round {round}");
        let soil = instance
            .get_typed_func::<(), ()>(&mut store, "soil")
            .unwrap();
        soil.call(&mut store, ()).unwrap();
        soiled = look.call(&mut store, ()).unwrap();
    }
    // The look sees what is there: the last instance, soiled by itself, is full.
    assert!(soiled > 500, "{soiled}");
}
