use model::CheckProtocol::{MySql, PostgreSql, Redis, Smtp};
use model::{CheckProtocol, Role};

use super::*;

const CHECKER: Login<'_> = Login {
    user: Some("checker"),
    password: Some("pencil"),
    database: None,
};
const NOBODY: Login<'_> = Login {
    user: None,
    password: None,
    database: None,
};

type Verdict = Result<Option<Answer>, Fault>;

/// What comes of what the server says in turn, and everything that is said to it.
fn talk(protocol: CheckProtocol, login: Login<'_>, server: &[Vec<u8>]) -> (Verdict, Vec<u8>) {
    let cut = |size: usize| {
        let mut out = Vec::new();
        let mut dialogue = Dialogue::new(protocol, login, [7; NONCE], &mut out);
        let pieces = server.iter().flat_map(|bytes| bytes.chunks(size));
        for piece in pieces {
            match dialogue.handle(piece, &mut out) {
                Ok(None) => {}
                verdict => return (verdict, out),
            }
        }
        (Ok(None), out)
    };
    let whole = cut(usize::MAX);
    assert_eq!(cut(1), whole, "byte by byte");
    assert_eq!(cut(3), whole, "by three bytes");
    whole
}

fn well(role: Option<Role>) -> Verdict {
    Ok(Some(Answer { role }))
}

fn refused(words: &str) -> Verdict {
    Err(Fault::Refused(words.into()))
}

fn ends_with(said: &[u8], end: &[u8]) -> bool {
    let found = said.ends_with(end);
    assert!(
        found,
        "{} ends not with {}",
        said.escape_ascii(),
        end.escape_ascii()
    );
    found
}

// PostgreSQL.

fn pg(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn pg_error(code: &str) -> Vec<u8> {
    pg(b'E', format!("SFATAL\0C{code}\0Mthe reason\0\0").as_bytes())
}

/// Logged in, and asked.
fn pg_session(recovery: u8) -> Vec<u8> {
    [
        pg(b'R', &[0, 0, 0, 0]),
        pg(b'S', b"in_hot_standby\0off\0"),
        pg(b'K', &[0; 8]),
        pg(b'Z', b"I"),
        pg(b'T', &[0; 30]),
        pg(b'D', &[0, 1, 0, 0, 0, 1, recovery]),
        pg(b'C', b"SELECT 1\0"),
        pg(b'Z', b"I"),
    ]
    .concat()
}

#[test]
fn postgresql_says_whether_it_is_in_recovery() {
    for (answer, role) in [(b't', Role::Replica), (b'f', Role::Primary)] {
        let (verdict, said) = talk(PostgreSql, CHECKER, &[pg_session(answer)]);
        assert_eq!(verdict, well(Some(role)));
        assert!(ends_with(&said, b"pg_is_in_recovery()\0X\0\0\0\x04"));
        assert!(said.starts_with(b"\0\0\0\x49\0\x03\0\0user\0checker\0database\0postgres\0"));
    }
}

#[test]
fn postgresql_gets_the_password_in_the_way_it_asks_for() {
    let session = pg_session(b'f');
    let clear = [pg(b'R', &[0, 0, 0, 3]), session.clone()];
    let (verdict, said) = talk(PostgreSql, CHECKER, &clear);
    assert_eq!(verdict, well(Some(Role::Primary)));
    assert!(said.windows(12).any(|w| w == b"p\0\0\0\x0bpencil\0"));
    let md5 = [pg(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]), session];
    let (_, said) = talk(PostgreSql, CHECKER, &md5);
    let proof = b"p\0\0\0\x28md5a48810f9640dfc0f5717aa883f207258\0";
    assert!(
        said.windows(proof.len()).any(|w| w == proof),
        "{}",
        said.escape_ascii()
    );
    let gss = talk(PostgreSql, CHECKER, &[pg(b'R', &[0, 0, 0, 7])]).0;
    assert_eq!(gss, Err(Fault::Unsupported("GSSAPI".into())));
    let other = talk(
        PostgreSql,
        CHECKER,
        &[pg(b'R', b"\0\0\0\x0aSCRAM-SHA-1\0\0")],
    )
    .0;
    assert!(matches!(other, Err(Fault::Unsupported(_))));
}

