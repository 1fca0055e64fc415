//! What must hold of every account, for any requests, limits and times: it says what a slow model says that forgets nothing and
//! counts everything anew. The fuzz target and the tests call these; nothing else does.

use std::time::Duration;

use crate::limit::{Account, Entry, Limits, Moment, Need, Refusal, Terms, Which};
use crate::time::{Millis, month_of};

/// Bytes taken one after the other as choices; zeros when there are none left.
struct Choices<'d>(&'d [u8]);

impl Choices<'_> {
    fn below(&mut self, n: u64) -> u64 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        u64::from(*first) % n.max(1)
    }

    /// A limit: often none, often small.
    fn limit(&mut self, unit: u64) -> Option<u64> {
        let n = self.below(8);
        (n < 5).then(|| (n + 1) * unit)
    }

    fn limits(&mut self) -> Limits {
        Limits {
            requests_per_minute: self.limit(1),
            tokens_per_minute: self.limit(700),
            requests_at_once: self.limit(1),
            tokens_per_day: self.limit(3000),
            tokens_per_month: self.limit(9000),
        }
    }
}

/// A request that was let in, and all that ever was of it.
struct Seen {
    at: u64,
    hold: u64,
    used: Option<u64>,
    model: Option<usize>,
    /// In the client's window, in the model's.
    windows: [bool; 2],
    /// Which day and month it was for the client, and for the model.
    periods: [[usize; 2]; 2],
    entry: Option<Entry>,
}

impl Seen {
    fn tokens(&self) -> u64 {
        self.used.unwrap_or(self.hold)
    }
}

/// What forgets nothing.
#[derive(Default)]
struct Model {
    seen: Vec<Seen>,
    /// Every day and every month there has been, as the client has met them and as each model has.
    days: [[Vec<Period>; 2]; 3],
    /// The latest moment anybody came with.
    met: u64,
}

/// A period that was met: its number in the calendar, and what had been spent before it began and still counts.
struct Period {
    number: u64,
    carried: u64,
}

/// Whose limits: the client's, or the client's at a model.
type Scope = Option<usize>;

const MODELS: [&str; 2] = ["a", "b"];
const MINUTE: u64 = 60_000;

impl Model {
    fn of(&self, scope: Scope) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(move |seen| scope.is_none() || seen.model == scope)
    }

    /// What was spent in the period that runs: of days, or of months.
    fn spent(&self, scope: Scope, kind: usize) -> u64 {
        let met = &self.days[scope.map_or(0, |place| place + 1)][kind];
        let Some(current) = met.last() else { return 0 };
        let which = usize::from(scope.is_some());
        let now = self.of(scope).filter(|seen| seen.periods[which][kind] == met.len());
        current.carried + now.map(Seen::tokens).sum::<u64>()
    }

    /// Somebody comes at this time: a later period begins, or an earlier one if the clock was set back by more than one, and
    /// then nothing is given back.
    fn meet(&mut self, scope: Scope, unix: u64) {
        let slot = scope.map_or(0, |place| place + 1);
        for (kind, number) in [unix / 86_400, month_of(unix).0].into_iter().enumerate() {
            let last = self.days[slot][kind].last().map_or(0, |period| period.number);
            if last < number {
                self.days[slot][kind].push(Period { number, carried: 0 });
            } else if number + 1 < last {
                let carried = self.spent(scope, kind);
                self.days[slot][kind].push(Period { number, carried });
            }
        }
    }

    /// Those in the window at a moment.
    fn window(&self, scope: Scope, now: u64) -> impl Iterator<Item = &Seen> {
        let which = usize::from(scope.is_some());
        let stands = move |seen: &&Seen| seen.windows.get(which) == Some(&true) && now < seen.at + MINUTE;
        self.of(scope).filter(stands)
    }

    /// The first moment from now on at which something holds: it changes only when somebody leaves a window.
    fn first(&self, scope: Scope, now: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
        let mut moments: Vec<u64> = self.window(scope, now).map(|seen| seen.at + MINUTE).chain([now]).collect();
        moments.sort_unstable();
        moments.into_iter().find(|moment| holds(*moment))
    }

    fn verdict(&self, scope: Scope, limits: &Limits, (input, hold): (u64, u64), now: u64, unix: u64) -> Vec<Refusal> {
        let hold = hold.max(1);
        let mut all = Vec::new();
        let mut met = |which, limit, until: Option<u64>| {
            let retry_after = until.map(Duration::from_millis);
            all.push(Refusal { which, limit, of_model: scope.is_some(), retry_after });
        };
        if let Some(limit) = limits.requests_per_minute {
            let fits = |then: u64| (self.window(scope, then).count() as u64) < limit;
            if !fits(now) {
                met(Which::RequestsPerMinute, limit, self.first(scope, now, fits).map(|then| then - now));
            }
        }
        let open = self.of(scope).filter(|seen| seen.used.is_none()).count() as u64;
        if let Some(limit) = limits.requests_at_once.filter(|limit| *limit <= open) {
            met(Which::RequestsAtOnce, limit, Some(1000));
        }
        if let Some(limit) = limits.tokens_per_minute {
            let fits = |then: u64| self.window(scope, then).map(Seen::tokens).sum::<u64>() + hold <= limit;
            if limit < input {
                met(Which::TokensPerMinute, limit, None);
            } else if !fits(now) {
                met(Which::TokensPerMinute, limit, self.first(scope, now, fits).map(|then| then - now));
            }
        }
        let (day_ends, month_ends) = ((unix / 86_400 + 1) * 86_400, month_of(unix).1);
        for (which, limit, spent, ends) in [
            (Which::TokensPerDay, limits.tokens_per_day, self.spent(scope, 0), day_ends),
            (Which::TokensPerMonth, limits.tokens_per_month, self.spent(scope, 1), month_ends),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit < input || *limit < spent + hold) {
                met(which, limit, (input <= limit).then_some((ends - unix) * 1000));
            }
        }
        all
    }
}

