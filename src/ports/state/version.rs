//! Finds the version of a file before its contents are parsed.

use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

/// The version in this field of a JSON object; `None` if it has none.
pub(super) fn find(body: &[u8], field: &str) -> Option<u32> {
    let mut search = Search { field, found: None };
    // An error is not one of the search: it stops at the version, in the middle of the object.
    let _ = serde_json::Deserializer::from_slice(body).deserialize_map(&mut search);
    search.found
}

/// Reads an object only up to its version, which trueup writes first: a file may have 64 MiB.
struct Search<'a> {
    field: &'a str,
    found: Option<u32>,
}

impl<'de> Visitor<'de> for &mut Search<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "an object with a `{}`", self.field)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.field {
                self.found = Some(map.next_value()?);
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