#[test]
fn a_postgresql_that_asks_who_we_are_is_well_and_one_that_starts_up_is_not() {
    assert_eq!(
        talk(PostgreSql, NOBODY, &[pg(b'R', &[0, 0, 0, 10])]).0,
        well(None)
    );
    for code in ["28000", "28P01", "3D000"] {
        assert_eq!(talk(PostgreSql, NOBODY, &[pg_error(code)]).0, well(None));
        assert_eq!(
            talk(PostgreSql, CHECKER, &[pg_error(code)]).0,
            refused("the reason")
        );
    }
    for code in ["57P03", "53300"] {
        assert_eq!(
            talk(PostgreSql, NOBODY, &[pg_error(code)]).0,
            refused("the reason")
        );
    }
    // It logged us in, and does not answer the question: a pooler, say.
    let session = [pg(b'R', &[0, 0, 0, 0]), pg(b'Z', b"I"), pg_error("42501")].concat();
    assert_eq!(talk(PostgreSql, CHECKER, &[session]).0, well(None));
}

#[test]
fn a_server_that_changes_the_order_of_scram_is_refused() {
    for early in [&b"\0\0\0\x0br=x,s=eA==,i=1"[..], b"\0\0\0\x0cv=eA=="] {
        let verdict = talk(PostgreSql, CHECKER, &[pg(b'R', early)]).0;
        assert_eq!(verdict, Err(Fault::Foreign("PostgreSQL")));
    }
    let begun = pg(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let verdict = talk(PostgreSql, CHECKER, &[begun, pg(b'R', b"\0\0\0\x0cv=eA==")]).0;
    assert_eq!(verdict, Err(Fault::Impostor));
}

// MySQL.

const CHALLENGE: [u8; 20] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
];

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (body.len() as u32).to_le_bytes();
    [&[a, b, c, number][..], body].concat()
}

fn greeting(plugin: &str) -> Vec<u8> {
    let mut body = b"\x0a8.0.36\0\x01\0\0\0".to_vec();
    body.extend(&CHALLENGE[..8]);
    body.extend([0, 0xff, 0xf7, 33, 2, 0, 0xff, 0xdf, 21]);
    body.extend([0; 10]);
    body.extend(&CHALLENGE[8..]);
    body.push(0);
    body.extend(plugin.as_bytes());
    body.push(0);
    packet(0, &body)
}

