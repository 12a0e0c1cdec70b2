//! A failure in one line: what failed, and the line of a program's output that says why.

/// Most characters of the line that is quoted.
const MAX_CAUSE_CHARS: usize = 200;

/// What [`block_quote`](crate::ports::exec::block_quote) puts before each line of a program.
const QUOTE: &str = "  | ";

/// How systemd begins its lines about a unit, which follow those of the unit's own processes.
const SYSTEMD: [&str; 9] = [
    "Started ",
    "Starting ",
    "Stopped ",
    "Stopping ",
    "Reloading ",
    "Reloaded ",
    "Failed to start ",
    "Unit process ",
    "Triggering OnFailure",
];

/// What else systemd says of a unit, after `NAME.service: `.
const UNIT: &str = ".service: ";

/// Words of lines that say what is wrong, in lower case.
const TELLING: [&str; 22] = [
    "error",
    "exception",
    "alert",
    "emerg",
    "fatal",
    "panic",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "unable",
    "failed",
    "failure",
    "not found",
    "no such",
    "no space",
    "denied",
    "refused",
    "undefined",
    "missing",
    "in use",
    "killed",
];

/// Words of lines that say nothing new, in lower case: npm's pointer to its log, summaries that follow the error.
const EMPTY: [&str; 11] = [
    "a complete log of this run",
    "npm err! code",
    "npm error code",
    "loading failure!",
    "failed to load worker",
    "current worker (",
    "some protocols failed to start their listeners",
    "still could not bind()",
    "test failed",
    "errors found in configuration",
    "error(s) found in configuration",
];

/// The first line of a message and, if a program's output follows it, the line of that which tells most.
pub(crate) fn one_line(message: &str) -> String {
    let summary = message.lines().next().unwrap_or_default();
    // What a service printed last may have nothing to do with the failure.
    let is_own = summary.contains(" exited with ");
    let quoted = message.lines().filter_map(|line| line.strip_prefix(QUOTE));
    match telling_line(quoted, is_own) {
        Some(cause) if !summary.contains(&cause) => {
            let summary = summary.trim_end_matches(':');
            format!("{summary}: {cause}")
        }
        _ => summary.to_owned(),
    }
}

/// The last line that names an error, else the last one if `any_line` may tell.
fn telling_line<'t>(lines: impl Iterator<Item = &'t str>, any_line: bool) -> Option<String> {
    let lines: Vec<&str> = lines
        .map(str::trim)
        .filter(|line| !is_empty(line))
        .collect();
    let names_error = |line: &&&str| {
        let lower = line.to_lowercase();
        TELLING.iter().any(|word| lower.contains(word))
    };
    let line = lines.iter().rev().find(names_error);
    let line = line.or(lines.last().filter(|_| any_line))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut shown: String = without_time(&words).join(" ");
    if let Some((end, _)) = shown.char_indices().nth(MAX_CAUSE_CHARS) {
        shown.truncate(end);
        shown.push('…');
    }
    Some(shown)
}

/// Without the numbers of nginx's `2026/11/29 21:50:55 [emerg] 532#532:` and haproxy's `[ALERT] (115) :`, a failure that says
/// the same as before is no news.
fn without_time<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let is_of = |word: &str, separator: char| {
        let mut characters = word.chars();
        word.contains(separator) && characters.all(|c| c.is_ascii_digit() || c == separator)
    };
    let is_pid = |word: &str| {
        let pid = word
            .strip_prefix('(')
            .and_then(|word| word.strip_suffix(')'));
        pid.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match words {
        [level, pid, ":", rest @ ..] if level.starts_with('[') && is_pid(pid) => {
            [&[*level], rest].concat()
        }
        [date, time, level, process, rest @ ..]
            if is_of(date, '/')
                && is_of(time, ':')
                && is_of(process.trim_end_matches(':'), '#') =>
        {
            [&[*level], rest].concat()
        }
        _ => words.to_vec(),
    }
}

