//! Several nodes in one process, over loopback.

mod company;
mod formats;
mod nodes;
mod several;
