//! The worlds that were explored, as a graph: which of them can still reach the end, and where the hosts can go round
//! in a circle for ever.

use std::collections::HashMap;

use super::invariant;
use super::step::Step;
use super::world::World;

/// A world by its number.
pub(super) type Node = usize;

/// The bit of the operator among those of the hosts.
const OPERATOR: u8 = 7;

/// The graph.
#[derive(Default)]
pub(super) struct Graph {
    numbers: HashMap<u64, Node>,
    /// The step with which a world was first reached.
    origins: Vec<Option<(Node, Step)>>,
    /// Steps without a fault: from, to, and whose it is.
    moves: Vec<(Node, Node, u8)>,
    /// By world: the hosts, one bit each, whose step changes nothing.
    idle: Vec<u8>,
    /// By world; `None`: it was not expanded.
    described: Vec<Option<Description>>,
    transitions: usize,
}

/// What matters of a world.
#[derive(Clone, Copy)]
struct Description {
    is_finished: bool,
    /// Who goes on without a fault, one bit each: the hosts that are not gone, and an operator in the middle of a
    /// command.
    active: u8,
}

/// Where the rollout does not end by itself.
pub(super) struct Ends {
    /// A world of each component that no step without a fault leaves, and that is not finished.
    pub dead: Vec<Node>,
    /// A world of a component in which all hosts go round for ever, although the rollout could end.
    pub circle: Option<Node>,
}

impl Graph {
    fn number(&mut self, print: u64) -> Node {
        let next = self.numbers.len();
        let number = *self.numbers.entry(print).or_insert(next);
        if number == next {
            self.origins.push(None);
            self.idle.push(0);
            self.described.push(None);
        }
        number
    }

    /// A world is expanded.
    pub(super) fn describe(&mut self, print: u64, world: &World) {
        let number = self.number(print);
        let live = (0..world.hosts.len()).filter(|host| !world.hosts[*host].is_gone);
        self.described[number] = Some(Description {
            is_finished: invariant::is_finished(world),
            active: live.fold(0, |mask, host| mask | 1 << host)
                | u8::from(world.operator.act.is_some()) << OPERATOR,
        });
    }

    /// A step leads from one world to another.
    pub(super) fn connect(&mut self, from: u64, step: Step, to: u64) {
        let from = self.number(from);
        let count = self.numbers.len();
        let to = self.number(to);
        if to == count {
            self.origins[to] = Some((from, step));
        }
        self.transitions += 1;
        let actor = match step {
            Step::Advance(host) => u8::try_from(host).unwrap_or(OPERATOR),
            Step::Operate => OPERATOR,
            Step::Fail(..) | Step::Arrive(_) | Step::Publish | Step::Begin(_) => return,
        };
        match from == to {
            true => self.idle[from] |= 1 << actor,
            false => self.moves.push((from, to, actor)),
        }
    }

    pub(super) fn transitions(&self) -> usize {
        self.transitions
    }

    /// Whether all worlds that were reached were expanded as well.
    pub(super) fn is_complete(&self) -> bool {
        self.described.iter().all(Option::is_some)
    }

