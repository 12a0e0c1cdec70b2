//! Ids of EC2: a prefix that names the type of a resource, and hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Most digits of an id: AWS has 8 and 17.
const MAX_DIGITS: usize = 40;

/// Declares the type of ids with a prefix.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(String);

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<$name, InvalidId> {
                match is_id(text, $prefix) {
                    true => Ok($name(text.to_owned())),
                    false => Err(InvalidId { prefix: $prefix }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

id!(
    /// The allocation of an elastic IP.
    AllocationId,
    "eipalloc-"
);
id!(InstanceId, "i-");
id!(
    /// A network interface.
    InterfaceId,
    "eni-"
);

/// A text that is no id of this type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}` and hexadecimal digits, such as `{prefix}0a1b2c3d4e5f67890`")]
pub(crate) struct InvalidId {
    prefix: &'static str,
}

fn is_id(text: &str, prefix: &str) -> bool {
    let Some(digits) = text.strip_prefix(prefix) else {
        return false;
    };
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    (1..=MAX_DIGITS).contains(&digits.len()) && digits.chars().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_of_its_type_is_accepted() {
        let id: AllocationId = "eipalloc-0a1b2c3d4e5f67890".parse().unwrap();
        assert_eq!(id.to_string(), "eipalloc-0a1b2c3d4e5f67890");
        for text in [
            "",
            "eipalloc-",
            "eipalloc-0A",
            "eipalloc-0a&Action=x",
            "i-0a1b2c3d",
            " eipalloc-0a",
        ] {
            let error = text.parse::<AllocationId>().unwrap_err().to_string();
            assert!(error.contains("expected `eipalloc-`"), "{text}: {error}");
        }
        assert!("i-0a1b2c3d".parse::<InstanceId>().is_ok());
        assert!(
            format!("eni-{}", "a".repeat(41))
                .parse::<InterfaceId>()
                .is_err()
        );
    }
}
