use crate::h1::class::{FOLDED, class};
use crate::h1::{Request, Response};

/// Takes away the fields of that name, and those that servers which fold punctuation into `_` (CGI, WSGI) would take for it: a
/// client must not get past a field that is set here by writing it in another way.
pub fn remove_from_request(request: &mut Request<'_>, name: &str) {
    request.fields.drop_if(|field| {
        field.len() == name.len()
            && field
                .bytes()
                .zip(name.bytes())
                .all(|(a, b)| fold(a) == fold(b))
    });
}

/// Takes away the fields of that name.
pub fn remove_from_response(response: &mut Response<'_>, name: &str) {
    response
        .fields
        .drop_if(|field| field.eq_ignore_ascii_case(name));
}

fn fold(byte: u8) -> u8 {
    match class(byte) & FOLDED {
        0 => byte.to_ascii_lowercase(),
        _ => b'-',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, MethodKind, parse_request, parse_response};

    const LIMITS: Limits = Limits {
        head: 4096,
        fields: 100,
    };

    #[test]
    fn a_request_loses_a_field_in_all_its_disguises() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-User: 1\r\nx_user: 2\r\nX.USER: 3\r\nX-Users: 4\r\n\r\n";
        let mut request = parse_request(text.as_bytes(), &mut 0, &LIMITS)
            .unwrap()
            .unwrap();
        remove_from_request(&mut request, "x-user");
        assert_eq!(request.fields.find("x-user"), None);
        assert_eq!(request.fields.find("x_user"), None);
        assert_eq!(request.fields.find("x-users"), Some(&b"4"[..]));
    }

    #[test]
    fn an_answer_loses_the_field_of_that_name_alone() {
        let text = "HTTP/1.1 200 OK\r\nX-By: 1\r\nx_by: 2\r\nX-By: 3\r\n\r\n";
        let parsed = parse_response(text.as_bytes(), &mut 0, &LIMITS, MethodKind::Get);
        let mut response = parsed.unwrap().unwrap();
        remove_from_response(&mut response, "X-BY");
        let left: Vec<_> = response.fields.iter().map(|field| field.name).collect();
        assert_eq!(left, ["x_by"]);
    }
}
