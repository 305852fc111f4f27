//! `curette calibrate-tau`: from labelled cuts to the similarity above which `temporal_split` joins neighbouring samples.
//!
//! Two kinds of labels. Pairs: a similarity and whether both samples are of one shot. Cuts: embeddings of videos as `frame_embed` writes them, and the times of
//! all cuts of these videos; whole clips are then judged: of the values with which at least 95 % of them have no cut inside, tau is the one that leaves most time in such clips. The paper does not publish tau, but its check
//! of a stage: at least 95 % of 200 are right (MedGen, section 3), which is the default here.
//!
//! tau is chosen on one half of the groups and measured on the other. What can go wrong: one group only; then both are the same half, and the report says so. No cut is found: then tau does
//! nothing, and the report warns.

pub mod cuts;
pub mod quantile;
pub mod report;
pub mod tau;

#[cfg(test)]
mod tests;
