//! Expands roles into resources: once per role, or once per item of its `for_each`.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::check::ConfigCheck;
use super::context::node_scope;
use super::draft::{Draft, FieldParameters, ResourceNode, name_unset_parameter};
use super::for_each;
use super::parameters::{Item, complete_values, items, merge_layers, unknown_attributes};
use super::ports::RolePorts;
use super::render::Renderer;
use super::schema::{Role, load_with_included};
use super::scope::Scope;
use super::secret_taint::{SecretLeaf, secret_argument};
use super::secret_values::SecretValues;
use super::value_check::ValueCheck;
use crate::facts::Facts;
use crate::fleet::PeerSource;
use crate::problem::{Problem, Problems};
use crate::settings::Settings;
use crate::yaml::{Node, NodeKind};

/// Fields that every resource may have and that no kind reads.
const COMMON_FIELDS: &[&str] = &["id", "when", "requires", "for_each", "as"];

/// All resources of a node, rendered and decoded.
pub(crate) struct RoleExpansion<'a, 'p> {
    pub(super) renderer: Renderer<'a, 'p>,
    pub(super) secrets: SecretValues,
    pub(super) scopes: Vec<Rc<Scope>>,
    pub(super) drafts: Vec<Draft>,
    /// Ids whose `when` was false.
    pub(super) skipped_ids: Vec<String>,
    pub(super) checks: BTreeMap<String, ConfigCheck>,
    pub(super) ports: RolePorts,
}

/// What roles are expanded from.
pub(crate) struct RoleSources<'a, 'p> {
    pub settings: &'a Settings,
    pub facts: &'a Facts,
    /// Keeps the answers to what the roles query.
    pub peers: &'a mut PeerSource<'p>,
    /// The folder that stands for `/`, as templates see it.
    pub root: &'a str,
}

impl<'p> RoleSources<'_, 'p> {
    /// Expands the roles of a node.
    pub(crate) fn expand(
        &mut self,
        secrets: &SecretValues,
    ) -> Result<RoleExpansion<'_, 'p>, Problems> {
        expand(self, secrets).map_err(|problems| secrets.conceal(problems))
    }
}

fn expand<'a, 'p>(
    sources: &'a mut RoleSources<'_, 'p>,
    secrets: &SecretValues,
) -> Result<RoleExpansion<'a, 'p>, Problems> {
    let (settings, facts) = (sources.settings, sources.facts);
    let roles = load_with_included(&settings.lookup, &settings.roles)
        .map_err(|problem| problem.at(&settings.locations.roles))?;
    let unknown = unknown_attributes(&roles, settings)?;
    if !unknown.is_empty() {
        return Err(Problems(unknown));
    }
    let mut expanded = RoleExpansion {
        renderer: Renderer::new(settings, facts, sources.peers, secrets),
        secrets: secrets.clone(),
        scopes: Vec::new(),
        drafts: Vec::new(),
        skipped_ids: Vec::new(),
        checks: BTreeMap::new(),
        ports: RolePorts::default(),
    };
    let outermost = Rc::new(node_scope(settings, facts, sources.root));
    let mut problems = Vec::new();
    for role in &roles {
        if let Err(Problems(found)) = expanded.expand_role(role, settings, &outermost) {
            // Roles that share a parameter find the same mistake in it.
            let new = found
                .into_iter()
                .filter(|problem| !problems.contains(problem));
            let new: Vec<Problem> = new.collect();
            problems.extend(new);
        }
    }
    if problems.is_empty() {
        Ok(expanded)
    } else {
        Err(Problems(problems))
    }
}

impl RoleExpansion<'_, '_> {
    /// The apps that this node runs.
    pub(crate) fn apps(&self) -> Vec<String> {
        let mut apps: Vec<String> = self
            .drafts
            .iter()
            .filter_map(|draft| draft.body.release().map(|release| release.app.clone()))
            .collect();
        apps.sort();
        apps.dedup();
        apps
    }

