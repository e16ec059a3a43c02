//! What filters do with requests and answers, whichever version of HTTP the client speaks.

mod access;
mod auth;
mod bandwidth;
mod compress;
mod cors;
mod everywhere;
mod headers;
mod limits;
mod pages;

use std::time::Duration;

use bytes::Bytes;
use http_types::{HeaderName, HeaderValue, Request};

use crate::harness::{Answer, Connection, Home, Node, Origin, Reply, request};

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http11,
    Http2,
}

pub(crate) const BOTH: [Speaks; 2] = [Speaks::Http11, Speaks::Http2];

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) fields: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

impl<'a> Ask<'a> {
    pub(crate) fn get(target: &'a str) -> Self {
        Self {
            method: "GET",
            target,
            fields: &[],
            body: &[],
        }
    }

    pub(crate) fn with(self, fields: &'a [(&'a str, &'a str)]) -> Self {
        Self { fields, ..self }
    }

    /// The answer to a client that speaks so.
    pub(crate) fn of(&self, node: &Node, speaks: Speaks) -> Answer {
        match speaks {
            Speaks::Http11 => self.once(node),
            Speaks::Http2 => self.on_stream(node),
        }
    }

    fn once(&self, node: &Node) -> Answer {
        let fields: String = self
            .fields
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: shop.example:80\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n",
            self.method,
            self.target,
            self.body.len()
        );
        let message = [head.as_bytes(), self.body].concat();
        if self.method == "HEAD" {
            let mut connection = Connection::open(node.web());
            connection.send(message);
            return connection.try_head().expect("a head");
        }
        request(node.web(), message)
    }

    fn on_stream(&self, node: &Node) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let asked = async {
            let socket = tokio::net::TcpStream::connect(node.web()).await.unwrap();
            let (sender, connection) = h2::client::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            let mut sender = sender.ready().await.unwrap();
            let mut head = Request::builder()
                .method(self.method)
                .uri(format!("http://shop.example:80{}", self.target))
                .body(())
                .unwrap();
            for (name, value) in self.fields {
                let name: HeaderName = name.parse().unwrap();
                head.headers_mut()
                    .append(name, HeaderValue::from_str(value).unwrap());
            }
            let end = self.body.is_empty();
            let (answer, mut stream) = sender.send_request(head, end).unwrap();
            if !end {
                stream
                    .send_data(Bytes::copy_from_slice(self.body), true)
                    .unwrap();
            }
            let answer = answer.await.unwrap();
            let mut head = format!("HTTP/2   {} \r\n", answer.status().as_u16());
            for (name, value) in answer.headers() {
                head += &format!("{name}: {}\r\n", value.to_str().unwrap());
            }
            let status = answer.status().as_u16();
            let mut stream = answer.into_body();
            let mut body = Vec::new();
            while let Some(part) = stream.data().await {
                let part = part.unwrap();
                body.extend_from_slice(&part);
                stream.flow_control().release_capacity(part.len()).unwrap();
            }
            Answer { status, head, body }
        };
        runtime.unwrap().block_on(async {
            let patient = tokio::time::timeout(Duration::from_secs(30), asked);
            patient.await.expect("an answer")
        })
    }
}

/// A node whose only route has these filters, in front of `origin`.
pub(crate) fn before(origin: &Origin, filters: &str) -> Node {
    let node = Home::new(&config(origin, filters)).start();
    node.until_eligible("/", 1);
    node
}

pub(crate) fn config(origin: &Origin, filters: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n\
         [[listener.web.route]]\nname = \"all\"\nservice = \"shop\"\n{filters}\n\
         [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
        origin.port()
    )
}

/// Answers with the request's head, field by field, below its own fields.
pub(crate) fn mirror() -> Origin {
    Origin::answering(|heard| Reply {
        fields: "Content-Type: text/plain\r\nServer: origin\r\nX-Twice: 1\r\nX-Twice: 2\r\n".into(),
        ..Reply::text(&heard.head)
    })
}

/// How often the route's filters refused for this reason.
pub(crate) fn refused(node: &Node, by: &str) -> f64 {
    node.metric(&format!(
        "pointsman_route_refused_total{{listener=\"web\",route=\"all\",by=\"{by}\"}}"
    ))
}

/// Every value of an answer's field.
pub(crate) fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'));
    let named = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim()).collect()
}
