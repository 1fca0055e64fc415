//! What an account says, case by case; `laws.rs` says what holds of any.

use std::thread;
use std::time::Duration;

use super::laws;
use super::*;

const DAY: u64 = 86_400;

fn at(millis: u64) -> Moment {
    Moment { now: Millis(millis), unix_seconds: 20_000 * DAY + millis / 1000 }
}

fn ask(account: &Account, limits: &Limits, input: u64, millis: u64) -> Result<Entry, Refusal> {
    let need = Need { input, output_max: Some(0) };
    account.admit(Terms { limits, model: None }, need, at(millis))
}

#[test]
fn so_many_pass_in_any_minute() {
    let (account, limits) = (Account::default(), Limits { requests_per_minute: Some(3), ..Limits::default() });
    for (millis, wait) in [
        (1000, None),
        (1000, None),
        (30_000, None),
        (60_999, Some(1)),
        (61_000, None),
        (61_000, None),
        (61_000, Some(29_000)),
        (90_000, None),
        (90_000, Some(31_000)),
    ] {
        let found = ask(&account, &limits, 0, millis).map(drop);
        let refusal = |wait| Refusal {
            which: Which::RequestsPerMinute,
            limit: 3,
            of_model: false,
            retry_after: Some(Duration::from_millis(wait)),
        };
        assert_eq!(found.err(), wait.map(refusal), "at {millis}");
    }
}

/// What an upstream counts is its own word: one that counts nonsense shuts a client out for a minute, not for ever.
#[test]
fn nonsense_leaves_with_its_minute() {
    let (account, limits) = (Account::default(), Limits { tokens_per_minute: Some(1000), ..Limits::default() });
    let entries: Vec<Entry> = (1..=4).map(|n| ask(&account, &limits, 10, n / 2 * 1000).unwrap()).collect();
    for entry in &entries {
        account.settle(entry, u64::MAX);
    }
    assert!(ask(&account, &limits, 1, 3000).is_err());
    for millis in [63_000, 64_000] {
        account.settle(&ask(&account, &limits, 900, millis).unwrap(), 100);
    }
    assert_eq!(account.standing(Terms { limits: &limits, model: None }, at(64_000)).tokens.unwrap().left, 800);
}

#[test]
fn what_is_held_gives_way_to_what_was_used() {
    let (account, limits) = (Account::default(), Limits { tokens_per_minute: Some(1000), ..Limits::default() });
    let first = ask(&account, &limits, 900, 1000).unwrap();
    assert!(ask(&account, &limits, 101, 2000).is_err(), "nine hundred are held");
    account.settle(&first, 50);
    let second = ask(&account, &limits, 950, 2000).unwrap();
    account.settle(&second, 5000);
    let late = ask(&account, &limits, 1, 3000).unwrap_err();
    assert_eq!(late.retry_after, Some(Duration::from_millis(59_000)), "more than was held is owed");
    assert_eq!(account.standing(Terms { limits: &limits, model: None }, at(3000)).tokens.unwrap().left, 0);
    let never = ask(&account, &limits, 1001, 200_000).unwrap_err();
    assert_eq!((never.which, never.retry_after), (Which::TokensPerMinute, None), "it never fits");
    let greedy = Need { input: 10, output_max: Some(1_000_000) };
    let all = account.admit(Terms { limits: &limits, model: None }, greedy, at(200_000)).unwrap();
    assert_eq!(all.held(), 1000, "whoever wants more than there is may have what there is");
}

#[test]
fn what_is_refused_costs_nothing_and_all_limits_agree_or_none() {
    let account = Account::default();
    let own = Limits { requests_per_minute: Some(5), requests_at_once: Some(2), ..Limits::default() };
    let model = Limits { requests_per_minute: Some(1), tokens_per_day: Some(10_000), ..Limits::default() };
    let ask = |name| account.admit(Terms { limits: &own, model: Some((name, &model)) }, Need::default(), at(1000));
    let a = ask("a").unwrap();
    for _ in 0..9 {
        let refusal = ask("a").unwrap_err();
        assert_eq!((refusal.which, refusal.of_model), (Which::RequestsPerMinute, true));
    }
    let b = ask("b").unwrap();
    let refusal = ask("c").unwrap_err();
    assert_eq!((refusal.which, refusal.limit, refusal.of_model), (Which::RequestsAtOnce, 2, false));
    account.settle(&a, 0);
    account.settle(&b, 0);
    let c = ask("c").unwrap();
    assert_eq!(
        account.standing(Terms { limits: &own, model: None }, at(1000)).requests.unwrap().left,
        2,
        "three were let in"
    );
    account.settle(&c, 7);
}