    /// The steps that lead to a world.
    pub(super) fn path_to(&self, node: Node) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut current = node;
        while let Some((before, step)) = self.origins[current] {
            steps.push(step);
            current = before;
        }
        steps.reverse();
        steps
    }

    /// Finds where the rollout does not end.
    pub(super) fn ends(&self) -> Ends {
        let count = self.origins.len();
        let ahead = Edges::new(count, self.moves.iter().map(|(from, to, _)| (*from, *to)));
        let component = components(&ahead);
        let finished = |node: Node| self.described[node].is_some_and(|found| found.is_finished);
        let can_end = self.reach_finish(&finished);
        let total = component.iter().max().map_or(0, |last| last + 1);
        let mut takes_part = vec![0_u8; total];
        let mut is_left = vec![false; total];
        let mut has_finish = vec![false; total];
        for node in 0..count {
            takes_part[component[node]] |= self.idle[node];
            has_finish[component[node]] |= finished(node);
        }
        for (from, to, actor) in &self.moves {
            match component[*from] == component[*to] {
                true => takes_part[component[*from]] |= 1 << actor,
                false => is_left[component[*from]] = true,
            }
        }
        let mut dead = vec![None; total];
        let mut circle = None;
        for node in 0..count {
            let of = component[node];
            let active = self.described[node].map_or(0, |found| found.active);
            if !can_end[node] && !is_left[of] {
                dead[of].get_or_insert(node);
            }
            if can_end[node] && !has_finish[of] && takes_part[of] & active == active {
                circle.get_or_insert(node);
            }
        }
        Ends {
            dead: dead.into_iter().flatten().collect(),
            circle,
        }
    }

    /// By world: whether steps without a fault can finish the rollout. Searched backwards.
    fn reach_finish(&self, finished: &impl Fn(Node) -> bool) -> Vec<bool> {
        let count = self.origins.len();
        let back = Edges::new(count, self.moves.iter().map(|(from, to, _)| (*to, *from)));
        let mut reaches: Vec<bool> = (0..count).map(finished).collect();
        let mut todo: Vec<Node> = (0..count).filter(|node| reaches[*node]).collect();
        while let Some(node) = todo.pop() {
            for before in back.of(node) {
                if !reaches[*before] {
                    reaches[*before] = true;
                    todo.push(*before);
                }
            }
        }
        reaches
    }
}

/// Edges by their first node.
struct Edges {
    starts: Vec<usize>,
    ends: Vec<Node>,
}

impl Edges {
    fn new(count: usize, edges: impl Iterator<Item = (Node, Node)> + Clone) -> Edges {
        let mut starts = vec![0; count + 1];
        for (from, _) in edges.clone() {
            starts[from + 1] += 1;
        }
        for node in 0..count {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut ends = vec![0; starts[count]];
        for (from, to) in edges {
            ends[next[from]] = to;
            next[from] += 1;
        }
        Edges { starts, ends }
    }

    fn of(&self, node: Node) -> &[Node] {
        &self.ends[self.starts[node]..self.starts[node + 1]]
    }
}

/// The strongly connected component of each node, by Tarjan's algorithm with an explicit stack.
fn components(edges: &Edges) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let count = edges.starts.len() - 1;
    let mut index = vec![UNSEEN; count];
    let mut low = vec![0; count];
    let mut component = vec![UNSEEN; count];
    let (mut visited, mut found) = (0, 0);
    let mut open = Vec::new();
    for root in 0..count {
        let mut calls = match index[root] {
            UNSEEN => vec![(root, 0)],
            _ => continue,
        };
        while let Some((node, done)) = calls.pop() {
            if done == 0 {
                index[node] = visited;
                low[node] = visited;
                visited += 1;
                open.push(node);
            }
            if done > 0 {
                let child = edges.of(node)[done - 1];
                low[node] = low[node].min(low[child]);
            }
            let rest = edges.of(node)[done..].iter();
            let mut next = None;
            for (child, number) in rest.zip(done..) {
                if index[*child] == UNSEEN {
                    next = Some((*child, number));
                    break;
                }
                if component[*child] == UNSEEN {
                    low[node] = low[node].min(index[*child]);
                }
            }
            if let Some((child, number)) = next {
                calls.push((node, number + 1));
                calls.push((child, 0));
                continue;
            }
            if low[node] == index[node] {
                while let Some(member) = open.pop() {
                    component[member] = found;
                    if member == node {
                        break;
                    }
                }
                found += 1;
            }
        }
    }
    component
}

#[test]
fn components_are_the_circles_of_a_graph() {
    // 0 → 1 → 2 → 0, 2 → 3, 3 → 4 → 3, 5.
    let edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3)];
    let found = components(&Edges::new(6, edges.iter().copied()));
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    assert_eq!(found[3], found[4]);
    let mut distinct = vec![found[0], found[3], found[5]];
    distinct.dedup();
    assert_eq!(distinct.len(), 3);
}
