//! Instances of EC2 as nodes: which ones, and what they are to their peers.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::name::is_name;
use crate::ports::ec2::Ec2Settings;

/// The most groups of one host: each is a request a minute.
const MAX_GROUPS: usize = 10;

/// Limits of DescribeInstances: filters, values of all of them, and characters of one.
const MAX_VALUES: usize = 200;
const MAX_LENGTH: usize = 255;

/// Instances of one region, by filters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Ec2Group {
    /// The region; that of the setting `ec2` when not given.
    pub region: Option<String>,
    /// The address of EC2's API, with its scheme; that of the setting `ec2` when not given.
    pub endpoint: Option<String>,
    /// Filters of DescribeInstances, all of which have to match: a value, or a list of values of which one has to.
    #[serde(deserialize_with = "deserialize_filters")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, Vec<String>>"))]
    pub filters: BTreeMap<String, Vec<String>>,
    /// What these instances are to their peers, besides their tags. An instance with an agent is what its agent says.
    #[serde(default, rename = "as")]
    pub nodes: Ec2Nodes,
}

/// What instances are to their peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Ec2Nodes {
    /// The apps that they serve.
    #[serde(default)]
    pub apps: Vec<String>,
    /// Their ports, by name.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Their roles.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// Validates the groups. Returns each problem with its field.
pub(super) fn validate(groups: &[Ec2Group]) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if groups.len() > MAX_GROUPS {
        problems.push(("ec2", format!("expected at most {MAX_GROUPS} groups")));
    }
    for group in groups {
        problems.extend(group.problems());
    }
    problems
}

