//! From nodes to typed values, with the place and the field of whatever does not fit.

use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::node::{Entry, Kind, Node, Plain, Style};
use crate::problem::{Problem, nearest, one_of};

/// The typed value of a tree.
pub fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(node).map_err(|error| error.into_problem(node))
}

/// Why a node does not fit a type, on its way out to the place where it is known which one.
#[derive(Debug)]
pub struct Misfit(Box<Detail>);

#[derive(Debug)]
struct Detail {
    problem: Problem,
    /// From the innermost out.
    path: Vec<String>,
}

impl Misfit {
    fn new(problem: Problem) -> Misfit {
        Misfit(Box::new(Detail {
            problem,
            path: Vec::new(),
        }))
    }

    fn at(mut self, node: &Node) -> Misfit {
        self.0.problem = self.0.problem.at(&node.at);
        self
    }

    fn inside(mut self, part: impl Into<String>, node: &Node) -> Misfit {
        self = self.at(node);
        self.0.path.push(part.into());
        self
    }

    fn into_problem(self, node: &Node) -> Problem {
        let Detail { problem, mut path } = *self.at(node).0;
        path.reverse();
        let mut field = String::new();
        for part in path {
            if !field.is_empty() && !part.starts_with('[') {
                field.push('.');
            }
            field.push_str(&part);
        }
        if field.is_empty() {
            problem
        } else {
            problem.field(field)
        }
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.problem.fmt(f)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    /// A type may give advice after a `|`.
    fn custom<T: std::fmt::Display>(message: T) -> Misfit {
        let message = message.to_string();
        Misfit::new(match message.split_once(" | ") {
            Some((message, hint)) => Problem::new(message).hint(hint),
            None => Problem::new(message),
        })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Misfit {
        let problem = Problem::new(format!("unknown field `{field}`"));
        Misfit::new(match nearest(field, expected.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("expected {}", one_of(expected))),
        })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Misfit {
        Misfit::new(
            Problem::new(format!("`{variant}` is not one of {}", one_of(expected)))
                .suggest(variant, expected.iter().copied()),
        )
    }

    fn missing_field(field: &'static str) -> Misfit {
        Misfit::new(Problem::new(format!("the field `{field}` is missing")))
    }
}

impl Node {
    fn unfit(&self, expected: &str) -> Misfit {
        Misfit::new(Problem::new(format!(
            "expected {expected}, found {}",
            self.describe()
        )))
        .at(self)
    }

    /// The number behind a scalar that is allowed to be one.
    fn number<T: std::str::FromStr>(&self, expected: &str) -> Result<T, Misfit> {
        let unfit = || self.unfit(expected);
        match &self.kind {
            Kind::Scalar {
                text,
                style: Style::Plain,
            } => match Plain::of(text) {
                Plain::Int(value) => value.to_string().parse().map_err(|_| unfit()),
                Plain::Float(_) => text.parse().map_err(|_| unfit()),
                _ => Err(unfit()),
            },
            Kind::Scalar {
                text,
                style: Style::Rendered,
            } => text.trim().parse().map_err(|_| unfit()),
            _ => Err(unfit()),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $words:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            let value: $type = self.number($words)?;
            visitor.$visit::<Misfit>(value).map_err(|error| error.at(self))
        })*
    };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Scalar { text, style } => match (style, Plain::of(text)) {
                (Style::Plain, Plain::Null) => visitor.visit_unit(),
                (Style::Plain, Plain::Bool(value)) => visitor.visit_bool(value),
                (Style::Plain, Plain::Int(value)) => visitor.visit_i64(value),
                (Style::Plain, Plain::Float(value)) => visitor.visit_f64(value),
                _ => visitor.visit_borrowed_str(text),
            }
            .map_err(|error: Misfit| error.at(self)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Scalar { text, style } if *style != Style::Quoted => match Plain::of(text) {
                Plain::Bool(value) => visitor.visit_bool(value),
                _ => Err(self.unfit("`true` or `false`")),
            },
            _ => Err(self.unfit("`true` or `false`")),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8, "a small whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 u32, "a whole number that is not negative";
        deserialize_u64 visit_u64 u64, "a whole number that is not negative";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    /// Any scalar but null is text where text is wanted, exactly as it was written.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => visitor
                .visit_borrowed_str(text)
                .map_err(|error: Misfit| error.at(self)),
            _ => Err(self.unfit("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        // A template that renders to nothing in place of something optional gives nothing.
        let empty =
            matches!(&self.kind, Kind::Scalar { text, style: Style::Rendered } if text.is_empty());
        if self.is_null() || empty {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.is_null() {
            visitor.visit_unit()
        } else {
            Err(self.unfit("nothing"))
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::List(items) => visitor
                .visit_seq(Items { items, next: 0 })
                .map_err(|error: Misfit| error.at(self)),
            _ => Err(self.unfit("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Map(entries) => visitor
                .visit_map(Entries { entries, next: 0 })
                .map_err(|error: Misfit| error.at(self)),
            _ => Err(self.unfit("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Scalar { text, .. } => {
                let text: de::value::StrDeserializer<'_, Misfit> =
                    text.as_str().into_deserializer();
                visitor.visit_enum(text).map_err(|error| error.at(self))
            }
            _ => Err(self.unfit(&one_of(variants))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit_struct tuple tuple_struct identifier
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(item)
            .map(Some)
            .map_err(|error| error.inside(format!("[{}]", self.next - 1), item))
    }
}

struct Entries<'de> {
    entries: &'de [Entry],
    next: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        let Some(entry) = self.entries.get(self.next) else {
            return Ok(None);
        };
        let key: de::value::BorrowedStrDeserializer<'de, Misfit> =
            de::value::BorrowedStrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|mut error| {
            error.0.problem = error.0.problem.at(&entry.key_at);
            error
        })
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Misfit> {
        let entry = &self.entries[self.next];
        self.next += 1;
        seed.deserialize(&entry.value)
            .map_err(|error| error.inside(&entry.key, &entry.value))
    }
}
