//! What a connection costs that does nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::case::Case;
use super::contender::Contender;
use super::{Bench, Layer};
use crate::report::Table;
use crate::usage::Memory;

/// What is released or settles after a moment is not the price of waiting.
const SETTLE: Duration = Duration::from_millis(500);

/// KiB of user space for an idle connection; one that is passed on is two.
const fn target(layer: Layer) -> f64 {
    match layer {
        Layer::Http => 0.6,
        // Its stream has left nothing; what is left is what both sides agreed on.
        Layer::H2 => 2.0,
        Layer::Tls => 8.0,
        Layer::Tcp => 1.5,
    }
}

impl Bench {
    /// Opens many connections, makes one request on each, and looks at what they cost while they wait.
    pub(super) fn idle(&self) -> anyhow::Result<Value> {
        println!("\n{} idle connections, each after one request", self.idle);
        let mut table = Table::new(&["", "KiB each (Pss)", "KiB each (Rss)", "MiB before"]);
        let mut rows = Vec::new();
        for contender in self
            .contenders
            .iter()
            .filter(|c| !c.only_large && !c.floor && !c.many)
        {
            let (before, after) = self.hold(contender)?;
            let each = |before: u64, after: u64| (after as f64 - before as f64) / self.idle as f64;
            let proportional = each(before.proportional, after.proportional);
            let resident = each(before.resident, after.resident);
            table.row(vec![
                contender.name.into(),
                format!("{proportional:.2}"),
                format!("{resident:.2}"),
                format!("{:.1}", before.resident as f64 / 1024.0),
            ]);
            rows.push(json!({ "contender": contender.name, "pss_kib": proportional, "rss_kib": resident }));
        }
        table.print();
        println!(
            "  target for ours: ≤ {} KiB, user space; sockets' memory in the kernel is not in it",
            target(self.layer)
        );
        Ok(
            json!({ "connections": self.idle, "contenders": rows, "target_kib": target(self.layer) }),
        )
    }

    /// The memory of a fresh process that has served a few, and then with all connections open.
    fn hold(&self, contender: &Contender) -> anyhow::Result<(Memory, Memory)> {
        let process = contender.start(&self.scratch)?;
        let case = Case::small();
        let request = match self.layer {
            Layer::H2 => case.first_of_many(contender.address),
            _ => case.request(contender.address),
        };
        if self.layer == Layer::Tls {
            drop(self.certificate.hold(contender.address, &request, 64)?);
            let before = Memory::of(process.pid());
            let connections = self
                .certificate
                .hold(contender.address, &request, self.idle)?;
            std::thread::sleep(SETTLE);
            let after = Memory::of(process.pid());
            drop(connections);
            return Ok((before, after));
        }
        for _ in 0..64 {
            converse(contender, &request)?;
        }
        let before = Memory::of(process.pid());
        let connections = (0..self.idle)
            .map(|_| converse(contender, &request))
            .collect::<anyhow::Result<Vec<_>>>()?;
        std::thread::sleep(SETTLE);
        let after = Memory::of(process.pid());
        drop(connections);
        Ok((before, after))
    }
}

/// Opens a connection and has one request answered.
fn converse(contender: &Contender, request: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(contender.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // The body is all x.
    while !answer
        .windows(128)
        .any(|bytes| bytes.iter().all(|b| *b == b'x'))
    {
        let n = stream
            .read(&mut piece)
            .with_context(|| format!("{} does not answer", contender.name))?;
        anyhow::ensure!(n > 0, "{} closed a connection", contender.name);
        answer.extend_from_slice(&piece[..n]);
    }
    Ok(stream)
}
