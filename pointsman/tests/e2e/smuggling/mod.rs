//! Requests that two servers could understand in two ways, of every kind that is known to have worked somewhere: by bytes of HTTP/1.1, and by
//! what HTTP/2 can say that HTTP/1.1 cannot. An origin that takes nothing but the strictest form is the judge.

mod chunks;
mod frames;
mod heads;
mod judge;

use judge::Judge;

/// How the one right reading of some bytes is, which another request (`x`) follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    /// There is none: nothing may arrive, and the connection ends.
    No,
    /// There is none, but that shows only when a request with this body has gone on: nobody is told that it was served.
    Late(&'static [u8]),
    /// A request with this body, and `x`: both may arrive, or the first alone, or none.
    Perhaps(&'static [u8]),
    /// The same, and both have to arrive.
    Yes(&'static [u8]),
}

/// What kind of smuggling it is, its bytes, and how they are to be read. `~~~` stands for a number that names it.
pub(crate) type Payload = (&'static str, &'static [u8], Reading);

#[test]
fn no_class_of_smuggling_by_heads_gets_two_readings() {
    Judge::new().sits_over(heads::ALL);
}

#[test]
fn no_class_of_smuggling_by_bodies_gets_two_readings() {
    Judge::new().sits_over(chunks::ALL);
}

#[test]
fn no_character_that_is_none_of_a_name_or_value_gets_through() {
    let judge = Judge::new();
    for byte in (0..=0x1f).chain(0x7f..=0xff).chain(*b"\"(),/;<=>?@[\\]{} ") {
        let within = |before: &[u8], after: &[u8]| {
            [b"GET /~~~a HTTP/1.1\r\nHost: a\r\n", before, &[byte], after].concat()
        };
        let name = within(b"X-", b": v\r\n\r\n");
        judge.hears("a name's character", &name, Reading::No);
        // A name that ends in what others take for a blank.
        let framing = within(b"Content-Length", b": 33\r\n\r\n");
        judge.hears("a name's last character", &framing, Reading::No);
        // Blanks and letters of no ASCII are allowed within, and others have to take them as they are.
        let reading = match byte {
            b'\t' | b' '..=0x7e | 0x80.. => Reading::Perhaps(b""),
            _ => Reading::No,
        };
        let value = within(b"X: v", b"w\r\n\r\n");
        judge.hears("a value's character", &value, reading);
        let coding = within(b"Transfer-Encoding: ", b"chunked\r\n\r\n0\r\n\r\n");
        let blank = matches!(byte, b'\t' | b' ' | b',');
        let reading = if blank {
            Reading::Perhaps(b"")
        } else {
            Reading::No
        };
        judge.hears("a coding's first character", &coding, reading);
    }
    judge.ends();
}

#[test]
fn no_class_of_smuggling_by_http2_gets_two_readings() {
    let judge = Judge::new();
    for (class, fields, parts, reading) in frames::ALL {
        judge.hears_stream(class, fields, parts, *reading);
    }
    judge.ends();
}
