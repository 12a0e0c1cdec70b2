//! The order of the apps of an environment, as `after` gives it: it must not go in a circle.

/// Maximum number of names of a circle in a message.
const MAX_SHOWN: usize = 10;

/// The apps that can never go, with why: those on a circle, and those between two. `names` are the apps, and
/// `after` has for each the numbers of those that go before it. It may have more numbers: each stands for the apps
/// that go before it. Takes time and memory in proportion to both.
pub(in crate::desired) fn apps_in_circles(
    names: &[&str],
    after: &[Vec<usize>],
) -> Vec<(usize, String)> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); after.len()];
    for (app, others) in after.iter().enumerate() {
        for other in others {
            before[*other].push(app);
        }
    }
    // An app that waits for none that remains is on no circle, and neither is one that none of them waits for.
    let mut remaining = vec![true; after.len()];
    remove_ends(&mut remaining, after, &before);
    remove_ends(&mut remaining, &before, after);
    (0..names.len())
        .filter(|app| remaining[*app])
        .map(|app| (app, circle_text(app, names, after, &remaining)))
        .collect()
}

/// Removes those without a remaining successor until each has one.
fn remove_ends(remaining: &mut [bool], successors: &[Vec<usize>], predecessors: &[Vec<usize>]) {
    let count = |app: &usize| successors[*app].iter().filter(|s| remaining[**s]).count();
    let mut degrees: Vec<usize> = (0..remaining.len()).map(|app| count(&app)).collect();
    let is_end = |app: &usize| remaining[*app] && degrees[*app] == 0;
    let mut ends: Vec<usize> = (0..remaining.len()).filter(is_end).collect();
    while let Some(end) = ends.pop() {
        remaining[end] = false;
        for app in &predecessors[end] {
            degrees[*app] -= 1;
            if degrees[*app] == 0 && remaining[*app] {
                ends.push(*app);
            }
        }
    }
}

/// `shop → db → shop`: from this app to the first one that repeats.
fn circle_text(start: usize, names: &[&str], after: &[Vec<usize>], remaining: &[bool]) -> String {
    let mut path = vec![start];
    let mut at = start;
    // Each remaining app waits for another one that remains.
    while let Some(next) = after[at].iter().find(|other| remaining[**other]) {
        let is_repeated = *next < names.len() && path.contains(next);
        path.push(*next);
        at = *next;
        if is_repeated || path.len() > MAX_SHOWN {
            break;
        }
    }
    let shown: Vec<&str> = path
        .iter()
        .filter_map(|app| names.get(*app).copied())
        .collect();
    let is_closed = at < names.len() && path[..path.len() - 1].contains(&at);
    let more = if is_closed { "" } else { " → …" };
    format!("{}{more}", shown.join(" → "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a>b c>d`: a goes after b.
    fn circles(edges: &str) -> String {
        let mut names: Vec<&str> = edges.split(['>', ' ']).filter(|n| !n.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        let all = names.clone();
        let number = |name: &str| all.binary_search(&name).unwrap();
        let mut after = vec![Vec::new(); all.len()];
        for (app, other) in edges.split(' ').filter_map(|edge| edge.split_once('>')) {
            after[number(app)].push(number(other));
        }
        names.retain(|name| *name != "~");
        let found = apps_in_circles(&names, &after);
        let line = |(app, text): &(usize, String)| format!("{}: {text}", names[*app]);
        found.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn circles_are_found_and_shown() {
        for (edges, expected) in [
            ("", ""),
            ("a>b b>c a>c", ""),
            ("a>a", "a: a → a"),
            ("a>b b>a", "a: a → b → a; b: b → a → b"),
            (
                "a>b b>c c>a",
                "a: a → b → c → a; b: b → c → a → b; c: c → a → b → c",
            ),
            // What only waits for a circle, and what one waits for, is not on it.
            ("web>a a>b b>a b>db", "a: a → b → a; b: b → a → b"),
            (
                "a>b b>a m>a c>m c>d d>c",
                "a: a → b → a; b: b → a → b; c: c → m → a → b → a; d: d → c → m → a → b → a; m: m → a → b → a",
            ),
            // `~` is no app; it stands for those that go before it.
            ("web>~ ~>a a>x x>~", "a: a → x → a; x: x → a → x"),
        ] {
            assert_eq!(circles(edges), expected, "{edges}");
        }
    }

    #[test]
    fn long_circle_is_shown_in_part_and_needs_no_recursion() {
        let count = 200_000;
        let names: Vec<String> = (0..count).map(|n| format!("app{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut after: Vec<Vec<usize>> = (0..count).map(|n| vec![(n + 1) % count]).collect();
        let found = apps_in_circles(&names, &after);
        assert_eq!(found.len(), count);
        assert!(found[0].1.starts_with("app0 → app1 → ") && found[0].1.ends_with("app10 → …"));
        after[count - 1].clear();
        assert_eq!(apps_in_circles(&names, &after), []);
    }
}
