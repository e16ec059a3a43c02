//! Several nodes in one process, over loopback.

mod company;
mod nodes;
mod several;
