//! Renders roles and their templates with Tera. Besides this module, its filters and functions, only texts of notices use it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;
use tera::{Tera, TeraResult};

use super::expression_names;
use super::interpolate::{PlainReferences, interpolate};
use super::nodes::{NodesFunction, single_call_as_json};
use super::scope::Scope;
use super::secret_taint::{FieldPath, SecretLeaf, marked_expressions};
use super::secret_values::{SecretValues, is_secret_call};
use super::template_syntax::{is_template, plain_reference, with_argument_names};
use super::tera_error::{self, visible_names};
use super::value_location::value_location;
use crate::facts::Facts;
use crate::fleet::PeerSource;
use crate::problem::{Location, Problem, nearest};
use crate::settings::{Lookup, Settings};
use crate::yaml::{Entry, Node, NodeKind, Style};

/// Renders strings and templates. Reads templates on first use and compiles each once.
pub(crate) struct Renderer<'a, 'p> {
    pub(super) lookup: &'a Lookup,
    facts: &'a Facts,
    peers: &'a mut PeerSource<'p>,
    /// The values that operators set: those of this node, and those of its environment.
    set_values: [&'a Node; 2],
    nodes: NodesFunction,
    pub(super) secrets: SecretValues,
    /// The path of the leaf that is being rendered.
    path: FieldPath,
    /// The leaves that depend on secrets, until they are taken.
    secret_leaves: Vec<SecretLeaf>,
    pub(super) tera: Tera,
    /// The facts that Tera has.
    provided_facts: serde_json::Map<String, Value>,
    /// Templates by name.
    pub(super) sources: BTreeMap<String, Rc<TemplateSource>>,
    /// Names that Tera has compiled.
    pub(super) compiled: BTreeSet<String>,
}

/// The text of a template with its path.
pub(super) struct TemplateSource {
    pub path: String,
    pub text: String,
    /// `None`: it needs Tera.
    pub plain: Option<PlainReferences>,
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
            path: Vec::new(),
            secret_leaves: Vec::new(),
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

    /// The leaves that depend on secrets, of all that was rendered since the last call of this function.
    pub(super) fn take_secret_leaves(&mut self) -> Vec<SecretLeaf> {
        self.note_secrets(BTreeSet::new());
        std::mem::take(&mut self.secret_leaves)
    }

    /// Remembers that the leaf depends on secrets: those that it called, and those in the values that it names.
    fn note_secrets(&mut self, named: BTreeSet<String>) {
        let mut names = self.secrets.take_called();
        names.extend(named);
        if !names.is_empty() {
            let path = self.path.clone();
            self.secret_leaves.push(SecretLeaf { path, names });
        }
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
                        self.path.push(i.to_string());
                        let item = self.render_tree(item, scope, is_template_source);
                        self.path.pop();
                        item.map_err(|p| prefix_field(p, &format!("[{i}]")))
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
        self.path.push(entry.key.clone());
        let value = self.render_tree(&entry.value, scope, is_template_source);
        self.path.pop();
        let value = value.map_err(|p| prefix_field(p, &entry.key))?;
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
            for (rest, names) in scope.secrets_below(path) {
                let path = [self.path.clone(), rest].concat();
                self.secret_leaves.push(SecretLeaf { path, names });
            }
            return Ok(value);
        }
        let mut render = |text: &str| {
            let rendered = self.render_text(text, scope).map_err(|p| p.at(&node.at));
            // Most hosts have none, and most texts are quick to render.
            if self.secrets.is_used() {
                let expressions = marked_expressions(text);
                let named = expressions.flat_map(|expression| scope.secrets_in(expression));
                self.note_secrets(named.collect());
            }
            rendered
        };
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
    pub(super) fn lookup<'s>(&'s self, path: &str, scope: &'s Scope) -> Option<&'s Value> {
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
    pub(super) fn render_with_peers(
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
    pub(super) fn provide_facts(&mut self, text: &str) {
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
        let is_true = self.render_text(&text, scope)? == "yes";
        if self.secrets.is_used() {
            self.note_secrets(scope.secrets_in(expression));
        }
        Ok(is_true)
    }

    /// Rewords an error of Tera. `file`: it is in a template file, not in a role.
    pub(super) fn tera_problem(&self, error: &tera::Error, scope: &Scope, file: bool) -> Problem {
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
