//! Everything that is tested from outside, in one binary: the running gateway against scripted providers, the
//! command line, recorded traffic, and the shape of the sources.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "a test that cannot go on fails, and says why"
)]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests look into JSON from outside")]
#![expect(unreachable_pub, reason = "a test binary exports nothing")]

mod supervised;
mod support;

mod browsers;
mod cancel;
mod cases;
mod cli;
mod clients;
mod commands;
mod corpus;
mod count;
mod door;
mod drain;
mod errors;
mod estimate;
mod explain;
mod failover;
mod faults;
mod fields;
mod floors;
mod fuzz;
mod hold;
mod hostile_h2;
mod journal;
mod load;
mod lossy;
mod metrics;
mod passage;
mod policy;
mod reload;
mod replies;
mod responses;
mod secrets;
mod transports;
mod verbatim;
