//! Environment variables: what every shell and every program can take.

use std::collections::BTreeMap;

use crate::problem::Problem;

/// Refuses a name that a shell cannot export (POSIX, "Environment Variables").
pub(crate) fn check_variable_name(name: &str) -> Result<(), Problem> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
        return Ok(());
    }
    Err(Problem::new(format!(
        "`{name}` is not a name of an environment variable: expected letters, digits and `_`, without a digit at the start"
    )))
}

/// Refuses a value that no program can get.
pub(crate) fn check_variable_value(name: &str, value: &str) -> Result<(), Problem> {
    match value.contains('\0') {
        false => Ok(()),
        true => Err(Problem::new(format!(
            "the environment variable `{name}` contains a zero byte"
        ))),
    }
}

/// Refuses what cannot be an environment.
pub(crate) fn check_variables(variables: &BTreeMap<String, String>) -> Result<(), Problem> {
    variables.iter().try_for_each(|(name, value)| {
        check_variable_name(name).and_then(|()| check_variable_value(name, value))
    })
}
