//! The imports between the files of the library: they have no cycle, in which no file could be understood,
//! tested or moved without all others, and the parts of a pipeline have an order.
//!
//! An import is a `use` or a path in the code; it counts from the file that has it to the file that defines
//! the item, whatever re-exports lead there. So a `mod.rs` that only re-exports its children imports nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, shipped, tokens};
use super::{Source, assert_none, sources};

/// The parts of `src/release`, in the order of the map in its `mod.rs`: each imports only earlier ones.
const ROOMS: &[&str] = &[
    "app",
    "record",
    "progress",
    "deployment",
    "source",
    "stages",
    "pipeline",
    "commands",
];

/// The path of a module or an item, segment by segment.
type Path = Vec<String>;

/// What one file declares and mentions.
#[derive(Default)]
struct Module {
    file: String,
    uses: Vec<Use>,
    /// Items that it defines itself.
    items: BTreeSet<String>,
    /// Paths of more than one segment in its code.
    paths: BTreeSet<Path>,
    /// Names in its code, besides methods and fields.
    words: BTreeSet<String>,
}

struct Use {
    path: Path,
    /// The name that it binds.
    name: String,
    public: bool,
}

/// All modules of the library by their paths.
struct Library(BTreeMap<Path, Module>);

/// What a path leads to.
enum Target {
    Module(Path),
    /// An item that this module defines.
    Item(Path),
}

impl Library {
    fn of(sources: &[Source]) -> Library {
        let shipped = sources
            .iter()
            .filter(|source| !source.test && source.path != "src/main.rs");
        Library(
            shipped
                .map(|source| (module_path(&source.path), Module::read(source)))
                .collect(),
        )
    }

    /// Finds what a path in a module leads to; `None`: something outside of the library.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Target> {
        let mut at: Path = from.to_vec();
        for (i, name) in path.iter().enumerate() {
            let is_last = i + 1 == path.len();
            let child: Path = at.iter().chain([name]).cloned().collect();
            match name.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                _ if self.0[&at].items.contains(name) => return Some(Target::Item(at)),
                _ if !is_last && self.0.contains_key(&child) => at = child,
                _ => match self.resolve_use(&at, name, depth) {
                    Some(Target::Module(module)) => at = module,
                    Some(item) => return Some(item),
                    None if self.0.contains_key(&child) => at = child,
                    None => return None,
                },
            }
        }
        Some(Target::Module(at))
    }

    fn resolve_use(&self, at: &Path, name: &str, depth: usize) -> Option<Target> {
        let uses = &self.0[at].uses;
        let bound = uses.iter().find(|bound| bound.name == name)?;
        self.resolve(at, &bound.path, depth.checked_sub(1)?)
    }

    /// For each file, the files that it imports, each with the paths that lead there.
    fn imports(&self) -> BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> {
        let mut imports: BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for (at, module) in &self.0 {
            let used = module
                .uses
                .iter()
                .filter(|bound| !bound.public || module.words.contains(&bound.name));
            let all = used.map(|bound| &bound.path).chain(&module.paths);
            let found = imports.entry(&module.file).or_default();
            for path in all {
                if let Some(Target::Item(other)) = self.resolve(at, path, 16)
                    && other != *at
                {
                    let other = self.0[&other].file.as_str();
                    found.entry(other).or_default().insert(path.join("::"));
                }
            }
        }
        imports
    }
}

impl Module {
    fn read(source: &Source) -> Module {
        let all = shipped(tokens(&source.text));
        let mut module = Module {
            file: source.path.clone(),
            ..Module::default()
        };
        let mut depth = 0_usize;
        let mut i = 0;
        while i < all.len() {
            match all[i] {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth = depth.saturating_sub(1),
                Token::Word("use") => {
                    let end = i + all[i..]
                        .iter()
                        .position(|t| *t == Token::Mark(';'))
                        .unwrap();
                    let public =
                        i > 0 && matches!(all[i - 1], Token::Word("pub") | Token::Mark(')'));
                    module.read_use(&all[i + 1..end], &[], public);
                    i = end;
                }
                Token::Word(word) => i += module.read_word(&all, i, word, depth),
                _ => {}
            }
            i += 1;
        }
        module
    }

    /// Reads the tree of a `use`.
    fn read_use(&mut self, tree: &[Token], prefix: &[String], public: bool) {
        let mut path = prefix.to_vec();
        let mut name = None;
        let mut rest = tree;
        while let Some((token, after)) = rest.split_first() {
            rest = after;
            match *token {
                Token::Word("as") => {
                    name = match after {
                        [Token::Word(word), ..] => Some((*word).to_owned()),
                        _ => None,
                    };
                    break;
                }
                Token::Word(word) => path.push(word.to_owned()),
                Token::Mark('{') => {
                    for branch in branches(&after[..after.len() - 1]) {
                        self.read_use(branch, &path, public);
                    }
                    return;
                }
                // A glob: the library has none but in tests and of other crates.
                Token::Mark('*') => return,
                _ => {}
            }
        }
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        if let Some(last) = path.last() {
            let name = name.unwrap_or_else(|| last.clone());
            self.uses.push(Use { path, name, public });
        }
    }

