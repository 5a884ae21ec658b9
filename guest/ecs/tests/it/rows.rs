//! Every row of every table, through the whole mapping.

use serde_json::{Value, json};
use sluicegate_ecs::table::operations::{Category, OPERATIONS, Scope, Type};
use sluicegate_ecs::table::record_types::{KNOWN, LATER};
use sluicegate_ecs::{Options, Profile};

use crate::of;

#[test]
fn every_operation_appends_its_categories_and_types() {
    for profile in [Profile::Newer, Profile::V1_7_1] {
        let options = Options {
            profile,
            ..Options::default()
        };
        for row in OPERATIONS {
            let number = match row.scope {
                Scope::Any => 20,
                Scope::Directory => 8,
                Scope::Teams => 25,
                Scope::Yammer => 22,
            };
            let event = of(
                &options,
                &json!({
                    "Id": "a", "CreationTime": "2026-03-04T05:06:07", "RecordType": number,
                    "Operation": row.operation, "ObjectId": "o",
                }),
            );
            // `FileDownloaded` of Yammer has a row in its own scope and in that of files.
            let mut categories = vec!["web"];
            let mut types = vec!["info"];
            for known in OPERATIONS
                .iter()
                .filter(|known| known.operation == row.operation)
            {
                if known.scope == row.scope || known.scope == Scope::Any {
                    categories.extend(known.categories.iter().copied().map(Category::name));
                    types.extend(known.types.iter().copied().map(Type::name));
                }
            }
            assert_eq!(
                event["event"]["category"],
                json!(categories),
                "{}",
                row.operation
            );
            assert_eq!(event["event"]["type"], json!(types), "{}", row.operation);
            assert_eq!(
                event["event"]["action"],
                row.action.unwrap_or(row.operation)
            );
        }
    }
}

#[test]
fn every_record_type_has_its_code() {
    let later = Options {
        later_record_types: true,
        ..Options::default()
    };
    for profile in [Profile::Newer, Profile::V1_7_1] {
        let options = Options {
            profile,
            ..Options::default()
        };
        for row in KNOWN {
            for number in [json!(row.number), json!(row.number.to_string())] {
                let event = of(&options, &json!({ "Id": "a", "RecordType": number }));
                assert_eq!(event["event"]["code"], row.code);
            }
        }
        for row in LATER {
            let record = json!({ "Id": "a", "RecordType": row.number });
            assert_eq!(of(&options, &record)["event"]["code"], Value::Null);
            assert_eq!(of(&later, &record)["event"]["code"], row.code);
        }
    }
}
