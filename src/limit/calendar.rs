//! Tokens of a day and of a month, as calendars in UTC have them.

use std::time::Duration;

use crate::time::month_of;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A period of the calendar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Period {
    Day,
    Month,
}

impl Period {
    /// Its number, counted from 1970.
    pub(super) fn number(self, unix_seconds: u64) -> u64 {
        match self {
            Self::Day => unix_seconds / DAY,
            Self::Month => month_of(unix_seconds).0,
        }
    }

    /// How long until the next one begins.
    pub(super) fn left(self, unix_seconds: u64) -> Duration {
        let ends = match self {
            Self::Day => (unix_seconds / DAY + 1) * DAY,
            Self::Month => month_of(unix_seconds).1,
        };
        Duration::from_secs(ends.saturating_sub(unix_seconds))
    }
}

/// What was spent in the period that runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Budget {
    pub(super) number: u64,
    pub(super) tokens: u64,
    /// Another with every period, so that what was held in an earlier one is told apart, whatever the clock does.
    round: u32,
}

/// Which period something was held in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Round(u32);

impl Budget {
    /// Begins anew where a later period has begun. A clock that was set back gives nothing back: what was spent stays spent,
    /// and where it was set back by more than a period, in the period it says now, which then ends in its time.
    pub(super) fn pass(&mut self, number: u64) {
        if self.number < number {
            *self = Self { number, tokens: 0, round: self.round.wrapping_add(1) };
        } else if number + 1 < self.number {
            *self = Self { number, round: self.round.wrapping_add(1), ..*self };
        }
    }

    pub(super) fn round(&self) -> Round {
        Round(self.round)
    }

    pub(super) fn add(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// What was held in a period is replaced by what was used; nothing, where another has begun.
    pub(super) fn replace(&mut self, round: Round, held: u64, used: u64) {
        if self.round() == round {
            self.tokens = self.tokens.saturating_sub(held).saturating_add(used);
        }
    }
}

/// What a client has spent of its calendar budgets: to be kept over a restart.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spent {
    /// Days since 1970, and the tokens of that day.
    pub day: (u64, u64),
    /// Months since January 1970, and the tokens of that month.
    pub month: (u64, u64),
}
