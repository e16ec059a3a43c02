//! Configuration: whatever is accepted can be written back and means the same, and whatever is not is told where.

use config::{Severity, Source, diff, parse};

/// Pieces of configuration.
pub const TOKENS: &[&str] = &[
    "\n", "\r\n", "\0", "\t", " ", "=", ".", ",", "[", "]", "[[", "]]", "{", "}", "\"", "'", "\"\"\"", "'''", "\\", "\\u0000",
    "\\U0010FFFF", "#", "$", "$$", "${", "${A}", "${A:-1}", "${A:-", "${NONE}", "${NONE:-8}", "-1", "0", "1", "65536",
    "18446744073709551616", "1e9", "nan", "true", "false", "\"5s\"", "\"1d\"", "\"99999999999d\"", "\"64KiB\"", "\"1GiB\"",
    "\"30%\"", "\"101%\"", "\"127.0.0.1:0\"", "\"127.0.0.1:80\"", "\"0.0.0.0:80\"", "\"[::]:80\"", "\"[::1\"", "\"a/b\"",
    "\"*.example.com\"", "\"*\"", "\"/a\"", "\"/a/\"", "\"200-399\"", "\"10.0.0.0/8\"", "[node]\n", "[api]\n", "[log.access]\n",
    "[registry]\n", "[guard]\n", "[listener.a]\n", "[listener.\"a b\"]\n", "[listener.a.timeouts]\n", "[[listener.a.route]]\n",
    "[listener.a.route.redirect]\n", "[listener.a.route.answer]\n", "[service.a]\n", "[service.\"n/a\"]\n",
    "[service.a.check]\n", "[[service.a.instance]]\n", "name", "data_dir", "workers", "bind", "service", "host", "path",
    "path_prefix", "location", "status", "body", "policy", "retries", "http", "tcp", "headers", "interval", "address",
    "weight", "tags", "metadata", "drain", "\u{e9}", "\u{202e}", "\u{feff}",
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    // A zero byte, which TOML has no use for, parts two files.
    let text = String::from_utf8_lossy(data);
    let file = |(number, text): (usize, &str)| Source {
        name: format!("{number}.toml"),
        text: text.into(),
    };
    let sources: Vec<_> = text.splitn(2, '\0').enumerate().map(file).collect();
    let env = |name: &str| (name == "A").then(|| "${A} 7".to_owned());
    match parse(&sources, &env) {
        Ok(parsed) => {
            let warned = |f: &config::Fault| f.severity == Severity::Warning;
            assert!(parsed.warnings.iter().all(warned));
            placed(&parsed.warnings, &sources);
            written_back(&parsed.config);
        }
        Err(faults) => {
            assert!(faults.0.iter().any(|f| f.severity == Severity::Error));
            placed(&faults.0, &sources);
        }
    }
}

/// Every fault names a line that there is, on one line of its own that no terminal takes for a command.
fn placed(faults: &[config::Fault], sources: &[Source]) {
    for fault in faults {
        let source = sources.iter().find(|s| s.name == fault.place.file);
        let lines = source.map_or(0, |s| s.text.split('\n').count());
        let line = fault.place.line;
        assert!((1..=lines.max(1)).contains(&line), "{fault} of {lines} lines");
        let shown = fault.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

/// What `config show` prints means the same, whatever the environment has by then.
fn written_back(config: &config::Config) {
    let text = config.to_toml();
    let source = Source {
        name: "shown.toml".into(),
        text: text.clone(),
    };
    match parse(&[source], &|_| None) {
        Ok(again) => {
            assert_eq!(again.config.to_toml(), text);
            let changes = diff(config, &again.config);
            assert!(changes.is_empty(), "{changes:?}");
        }
        Err(faults) => panic!("not read back:\n{faults}\n{text}"),
    }
}
