//! One client: what it uses now, and whether one more request may pass.

use std::time::Duration;

use parking_lot::Mutex;

use crate::limit::calendar::{Budget, Period, Round, Spent};
use crate::limit::window::Window;
use crate::limit::{Limits, Moment};
use crate::time::Millis;

/// The state of one client, shared by all workers. Each call takes one lock for as long as a few comparisons take.
///
/// Limits are not kept here but brought along: they may be others after a reload, and what was used stays.
#[derive(Debug, Default)]
pub struct Account(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    /// Workers read their clocks before they wait for their turn: here time never runs backwards.
    latest: Millis,
    own: Usage,
    /// Of the models that have limits of their own. None ever leaves, so that entries can name them by their place: there
    /// are no more than were ever configured.
    models: Vec<(Box<str>, Usage)>,
}

#[derive(Debug, Default)]
struct Usage {
    window: Window,
    open: u64,
    day: Budget,
    month: Budget,
}

/// The limits a request has to pass.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'t> {
    pub limits: &'t Limits,
    /// The client's limits at one model, and its name.
    pub model: Option<(&'t str, &'t Limits)>,
}

/// What a request is expected to use, in tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    pub input: u64,
    /// As the client bounds it.
    pub output_max: Option<u64>,
}

impl Need {
    /// What is held for it. Clients often allow far more output than they get: agents ask for 32,000 tokens each time and
    /// are given some hundred, so more than a bound is not believed; what is used beyond it is counted once it is known.
    fn hold(self) -> u64 {
        self.input.saturating_add(self.output_max.unwrap_or(OUTPUT_USUAL).min(OUTPUT_HELD_MAX)).min(TOKENS_MAX)
    }
}

/// Output held for who does not say how much it wants: a long answer of a chat.
const OUTPUT_USUAL: u64 = 1024;

/// Most output held for one request: as much as the longest answers of chats and most turns of agents.
const OUTPUT_HELD_MAX: u64 = 4096;

/// No request uses more: an upstream that says so is mistaken. A million times what any model reads (1 M tokens), and so little
/// that a window cannot overflow: it would take sixteen million such requests in one minute.
const TOKENS_MAX: u64 = 1 << 40;

/// A request that was let in. It is settled once, when it is over.
#[must_use = "its place stays taken until it is settled"]
#[derive(Debug)]
pub struct Entry {
    at: Millis,
    hold: u64,
    own: Mark,
    /// The model's place, and what it left there.
    model: Option<(usize, Mark)>,
}

impl Entry {
    /// The tokens that are held for it.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.hold
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug)]
struct Mark {
    is_in_window: bool,
    day: Round,
    month: Round,
}

/// A limit that was met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    pub which: Which,
    /// How many it allows.
    pub limit: u64,
    /// It is the one at this model.
    pub of_model: bool,
    /// When it is worth asking again: exactly then there is room, if nobody else comes. `None`: never, it alone is too large.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    RequestsPerMinute,
    TokensPerMinute,
    RequestsAtOnce,
    TokensPerDay,
    TokensPerMonth,
}

/// How a client stands with its limits of a minute.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    pub requests: Option<State>,
    pub tokens: Option<State>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct State {
    pub limit: u64,
    pub left: u64,
    /// Until it is whole again.
    pub whole_in: Duration,
}

impl Account {
    /// Whether a request would be refused whatever it asks for. Takes nothing: it is for the door, before a body is read.
    pub fn peek(&self, limits: &Limits, at: Moment) -> Result<(), Refusal> {
        let ledger = &mut *self.0.lock();
        let at = ledger.meet(at);
        ledger.own.verdict(limits, 0, 1, at).map_or(Ok(()), Err)
    }

