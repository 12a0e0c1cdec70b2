use super::*;

fn completed(words: &[&str], index: usize) -> (Vec<String>, usize, String) {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let (words, index, prefix) = bash_words::join_broken(&words, index);
    let words = words.iter().map(|word| word.to_str().unwrap().to_owned());
    (words.collect(), index, prefix)
}

#[test]
fn words_that_bash_broke_at_the_sign_are_joined() {
    type Example<'r> = (&'r [&'r str], usize, &'r [&'r str], usize, &'r str);
    let rows: [Example<'_>; 5] = [
        (&["trueup", "fl"], 1, &["trueup", "fl"], 1, ""),
        (
            &["trueup", "fleet", "--env", "=", "pro"],
            4,
            &["trueup", "fleet", "--env=pro"],
            2,
            "--env=",
        ),
        (
            &["trueup", "fleet", "--env", "="],
            3,
            &["trueup", "fleet", "--env="],
            2,
            "--env=",
        ),
        (
            &["trueup", "publish", "production", "shop", "=", "main", "b"],
            6,
            &["trueup", "publish", "production", "shop=main", "b"],
            4,
            "",
        ),
        (&["trueup", "now"], 2, &["trueup", "now"], 2, ""),
    ];
    for (words, index, joined, new_index, prefix) in rows {
        let joined: Vec<String> = joined.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(
            completed(words, index),
            (joined, new_index, prefix.to_owned()),
            "{words:?}"
        );
    }
}

#[test]
fn arguments_for_names_are_recognized() {
    fn check(command: &clap::Command, found: &mut usize) {
        let args = command.get_arguments();
        *found += args
            .filter(|arg| arg.get::<ArgValueCandidates>().is_some())
            .count();
        command
            .get_subcommands()
            .for_each(|inner| check(inner, found));
    }
    let mut found = 0;
    let command = with_names(Cli::command(), std::path::Path::new("/"), &[]);
    check(&command, &mut found);
    assert!(found > 45, "{found}");
}

#[test]
fn no_candidate_means_more_than_itself_to_a_shell() {
    for word in ["shop", "--env", "shop=", "web1.example", "-h"] {
        assert!(is_plain(word), "{word}");
    }
    for word in [
        "", "$(id)", "`id`", "a b", "a\nb", "'", "~", "*", "a;b", "é",
    ] {
        assert!(!is_plain(word), "{word:?}");
    }
}
