//! Decodes nodes into typed values. Errors name the place and the field of what does not fit.

use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::hints::mismatch_hint;
use super::node::{Entry, Node, NodeKind, PlainScalar, Style, shorten};
use crate::problem::{InvalidValue, Problem, nearest, one_of};

/// Decodes a tree into a typed value.
pub(crate) fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(node).map_err(|error| error.into_problem(node))
}

/// Why a node does not fit a type. Callers on the way out add its place.
#[derive(Debug)]
pub struct DecodeError(Box<DecodeErrorDetail>);

#[derive(Debug)]
struct DecodeErrorDetail {
    problem: Problem,
    /// Innermost part first.
    path: Vec<String>,
}

impl DecodeError {
    fn new(problem: Problem) -> DecodeError {
        DecodeError(Box::new(DecodeErrorDetail {
            problem,
            path: Vec::new(),
        }))
    }

    fn at(mut self, node: &Node) -> DecodeError {
        self.0.problem = self.0.problem.at(&node.at);
        self
    }

    fn within_field(mut self, part: impl Into<String>, node: &Node) -> DecodeError {
        self = self.at(node);
        self.0.path.push(part.into());
        self
    }

    fn into_problem(self, node: &Node) -> Problem {
        let DecodeErrorDetail { problem, mut path } = *self.at(node).0;
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

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.problem.fmt(f)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    /// Keeps the hint of an [`InvalidValue`].
    fn custom<T: std::fmt::Display>(message: T) -> DecodeError {
        DecodeError::new(InvalidValue::problem_from_text(&format!("{message:#}")))
    }

    /// In the words of [`Node::describe`], which has no part in a visitor's error.
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> DecodeError {
        let found = match found {
            de::Unexpected::Unit => "nothing".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a map".to_owned(),
            de::Unexpected::Bool(value) => format!("`{value}`"),
            de::Unexpected::Signed(number) => format!("the number `{number}`"),
            de::Unexpected::Float(number) => format!("the number `{number}`"),
            de::Unexpected::Str(text) => format!("the text `{}`", shorten(text)),
            other => other.to_string(),
        };
        DecodeError::new(Problem::new(format!("expected {expected}, found {found}")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> DecodeError {
        let problem = Problem::new(format!("unknown field `{field}`"));
        DecodeError::new(match nearest(field, expected.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("expected {}", one_of(expected))),
        })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> DecodeError {
        DecodeError::new(
            Problem::new(format!("`{variant}` is not one of {}", one_of(expected)))
                .suggest(variant, expected.iter().copied()),
        )
    }

    fn missing_field(field: &'static str) -> DecodeError {
        DecodeError::new(Problem::new(format!("the field `{field}` is missing")))
    }
}

impl Node {
    fn mismatch(&self, expected: &str) -> DecodeError {
        let problem = Problem::new(format!("expected {expected}, found {}", self.describe()));
        DecodeError::new(problem.optional_hint(mismatch_hint(expected, self))).at(self)
    }

    /// Parses a scalar as a number, if its style allows one.
    fn number<T: std::str::FromStr>(&self, expected: &str) -> Result<T, DecodeError> {
        let unfit = || self.mismatch(expected);
        match &self.kind {
            NodeKind::Scalar {
                text,
                style: Style::Plain,
            } => match PlainScalar::resolve(text) {
                PlainScalar::Int(value) => value.to_string().parse().map_err(|_| unfit()),
                PlainScalar::Float(_) => text.parse().map_err(|_| unfit()),
                _ => Err(unfit()),
            },
            NodeKind::Scalar {
                text,
                style: Style::Rendered,
            } => text.trim().parse().map_err(|_| unfit()),
            _ => Err(unfit()),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $words:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let value: $type = self.number($words)?;
            visitor.$visit::<DecodeError>(value).map_err(|error| error.at(self))
        })*
    };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::List(_) => self.deserialize_seq(visitor),
            NodeKind::Map(_) => self.deserialize_map(visitor),
            NodeKind::Scalar { text, style } => match (style, PlainScalar::resolve(text)) {
                (Style::Plain, PlainScalar::Null) => visitor.visit_unit(),
                (Style::Plain, PlainScalar::Bool(value)) => visitor.visit_bool(value),
                (Style::Plain, PlainScalar::Int(value)) => visitor.visit_i64(value),
                (Style::Plain, PlainScalar::Float(value)) => visitor.visit_f64(value),
                _ => visitor.visit_borrowed_str(text),
            }
            .map_err(|error: DecodeError| error.at(self)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::Scalar { text, style } if *style != Style::Quoted => {
                match PlainScalar::resolve(text) {
                    PlainScalar::Bool(value) => visitor.visit_bool(value),
                    _ => Err(self.mismatch("`true` or `false`")),
                }
            }
            _ => Err(self.mismatch("`true` or `false`")),
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

    /// Where a type wants text, any scalar but null is text, exactly as written.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::Scalar { text, .. } if !self.is_null() => visitor
                .visit_borrowed_str(text)
                .map_err(|error: DecodeError| error.at(self)),
            _ => Err(self.mismatch("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        // A template that renders to nothing in an optional field leaves the field unset.
        let empty = matches!(&self.kind, NodeKind::Scalar { text, style: Style::Rendered } if text.is_empty());
        if self.is_null() || empty {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.is_null() {
            visitor.visit_unit()
        } else {
            Err(self.mismatch("nothing"))
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::List(items) => visitor
                .visit_seq(ListAccess { items, next: 0 })
                .map_err(|error: DecodeError| error.at(self)),
            _ => Err(self.mismatch("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::Map(entries) => visitor
                .visit_map(EntryAccess { entries, next: 0 })
                .map_err(|error: DecodeError| error.at(self)),
            _ => Err(self.mismatch("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.kind {
            NodeKind::Scalar { text, .. } => {
                let text: de::value::StrDeserializer<'_, DecodeError> =
                    text.as_str().into_deserializer();
                visitor.visit_enum(text).map_err(|error| error.at(self))
            }
            _ => Err(self.mismatch(&one_of(variants))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit_struct tuple tuple_struct identifier
    }
}

struct ListAccess<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for ListAccess<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(item)
            .map(Some)
            .map_err(|error| error.within_field(format!("[{}]", self.next - 1), item))
    }
}

struct EntryAccess<'de> {
    entries: &'de [Entry],
    next: usize,
}

impl<'de> de::MapAccess<'de> for EntryAccess<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(entry) = self.entries.get(self.next) else {
            return Ok(None);
        };
        let key: de::value::BorrowedStrDeserializer<'de, DecodeError> =
            de::value::BorrowedStrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|mut error| {
            error.0.problem = error.0.problem.at(&entry.key_at);
            error
        })
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let entry = &self.entries[self.next];
        self.next += 1;
        seed.deserialize(&entry.value)
            .map_err(|error| error.within_field(&entry.key, &entry.value))
    }
}
