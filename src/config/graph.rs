//! Fallbacks: which other models' routes follow a model's own, and whether they run in a circle.
//!
//! Depth first, as the seed does: own routes, then each fallback with its own fallbacks. But each model is visited
//! once and each route listed once: by two paths a route would only fail twice.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use crate::config::compile::{Compile, Way, names_of};
use crate::config::diagnostic::{Report, did_you_mean};
use crate::config::load::Sourced;
use crate::config::source::ModelFile;
use crate::route::table::{Pattern, Route};

/// All models, and who answers to which name.
#[derive(Debug)]
pub(crate) struct Graph<'m> {
    models: &'m [Sourced<ModelFile>],
    names: AHashMap<&'m str, usize>,
    wildcards: Vec<(Pattern, usize)>,
    /// Own routes, by model.
    own: Vec<Vec<Way>>,
}

/// What a fallback's name leads to.
#[derive(Clone, Debug)]
struct Target {
    model: usize,
    /// What the model's `*` stands for, where the name says it.
    star: Option<String>,
}

impl<'m> Graph<'m> {
    /// Learns the names; of two that are the same the first counts.
    pub(crate) fn new(models: &'m [Sourced<ModelFile>], own: Vec<Vec<Way>>, report: &mut Report) -> Self {
        let mut graph = Self { models, names: AHashMap::new(), wildcards: Vec::new(), own };
        for (index, model) in models.iter().enumerate() {
            for (nth, name) in names_of(&model.value).enumerate().filter(|(_, name)| !name.is_empty()) {
                let place = match nth {
                    0 => model.place.at("logical_name"),
                    n => model.place.at("aliases").at(n - 1),
                };
                match graph.names.get(name).and_then(|&i| models.get(i)) {
                    Some(first) if first.place.file == model.place.file => {
                        report.warn(&place, format!("{name:?} is named twice in this file"));
                    }
                    Some(first) => {
                        let message = format!("{name:?} is in {} already", first.place.file);
                        report.error(&place, message).hint("let each model have names of its own");
                    }
                    None => {
                        graph.names.insert(name, index);
                    }
                }
                if name.contains('*') {
                    graph.wildcards.push((Pattern::new(name), index));
                }
            }
        }
        graph.wildcards.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.particular()));
        graph
    }

    /// All routes of a model: its own, then those of its fallbacks.
    pub(crate) fn routes(&self, model: usize, compile: &mut Compile<'_>) -> Box<[Arc<Route>]> {
        let mut walk = Walk::default();
        self.walk(&Target { model, star: None }, compile, &mut walk);
        walk.routes.into()
    }

    fn walk(&self, at: &Target, compile: &mut Compile<'_>, walk: &mut Walk) {
        let Some(model) = self.models.get(at.model) else { return };
        if !walk.visited.insert((at.model, at.star.clone())) {
            return;
        }
        let filled;
        let own = match &at.star {
            None => self.own.get(at.model).map_or(&[][..], Vec::as_slice),
            Some(star) => {
                filled = compile.ways_again(model, star);
                filled.as_slice()
            }
        };
        for way in own {
            if walk.seen.insert(way.identity.clone()) {
                walk.routes.push(Arc::clone(&way.route));
            }
        }
        for name in model.value.fallback_model_routings.iter().flatten() {
            if let Some(mut target) = self.find(name) {
                target.star = target.star.or_else(|| at.star.clone());
                self.walk(&target, compile, walk);
            }
        }
    }

    /// The model of a name: its own, or the wildcard's that fits it best.
    fn find(&self, name: &str) -> Option<Target> {
        if let Some(&model) = self.names.get(name) {
            return Some(Target { model, star: None });
        }
        self.wildcards.iter().find_map(|(pattern, model)| {
            let star = Some(pattern.matches(name)?.to_owned());
            Some(Target { model: *model, star })
        })
    }

    /// Reports fallbacks that lead nowhere or in a circle, and models without any route.
    pub(crate) fn check(&self, report: &mut Report) {
        for (index, model) in self.models.iter().enumerate() {
            let list = model.place.at("fallback_model_routings");
            let star = names_of(&model.value).any(|n| n.contains('*'));
            for (nth, name) in model.value.fallback_model_routings.iter().flatten().enumerate() {
                if name.is_empty() {
                    continue;
                }
                match self.find(name) {
                    None => {
                        let near = did_you_mean(name, self.names.keys().copied());
                        let message = format!("no model {name:?}{near}: this fallback is left out");
                        report.warn(&list.at(nth), message).hint("take it out, or add a file for it");
                    }
                    Some(target) if name.contains('*') && !star && target.star.is_none() => {
                        let message = format!("the * in {name:?} stands for nothing");
                        report.error(&list.at(nth), message).hint("name the one model that is meant");
                    }
                    Some(_) => {}
                }
            }
            let declared = self.declares_routes(index, &mut AHashSet::new());
            if !declared {
                let place = model.place.at("model_routings");
                report.error(&place, "there is no route, and no fallback has one").hint("add a route");
            }
        }
        self.check_circles(report);
    }

    /// Whether anything is declared that could serve a model, usable or not.
    fn declares_routes(&self, model: usize, visited: &mut AHashSet<usize>) -> bool {
        let Some(file) = self.models.get(model).map(|m| &m.value) else { return false };
        if !visited.insert(model) {
            return false;
        }
        // A list that is missing is the schema's finding.
        file.model_routings.as_ref().is_none_or(|r| !r.is_empty())
            || file
                .fallback_model_routings
                .iter()
                .flatten()
                .any(|name| self.find(name).is_some_and(|t| self.declares_routes(t.model, visited)))
    }

    fn check_circles(&self, report: &mut Report) {
        let mut done = AHashSet::new();
        for model in 0..self.models.len() {
            self.follow(model, &mut Vec::new(), &mut done, report);
        }
    }

    /// Follows all fallbacks, once for each model. `path` is how we came here.
    fn follow(&self, model: usize, path: &mut Vec<usize>, done: &mut AHashSet<usize>, report: &mut Report) {
        let Some(source) = self.models.get(model) else { return };
        if !done.insert(model) {
            return;
        }
        path.push(model);
        for (nth, name) in source.value.fallback_model_routings.iter().flatten().enumerate() {
            let Some(target) = self.find(name) else { continue };
            match path.iter().position(|&p| p == target.model) {
                Some(start) => {
                    let circle = path.iter().skip(start).chain([&target.model]);
                    let names: Vec<&str> =
                        circle.filter_map(|&i| Some(self.models.get(i)?.value.logical_name.as_str())).collect();
                    let message = format!("the fallbacks run in a circle: {}", names.join(" → "));
                    let place = source.place.at("fallback_model_routings").at(nth);
                    report.warn(&place, message).hint("each route is tried once all the same");
                }
                None => self.follow(target.model, path, done, report),
            }
        }
        path.pop();
    }
}

/// What was met on the way.
#[derive(Default)]
struct Walk {
    visited: AHashSet<(usize, Option<String>)>,
    seen: AHashSet<super::compile::Identity>,
    routes: Vec<Arc<Route>>,
}
