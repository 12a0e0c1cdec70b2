//! Renders the files of the templates folders.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::Value;

use super::interpolate::PlainReferences;
use super::render::{Renderer, TemplateSource};
use super::scope::Scope;
use super::secret_taint::{SecretLeaf, marked_expressions};
use super::template_syntax::{referenced_templates, with_argument_names};
use crate::problem::Problem;

impl Renderer<'_, '_> {
    /// Renders a template file, with these values on top of the scope, of which some depend on secrets; returns the names of
    /// the secrets that the text depends on as well.
    pub(crate) fn render_secret_template(
        &mut self,
        name: &str,
        scope: &Rc<Scope>,
        (vars, secret_vars): (Option<&Value>, &[SecretLeaf]),
    ) -> Result<(String, BTreeSet<String>), Problem> {
        self.secrets.take_called();
        let text = self.render_template(name, scope, vars)?;
        let mut names = self.secrets.take_called();
        if !self.secrets.is_used() {
            return Ok((text, names));
        }
        let mut own = Scope::nested_in(scope);
        for leaf in secret_vars {
            own.insert(&leaf.path[0], Value::Null);
            own.mark_secret(&[], leaf);
        }
        let mut rest = vec![name.to_owned()];
        let mut done = BTreeSet::new();
        while let Some(name) = rest.pop() {
            if done.insert(name.clone()) {
                let source = self.load_template(&name)?;
                // The whole text at once: a loop names a map in one expression, and a key of it in another.
                let expressions = marked_expressions(&source.text).collect::<Vec<_>>();
                names.extend(own.secrets_in(&expressions.join(" ; ")));
                rest.extend(referenced_templates(&source.text));
            }
        }
        Ok((text, names))
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
}
