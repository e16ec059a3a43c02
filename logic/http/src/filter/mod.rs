//! What is done with a route's requests and answers on their way, as far as that can be decided from a message alone.

pub mod compress;
pub mod cors;
mod credentials;
mod edit;
mod rewrite;
mod template;

pub use credentials::{Credentials, credentials, is_md5, is_sha, users};
pub use edit::{remove_from_request, remove_from_response};
pub use rewrite::rewritten;
pub use template::{Scene, render};