fn result(value: &str) -> Vec<u8> {
    let row = [&[value.len() as u8][..], value.as_bytes()].concat();
    [
        packet(1, &[1]),
        packet(
            2,
            b"\x03def\0\0\0\x12@@global.read_only\0\x0c\x3f\0\x01\0\0\0\x08\x80\0\0\0\0",
        ),
        packet(3, &[0xfe, 0, 0, 2, 0]),
        packet(4, &row),
    ]
    .concat()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

fn error(code: u16) -> Vec<u8> {
    let [a, b] = code.to_le_bytes();
    [&[0xff, a, b][..], b"#28000the reason"].concat()
}

#[test]
fn mysql_says_whether_it_is_read_only() {
    for (value, role) in [
        ("0", Some(Role::Primary)),
        ("OFF", Some(Role::Primary)),
        ("1", Some(Role::Replica)),
        ("NO_LOCK_NO_ADMIN", Some(Role::Replica)),
        ("", None),
    ] {
        let server = [
            greeting("mysql_native_password"),
            packet(2, OK),
            result(value),
        ];
        let (verdict, said) = talk(MySql, CHECKER, &server);
        assert_eq!(verdict, well(role), "{value}");
        assert!(ends_with(&said, b"SELECT @@global.read_only\x01\0\0\0\x01"));
    }
    let server = [
        greeting("mysql_native_password"),
        packet(2, OK),
        packet(1, &error(1142)),
    ];
    assert_eq!(talk(MySql, CHECKER, &server).0, well(None));
}

#[test]
fn mysql_gets_the_proof_that_its_plugin_asks_for() {
    let native = hex("cf61fc4b84338d2884baac2131c29caedc133246");
    let sha2 = hex("804b188f4565dae5617113370e156183c91cfef6dd4714585f8d465f2150b271");
    let (_, said) = talk(MySql, CHECKER, &[greeting("mysql_native_password")]);
    assert!(ends_with(
        &said,
        &[b"checker\0\x14", &*native, b"mysql_native_password\0"].concat()
    ));
    let (_, said) = talk(MySql, CHECKER, &[greeting("caching_sha2_password")]);
    assert!(ends_with(
        &said,
        &[b"checker\0\x20", &*sha2, b"caching_sha2_password\0"].concat()
    ));
    // Remembered, or not.
    let server = |more| {
        [
            greeting("caching_sha2_password"),
            packet(2, &[1, more]),
            packet(3, OK),
            result("0"),
        ]
    };
    assert_eq!(
        talk(MySql, CHECKER, &server(3)).0,
        well(Some(Role::Primary))
    );
    assert!(matches!(
        talk(MySql, CHECKER, &server(4)).0,
        Err(Fault::Unsupported(_))
    ));
    // This user has another plugin than the server.
    let switch = [&b"\xfecaching_sha2_password\0"[..], &CHALLENGE, b"\0"].concat();
    let (_, said) = talk(
        MySql,
        CHECKER,
        &[greeting("mysql_native_password"), packet(2, &switch)],
    );
    assert!(ends_with(&said, &[&[32, 0, 0, 3], &*sha2].concat()));
    let switch = [&b"\xfemysql_clear_password\0"[..]].concat();
    let server = [greeting("mysql_native_password"), packet(2, &switch)];
    assert!(matches!(
        talk(MySql, CHECKER, &server).0,
        Err(Fault::Unsupported(_))
    ));
    assert!(
        !talk(MySql, CHECKER, &server)
            .1
            .windows(6)
            .any(|w| w == b"pencil")
    );
}

#[test]
fn a_mysql_that_denies_nobody_access_is_well_and_one_that_is_full_is_not() {
    for code in [1044, 1045, 1698] {
        let server = [greeting("mysql_native_password"), packet(2, &error(code))];
        assert_eq!(talk(MySql, NOBODY, &server).0, well(None));
        assert_eq!(talk(MySql, CHECKER, &server).0, refused("the reason"));
    }
    assert_eq!(
        talk(
            MySql,
            NOBODY,
            &[packet(0, b"\xff\x10\x04Too many connections")]
        )
        .0,
        refused("Too many connections")
    );
    let server = [greeting("mysql_native_password"), packet(2, &error(1040))];
    assert_eq!(talk(MySql, NOBODY, &server).0, refused("the reason"));
}

// Redis.

fn redis(login: Login<'_>, text: &str) -> Verdict {
    talk(Redis, login, &[text.into()]).0
}

#[test]
fn redis_says_its_role() {
    let password = Login {
        user: None,
        ..CHECKER
    };
    assert_eq!(
        redis(NOBODY, "+PONG\r\n*3\r\n$6\r\nmaster\r\n"),
        well(Some(Role::Primary))
    );
    assert_eq!(
        redis(password, "+OK\r\n+PONG\r\n*5\r\n$5\r\nslave\r\n"),
        well(Some(Role::Replica))
    );
    assert_eq!(
        redis(NOBODY, "+PONG\r\n*2\r\n$8\r\nsentinel\r\n"),
        well(None)
    );
    assert_eq!(redis(NOBODY, "+PONG\r\n-NOPERM no\r\n"), well(None));
    assert_eq!(
        redis(NOBODY, "+PONG\r\n*2\r\n$4\r\n"),
        Err(Fault::Foreign("Redis"))
    );
    let (_, said) = talk(Redis, CHECKER, &[]);
    assert!(
        said.starts_with(
            b"*3\r\n$4\r\nAUTH\r\n$7\r\nchecker\r\n$6\r\npencil\r\n*1\r\n$4\r\nPING\r\n"
        )
    );
}

#[test]
fn a_redis_that_asks_for_a_password_is_well_unless_one_was_configured() {
    assert_eq!(
        redis(NOBODY, "-NOAUTH Authentication required.\r\n"),
        well(None)
    );
    assert_eq!(redis(CHECKER, "-WRONGPASS no\r\n"), refused("WRONGPASS no"));
    assert_eq!(
        redis(CHECKER, "+OK\r\n-NOAUTH no\r\n"),
        refused("NOAUTH no")
    );
    assert_eq!(
        redis(NOBODY, "-LOADING the dataset\r\n"),
        refused("LOADING the dataset")
    );
}

// All.

#[test]
fn what_is_another_protocol_shows_and_what_never_ends_is_cut_off() {
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec();
    let ssh = b"SSH-2.0-OpenSSH_9.2\r\n".to_vec();
    for protocol in CheckProtocol::ALL {
        for server in [&http, &ssh] {
            let verdict = talk(protocol, CHECKER, std::slice::from_ref(server)).0;
            assert!(
                matches!(verdict, Err(Fault::Foreign(_))),
                "{protocol:?}: {verdict:?}"
            );
        }
    }
    let endless = vec![b"220-".to_vec(), vec![b'x'; MAX_LINE]];
    assert_eq!(talk(Smtp, NOBODY, &endless).0, Err(Fault::Foreign("SMTP")));
    let endless = vec![b"-".to_vec(), vec![b'x'; 5_000]];
    assert_eq!(
        talk(Redis, NOBODY, &endless).0,
        Err(Fault::Foreign("Redis"))
    );
}

#[test]
fn what_a_server_says_is_one_short_line() {
    let long = format!("-\u{1b}[2J{}\0\r\n", "x".repeat(1_000));
    match redis(CHECKER, &long) {
        Err(Fault::Refused(said)) => {
            assert_eq!(said.len(), 200);
            assert!(said.starts_with("[2Jxx") && !said.contains(char::is_control));
        }
        other => panic!("{other:?}"),
    }
}
