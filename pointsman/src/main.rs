//! pointsman: knows which instances of which service are alive, and sends every request to the right one.

mod cli;
mod demo;
mod node;

/// Every request in flight owns a few small pieces of memory, hundreds at a time: the system's allocator keeps seven of a
/// size at hand and takes its slow way for the rest, which was a tenth of the user time of a request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