    /// Lets a request in, or takes nothing.
    pub fn admit(&self, terms: Terms<'_>, need: Need, at: Moment) -> Result<Entry, Refusal> {
        let all = [Some(terms.limits), terms.model.map(|(_, limits)| limits)];
        let hold = all.into_iter().flatten().fold(need.hold(), |hold, limits| limits.cap(hold));
        let ledger = &mut *self.0.lock();
        let at = ledger.meet(at);
        let mut refusal = ledger.own.verdict(terms.limits, need.input, hold, at);
        let mut model = None;
        if let Some((name, limits)) = terms.model {
            let (place, usage) = at_model(&mut ledger.models, name);
            let met = usage.verdict(limits, need.input, hold, at);
            refusal = longer(refusal, met.map(|refusal| Refusal { of_model: true, ..refusal }));
            model = Some((place, usage, limits));
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let own = ledger.own.enter(terms.limits, hold, at);
        let model = model.map(|(place, usage, limits)| (place, usage.enter(limits, hold, at)));
        Ok(Entry { at: at.now, hold, own, model })
    }

    /// A request is over: its place is free, and what was held for it gives way to what it used.
    pub fn settle(&self, entry: &Entry, used: u64) {
        let used = used.min(TOKENS_MAX);
        let ledger = &mut *self.0.lock();
        ledger.own.settle(entry, entry.own, used);
        if let Some((place, mark)) = entry.model
            && let Some((_, usage)) = ledger.models.get_mut(place)
        {
            usage.settle(entry, mark, used);
        }
    }

    /// How it stands now: of the client's own limits and those at the model, each time the one of which less is left.
    pub fn standing(&self, terms: Terms<'_>, at: Moment) -> Standing {
        let ledger = &mut *self.0.lock();
        let at = ledger.meet(at);
        let own = ledger.own.standing(terms.limits, at);
        let Some((name, limits)) = terms.model else {
            return own;
        };
        let (_, usage) = at_model(&mut ledger.models, name);
        let of_model = usage.standing(limits, at);
        Standing { requests: tighter(own.requests, of_model.requests), tokens: tighter(own.tokens, of_model.tokens) }
    }

    /// What was spent of the client's own budgets, for who keeps it.
    pub fn spent(&self) -> Spent {
        self.0.lock().own.spent()
    }

    /// What was spent of its budgets at each model.
    pub fn spent_by_model(&self) -> Vec<(Box<str>, Spent)> {
        self.0.lock().models.iter().map(|(name, usage)| (name.clone(), usage.spent())).collect()
    }

    /// Takes over what was kept, of its own or at a model. What is known already wins where it is of a later period, and is
    /// added to in the same.
    pub fn restore(&self, model: Option<&str>, spent: Spent) {
        let ledger = &mut *self.0.lock();
        let usage = match model {
            None => &mut ledger.own,
            Some(name) => at_model(&mut ledger.models, name).1,
        };
        for (budget, (number, tokens)) in [(&mut usage.day, spent.day), (&mut usage.month, spent.month)] {
            budget.pass(number);
            budget.add(tokens);
        }
    }

    /// The largest of its windows, in slots.
    pub(in crate::limit) fn slots_at_most(&self) -> usize {
        let ledger = self.0.lock();
        ledger
            .models
            .iter()
            .map(|(_, usage)| usage.window.slots())
            .chain([ledger.own.window.slots()])
            .max()
            .unwrap_or(0)
    }
}

impl Ledger {
    /// The moment it is here.
    fn meet(&mut self, at: Moment) -> Moment {
        self.latest = self.latest.max(at.now);
        Moment { now: self.latest, ..at }
    }
}

/// What a client uses of one model, and its place.
fn at_model<'m>(models: &'m mut Vec<(Box<str>, Usage)>, name: &str) -> (usize, &'m mut Usage) {
    let place = models.iter().position(|(known, _)| **known == *name).unwrap_or(models.len());
    if place == models.len() {
        models.push((name.into(), Usage::default()));
    }
    let (_, usage) = &mut models[place];
    (place, usage)
}

impl Limits {
    /// As much of a hold as could ever pass: who asks for more than all there is may still have all there is.
    fn cap(&self, hold: u64) -> u64 {
        let all = [self.tokens_per_minute, self.tokens_per_day, self.tokens_per_month];
        all.into_iter().flatten().fold(hold, u64::min)
    }
}

