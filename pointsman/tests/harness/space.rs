use std::fs::File;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` in the network namespace of that name. Processes and sockets that it makes stay there.
pub(crate) fn in_space<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let space = File::open(format!("/run/netns/{name}")).expect("a namespace");
    // A thread of its own: it is the thread that moves.
    let there = std::thread::scope(|scope| {
        let moved = scope.spawn(|| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(space.as_fd(), kind).expect("a namespace");
            work()
        });
        moved.join()
    });
    there.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
