//! A sentence on what the roles of a node describe.

/// "the role `app` describes 19 resources".
pub(crate) fn describe_resources(roles: &[String], resources: usize) -> String {
    let names: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    let resources = match resources {
        0 => "no resources".to_owned(),
        1 => "1 resource".to_owned(),
        many => format!("{many} resources"),
    };
    match names.split_last() {
        None => format!("without roles there are {resources}"),
        Some((only, [])) => format!("the role {only} describes {resources}"),
        Some((last, others)) => {
            format!(
                "the roles {} and {last} describe {resources}",
                others.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_resources_are_counted_in_the_singular_and_the_plural() {
        for (roles, resources, expected) in [
            (vec![], 0, "without roles there are no resources"),
            (vec!["app"], 1, "the role `app` describes 1 resource"),
            (vec!["app"], 19, "the role `app` describes 19 resources"),
            (
                vec!["app", "base"],
                2,
                "the roles `app` and `base` describe 2 resources",
            ),
            (
                vec!["a", "b", "c"],
                0,
                "the roles `a`, `b` and `c` describe no resources",
            ),
        ] {
            let roles: Vec<String> = roles.into_iter().map(str::to_owned).collect();
            assert_eq!(describe_resources(&roles, resources), expected);
        }
    }
}
