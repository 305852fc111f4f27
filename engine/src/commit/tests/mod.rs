//! Scenarios over real folders and over a store that misbehaves.

mod commits;
