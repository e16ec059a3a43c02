//! Single sessions, each a script for every side: what the sweeps found, and what reading the code suggested.

mod bodies;
mod closing;
mod counting;
mod retries;
mod stage;
mod tcp;
mod tunnels;
