//! Who may pass: requests and tokens in a minute, requests at once, tokens in a day and a month. Given `now`.
//!
//! An [`Account`] is all that is known of one client. A request is let in by all its limits or by none, in one lock: of any
//! number that come together exactly so many pass. What it may use is held when it comes in and replaced by what it used when
//! it is over, so a request that is refused or fails costs no tokens.
//!
//! ```text
//!   peek ─▶ (the body is read) ─▶ admit ─▶ Entry … settle(what was used)
//!                                   └────▶ Refusal: which limit, and until when
//! ```
//!
//! `window.rs` is the last minute, exact to the millisecond; `calendar.rs` is days and months, in UTC.

mod account;
mod calendar;
pub mod laws;
mod window;

#[cfg(test)]
mod tests;

pub use account::{Account, Entry, Need, Refusal, Standing, State, Terms, Which};
pub use calendar::Spent;

use crate::time::Millis;

/// What one client, or one client at one model, may use. `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Requests admitted in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens, input and output together, of the requests admitted in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests under way at one moment.
    pub requests_at_once: Option<u64>,
    /// Tokens of a calendar day, in UTC.
    pub tokens_per_day: Option<u64>,
    /// Tokens of a calendar month, in UTC.
    pub tokens_per_month: Option<u64>,
}

impl Limits {
    /// Whether it limits anything.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it gives a day or a month to spend.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        self.tokens_per_day.or(self.tokens_per_month).is_some()
    }

    /// Whether it takes a count of tokens to know who may pass.
    #[must_use]
    pub fn counts_tokens(&self) -> bool {
        self.tokens_per_minute.or(self.tokens_per_day).or(self.tokens_per_month).is_some()
    }

    /// Whether it limits a minute.
    #[must_use]
    pub fn has_window(&self) -> bool {
        self.requests_per_minute.or(self.tokens_per_minute).is_some()
    }
}

/// Now, by both clocks: windows go by the one that never jumps, calendars by the wall's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Moment {
    pub now: Millis,
    /// Seconds since 1970.
    pub unix_seconds: u64,
}
