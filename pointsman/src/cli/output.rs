//! How things are said: tables and colour for people, one line of JSON for scripts.

use std::io::{self, IsTerminal, Write, stderr, stdout};

/// Colours, or nothing where colour would be noise: no terminal, or `NO_COLOR` set (no-color.org).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette(bool);

impl Palette {
    pub(crate) fn for_stdout() -> Self {
        Self(stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    fn for_stderr() -> Self {
        Self(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A health, in its colour.
    pub(crate) fn health(self, health: &str) -> String {
        match health {
            "passing" => self.good(health),
            "critical" => self.bad(health),
            _ => self.paint("33", health),
        }
    }
}

/// Prints rows under a heading, columns aligned. Colour codes do not count as width.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let palette = Palette::for_stdout();
    let mut widths: Vec<usize> = heading.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(visible(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width - visible(cell) + 2));
        }
        line.trim_end().to_owned()
    };
    let heading = line(&mut heading.iter().copied());
    writeln!(stdout(), "{}", palette.dim(&heading))?;
    for row in rows {
        writeln!(stdout(), "{}", line(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

fn visible(cell: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for c in cell.chars() {
        match c {
            '\x1b' => escaped = true,
            'm' if escaped => escaped = false,
            _ if escaped => {}
            _ => width += 1,
        }
    }
    width
}

/// Whether it only says that whoever read our output has read enough, as `head` does.
pub(crate) fn is_closed_pipe(fault: &anyhow::Error) -> bool {
    let cause = fault.downcast_ref::<io::Error>();
    cause.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints a fault with its causes on standard error.
pub(crate) fn fault(fault: &anyhow::Error) {
    let palette = Palette::for_stderr();
    eprintln!("{} {fault}", palette.bad("error:"));
    for cause in fault.chain().skip(1) {
        eprintln!("  because {cause}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_has_no_width() {
        let palette = Palette(true);
        assert_eq!(visible(&palette.good("passing")), 7);
        assert_eq!(visible("passing"), 7);
    }
}
