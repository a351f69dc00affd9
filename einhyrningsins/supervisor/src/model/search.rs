//! Breadth first through every world that a scope allows.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::*;
use super::key::{Key, key_of};
use super::world::{Step, World};
use super::{Means, NOBODY, Sabotage, Scope};

/// The most steps that a pool may need to come to rest when everybody behaves. Far above what small pools
/// need, far below for ever.
const REST_STEPS_MAX: u32 = 300;

/// What a search that found nothing wrong has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Explored {
    /// Worlds whose every next step was tried.
    pub(super) states: usize,
    /// Worlds that differ in more than the means that are left, those on the way to rest too.
    pub(super) pools: usize,
    /// Steps tried.
    pub(super) transitions: usize,
    /// Steps to the farthest world.
    pub(super) depth: u32,
    /// The most steps to rest from anywhere.
    pub(super) rest: u32,
}

/// A way to a broken invariant; there is no shorter one.
#[derive(Debug)]
pub(super) struct Violation {
    /// The message of the check, which names the invariant.
    pub(super) what: String,
    /// Each step, and what the supervisor then did.
    pub(super) path: Vec<String>,
}

/// What is known of the worlds with one key.
#[derive(Default)]
struct Seen {
    /// The means of those that were met on the search.
    means: Vec<Means>,
    /// The steps to rest.
    rest: u32,
}

struct Search<'a> {
    scope: &'a Scope,
    age_max: Duration,
    seen: HashMap<Key, Seen>,
    explored: Explored,
}

/// Tries every step in every world of `scope`, and from each world the way to rest and the way out.
pub(super) fn explore(scope: &Scope, sabotage: Option<Sabotage>) -> Result<Explored, Violation> {
    let first = World::new(scope, sabotage);
    let age_max = scope.age_max();
    let mut search = Search { scope, age_max, seen: HashMap::new(), explored: Explored::default() };
    // How each world was come by: from which one, and by what.
    let mut trail: Vec<(usize, Step)> = vec![(0, Step::Idle)];
    let mut queue = VecDeque::from([(first.clone(), 0, 0)]);
    while let Some((world, number, depth)) = queue.pop_front() {
        search.explored.states += 1;
        search.explored.depth = depth;
        for step in world.steps(scope) {
            search.explored.transitions += 1;
            match catch_unwind(AssertUnwindSafe(|| search.follow(&world, &step))) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    trail.push((number, step));
                    queue.push_back((next, trail.len() - 1, depth + 1));
                }
                Err(panic) => {
                    let what = panic.downcast_ref::<String>().cloned();
                    let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
                    let mut steps = vec![step];
                    let mut at = number;
                    while at != 0 {
                        steps.push(trail[at].1.clone());
                        at = trail[at].0;
                    }
                    steps.reverse();
                    let path = retell(first, &steps, scope);
                    return Err(Violation { what: what.unwrap_or_default(), path });
                }
            }
        }
    }
    search.explored.pools = search.seen.len();
    Ok(search.explored)
}

impl Search<'_> {
    /// The world after `step`, if nothing like it was met before.
    fn follow(&mut self, world: &World, step: &Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step, self.scope);
        if next.onlooker.exit.is_some() {
            return None;
        }
        let key = key_of(&next, self.age_max);
        if !self.seen.contains_key(&key) {
            next.hear_strange_acks();
            assert_eq!(key, key_of(&next, self.age_max), "an ack that nobody waits for changes something");
            self.come_to_rest(next.clone());
            let mut stopped = next.clone();
            let how = Stop::Gracefully;
            stopped.feed(Event::Command {
                request: None,
                requester: NOBODY,
                command: PoolCommand::Stop { how, why: String::new() },
            });
            self.come_to_rest(stopped);
        }
        let seen = self.seen.entry(key).or_default();
        // With more means and the same pool, everything was reached that can be reached from here.
        if seen.means.iter().any(|means| next.means.fits(*means)) {
            return None;
        }
        seen.means.push(next.means);
        Some(next)
    }

    /// I8: everybody behaves from here on. Ends at a world of which the way to rest is known already.
    fn come_to_rest(&mut self, mut world: World) {
        let mut way = Vec::new();
        let rest = loop {
            if world.onlooker.exit.is_some() {
                break 0;
            }
            let key = key_of(&world, self.age_max);
            if let Some(seen) = self.seen.get(&key) {
                break seen.rest;
            }
            way.push(key);
            assert!(way.len() < REST_STEPS_MAX as usize, "I8: never at rest");
            if !world.good_step() {
                break 0;
            }
        };
        for (key, steps) in way.into_iter().rev().zip(1..) {
            let seen = Seen { means: Vec::new(), rest: rest + steps };
            self.explored.rest = self.explored.rest.max(seen.rest);
            self.seen.insert(key, seen);
        }
    }
}

/// Takes the steps once more and writes down what happens, up to where a check fails.
fn retell(mut world: World, steps: &[Step], scope: &Scope) -> Vec<String> {
    let mut lines = Vec::new();
    for step in steps {
        lines.push(format!("{step:?}"));
        let Ok(actions) = catch_unwind(AssertUnwindSafe(|| world.take(step, scope))) else { break };
        lines.extend(actions.iter().map(|action| match action {
            Action::Notice { notice, .. } => format!("    {notice}"),
            action => format!("    {action:?}"),
        }));
    }
    lines
}
