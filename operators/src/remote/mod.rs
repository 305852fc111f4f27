//! Other people's services: one HTTP client, limits that all steps of a process share, retries, and what may be spent.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | where a service is, and who it is for caches and limits |
//! | [`http`] | the client and the threads behind it |
//! | [`bucket`] | requests and tokens per minute, as a pure function of time |
//! | [`limiter`] | who may ask now: places, rates, pauses, the breaker |
//! | [`limits`] | how much a service is asked at most |
//! | [`permit`] | the right to send one request |
//! | [`breaker`] | is the service there at all, and how often may be asked again |
//! | [`retry_after`] | how long a service wants to be left alone |
//! | [`purse`] | what was spent, kept on disk, and the most that may be |
//! | [`budget`] | which purse a step has |
//! | [`bill`] | what one attempt costs |
//! | [`cache`] | answers, kept by what was asked |
//! | [`turns`] | one question is asked once, also when two rows ask it at the same time |
//! | [`call`] | one request until it is answered, final or given up |
//! | [`patience`] | how often it is tried, and when it is given up |
//! | [`attempt`] | one try of it |
//! | [`outcome`] | what an answer means, and whose trouble it is |
//!
//! Limits belong to a service and not to a step: two steps that ask one model at one address share its limiter. They hold per process; a cluster of
//! N processes asks for N times as much.
//!
//! What can go wrong: see [`call::Failure`]. Nothing here waits without a limit.

pub mod address;
pub mod attempt;
pub mod bill;
pub mod breaker;
pub mod bucket;
pub mod budget;
pub mod cache;
pub mod call;
pub mod http;
pub mod limiter;
pub mod limits;
pub mod outcome;
pub mod patience;
pub mod permit;
pub mod purse;
pub mod retry_after;
pub mod turns;
