//! The model as stateright explores it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::graph::Graph;
use super::invariant::{self, Invariant};
use super::recovery;
use super::scenario::Scenario;
use super::step::{self, Step};
use super::world::World;
use crate::fleet::rollout::mutation::{Mutation, activate};

/// A scenario, in which at most one rule does not hold.
pub(super) struct RolloutModel {
    scenario: Scenario,
    mutation: Option<Mutation>,
    /// What was explored, for the properties that stateright does not know.
    graph: Arc<Mutex<Graph>>,
}

/// A world with its fingerprint: worlds are large, and compared often.
#[derive(Debug, Clone)]
pub(super) struct State {
    world: Arc<World>,
    print: u64,
}

impl State {
    pub(super) fn new(world: World) -> State {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        State {
            world: Arc::new(world),
            print: hasher.finish(),
        }
    }

    pub(super) fn print(&self) -> u64 {
        self.print
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.print == other.print
    }
}

impl Model for RolloutModel {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.scenario.first_world())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        step::steps(&self.scenario, &state.world, actions);
        let mut graph = self.graph.lock().unwrap();
        graph.describe(state.print, &state.world);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        activate(self.mutation);
        let after = State::new(step::after(&self.scenario, &before.world, step));
        let mut graph = self.graph.lock().unwrap();
        graph.connect(before.print, step, after.print);
        (after != *before).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! always {
            ($($invariant:ident),*) => {
                vec![$(Property::always(Invariant::$invariant.name(), |model: &Self, state: &State| {
                    let broken = invariant::broken(&model.scenario, &state.world);
                    broken != Some(Invariant::$invariant)
                })),*]
            };
        }
        always![
            Slots, Quarantine, StepTwice, StepFirst, Canary, Superseded, Count, Failures, Done,
            Groups
        ]
    }
}

/// What a check showed.
#[derive(Debug)]
pub(super) struct Verdict {
    pub states: usize,
    pub transitions: usize,
    pub elapsed: Duration,
    /// All worlds were explored.
    pub is_complete: bool,
    /// How many different ends without a finished rollout there are, each with a command that mends it.
    pub mended: usize,
    /// The first property that does not hold, and the way there.
    pub broken: Option<(String, Vec<Step>)>,
}

/// Explores a scenario until something breaks, at most `limit` worlds.
pub(super) fn check(scenario: &Scenario, mutation: Option<Mutation>, limit: usize) -> Verdict {
    #[expect(clippy::disallowed_methods, reason = "measures the test itself")]
    let started = Instant::now();
    let graph = Arc::new(Mutex::new(Graph::default()));
    let model = RolloutModel {
        scenario: scenario.clone(),
        mutation,
        graph: Arc::clone(&graph),
    };
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(limit)
        .spawn_bfs()
        .join();
    let found = checker
        .discoveries()
        .into_iter()
        .min_by_key(|(name, _)| *name);
    let broken = found.map(|(name, path)| (name.to_owned(), path.into_actions()));
    let graph = graph.lock().unwrap();
    let mut verdict = Verdict {
        states: checker.unique_state_count(),
        transitions: graph.transitions(),
        elapsed: Duration::ZERO,
        is_complete: broken.is_none() && graph.is_complete(),
        mended: 0,
        broken,
    };
    if verdict.is_complete {
        activate(mutation);
        match recovery::check_ends(scenario, &graph) {
            Ok(mended) => verdict.mended = mended,
            Err(broken) => verdict.broken = Some(broken),
        }
        activate(None);
    }
    verdict.elapsed = started.elapsed();
    verdict
}
