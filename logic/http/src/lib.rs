//! HTTP: the connection machine and the routing of requests.
pub mod route;
