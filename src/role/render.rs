//! Renders roles and their templates with Tera. Besides this module, its filters and functions, only texts of notices use it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;
use tera::{Tera, TeraResult};

use super::expression_names;
use super::interpolate::{PlainReferences, interpolate};
use super::nodes::{NodesFunction, single_call_as_json};
use super::scope::Scope;
use super::secret_values::{SecretValues, is_secret_call};
use super::template_syntax::{
    is_template, plain_reference, referenced_templates, with_argument_names,
};
use super::tera_error::{self, visible_names};
use super::value_location::value_location;
use crate::facts::Facts;
use crate::fleet::PeerSource;
use crate::problem::{Location, Problem, nearest};
use crate::settings::{Lookup, Settings};
use crate::yaml::{Entry, Node, NodeKind, Style};

/// Renders strings and templates. Reads templates on first use and compiles each once.
pub(crate) struct Renderer<'a, 'p> {
    lookup: &'a Lookup,
    facts: &'a Facts,
    peers: &'a mut PeerSource<'p>,
    /// The values that operators set: those of this node, and those of its environment.
    set_values: [&'a Node; 2],
    nodes: NodesFunction,
    secrets: SecretValues,
    tera: Tera,
    /// The facts that Tera has.
    provided_facts: serde_json::Map<String, Value>,
    /// Templates by name.
    sources: BTreeMap<String, Rc<TemplateSource>>,
    /// Names that Tera has compiled.
    compiled: BTreeSet<String>,
}

/// The text of a template with its path.
struct TemplateSource {
    path: String,
    text: String,
    /// `None`: it needs Tera.
    plain: Option<PlainReferences>,
}

/// An engine with all functions and filters of templates.
pub(super) fn new_tera(nodes: &NodesFunction, secrets: &SecretValues) -> Tera {
    let mut tera = Tera::new();
    tera.register_function("nodes", nodes.function());
    tera.register_function("secret", secrets.function());
    // The output is configuration, not HTML, whatever the name of the file.
    tera.autoescape_on(Vec::<&'static str>::new());
    super::filters::register(&mut tera);
    tera
}

impl<'a, 'p> Renderer<'a, 'p> {
    pub(crate) fn new(
        settings: &'a Settings,
        facts: &'a Facts,
        peers: &'a mut PeerSource<'p>,
        secrets: &SecretValues,
    ) -> Renderer<'a, 'p> {
        let nodes = NodesFunction::default();
        let tera = new_tera(&nodes, secrets);
        Renderer {
            lookup: &settings.lookup,
            facts,
            peers,
            set_values: [&settings.attributes, &settings.environment_attributes],
            nodes,
            secrets: secrets.clone(),
            tera,
            provided_facts: serde_json::Map::new(),
            sources: BTreeMap::new(),
            compiled: BTreeSet::new(),
        }
    }

    /// Whether a secret was rendered so far.
    pub(super) fn uses_secrets(&self) -> bool {
        self.secrets.is_used()
    }

    /// Renders the string leaves of a tree. Only leaves for which `is_template_source` returns true are templates; others
    /// (values that an operator wrote) stay unchanged, except a reference to a secret.
    pub(crate) fn render_tree(
        &mut self,
        node: &Node,
        scope: &Scope,
        is_template_source: &dyn Fn(&Location) -> bool,
    ) -> Result<Node, Problem> {
        let kind = match &node.kind {
            NodeKind::Scalar { text, .. }
                if is_template(text) && (is_template_source(&node.at) || is_secret_call(text)) =>
            {
                return self.render_leaf(node, text, scope);
            }
            NodeKind::Scalar { .. } => return Ok(node.clone()),
            NodeKind::List(items) => NodeKind::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| {
                        self.render_tree(item, scope, is_template_source)
                            .map_err(|p| prefix_field(p, &format!("[{i}]")))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            NodeKind::Map(entries) => NodeKind::Map(
                entries
                    .iter()
                    .map(|entry| self.render_entry(entry, scope, is_template_source))
                    .collect::<Result<_, Problem>>()?,
            ),
        };
        Ok(Node {
            kind,
            at: node.at.clone(),
            span: node.span.clone(),
        })
    }

    /// The rendered fields of a resource, without the common ones.
    pub(crate) fn render_fields(
        &mut self,
        node: &Node,
        without: &[&str],
        scope: &Scope,
    ) -> Result<Node, Problem> {
        let entries = node.as_map().unwrap_or_default().iter();
        let wanted = entries.filter(|entry| !without.contains(&entry.key.as_str()));
        let entries = wanted.map(|entry| self.render_entry(entry, scope, &|_| true));
        Ok(Node {
            kind: NodeKind::Map(entries.collect::<Result<_, Problem>>()?),
            at: node.at.clone(),
            span: node.span.clone(),
        })
    }

    fn render_entry(
        &mut self,
        entry: &Entry,
        scope: &Scope,
        is_template_source: &dyn Fn(&Location) -> bool,
    ) -> Result<Entry, Problem> {
        let value = self
            .render_tree(&entry.value, scope, is_template_source)
            .map_err(|p| prefix_field(p, &entry.key))?;
        Ok(Entry {
            key: entry.key.clone(),
            key_at: entry.key_at.clone(),
            key_start: entry.key_start,
            value,
        })
    }

    /// A leaf that is a single plain reference yields the value itself, list or map; any other yields text.
    fn render_leaf(&mut self, node: &Node, text: &str, scope: &Scope) -> Result<Node, Problem> {
        if let Some(path) = plain_reference(text) {
            let mut value = match self.lookup(path, scope) {
                Some(Value::String(value)) => rendered_node(&node.at, value.clone()),
                Some(value) => Node::from_json(&node.at, value),
                None => return Err(self.undefined_name(path, scope).at(&node.at)),
            };
            // A mistake in it is where an operator wrote it, not where the role uses it.
            if let Some(origin) = scope.origin(path) {
                value.place_like(origin);
            }
            return Ok(value);
        }
        let mut render = |text: &str| self.render_text(text, scope).map_err(|p| p.at(&node.at));
        if let Some(as_json) = single_call_as_json(text) {
            let list = render(&as_json)?;
            let list = serde_json::from_str(&list).expect("the filter `json` writes JSON");
            return Ok(Node::from_json(&node.at, &list));
        }
        Ok(rendered_node(&node.at, render(text)?))
    }

    fn undefined_name(&self, path: &str, scope: &Scope) -> Problem {
        let first = path.split('.').next().unwrap_or(path);
        let problem = Problem::new(format!("`{path}` is not defined"));
        match nearest(first, visible_names(scope)) {
            Some(near) if self.lookup(first, scope).is_none() => {
                problem.hint(format!("did you mean `{near}`?"))
            }
            _ => problem.hint("is it a parameter of this role, and set?"),
        }
    }

    /// The value at a dotted path. Gathers facts only on demand.
    fn lookup<'s>(&'s self, path: &str, scope: &'s Scope) -> Option<&'s Value> {
        match path.strip_prefix("facts") {
            Some(rest) if rest.is_empty() || rest.starts_with('.') => {
                self.facts.at_path(rest.trim_start_matches('.'))
            }
            _ => scope.at_path(path),
        }
    }

    /// Renders a string that contains template marks.
    pub(crate) fn render_text(&mut self, text: &str, scope: &Scope) -> Result<String, Problem> {
        if let Some(text) = interpolate(text, |path| self.lookup(path, scope)) {
            return Ok(text);
        }
        self.provide_facts(text);
        let text = &*with_argument_names(text);
        self.render_with_peers(|tera| tera.render_str(text, scope.context(), false))
            .map_err(|error| self.tera_problem(&error, scope, false))
    }

    /// Renders, and if the text calls `nodes(…)` before the peers are loaded, loads them and renders again.
    fn render_with_peers(
        &mut self,
        render: impl Fn(&Tera) -> TeraResult<String>,
    ) -> TeraResult<String> {
        loop {
            let peers = &mut self.peers.loaded;
            if let Some(result) = self.nodes.lend(peers, || render(&self.tera)) {
                return result;
            }
            self.peers.load();
        }
    }

    /// Registers the facts with Tera that the text may use, beside those of earlier texts.
    fn provide_facts(&mut self, text: &str) {
        for group in Facts::groups_used_by(text) {
            let value = || self.facts.at_path(group).cloned().unwrap_or_default();
            self.provided_facts.entry(group).or_insert_with(value);
            let context = self.tera.global_context();
            context.insert("facts", &self.provided_facts);
        }
    }

    /// Evaluates a condition. Tera treats an undefined name as false, so a mistyped one would silently omit a
    /// resource: here it is an error, unless the expression handles it (`is defined`, `default`).
    pub(crate) fn evaluate_condition(
        &mut self,
        expression: &str,
        scope: &Scope,
    ) -> Result<bool, Problem> {
        let lacks = |path: &&str| match path.strip_prefix("facts.") {
            Some(fact) => self.facts.at_path(fact).is_none(),
            None => *path != "facts" && scope.is_undefined(path),
        };
        let mut used = expression_names::value_names(expression).into_iter();
        if !expression_names::handles_undefined(expression)
            && let Some(missing) = used.find(lacks)
        {
            return Err(self.undefined_name(missing, scope));
        }
        let text = format!("{{% if {expression} %}}yes{{% endif %}}");
        Ok(self.render_text(&text, scope)? == "yes")
    }

    /// Renders a template file, with these values on top of the scope.
    pub(crate) fn render_template(
        &mut self,
        name: &str,
        scope: &Rc<Scope>,
        vars: Option<&Value>,
    ) -> Result<String, Problem> {
        let with_vars = vars.and_then(Value::as_object).map(|vars| {
            let mut inner = Scope::nested_in(scope);
            for (key, value) in vars {
                inner.insert(key, value.clone());
            }
            inner
        });
        let scope = with_vars.as_ref().unwrap_or(scope);
        let source = self.load_template(name)?;
        let value = |path: &str| self.lookup(path, scope);
        let plain = source.plain.as_ref();
        if let Some(text) = plain.and_then(|plain| plain.substitute(&source.text, value)) {
            return Ok(text);
        }
        self.compile(name)?;
        self.render_with_peers(|tera| tera.render(name, scope.context()))
            .map_err(|error| self.tera_problem(&error, scope, true))
    }

    /// A file from the templates folder, unrendered.
    pub(crate) fn read_source(&self, name: &str) -> Result<Vec<u8>, Problem> {
        match self.lookup.read("templates", name)? {
            Some((_, body)) => Ok(body),
            None => Err(self.missing_template(name)),
        }
    }

    /// The text of a template, read once.
    fn load_template(&mut self, name: &str) -> Result<Rc<TemplateSource>, Problem> {
        if let Some(source) = self.sources.get(name) {
            return Ok(source.clone());
        }
        let Some((path, body)) = self.lookup.read("templates", name)? else {
            return Err(self.missing_template(name));
        };
        let path = path.display().to_string();
        let text = String::from_utf8(body)
            .map_err(|_| Problem::new(format!("{path} is not UTF-8 text")))?;
        let plain = PlainReferences::find(&text);
        let source = Rc::new(TemplateSource { path, text, plain });
        self.sources.insert(name.to_owned(), source.clone());
        Ok(source)
    }

    /// Compiles a template and those that it includes or extends, if necessary.
    fn compile(&mut self, name: &str) -> Result<(), Problem> {
        let mut batch = Vec::new();
        let mut wanted = vec![name.to_owned()];
        while let Some(name) = wanted.pop() {
            if !self.compiled.insert(name.clone()) {
                continue;
            }
            let source = self.load_template(&name)?;
            self.provide_facts(&source.text);
            wanted.extend(referenced_templates(&source.text));
            batch.push((name, source));
        }
        let texts = batch
            .iter()
            .map(|(name, source)| (name, with_argument_names(&source.text)));
        let added = self.tera.add_raw_templates(texts);
        added.map_err(|error| self.tera_problem(&error, &Scope::default(), true))
    }

    fn missing_template(&self, name: &str) -> Problem {
        let problem = Problem::new(format!(
            "there is no template `{name}` in {}",
            self.lookup.searched_folders("templates")
        ));
        let folder = name
            .rsplit_once('/')
            .map_or(String::new(), |(folder, _)| format!("/{folder}"));
        let near: Vec<String> = self
            .lookup
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

    /// Rewords an error of Tera. `file`: it is in a template file, not in a role.
    fn tera_problem(&self, error: &tera::Error, scope: &Scope, file: bool) -> Problem {
        let path_of = |name: &str| {
            let source = self.sources.get(name);
            source.map_or_else(|| name.to_owned(), |source| source.path.clone())
        };
        let problem = tera_error::explain(error, scope, file.then_some(&path_of));
        let message = problem.message.strip_prefix(tera_error::PREFIX);
        let message = message.unwrap_or(&problem.message);
        match value_location(message, &self.set_values) {
            // The mistake is not the template's.
            Some(at) => Problem {
                at: Some(at),
                message: message.to_owned(),
                ..problem
            },
            None => problem,
        }
    }
}

fn rendered_node(at: &Location, text: String) -> Node {
    Node::synthetic(
        at,
        NodeKind::Scalar {
            text,
            style: Style::Rendered,
        },
    )
}

fn prefix_field(problem: Problem, part: &str) -> Problem {
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
