//! A value that is a list or a map, told apart by what stands in the file.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// A list, or a map in its place.
#[derive(Clone, Debug)]
pub enum ListOr<T, M> {
    /// The list.
    List(Vec<T>),
    /// The map.
    Map(M),
}

/// Names the newtype by which [`ListOr`] asks the decoder to look before it chooses.
pub(super) const LIST_OR: &str = "sluicegate::ListOr";

impl<'de, T: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for ListOr<T, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T, M>(PhantomData<(T, M)>);

        impl<'de, T: Deserialize<'de>, M: Deserialize<'de>> Visitor<'de> for Either<T, M> {
            type Value = ListOr<T, M>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list or a map")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(ListOr::List(list))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                map: D,
            ) -> Result<Self::Value, D::Error> {
                M::deserialize(map).map(ListOr::Map)
            }
        }
        deserializer.deserialize_newtype_struct(LIST_OR, Either(PhantomData))
    }
}

impl<T: JsonSchema, M: JsonSchema> JsonSchema for ListOr<T, M> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("list_of_{}_or_{}", T::schema_name(), M::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (item, map) = (
            generator.subschema_for::<T>(),
            generator.subschema_for::<M>(),
        );
        json_schema!({ "oneOf": [{ "type": "array", "items": item }, map] })
    }
}
