use super::*;
use crate::yaml::ParseLimits;

/// The JSON of the checked value, or the problem.
fn check(schema: &str, value: &str) -> Result<String, String> {
    let parse = |text: &str| yaml::parse("t", text.as_bytes(), ParseLimits::default()).unwrap();
    let schema: ValueSchema = yaml::decode(&parse(schema)).unwrap();
    schema.validate().map_err(|problem| problem.message)?;
    let value = parse(&format!("v: {value}")).get("v").unwrap().clone();
    let checked = schema.check(value).map(|value| value.to_json().to_string());
    checked.map_err(|problem| problem.message)
}

#[test]
fn values_of_each_type_pass_and_others_name_what_is_expected() {
    let port = "{type: port}";
    let few = "{type: integer, min: 1, max: 9}";
    for (schema, value, expected) in [
        (port, "3000", Ok("3000")),
        (port, "\"3000\"", Ok("3000")),
        (port, "null", Ok("null")),
        (
            port,
            "three",
            Err("expected a port from 1 to 65535, found the text `three`"),
        ),
        (
            port,
            "0",
            Err("expected a port from 1 to 65535, found the number `0`"),
        ),
        (
            port,
            "70000",
            Err("expected a port from 1 to 65535, found the number `70000`"),
        ),
        (
            port,
            "[1]",
            Err("expected a port from 1 to 65535, found a list"),
        ),
        (
            few,
            "10",
            Err("expected a whole number from 1 to 9, found the number `10`"),
        ),
        (
            few,
            "1.5",
            Err("expected a whole number from 1 to 9, found the number `1.5`"),
        ),
        (
            "{type: integer, min: 1}",
            "0",
            Err("expected a whole number of at least 1, found the number `0`"),
        ),
        ("{type: integer, max: 1}", "-3", Ok("-3")),
        ("{type: boolean}", "false", Ok("false")),
        (
            "{type: boolean}",
            "\"false\"",
            Err("expected `true` or `false`, found the text `false`"),
        ),
        (
            "{type: boolean}",
            "no",
            Err("expected `true` or `false`, found the text `no`"),
        ),
        ("{type: text}", "22", Ok("22")),
        ("{type: text}", "{a: b}", Err("expected text, found a map")),
        ("{type: text, one_of: [a, b]}", "b", Ok("\"b\"")),
        (
            "{type: text, one_of: [a, b]}",
            "c",
            Err("expected `a` or `b`, found the text `c`"),
        ),
        ("{type: list}", "hidden", Err("expected a list, found text")),
        ("{type: map}", "hidden", Err("expected a map, found text")),
        ("{type: map}", "{}", Ok("{}")),
        (
            "{type: environment}",
            "{A_1: b, _c: 2, D: true, E: null}",
            Ok("{\"A_1\":\"b\",\"_c\":2,\"D\":true}"),
        ),
        (
            "{type: environment}",
            "{my-var: hidden}",
            Err(
                "`my-var` is not a name of an environment variable: expected letters, digits and `_`, without a digit at the start",
            ),
        ),
        (
            "{type: environment}",
            "{1A: hidden}",
            Err(
                "`1A` is not a name of an environment variable: expected letters, digits and `_`, without a digit at the start",
            ),
        ),
        (
            "{type: environment}",
            "{A: [hidden]}",
            Err("expected text, found a list"),
        ),
        (
            "{type: environment}",
            "hidden",
            Err("expected a map of environment variables, found text"),
        ),
        ("{type: duration}", "90s", Ok("\"90s\"")),
        ("{type: duration}", "60", Ok("60")),
        ("{type: duration}", "soon", Err("`soon` is not a duration")),
        ("{type: size}", "100M", Ok("\"100M\"")),
        ("{type: size}", "much", Err("`much` is not a size")),
        ("{type: path}", "/srv", Ok("\"/srv\"")),
        (
            "{type: path}",
            "srv",
            Err("expected an absolute path, found the text `srv`"),
        ),
        ("{type: mode}", "\"0600\"", Ok("\"0600\"")),
        ("{}", "[1, {a: b}]", Ok("[1,{\"a\":\"b\"}]")),
        (
            "{type: list, min: 1}",
            "[]",
            Err("`min` and `max` are for the types `integer` and `port`, not for `list`"),
        ),
        (
            "{type: integer, min: 2, max: 1}",
            "1",
            Err("`min` (2) is larger than `max` (1)"),
        ),
        (
            "{type: port, one_of: [\"1\"]}",
            "1",
            Err("`one_of` is for the type `text`, not for `port`"),
        ),
    ] {
        let found = check(schema, value);
        let found = found.as_deref().map_err(String::as_str);
        assert_eq!(found, expected, "{schema} {value}");
    }
}