impl Usage {
    /// The limit that keeps a request out the longest, if any does. `hold` is 1 at least: nothing passes where nothing is left.
    fn verdict(&mut self, limits: &Limits, input: u64, hold: u64, at: Moment) -> Option<Refusal> {
        self.pass(at);
        let refused = |which, limit, retry_after| Some(Refusal { which, limit, of_model: false, retry_after });
        let mut found = None;
        if let Some(limit) = limits.requests_per_minute
            && limit <= self.window.requests()
        {
            let excess = self.window.requests() + 1 - limit;
            let until = self.window.requests_left_by(excess).map(|until| at.now.until(until));
            found = longer(found, refused(Which::RequestsPerMinute, limit, until));
        }
        if let Some(limit) = limits.requests_at_once.filter(|limit| *limit <= self.open) {
            found = longer(found, refused(Which::RequestsAtOnce, limit, Some(AT_ONCE_PAUSE)));
        }
        let hold = hold.max(1);
        let (day, month) = (Period::Day.left(at.unix_seconds), Period::Month.left(at.unix_seconds));
        for (which, limit, used, until) in [
            (Which::TokensPerMinute, limits.tokens_per_minute, self.window.tokens(), None),
            (Which::TokensPerDay, limits.tokens_per_day, self.day.tokens, Some(day)),
            (Which::TokensPerMonth, limits.tokens_per_month, self.month.tokens, Some(month)),
        ] {
            let Some(limit) = limit.filter(|limit| *limit < input || *limit < used.saturating_add(hold)) else {
                continue;
            };
            let until = until.or_else(|| {
                let excess = used.saturating_add(hold).saturating_sub(limit);
                self.window.tokens_left_by(excess).map(|until| at.now.until(until))
            });
            found = longer(found, refused(which, limit, until.filter(|_| input <= limit)));
        }
        found
    }

    fn pass(&mut self, at: Moment) {
        self.window.pass(at.now);
        self.day.pass(Period::Day.number(at.unix_seconds));
        self.month.pass(Period::Month.number(at.unix_seconds));
    }

    /// Takes what a request holds. It was found that it may.
    fn enter(&mut self, limits: &Limits, hold: u64, at: Moment) -> Mark {
        let is_in_window = limits.has_window();
        if is_in_window {
            self.window.add(at.now, hold);
        }
        self.open += 1;
        self.day.add(hold);
        self.month.add(hold);
        Mark { is_in_window, day: self.day.round(), month: self.month.round() }
    }

    fn standing(&mut self, limits: &Limits, at: Moment) -> Standing {
        self.window.pass(at.now);
        let whole_in = self.window.empty_at().map_or(Duration::ZERO, |empty| at.now.until(empty));
        let state = |limit: Option<u64>, used: u64| {
            limit.map(|limit| State { limit, left: limit.saturating_sub(used), whole_in })
        };
        Standing {
            requests: state(limits.requests_per_minute, self.window.requests()),
            tokens: state(limits.tokens_per_minute, self.window.tokens()),
        }
    }

    fn spent(&self) -> Spent {
        let Self { day, month, .. } = self;
        Spent { day: (day.number, day.tokens), month: (month.number, month.tokens) }
    }

    fn settle(&mut self, entry: &Entry, mark: Mark, used: u64) {
        self.open = self.open.saturating_sub(1);
        if mark.is_in_window {
            self.window.replace(entry.at, entry.hold, used);
        }
        self.day.replace(mark.day, entry.hold, used);
        self.month.replace(mark.month, entry.hold, used);
    }
}

/// Nobody knows when one that is under way will end; a second is soon enough, and not at once.
const AT_ONCE_PAUSE: Duration = Duration::from_secs(1);

/// Of two limits the one of which less is left, and then the smaller.
fn tighter(a: Option<State>, b: Option<State>) -> Option<State> {
    [a, b].into_iter().flatten().min_by_key(|state| (state.left, state.limit))
}

/// Of two limits the one that keeps out longer; that it is for ever is longest.
fn longer(a: Option<Refusal>, b: Option<Refusal>) -> Option<Refusal> {
    let (Some(first), Some(second)) = (a, b) else {
        return a.or(b);
    };
    let wait = |refusal: &Refusal| refusal.retry_after.unwrap_or(Duration::MAX);
    Some(if wait(&first) < wait(&second) { second } else { first })
}