    /// Reads a word of code, and the path that begins with it. Returns how many more tokens that has.
    fn read_word(&mut self, all: &[Token], at: usize, word: &str, depth: usize) -> usize {
        const ITEMS: [&str; 9] = [
            "const",
            "enum",
            "fn",
            "macro_rules",
            "static",
            "struct",
            "trait",
            "type",
            "union",
        ];
        if depth == 0 && ITEMS.contains(&word) {
            let name = if word == "macro_rules" {
                at + 2
            } else {
                at + 1
            };
            if let Some(Token::Word(name)) = all.get(name) {
                self.items.insert((*name).to_owned());
            }
        }
        if at > 0
            && matches!(
                all[at - 1],
                Token::Mark('.') | Token::Colons | Token::Word("mod")
            )
        {
            return 0;
        }
        let mut path = vec![word.to_owned()];
        while let Some([Token::Colons, Token::Word(next)]) =
            all.get(at + 2 * path.len() - 1..at + 2 * path.len() + 1)
        {
            path.push((*next).to_owned());
        }
        let more = 2 * (path.len() - 1);
        // A word before a colon is a field or an argument.
        if all.get(at + 1) != Some(&Token::Mark(':')) {
            self.words.insert(word.to_owned());
        }
        if more > 0 {
            self.paths.insert(path);
        }
        more
    }
}

/// The parts of a list that commas separate, except those inside of braces.
fn branches<'a, 't>(list: &'a [Token<'t>]) -> Vec<&'a [Token<'t>]> {
    let mut depth = 0;
    list.split(|token| {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == Token::Mark(',')
    })
    .collect()
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are both `a::b`.
fn module_path(file: &str) -> Path {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut path: Path = inner.split('/').map(str::to_owned).collect();
    if matches!(path.last().unwrap().as_str(), "mod" | "lib") {
        path.pop();
    }
    path
}

/// Sets of files of which each reaches all others by its imports.
fn cycles<'a>(
    imports: &BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>,
) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports
        .keys()
        .map(|file| {
            let mut reachable = BTreeSet::new();
            let mut todo = vec![*file];
            while let Some(next) = todo.pop() {
                for other in imports.get(next).into_iter().flat_map(BTreeMap::keys) {
                    if reachable.insert(*other) {
                        todo.push(other);
                    }
                }
            }
            (*file, reachable)
        })
        .collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (file, reachable) in &reached {
        if reachable.contains(file) && !found.iter().any(|cycle| cycle.contains(file)) {
            let back = |other: &&&str| reached[**other].contains(file);
            found.push(reachable.iter().filter(back).copied().collect());
        }
    }
    found
}

#[test]
fn imports_between_files_have_no_cycle() {
    let library = Library::of(&sources());
    let imports = library.imports();
    let edges: usize = imports.values().map(BTreeMap::len).sum();
    assert!(edges > 500, "only {edges} imports are found");
    let mut found = Vec::new();
    for cycle in cycles(&imports) {
        found.push(format!("a cycle of {} files:", cycle.len()));
        for file in &cycle {
            for (other, paths) in imports[file]
                .iter()
                .filter(|(other, _)| cycle.contains(*other))
            {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                found.push(format!("  {file} imports {other}: {}", paths.join(", ")));
            }
        }
    }
    assert_none(found);
}

#[test]
fn parts_of_the_release_pipeline_import_only_earlier_ones() {
    let room = |file: &str| {
        let inner = file.strip_prefix("src/release/")?;
        let name = inner.split('/').next()?.trim_end_matches(".rs");
        ROOMS.iter().position(|room| *room == name)
    };
    let library = Library::of(&sources());
    let mut found = Vec::new();
    for (file, imports) in library.imports() {
        for other in imports.into_keys() {
            if let (Some(own), Some(its)) = (room(file), room(other))
                && its > own
            {
                found.push(format!("{file} imports {other}, of a later room"));
            }
        }
    }
    assert_none(found);
}

/// The cycles in a library of these files.
fn cycles_in(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let source = |(path, text): &(&str, &str)| Source {
        path: (*path).to_owned(),
        text: (*text).to_owned(),
        test: false,
    };
    let sources: Vec<Source> = files.iter().map(source).collect();
    let library = Library::of(&sources);
    let found = cycles(&library.imports());
    let names = |cycle: BTreeSet<&str>| cycle.into_iter().map(str::to_owned).collect();
    found.into_iter().map(names).collect()
}

#[test]
fn import_cycle_is_found_through_re_exports_and_paths() {
    let files = [
        ("src/lib.rs", "mod a;\nmod b;"),
        ("src/a/mod.rs", "mod inner;\npub use inner::Made;"),
        (
            "src/a/inner.rs",
            "pub struct Made;\nfn make() { crate::b::use_it(); }",
        ),
        ("src/b.rs", "use crate::a::Made;\npub fn use_it() {}"),
    ];
    assert_eq!(cycles_in(&files), [["src/a/inner.rs", "src/b.rs"]]);
}

#[test]
fn re_exporting_parents_and_tests_form_no_cycle() {
    let files = [
        ("src/lib.rs", "mod a;"),
        (
            "src/a/mod.rs",
            "mod one;\npub mod two;\npub use one::One;\npub struct Shared;",
        ),
        (
            "src/a/one.rs",
            "use super::Shared;\npub struct One;\n#[cfg(test)]\nmod tests {\n    use super::super::two::Two;\n}",
        ),
        ("src/a/two.rs", "use super::{One, Shared};\npub struct Two;"),
    ];
    assert_eq!(cycles_in(&files), [] as [Vec<String>; 0]);
}
