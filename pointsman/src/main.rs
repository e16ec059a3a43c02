//! pointsman: knows which instances of which service are alive, and sends every request to the right one.

mod cli;
mod demo;
mod node;

fn main() -> std::process::ExitCode {
    cli::run()
}
