//! Who may pass: requests and tokens in a minute, requests at once, tokens in a day and a month. Given `now`.

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
