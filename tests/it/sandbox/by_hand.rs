//! Components that no compiler makes: a core module put together by hand, wrapped as a source that does nothing.
//!
//! Every export answers with zeros, which stand for an empty text, an empty list, success. A test changes what it is
//! about, and nothing else.

use std::borrow::Cow;

use wasm_encoder::{
    CodeSection, ConstExpr, ElementSection, Elements, ExportKind, ExportSection, Function,
    FunctionSection, MemorySection, MemoryType, Module, RefType, StartSection, TableSection,
    TableType, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Resolve, WorldItem};

use crate::root;

/// A source made by hand.
pub struct ByHand {
    /// Runs when an instance is made.
    pub start: Option<Function>,
    /// Where the host asks for room for what it passes.
    pub realloc: Function,
    /// Pages of memory that it starts with.
    pub pages: u64,
    /// Slots of each of its tables.
    pub tables: Vec<u64>,
    /// How many slots of the first table it fills from its own bytes.
    pub elements: u32,
    /// Functions that nobody calls.
    pub more: Vec<Function>,
}

impl Default for ByHand {
    fn default() -> Self {
        Self {
            start: None,
            realloc: constant(1_024),
            pages: 1,
            tables: Vec::new(),
            elements: 0,
            more: Vec::new(),
        }
    }
}

/// A function that answers with a number.
pub fn constant(number: i32) -> Function {
    let mut function = Function::new([]);
    function.instructions().i32_const(number).end();
    function
}

/// A function that never ends, and would answer with a number.
pub fn endless(answers: bool) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.loop_(wasm_encoder::BlockType::Empty).br(0).end();
    if answers {
        code.i32_const(0);
    }
    code.end();
    function
}

impl ByHand {
    /// Its bytes, as a component.
    pub fn component(self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(root().join("wit")).unwrap();
        let world = resolve
            .select_world(&[package], Some("source-plugin"))
            .unwrap();
        let mut module = self.module(&resolve, world);
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        // What it makes is looked at by the host under test, not here.
        let mut encoder = ComponentEncoder::default();
        let encoder = encoder.validate(false).module(&module).unwrap();
        encoder.encode().unwrap()
    }

    fn module(self, resolve: &Resolve, world: wit_parser::WorldId) -> Vec<u8> {
        let (mut types, mut functions) = (TypeSection::new(), FunctionSection::new());
        let (mut exports, mut code) = (ExportSection::new(), CodeSection::new());
        let mut add = |params: Vec<ValType>, results: Vec<ValType>, body: &Function| {
            let number = functions.len();
            types.ty().function(params, results);
            functions.function(number);
            code.function(body);
            number
        };
        for (key, item) in &resolve.worlds[world].exports {
            let WorldItem::Interface { id, .. } = item else {
                continue;
            };
            for function in resolve.interfaces[*id].functions.values() {
                let signature = resolve.wasm_signature(AbiVariant::GuestExport, function);
                let of =
                    |types: &[WasmType]| types.iter().copied().map(value_type).collect::<Vec<_>>();
                assert_eq!(
                    signature.results.len(),
                    1,
                    "each answers by pointing into its memory"
                );
                let number = add(of(&signature.params), of(&signature.results), &constant(0));
                let name = format!("{}#{}", resolve.name_world_key(key), function.name);
                exports.export(&name, ExportKind::Func, number);
            }
        }
        let realloc = add(vec![ValType::I32; 4], vec![ValType::I32], &self.realloc);
        exports.export("cabi_realloc", ExportKind::Func, realloc);
        exports.export("memory", ExportKind::Memory, 0);
        let start = self.start.map(|body| add(Vec::new(), Vec::new(), &body));
        for body in &self.more {
            add(Vec::new(), Vec::new(), body);
        }
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: self.pages,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut tables = TableSection::new();
        for minimum in &self.tables {
            tables.table(TableType {
                element_type: RefType::FUNCREF,
                table64: false,
                minimum: *minimum,
                maximum: None,
                shared: false,
            });
        }
        let mut elements = ElementSection::new();
        if self.elements > 0 {
            let filled = vec![0; self.elements as usize];
            elements.active(
                Some(0),
                &ConstExpr::i32_const(0),
                Elements::Functions(Cow::Owned(filled)),
            );
        }
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&tables);
        module.section(&memories).section(&exports);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        module.section(&elements).section(&code);
        module.finish()
    }
}

fn value_type(of: WasmType) -> ValType {
    match of {
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
    }
}
