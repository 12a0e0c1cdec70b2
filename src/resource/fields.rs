//! Field types that several kinds share, each with exactly one accepted notation.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::problem::InvalidValue;

/// Whether a thing should be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Presence {
    #[default]
    Present,
    Absent,
}

/// Permission bits, written as a quoted octal string: `"0644"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String"))]
pub(crate) struct Mode(pub u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        struct ModeVisitor;
        impl Visitor<'_> for ModeVisitor {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quoted octal mode such as \"0644\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Mode, E> {
                // YAML reads `0o644` as 420, so the digits may not be those that were written.
                let hint = match format!("{number:04}") {
                    digits if digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) => {
                        format!("write \"{digits}\"")
                    }
                    _ => "write its octal digits in quotes, such as \"0644\"".to_owned(),
                };
                Err(E::custom(InvalidValue::new(
                    format!(
                        "a mode must be quoted, or YAML reads it as the decimal number {number}"
                    ),
                    hint,
                )))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Mode, E> {
                let digits = (3..=5).contains(&text.len())
                    && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
                match u32::from_str_radix(text, 8) {
                    Ok(mode) if digits && mode <= 0o7777 => Ok(Mode(mode)),
                    _ => Err(E::custom(InvalidValue::new(
                        format!("`{text}` is not a mode"),
                        "expected a quoted octal string such as \"0644\"",
                    ))),
                }
            }
        }
        deserializer.deserialize_any(ModeVisitor)
    }
}

/// A command: a list of arguments, or one string for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "Vec<String>"))]
pub(crate) enum Argv {
    List(Vec<String>),
    Shell(String),
}

impl Argv {
    /// The command that runs this as a child process.
    pub(crate) fn command(&self) -> crate::ports::exec::Command {
        match self {
            Argv::List(argv) => crate::ports::exec::Command::new(argv),
            Argv::Shell(line) => crate::ports::exec::Command::shell(line),
        }
    }
}

impl fmt::Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command().command_line())
    }
}

impl<'de> Deserialize<'de> for Argv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Argv, D::Error> {
        struct ArgvVisitor;
        impl<'de> Visitor<'de> for ArgvVisitor {
            type Value = Argv;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of arguments, or a string for the shell")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Argv, E> {
                if text.trim().is_empty() {
                    return Err(E::custom("the command is empty"));
                }
                Ok(Argv::Shell(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Argv, A::Error> {
                let mut argv = Vec::new();
                while let Some(arg) = seq.next_element::<String>()? {
                    argv.push(arg);
                }
                if argv.is_empty() {
                    return Err(de::Error::custom("the command is empty"));
                }
                Ok(Argv::List(argv))
            }
        }
        deserializer.deserialize_any(ArgvVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{ParseLimits, decode, parse};

    #[derive(Debug, serde::Deserialize)]
    struct Holder<T> {
        v: T,
    }

    fn decode_value<T: de::DeserializeOwned>(text: &str) -> Result<T, String> {
        let node = parse("t", format!("v: {text}").as_bytes(), ParseLimits::default()).unwrap();
        decode::<Holder<T>>(&node)
            .map(|holder| holder.v)
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn unquoted_mode_is_rejected_instead_of_read_as_decimal() {
        let error = decode_value::<Mode>("755").unwrap_err();
        assert_eq!(
            error,
            "t:1:4: v: a mode must be quoted, or YAML reads it as the decimal number 755\n  hint: write \"0755\""
        );
        assert_eq!(decode_value::<Mode>("\"0755\"").unwrap(), Mode(0o755));
        assert_eq!(decode_value::<Mode>("'644'").unwrap().to_string(), "0644");
        for bad in ["'9'", "'0888'", "rwx", "'0o755'", "'17777'"] {
            assert!(decode_value::<Mode>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn argv_is_a_list_or_a_shell_line() {
        assert_eq!(
            decode_value::<Argv>("[a, 'b c']").unwrap().to_string(),
            "a 'b c'"
        );
        assert_eq!(decode_value::<Argv>("a | b").unwrap().to_string(), "a | b");
        assert!(decode_value::<Argv>("[]").is_err() && decode_value::<Argv>("''").is_err());
    }
}
