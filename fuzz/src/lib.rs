//! Fuzz targets: functions over arbitrary bytes that panic when a promise is broken.
//!
//! Each runs under two engines: the driver of this crate, on any toolchain and reproducible from a number
//! (`cargo run --release -p pointsman-fuzz -- --target h1_body --iterations 1000000`), and libFuzzer, guided by
//! coverage (`cargo +nightly fuzz run --features libfuzzer h1_body fuzz/seeds/h1_body`).
//!
//! To add a target: its module with `run` and `TOKENS`, and its line in the table below; seeds in `seeds/NAME/`; for
//! libFuzzer a `[[bin]]` and its three lines in `fuzz_targets/`. A test holds the three together.

pub mod heads;
pub mod mutate;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its module, of its directory of seeds and of its libFuzzer program.
    pub name: &'static str,
    /// What is fuzzed. Panics if the bytes break a promise.
    pub run: fn(&[u8]),
    /// Pieces that random bytes would hardly ever contain.
    pub tokens: &'static [&'static str],
}

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        $(pub mod $name;)+

        /// All targets.
        pub const TARGETS: &[Target] = &[
            $(Target {
                name: stringify!($name),
                run: $name::run,
                tokens: $name::TOKENS,
            }),+
        ];
    };
}

targets! {
    h1_request,
    h1_response,
    h1_body,
    h2,
    h2_answer,
    grpc,
    config,
    log,
    peers,
    proxy_protocol,
    client_hello,
    dialogue,
    filters,
    trace_context,
    websocket,
    zookeeper,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_has_seeds_that_pass_and_a_libfuzzer_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for target in TARGETS {
            let seeds = mutate::read_seeds(&root.join("seeds").join(target.name)).unwrap();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            for seed in &seeds {
                (target.run)(seed);
            }
            let path = format!("fuzz_targets/{}.rs", target.name);
            let program = std::fs::read_to_string(root.join(&path)).unwrap();
            assert!(program.contains(&format!("fuzz::{}::run", target.name)));
            assert!(
                manifest.contains(&format!("path = \"{path}\"")),
                "{path} is no [[bin]]"
            );
        }
    }

    #[test]
    fn a_thousand_mutations_of_the_seeds_break_no_promise() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for target in TARGETS {
            let seeds = mutate::read_seeds(&root.join("seeds").join(target.name)).unwrap();
            for number in 0..1000 {
                (target.run)(&mutate::input(&seeds, target.tokens, number));
            }
        }
    }
}