/// Requests come, are settled, and limits and clocks change, in any order.
///
/// # Panics
/// Where a law does not hold.
pub fn limit(data: &[u8]) {
    let mut choices = Choices(data);
    let account = Account::default();
    let mut model = Model::default();
    let (mut now, mut unix) = (1_000, 1_795_000_000);
    let mut own = choices.limits();
    let mut at_models = [choices.limits(), choices.limits()];
    for _ in 0..STEPS_MAX {
        if choices.0.is_empty() {
            break;
        }
        match choices.below(16) {
            0..8 => {
                // Now and then a worker looks at its clock before others do, and comes after them.
                let early = if choices.below(8) == 0 { choices.below(300) } else { 0 };
                let at = Moment { now: Millis(now - early), unix_seconds: unix };
                model.met = model.met.max(at.now.0);
                let now = model.met;
                admit(&account, &mut model, (&own, &at_models), &mut choices, (now, at));
            }
            8..12 => {
                let open: Vec<usize> =
                    model.seen.iter().enumerate().filter(|(_, s)| s.entry.is_some()).map(|(i, _)| i).collect();
                let chosen = choices.below(open.len() as u64);
                let used = choices.below(256) * 8;
                let seen = open.get(usize::try_from(chosen).unwrap_or(0)).and_then(|at| model.seen.get_mut(*at));
                if let Some((seen, entry)) = seen.and_then(|seen| seen.entry.take().map(|entry| (seen, entry))) {
                    account.settle(&entry, used);
                    seen.used = Some(used);
                }
            }
            12 | 13 => {
                let millis = [1, 500, 7000, MINUTE - 1, MINUTE, 3_600_000, 86_400_000, 0];
                let step = millis.get(usize::try_from(choices.below(8)).unwrap_or(0)).copied().unwrap_or(0);
                now += step;
                unix += step / 1000;
            }
            14 => match choices.below(3) {
                0 => own = choices.limits(),
                1 => at_models = [choices.limits(), choices.limits()],
                // The wall clock is set, forward or back.
                _ => unix = (unix + choices.below(5) * 40_000).saturating_sub(80_000),
            },
            _ => {
                model.met = model.met.max(now);
                look(&account, &mut model, (&own, &at_models), now, unix);
            }
        }
    }
}

/// More steps tell nothing new.
const STEPS_MAX: usize = 400;

fn admit(
    account: &Account,
    model: &mut Model,
    (own, at_models): (&Limits, &[Limits; 2]),
    choices: &mut Choices<'_>,
    (now, at): (u64, Moment),
) {
    let scope = usize::try_from(choices.below(3)).ok().filter(|place| *place < 2);
    let need =
        Need { input: choices.below(256) * 4, output_max: (choices.below(2) == 0).then(|| choices.below(256) * 32) };
    let limits = scope.and_then(|place| Some((*MODELS.get(place)?, at_models.get(place)?)));
    let mut hold = need.input + need.output_max.unwrap_or(1024).min(4096);
    for limits in [Some(own), limits.map(|(_, limits)| limits)].into_iter().flatten() {
        for limit in [limits.tokens_per_minute, limits.tokens_per_day, limits.tokens_per_month].into_iter().flatten() {
            hold = hold.min(limit);
        }
    }
    let wants = (need.input, hold);
    for scope in [None, scope].into_iter().take(1 + usize::from(scope.is_some())) {
        model.meet(scope, at.unix_seconds);
    }
    let mut expected = model.verdict(None, own, wants, now, at.unix_seconds);
    expected.extend(limits.iter().flat_map(|(_, limits)| model.verdict(scope, limits, wants, now, at.unix_seconds)));
    match account.admit(Terms { limits: own, model: limits }, need, at) {
        Ok(entry) => {
            assert!(expected.is_empty(), "let in, though {expected:?}");
            let has_window = |limits: &Limits| limits.requests_per_minute.or(limits.tokens_per_minute).is_some();
            let windows = [has_window(own), limits.is_some_and(|(_, limits)| has_window(limits))];
            let met = |slot: usize| [0, 1].map(|kind| model.days[slot][kind].len());
            let periods = [met(0), met(scope.map_or(0, |place| place + 1))];
            model.seen.push(Seen { at: now, hold, used: None, model: scope, windows, periods, entry: Some(entry) });
        }
        Err(refusal) => {
            assert!(expected.contains(&refusal), "refused by {refusal:?}, not {expected:?}");
            let wait = |refusal: &Refusal| refusal.retry_after.unwrap_or(Duration::MAX);
            assert_eq!(expected.iter().map(wait).max(), Some(wait(&refusal)), "{refusal:?} of {expected:?}");
            comes_back(model, (own, scope, limits.map(|(_, limits)| limits)), wants, (now, at.unix_seconds), &refusal);
        }
    }
    assert!(account.slots_at_most() <= model.seen.len().min(60_000), "no more is kept than there was");
}

