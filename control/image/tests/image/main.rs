//! Decides whether a store keeps its promises: with a registry of ours, archives, hostile layers, and real overlay mounts.

mod archive;
mod auth;
mod build;
mod collect;
mod faults;
mod full;
mod hostile;
mod layers;
mod model;
mod overlay;
mod pull;
mod reach;
mod registry;
mod store;
mod users;