/// Whether a line says nothing about the cause: a frame of a stack trace (of Ruby, JavaScript, Java or Python), a line of
/// the service manager, a mark.
fn is_empty(line: &str) -> bool {
    let lower = line.to_lowercase();
    let is_frame = ["from ", "at ", "file \""]
        .iter()
        .any(|frame| lower.starts_with(frame));
    is_frame
        || matches!(line, "Killed" | "Terminated")
        || !line.chars().any(char::is_alphanumeric)
        || SYSTEMD.iter().any(|words| line.starts_with(words))
        || line
            .split_once(UNIT)
            .is_some_and(|(name, _)| !name.contains(' '))
        || EMPTY.iter().any(|words| lower.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::exec::block_quote;

    fn quoted(output: &str) -> String {
        one_line(&format!(
            "step `install` exited with 1\n{}",
            block_quote(output)
        ))
    }

    #[test]
    fn one_line_quotes_what_the_program_says_is_wrong() {
        // Each as the program prints it.
        for (output, cause) in [
            (
                "Fetching gem metadata from https://gems.example.com/...\nCould not find gem 'nosuch' in the repository https://gems.example.com/ or installed locally.\n",
                "Could not find gem 'nosuch' in the repository https://gems.example.com/ or installed locally.",
            ),
            (
                "npm ERR! code E404\nnpm ERR! 404 Not Found - GET https://npm.example.com/nosuch - Not found\nnpm ERR! A complete log of this run can be found in: /srv/.npm/_logs/1.log\n",
                "npm ERR! 404 Not Found - GET https://npm.example.com/nosuch - Not found",
            ),
            (
                "Traceback (most recent call last):\n  File \"/srv/app/manage.py\", line 22, in <module>\n    main()\nModuleNotFoundError: No module named 'django'\n",
                "ModuleNotFoundError: No module named 'django'",
            ),
            (
                "/srv/app/server.js:3\nthrow new Error(\"boom\");\n^\n\nError: boom\n    at Object.<anonymous> (/srv/app/server.js:3:7)\n    at node:internal/main:23:47\n\nNode.js v18.19.0\n",
                "Error: boom",
            ),
            (
                "! Unable to load application: RuntimeError: this version does not boot\nbundler: failed to load command: puma (/usr/bin/puma)\n/srv/config.ru:3:in `block in <main>': this version does not boot (RuntimeError)\n\tfrom /usr/lib/ruby/rack/builder.rb:116:in `eval'\npuma-shop.service: Main process exited, code=exited, status=1/FAILURE\npuma-shop.service: Failed with result 'exit-code'.\nFailed to start puma-shop.service - shop.\n",
                "/srv/config.ru:3:in `block in <main>': this version does not boot (RuntimeError)",
            ),
            (
                "[ALERT] Binding [/etc/haproxy/haproxy.cfg:9] for frontend f: cannot bind socket (Address already in use) for [0.0.0.0:80]\n[ALERT]    (115) : [/usr/sbin/haproxy.main()] Some protocols failed to start their listeners! Exiting.\n[WARNING]  (115) : Loading failure!\nhaproxy.service: Deactivated successfully.\nReloaded haproxy.service - HAProxy Load Balancer.\n",
                "[ALERT] Binding [/etc/haproxy/haproxy.cfg:9] for frontend f: cannot bind socket (Address already in use) for [0.0.0.0:80]",
            ),
            (
                "nginx: [emerg] unknown directive \"lisen\" in /etc/nginx/conf.d/hand.conf:1\nnginx: configuration file /etc/nginx/nginx.conf test failed\n",
                "nginx: [emerg] unknown directive \"lisen\" in /etc/nginx/conf.d/hand.conf:1",
            ),
            (
                "[ALERT]    (12) : config : parsing [/etc/haproxy/haproxy.cfg:3] : unknown keyword 'x' in 'global' section\n[ALERT]    (12) : config : Error(s) found in configuration file : /etc/haproxy/haproxy.cfg\n[ALERT]    (12) : config : Fatal errors found in configuration.\n",
                "[ALERT] config : parsing [/etc/haproxy/haproxy.cfg:3] : unknown keyword 'x' in 'global' section",
            ),
            (
                "2026/11/29 21:50:55 [emerg] 532#532: unknown directive \"lisen\" in /etc/nginx/conf.d/hand.conf:1\n",
                "[emerg] unknown directive \"lisen\" in /etc/nginx/conf.d/hand.conf:1",
            ),
            ("one\n  two   words\n", "two words"),
        ] {
            assert_eq!(
                quoted(output),
                format!("step `install` exited with 1: {cause}")
            );
        }
    }

    #[test]
    fn one_line_stays_short_and_says_nothing_twice() {
        let long = quoted(&"é".repeat(10_000));
        assert!(long.chars().count() < 250 && long.ends_with('…'), "{long}");
        assert_eq!(quoted("\n --- \n"), "step `install` exited with 1");
        assert_eq!(quoted("exited with 1"), "step `install` exited with 1");
        assert_eq!(one_line("a mistake\n  hint: mend it"), "a mistake");
        assert_eq!(one_line(""), "");
        let several = format!(
            "it is not up\nweb printed last:\n{}",
            block_quote("no space left")
        );
        assert_eq!(one_line(&several), "it is not up: no space left");
        let chatter = format!(
            "it answered 500; it said: no\nweb printed last:\n{}",
            block_quote("bye")
        );
        assert_eq!(one_line(&chatter), "it answered 500; it said: no");
    }
}
