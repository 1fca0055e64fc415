//! Which attempt next, and what an outcome means. Pure: `now` comes in, decisions go out.

pub mod keys;
pub mod laws;
pub mod near;
pub mod plan;
pub mod reason;
pub mod secrets;
pub mod table;
pub mod told;
pub mod verdict;