/// Whoever comes back exactly when it was told, and nobody else meanwhile, finds room.
fn comes_back(
    model: &Model,
    (own, scope, limits): (&Limits, Scope, Option<&Limits>),
    wants: (u64, u64),
    (now, unix): (u64, u64),
    refusal: &Refusal,
) {
    let Some(wait) = refusal.retry_after.filter(|_| refusal.which != Which::RequestsAtOnce) else {
        return;
    };
    let then = now + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let mut left = model.verdict(None, own, wants, then, unix);
    left.extend(limits.iter().flat_map(|limits| model.verdict(scope, limits, wants, then, unix)));
    // When a day or a month begins is the calendar's to say, and was compared.
    left.retain(|refusal| matches!(refusal.which, Which::RequestsPerMinute | Which::TokensPerMinute));
    assert!(left.is_empty(), "{refusal:?}, and then {left:?}");
}

/// What is told of an account, without a request.
fn look(account: &Account, model: &mut Model, (own, at_models): (&Limits, &[Limits; 2]), now: u64, unix: u64) {
    let at = Moment { now: Millis(now), unix_seconds: unix };
    model.meet(None, unix);
    let expected = model.verdict(None, own, (0, 1), now, unix);
    match account.peek(own, at) {
        Ok(()) => assert!(expected.is_empty(), "peeked, though {expected:?}"),
        Err(refusal) => assert!(expected.contains(&refusal), "{refusal:?}, not {expected:?}"),
    }
    for scope in [None, Some(0), Some(1)] {
        let limits = scope.and_then(|place: usize| Some((*MODELS.get(place)?, at_models.get(place)?)));
        let standing = account.standing(Terms { limits: own, model: limits }, at);
        let (own, of_model) = (stands(model, None, own, now), limits.map(|(_, at)| stands(model, scope, at, now)));
        for (kind, told) in [standing.requests, standing.tokens].into_iter().enumerate() {
            // Less left, then less allowed: never more than one of the two says.
            let both = [own[kind], of_model.and_then(|states| states[kind])].into_iter().flatten();
            let truth = both.min_by_key(|(limit, left, _)| (*left, *limit));
            assert_eq!(told.map(|state| (state.limit, state.left, state.whole_in)), truth, "what headers tell");
        }
    }
    let by_model = account.spent_by_model();
    for scope in [None, Some(0), Some(1)] {
        let name = scope.and_then(|place: usize| MODELS.get(place).copied());
        let of_model = by_model.iter().find(|(known, _)| Some(&**known) == name);
        let spent = of_model.map_or_else(|| account.spent(), |(_, spent)| *spent);
        let slot = scope.map_or(0, |place| place + 1);
        let current = |kind: usize| model.days[slot][kind].last().map_or(0, |period| period.number);
        assert_eq!(spent.day, (current(0), model.spent(scope, 0)), "the day");
        assert_eq!(spent.month, (current(1), model.spent(scope, 1)), "the month");
    }
}

/// How a scope stands with its limits of a minute, requests and then tokens: the limit, what is left, and until it is whole.
fn stands(model: &Model, scope: Scope, limits: &Limits, now: u64) -> [Option<(u64, u64, Duration)>; 2] {
    let whole = model.window(scope, now).map(|seen| seen.at + MINUTE - now).max().unwrap_or(0);
    let (count, tokens) = (model.window(scope, now).count() as u64, model.window(scope, now).map(Seen::tokens).sum());
    [(limits.requests_per_minute, count), (limits.tokens_per_minute, tokens)].map(|(limit, used): (_, u64)| {
        limit.map(|limit: u64| (limit, limit.saturating_sub(used), Duration::from_millis(whole)))
    })
}
