//! `[listener.NAME.route.filters.compress]`: which answers are compressed.

use model::{ByteSize, Coding, Compress};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::default;
use crate::text::MediaType;
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// Answers of instances that are compressed for clients that accept it: none that is so already, is a part, or says
    /// `no-transform`.
    pub(crate) struct CompressKeys {
        /// The codings, the one to be preferred first: `"zstd"`, `"br"` and `"gzip"`.
        // In the order of what they gain for what they cost.
        codings: Vec<Coding> => default(vec![Coding::Zstd, Coding::Brotli, Coding::Gzip]),
        /// Answers that are shorter go as they are.
        // They fit into a packet anyway.
        min_size: ByteSize => default(ByteSize(1 << 10)),
        /// The `Content-Type`s: `"text/html"`, `"text/*"`, or `"*/*+json"` for all that end so.
        // What is text; pictures, films and archives are compressed already.
        types: Vec<MediaType> => default(
            [
                "text/*", "*/*+json", "*/*+xml", "application/json", "application/javascript",
                "application/xml", "application/wasm", "application/vnd.ms-fontobject", "font/ttf", "font/otf",
            ]
            .map(|name| MediaType(name.into())),
        ),
    }
}

resolved!(Compress);

impl Resolved for Compress {
    type Keys = CompressKeys;

    fn resolve(keys: CompressKeys, _: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        for (name, empty) in [
            ("codings", keys.codings.is_empty()),
            ("types", keys.types.is_empty()),
        ] {
            if empty {
                let key = format!("{}.{name}", cx.path());
                let what = "is empty, so that nothing would be compressed";
                cx.at_key(Severity::Error, &key, what, "leave out compress");
            }
        }
        (cx.log.errors() == before).then(|| Self {
            codings: keys.codings,
            min_size: keys.min_size.0,
            types: keys.types.into_iter().map(|MediaType(name)| name).collect(),
        })
    }

    fn keys(&self) -> CompressKeys {
        CompressKeys {
            codings: self.codings.clone(),
            min_size: ByteSize(self.min_size),
            types: self.types.iter().cloned().map(MediaType).collect(),
        }
    }
}