    fn expand_role(
        &mut self,
        role: &Role,
        settings: &Settings,
        outermost: &Rc<Scope>,
    ) -> Result<(), Problems> {
        let parameters = merge_layers(role, settings)?;
        let mut scope = Scope::nested_in(outermost);
        let check = ValueCheck::of_parameters(role, &settings.locations.roles);
        complete_values(
            &parameters,
            &check,
            &mut self.renderer,
            (&mut scope, None),
            &mut |scope, entries| {
                for entry in entries {
                    scope.insert_node(&entry.key, entry.value);
                }
            },
        )?;
        self.collect_checks(role, &scope)?;
        self.collect_ports(role, &scope)?;
        let scope = Rc::new(scope);
        let Some(list) = &role.for_each else {
            return self.expand_resources(role, None, scope);
        };
        let mut problems = Vec::new();
        let items = items(role, list, &parameters)?;
        let mut rendered_items = Vec::new();
        for item in &items {
            match self.render_item(&scope, role, list, item) {
                Ok(values) => rendered_items.push(values),
                Err(Problems(found)) => {
                    let of_item = |problem: Problem| match problem.field {
                        Some(_) => problem,
                        None => problem.resource(format!("{list}.{}", item.name)),
                    };
                    problems.extend(found.into_iter().map(of_item));
                }
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        // From here on the list itself has its rendered items, for a file about all of them.
        let mut scope = Scope::nested_in(&scope);
        let names = items.iter().map(|item| item.name.clone());
        let values = rendered_items.iter().map(|(values, _)| values.to_json());
        scope.insert(list, names.zip(values).collect());
        for (item, (_, secret)) in items.iter().zip(&rendered_items) {
            for leaf in secret {
                scope.mark_secret(&[list, &item.name], leaf);
            }
        }
        let scope = Rc::new(scope);
        for (item, (values, secret)) in items.iter().zip(rendered_items) {
            let mut inner = Scope::nested_in(&scope);
            inner.insert_node(&role.item, values);
            for leaf in &secret {
                inner.mark_secret(&[&role.item], leaf);
            }
            let inner = Rc::new(inner);
            if let Err(Problems(found)) = self.expand_resources(role, Some(item), inner) {
                problems.extend(found);
            }
        }
        Problems::none(problems)
    }

    /// Renders an item's values, which refer to each other as `app.port`, so the item grows meanwhile.
    fn render_item(
        &mut self,
        outer: &Rc<Scope>,
        role: &Role,
        list: &str,
        item: &Item,
    ) -> Result<(Node, Vec<SecretLeaf>), Problems> {
        let check = ValueCheck::of_item(role, list, &item.name, &item.at);
        let mut rendered = Node::synthetic(&item.at, NodeKind::Map(Vec::new()));
        let secret = complete_values(
            &item.values,
            &check,
            &mut self.renderer,
            (&mut Scope::nested_in(outer), Some(&role.item)),
            &mut |scope, entries| {
                for entry in entries {
                    rendered.set(&entry.key, entry.value);
                }
                scope.insert_node(&role.item, rendered.clone());
            },
        )?;
        Ok((rendered, secret))
    }

    fn collect_ports(&mut self, role: &Role, scope: &Scope) -> Result<(), Problem> {
        let ports = self
            .renderer
            .render_tree(&role.map_field("ports")?, scope, &|_| true)?;
        self.refuse_secret(&ports.at, "ports")?;
        for entry in ports.as_map().unwrap_or_default() {
            self.ports.add(&role.name, entry)?;
        }
        Ok(())
    }

    fn collect_checks(&mut self, role: &Role, scope: &Scope) -> Result<(), Problem> {
        let checks = self
            .renderer
            .render_tree(&role.map_field("checks")?, scope, &|_| true)?;
        if let Some(leaf) = self.renderer.take_secret_leaves().first() {
            let check = leaf.path.first().map_or("", String::as_str);
            return Err(secret_argument(check).at(&checks.at));
        }
        for entry in checks.as_map().unwrap_or_default() {
            let check = ConfigCheck::decode(&entry.value)
                .map_err(|problem| problem.field(format!("checks.{}", entry.key)))?;
            match self.checks.get(&entry.key) {
                Some(other) if other.run != check.run => {
                    return Err(Problem::new(format!(
                        "another role has a different check `{}`: {}",
                        entry.key, other.run
                    ))
                    .at(&entry.key_at)
                    .field("checks"));
                }
                // Another role may cover other files with it.
                Some(other) => {
                    let mut covers = other.covers.clone();
                    covers.extend(check.covers);
                    let run = check.run;
                    self.checks
                        .insert(entry.key.clone(), ConfigCheck { run, covers })
                }
                None => self.checks.insert(entry.key.clone(), check),
            };
        }
        Ok(())
    }

    fn expand_resources(
        &mut self,
        role: &Role,
        item: Option<&Item>,
        scope: Rc<Scope>,
    ) -> Result<(), Problems> {
        let mut problems = Vec::new();
        let scope = self.add_scope(scope);
        for node in role.resources()? {
            if let Err(Problems(found)) = self.expand_resource(role, item, node, scope) {
                // Several resources may use the value with the mistake.
                for problem in found {
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        }
        Problems::none(problems)
    }

    /// Adds a scope for resources; returns its index.
    fn add_scope(&mut self, scope: Rc<Scope>) -> usize {
        self.scopes.push(scope);
        self.scopes.len() - 1
    }

    /// Expands one resource of a role: once, or once for each element of its own `for_each`.
    fn expand_resource(
        &mut self,
        role: &Role,
        item: Option<&Item>,
        node: &Node,
        scope: usize,
    ) -> Result<(), Problems> {
        let resource = ResourceNode::parse(node)?;
        let mut scopes = vec![scope];
        if let Some(repetition) = for_each::repetition(resource.fields)
            .map_err(|problem| problem.resource(resource.label()))?
        {
            let outer = self.scopes[scope].clone();
            let source = item.map(|item| (role.item.as_str(), &item.values));
            self.renderer.take_secret_leaves();
            let elements = repetition.elements(&mut self.renderer, &outer, source);
            let elements = elements
                .map_err(|problem| for_each::name_owner(problem, role, item, resource.label()))?;
            scopes.clear();
            let secret = self.renderer.take_secret_leaves();
            for element in elements {
                let mut inner = Scope::nested_in(&outer);
                inner.insert(&repetition.name, element);
                for leaf in &secret {
                    // Below the number or the key: an element is a value of a list, or the value of a key.
                    let leaf = SecretLeaf {
                        path: leaf.path.get(1..).unwrap_or_default().to_vec(),
                        names: leaf.names.clone(),
                    };
                    inner.mark_secret(&[&repetition.name], &leaf);
                    inner.mark_secret(&[&repetition.name, "value"], &leaf);
                }
                scopes.push(self.add_scope(Rc::new(inner)));
            }
        }
        let item = item.map(|item| item.name.as_str());
        let mut problems = Vec::new();
        for scope in scopes {
            match self.draft_resource(role, item, &resource, scope) {
                Ok(Some(draft)) => self.drafts.push(draft),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        Problems::none(problems)
    }

    fn draft_resource(
        &mut self,
        role: &Role,
        item: Option<&str>,
        resource: &ResourceNode<'_>,
        scope_index: usize,
    ) -> Result<Option<Draft>, Problem> {
        let scope = &*self.scopes[scope_index].clone();
        let fields = resource.fields;
        self.renderer.take_secret_leaves();
        let id = self.render_id(fields, item, scope)?;
        self.refuse_secret(resource.at, "id")?;
        let is_wanted = self.is_wanted(resource, scope)?;
        let refused = self.refuse_secret(resource.at, "when");
        refused.map_err(|problem| problem.resource(resource.label()))?;
        if !is_wanted {
            self.skipped_ids.extend(id);
            return Ok(None);
        }
        let label = id.clone().unwrap_or_else(|| resource.label());
        let requires = self.render_requires(fields, scope);
        let requires = requires.map_err(|p| p.resource(label.clone()).field("requires"))?;
        self.refuse_secret(resource.at, "requires")?;
        let rendered = self
            .renderer
            .render_fields(fields, COMMON_FIELDS, scope)
            .map_err(|p| p.resource(label.clone()))?;
        let secret_fields = self.renderer.take_secret_leaves();
        let parameters = FieldParameters::find(fields, role, item);
        let body = resource.kind.decode(&rendered).map_err(|p| {
            let problem = name_unset_parameter(p, fields, &rendered);
            let problem = parameters.blame(problem, &rendered, resource.at);
            problem.resource(label)
        })?;
        let item = item.map(str::to_owned);
        Ok(Some(Draft {
            explicit_id: id.is_some(),
            id: id.unwrap_or_else(|| format!("{}:{}", resource.kind.name(), body.subject())),
            at: resource.at.clone(),
            role: role.name.clone(),
            node: rendered,
            parameters,
            body,
            requires: requires
                .into_iter()
                .map(|name| (item.clone(), name))
                .collect(),
            item,
            scope: scope_index,
            secret_fields,
            unresolved: None,
        }))
    }
}
