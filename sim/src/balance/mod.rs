//! Which balancing rule serves more load at the same tail: servers and balancers in virtual time.
//!
//! * `draw`, `agenda`: random numbers, and what happens next; `server`: jobs that share a processor
//! * `scenario`, `catalogue`: what is simulated; `rule`: by which rules, ours being the production code
//! * `lasting`: connections that stay, through restarts
//! * `world`: one run, exact by its seed; `measure`: what it gave, and what several seeds say together
//!
//! Rules see the same arrivals, work and misfortunes (common random numbers), so that differences between them are
//! their own.

pub mod agenda;
pub mod catalogue;
pub mod check;
pub mod command;
pub mod draw;
pub mod html;
pub mod lasting;
pub mod measure;
pub mod rule;
pub mod scenario;
pub mod server;
pub mod study;
pub mod sweep;
pub mod table;
pub mod world;

pub use rule::Kind;
pub use scenario::Scenario;
pub use world::{Run, run};
