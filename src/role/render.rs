//! Tera, and the only module of the role stage that knows it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;
use tera::{ErrorKind, Tera};

use crate::problem::{At, Problem, nearest};
use crate::settings::Library;
use crate::yaml::{Entry, Kind, Node, Style};

/// Values by name, ready for rendering.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    values: serde_json::Map<String, Value>,
    context: tera::Context,
}

impl Scope {
    pub fn insert(&mut self, name: &str, value: Value) {
        self.context.insert(name.to_owned(), &value);
        self.values.insert(name.to_owned(), value);
    }

    /// The value at a dotted path.
    fn at_path(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.values.get(parts.next()?)?;
        for part in parts {
            value = value.as_object()?.get(part)?;
        }
        Some(value)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

/// Renders strings and templates. Templates are read when first asked for and compiled once.
pub struct Renderer<'a> {
    library: &'a Library,
    tera: RefCell<Tera>,
    /// Where each template was found.
    found: RefCell<BTreeMap<String, String>>,
}

impl<'a> Renderer<'a> {
    pub fn new(library: &'a Library) -> Renderer<'a> {
        let mut tera = Tera::new();
        // The files are configuration, not HTML, whatever they are called.
        tera.autoescape_on(Vec::<&'static str>::new());
        Renderer {
            library,
            tera: RefCell::new(tera),
            found: RefCell::default(),
        }
    }

    /// A tree with its string leaves rendered. Only leaves for which `ours` holds are templates;
    /// others (what an operator wrote as a value) stay as they are.
    pub fn tree(
        &self,
        node: &Node,
        scope: &Scope,
        ours: &dyn Fn(&At) -> bool,
    ) -> Result<Node, Problem> {
        let kind = match &node.kind {
            Kind::Scalar { text, .. } if is_template(text) && ours(&node.at) => {
                return self.leaf(node, text, scope);
            }
            Kind::Scalar { .. } => return Ok(node.clone()),
            Kind::List(items) => Kind::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| {
                        self.tree(item, scope, ours)
                            .map_err(|p| under(p, &format!("[{i}]")))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|entry| {
                        let value = self
                            .tree(&entry.value, scope, ours)
                            .map_err(|p| under(p, &entry.key))?;
                        Ok(Entry {
                            key: entry.key.clone(),
                            key_at: entry.key_at.clone(),
                            value,
                        })
                    })
                    .collect::<Result<_, Problem>>()?,
            ),
        };
        Ok(Node {
            kind,
            at: node.at.clone(),
            span: node.span.clone(),
        })
    }

    /// A leaf that is one plain reference takes the value itself, list or map; any other is text.
    fn leaf(&self, node: &Node, text: &str, scope: &Scope) -> Result<Node, Problem> {
        if let Some(path) = reference(text) {
            return match scope.at_path(path) {
                Some(Value::String(value)) => Ok(rendered(&node.at, value.clone())),
                Some(value) => Ok(Node::from_json(&node.at, value)),
                None => Err(self.undefined(path, scope).at(&node.at)),
            };
        }
        let text = self
            .text(text, scope)
            .map_err(|problem| problem.at(&node.at))?;
        Ok(rendered(&node.at, text))
    }

    fn undefined(&self, path: &str, scope: &Scope) -> Problem {
        let first = path.split('.').next().unwrap_or(path);
        let problem = Problem::new(format!("`{path}` is not defined"));
        match nearest(first, scope.names()) {
            Some(near) if scope.at_path(first).is_none() => {
                problem.hint(format!("did you mean `{near}`?"))
            }
            _ => problem.hint("is it a parameter of this role, and set?"),
        }
    }

    /// A string that holds template marks, rendered.
    pub fn text(&self, text: &str, scope: &Scope) -> Result<String, Problem> {
        let tera = self.tera.borrow();
        tera.render_str(text, &scope.context, false)
            .map_err(|error| self.problem(&error, scope, false))
    }

    /// Whether an expression holds.
    pub fn holds(&self, expression: &str, scope: &Scope) -> Result<bool, Problem> {
        let text = format!("{{% if {expression} %}}yes{{% endif %}}");
        Ok(self.text(&text, scope)? == "yes")
    }

    /// A template file, rendered with these values over the scope.
    pub fn template(
        &self,
        name: &str,
        scope: &Scope,
        vars: Option<&Value>,
    ) -> Result<String, Problem> {
        self.load(name)?;
        let mut with_vars;
        let scope = match vars.and_then(Value::as_object) {
            Some(vars) => {
                with_vars = scope.clone();
                for (key, value) in vars {
                    with_vars.insert(key, value.clone());
                }
                &with_vars
            }
            None => scope,
        };
        let tera = self.tera.borrow();
        tera.render(name, &scope.context)
            .map_err(|error| self.problem(&error, scope, true))
    }

    /// A file beside the templates, as it is.
    pub fn source(&self, name: &str) -> Result<Vec<u8>, Problem> {
        match self.library.read("templates", name)? {
            Some((_, body)) => Ok(body),
            None => Err(self.missing(name)),
        }
    }

    /// Makes sure that a template, and what it includes or extends, is compiled.
    fn load(&self, name: &str) -> Result<(), Problem> {
        if self.found.borrow().contains_key(name) {
            return Ok(());
        }
        let mut batch = Vec::new();
        let mut wanted = vec![name.to_owned()];
        while let Some(name) = wanted.pop() {
            if self.found.borrow().contains_key(&name) {
                continue;
            }
            let Some((path, body)) = self.library.read("templates", &name)? else {
                return Err(self.missing(&name));
            };
            let path = path.display().to_string();
            let text = String::from_utf8(body)
                .map_err(|_| Problem::new(format!("{path} is not UTF-8 text")))?;
            wanted.extend(mentioned(&text));
            self.found.borrow_mut().insert(name.clone(), path);
            batch.push((name, text));
        }
        let added = self.tera.borrow_mut().add_raw_templates(batch);
        added.map_err(|error| self.problem(&error, &Scope::default(), true))
    }

    fn missing(&self, name: &str) -> Problem {
        let problem = Problem::new(format!(
            "there is no template `{name}` in {}",
            self.library.places("templates")
        ));
        let folder = name
            .rsplit_once('/')
            .map_or(String::new(), |(folder, _)| format!("/{folder}"));
        let near: Vec<String> = self
            .library
            .names(&format!("templates{folder}"), "")
            .into_iter()
            .map(|file| {
                format!("{folder}/{file}")
                    .trim_start_matches('/')
                    .to_owned()
            })
            .collect();
        problem.suggest(name, near.iter().map(String::as_str))
    }

    /// Tera's error in our words. `file`: the place is in a template file, not in a role.
    fn problem(&self, error: &tera::Error, scope: &Scope, file: bool) -> Problem {
        let report = match error.kind() {
            ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => report,
            _ => {
                return Problem::new(format!(
                    "template error: {}",
                    first_lines(&error.to_string())
                ));
            }
        };
        // Tera lists every variable there is; the near one is enough.
        let message = report.message().split(". Available variables").next();
        let message = message.unwrap_or_default();
        let mut problem = Problem::new(format!("template error: {message}"));
        if file {
            let found = self.found.borrow();
            let path = found
                .get(report.filename())
                .map_or(report.filename(), String::as_str);
            let span = report.span();
            problem = problem.at(&At {
                file: path.into(),
                line: span.start_line as u32,
                column: span.start_col as u32 + 1,
            });
        }
        // Undefined names are the most common mistake: say what is near.
        let name = report.message().split('`').nth(1).unwrap_or_default();
        match nearest(name, scope.names()) {
            Some(near) if scope.at_path(name).is_none() => {
                problem.hint(format!("did you mean `{near}`?"))
            }
            _ => problem,
        }
    }
}

fn first_lines(text: &str) -> String {
    text.lines().take(8).collect::<Vec<_>>().join("\n")
}

fn rendered(at: &At, text: String) -> Node {
    Node::made(
        at,
        Kind::Scalar {
            text,
            style: Style::Rendered,
        },
    )
}

fn under(problem: Problem, part: &str) -> Problem {
    let field = match &problem.field {
        Some(field) if field.starts_with('[') => format!("{part}{field}"),
        Some(field) => format!("{part}.{field}"),
        None => part.to_owned(),
    };
    Problem {
        field: Some(field),
        ..problem
    }
}

pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// The dotted path of a text that is exactly one `{{ path }}`.
pub(super) fn reference(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let ident = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    inner.split('.').all(ident).then_some(inner)
}

/// The templates that a template names in `include`, `extends` and `import`.
fn mentioned(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for tag in text.split("{%").skip(1) {
        let tag = tag
            .split("%}")
            .next()
            .unwrap_or_default()
            .trim_start_matches('-')
            .trim();
        if let Some(rest) = ["include", "extends", "import"]
            .iter()
            .find_map(|word| tag.strip_prefix(word))
        {
            let quote = rest.find(['"', '\'']).map(|at| (at, &rest[at..=at]));
            if let Some((at, quote)) = quote
                && let Some(name) = rest[at + 1..].split(quote).next()
            {
                names.push(name.to_owned());
            }
        }
    }
    names
}