#[test]
fn days_and_months_are_the_calendars() {
    let limits = Limits { tokens_per_day: Some(100), tokens_per_month: Some(150), ..Limits::default() };
    let account = Account::default();
    let on = |text: &str| Moment { now: Millis(1000), unix_seconds: crate::time::parse_rfc3339(text).unwrap() };
    let ask =
        |moment| account.admit(Terms { limits: &limits, model: None }, Need { input: 80, output_max: Some(0) }, moment);
    let evening = ask(on("2026-11-29T23:59:50Z")).unwrap();
    let refusal = ask(on("2026-11-29T23:59:50Z")).unwrap_err();
    assert_eq!((refusal.which, refusal.retry_after), (Which::TokensPerMonth, Some(Duration::from_secs(DAY + 10))));
    account.settle(&evening, 60);
    let morning = ask(on("2026-11-30T00:00:00Z")).unwrap();
    account.settle(&morning, 80);
    assert_eq!(account.spent(), Spent { day: (20_787, 80), month: (682, 140) });
    assert!(ask(on("2026-11-29T23:00:00Z")).is_err(), "a clock that is set back gives nothing back");
    let late = account.admit(
        Terms { limits: &limits, model: None },
        Need { input: 5, output_max: Some(0) },
        on("2026-11-30T23:59:59Z"),
    );
    let kept = account.spent();
    let next = ask(on("2026-12-01T00:00:00Z")).unwrap();
    account.settle(&late.unwrap(), 99);
    account.settle(&next, 1);
    assert_eq!(
        account.spent(),
        Spent { day: (20_788, 1), month: (683, 1) },
        "what belongs to yesterday is yesterday's"
    );
    let other = Account::default();
    other.restore(None, kept);
    assert!(
        other
            .admit(
                Terms { limits: &limits, model: None },
                Need { input: 80, output_max: Some(0) },
                on("2026-11-30T23:59:59Z")
            )
            .is_err()
    );
}

#[test]
fn of_any_number_that_come_together_exactly_so_many_pass() {
    let own = Limits { requests_per_minute: Some(40), tokens_per_minute: Some(1000), ..Limits::default() };
    let model = Limits { tokens_per_minute: Some(300), ..Limits::default() };
    for round in 0..50 {
        let account = Account::default();
        let pass = |name: &'static str| {
            let need = Need { input: 20, output_max: Some(0) };
            let terms = Terms { limits: &own, model: Some((name, &model)) };
            (0..100).filter(|_| account.admit(terms, need, at(1000 + round)).is_ok()).count()
        };
        let passed: [usize; 4] = thread::scope(|scope| {
            let threads = ["a", "b", "a", "c"].map(|name| scope.spawn(move || pass(name)));
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(passed.iter().sum::<usize>(), 40, "{passed:?}");
        assert!(passed[0] + passed[2] <= 15 && passed[1] <= 15 && passed[3] <= 15, "{passed:?}");
    }
}

#[test]
fn a_window_is_bounded_whatever_passes_through() {
    let (account, limits) = (Account::default(), Limits { requests_per_minute: Some(1_000_000), ..Limits::default() });
    for n in 0..130_000 {
        let entry = ask(&account, &limits, 0, 1000 + n / 2).unwrap();
        account.settle(&entry, 1);
    }
    assert_eq!(account.slots_at_most(), 60_000, "a slot for each millisecond");
}

#[test]
fn once_warm_nothing_is_allocated() {
    let (account, limits) = (Account::default(), Limits { requests_per_minute: Some(100), ..Limits::default() });
    let round = |n: u64| {
        let terms = Terms { limits: &limits, model: Some(("m", &limits)) };
        let entry = account.admit(terms, Need::default(), at(n * 1000)).unwrap();
        account.settle(&entry, 5);
    };
    (1..200).for_each(round);
    let counted = allocation_counter::measure(|| (200..1000).for_each(round));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn any_schedule_keeps_the_laws() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..3000 {
        let mut data = [0_u8; 600];
        for byte in &mut data {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            *byte = seed.to_le_bytes()[3];
        }
        laws::limit(&data);
    }
}
