//! `[listener.NAME.route.filters.basic_auth]`: passwords.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{Hashed, Secret};

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default};
use crate::text::FieldValue;
use crate::tree::Node;
use crate::value::Resolved;

/// Whose passwords open a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// A file of users and their passwords.
    pub file: Option<PathBuf>,
    /// Further users, and what is kept of their passwords.
    pub users: BTreeMap<Box<str>, Hashed>,
    /// What clients show their users.
    pub realm: Box<str>,
}

declare! {
    /// Names and passwords (Basic, RFC 7617); all others get 401.
    pub(crate) struct BasicAuthKeys {
        /// A file as Apache's `htpasswd` writes it, a line `name:hash` each: bcrypt (`htpasswd -B`), argon2 (`$argon2id$…`), `{SHA}` or
        /// `$apr1$`. It is watched: a changed one is taken over at once, an unusable one leaves everything as it was.
        file: Option<PathBuf> => absent("only users"),
        /// Further users: `{ name = "hash" }`.
        users: BTreeMap<Box<str>, Secret> => default(BTreeMap::new()),
        /// What clients show their users.
        // It says no more than what is seen anyway.
        realm: FieldValue => default(FieldValue("restricted".into())),
    }
}

resolved!(BasicAuth);

impl Resolved for BasicAuth {
    type Keys = BasicAuthKeys;

    fn resolve(keys: BasicAuthKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        if keys.file.is_none() && keys.users.is_empty() {
            cx.error(
                node.at,
                "has no users, so that nobody could come in",
                "add file or users",
            );
        }
        let FieldValue(realm) = keys.realm;
        if realm.contains(['"', '\\']) {
            let key = format!("{}.realm", cx.path());
            cx.at_key(
                Severity::Error,
                &key,
                "has a quote or a backslash",
                "leave it out",
            );
        }
        let mut users = BTreeMap::new();
        for (name, Secret(hash)) in keys.users {
            let key = format!("{}.users", cx.path());
            if name.is_empty() || name.contains(':') || name.contains(char::is_control) {
                let what = format!("has the name {name:?}, which nobody can give");
                cx.at_key(Severity::Error, &key, what, "use no colon");
            }
            match hash.parse::<Hashed>() {
                Ok(hashed) => drop(users.insert(name, hashed)),
                Err(what) => {
                    let what = format!("has {name}, whose value {what}");
                    cx.at_key(Severity::Error, &key, what, "");
                }
            }
        }
        (cx.log.errors() == before).then_some(Self {
            file: keys.file,
            users,
            realm,
        })
    }

    fn keys(&self) -> BasicAuthKeys {
        let users = self.users.iter();
        BasicAuthKeys {
            file: self.file.clone(),
            users: users
                .map(|(name, hash)| (name.clone(), Secret(hash.as_str().into())))
                .collect(),
            realm: FieldValue(self.realm.clone()),
        }
    }
}
