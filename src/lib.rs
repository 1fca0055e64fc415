//! model-proxy: one small proxy that speaks OpenAI (Chat Completions and Responses) and Anthropic, and sends each
//! logical model to whatever provider, key and format can serve it now.
//!
//! This page is the map. A room uses the rooms below it, never beside or above (`tests/floors.rs` checks).
//!
//! ```text
//!                 cli            words, flags, exit codes, tables on a terminal
//!                  │
//!                server          sockets, the door (routes), auth, health, models, drain
//!                  │
//!                gateway         one request, end to end: the only room where all meet
//!       ┌──────────┼──────────┬─────────┐
//!    upstream    config    metrics   journal   effects, each alone, none knows another
//!       └────┬─────┴─────┬────┴─────────┘
//!          route        limit    PURE decisions: what to try next, what an outcome means; who may pass. Given `now`
//!            └─────┬──────┘
//!                wire            PURE meaning of bytes: formats, SSE, JSON leaves, converters
//!                  │
//!             time   secret      leaf types
//! ```
//!
//! To follow one request, read [`gateway`]'s `forward.rs` from top to bottom. To learn what a format means,
//! read [`wire`]. To learn why another key was tried, read [`route::verdict::judge`].

pub mod secret;
pub mod time;

pub mod wire;

pub mod limit;
pub mod route;

pub mod config;
pub mod journal;
pub mod metrics;
pub mod upstream;

pub mod gateway;

pub mod server;

pub mod cli;