impl Ec2Group {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut add = |field, message: String| problems.push((field, message));
        if self.filters.is_empty() {
            add(
                "filters",
                "expected at least one, such as `\"tag:app\": shop`: without any, every instance of the account would match".into(),
            );
        }
        for (name, values) in &self.filters {
            if name.is_empty() || values.is_empty() {
                add("filters", format!("`{name}` needs a name and a value"));
            }
            if name == "instance-state-name" {
                add(
                    "filters",
                    "`instance-state-name` is trueup's own: it needs the instances that end, too"
                        .into(),
                );
            }
        }
        let values: Vec<&String> = self.filters.values().flatten().collect();
        let texts = self.filters.keys().chain(values.iter().copied());
        let is_long =
            |text: &&String| text.len() > MAX_LENGTH || text.chars().any(char::is_control);
        if values.len() > MAX_VALUES || texts.clone().any(|text| is_long(&text)) {
            add(
                "filters",
                format!(
                    "EC2 takes at most {MAX_VALUES} values, of at most {MAX_LENGTH} characters"
                ),
            );
        }
        let nodes = &self.nodes;
        let names = nodes
            .apps
            .iter()
            .chain(&nodes.roles)
            .chain(nodes.ports.keys());
        for name in names.filter(|name| !is_name(name)) {
            add("as", super::invalid_name(name));
        }
        if nodes.ports.values().any(|port| *port == 0) {
            add("as", "0 is not a port".into());
        }
        problems.extend(self.api().mistakes());
        problems
    }

    /// Where these instances are listed.
    pub(crate) fn api(&self) -> Ec2Settings {
        Ec2Settings {
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

/// One group, or a list of groups.
pub(super) fn deserialize_groups<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Ec2Group>, D::Error> {
    struct Groups;

    impl<'de> Visitor<'de> for Groups {
        type Value = Vec<Ec2Group>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a map with `filters`, or a list of such maps")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let group = Ec2Group::deserialize(de::value::MapAccessDeserializer::new(map))?;
            Ok(vec![group])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(de::value::SeqAccessDeserializer::new(list))
        }
    }

    deserializer.deserialize_any(Groups)
}

/// Values of filters, each one value or a list.
fn deserialize_filters<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    struct Values(Vec<String>);

    impl<'de> Deserialize<'de> for Values {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
            struct Texts;

            impl<'de> Visitor<'de> for Texts {
                type Value = Values;

                fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                    out.write_str("a text, or a list of texts")
                }

                fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
                    Ok(Values(vec![text.to_owned()]))
                }

                fn visit_u64<E: de::Error>(self, number: u64) -> Result<Values, E> {
                    Ok(Values(vec![number.to_string()]))
                }

                fn visit_bool<E: de::Error>(self, value: bool) -> Result<Values, E> {
                    Ok(Values(vec![value.to_string()]))
                }

                fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Values, A::Error> {
                    Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Values)
                }
            }

            deserializer.deserialize_any(Texts)
        }
    }

    let filters: BTreeMap<String, Values> = BTreeMap::deserialize(deserializer)?;
    let filters = filters
        .into_iter()
        .map(|(name, Values(values))| (name, values));
    Ok(filters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Ec2Group>, String> {
        #[derive(Debug, Deserialize)]
        struct File {
            #[serde(deserialize_with = "deserialize_groups")]
            ec2: Vec<Ec2Group>,
        }
        let file: Result<File, _> = serde_json::from_str(text);
        file.map(|file| file.ec2).map_err(|error| error.to_string())
    }

    #[test]
    fn one_group_and_a_list_of_groups_are_accepted() {
        let one = parse(
            r#"{"ec2": {"filters": {"tag:app": "shop", "tag:slot": 3, "vpc-id": ["a", "b"]}}}"#,
        );
        let one = one.unwrap();
        assert_eq!(one[0].filters["tag:slot"], ["3"]);
        assert_eq!(one[0].filters["vpc-id"], ["a", "b"]);
        assert_eq!(validate(&one), []);
        let two = r#"{"ec2": [{"filters": {"tag:app": "shop"}}, {"filters": {"tag:app": "blog"}, "region": "eu-west-1"}]}"#;
        let two = parse(two).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(validate(&two), []);
    }

    #[test]
    fn mistakes_in_a_group_name_the_field_and_what_is_expected() {
        for (group, field, expected) in [
            (
                r#"{"filters": {}}"#,
                "filters",
                "every instance of the account",
            ),
            (
                r#"{"filters": {"tag:app": []}}"#,
                "filters",
                "needs a name and a value",
            ),
            (
                r#"{"filters": {"instance-state-name": "running"}}"#,
                "filters",
                "trueup's own",
            ),
            (
                r#"{"filters": {"tag:app": "a\nb"}}"#,
                "filters",
                "at most 200 values",
            ),
            (
                r#"{"filters": {"a": "b"}, "region": "eu/../x"}"#,
                "region",
                "such as `eu-west-1`",
            ),
            (
                r#"{"filters": {"a": "b"}, "endpoint": "file:///x"}"#,
                "endpoint",
                "http://host:port",
            ),
            (
                r#"{"filters": {"a": "b"}, "as": {"apps": ["../x"]}}"#,
                "as",
                "is not a name",
            ),
            (
                r#"{"filters": {"a": "b"}, "as": {"ports": {"http": 0}}}"#,
                "as",
                "0 is not a port",
            ),
        ] {
            let groups = parse(&format!("{{\"ec2\": {group}}}")).unwrap();
            let problems = validate(&groups);
            assert_eq!(problems.len(), 1, "{group}");
            assert_eq!(problems[0].0, field, "{group}");
            assert!(problems[0].1.contains(expected), "{}", problems[0].1);
        }
        for (group, expected) in [
            (r#"3"#, "a map with `filters`"),
            (r#"{"region": "eu-west-1"}"#, "missing field `filters`"),
            (r#"{"filters": {"a": {}}}"#, "a text, or a list of texts"),
            (
                r#"{"filters": {"a": "b"}, "tags": {}}"#,
                "unknown field `tags`",
            ),
        ] {
            let error = parse(&format!("{{\"ec2\": {group}}}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
