//! Redis and what speaks like it: `AUTH`, `PING`, `ROLE`, sent at once and answered in turn.

use model::Role;

use super::{Fault, Login, MAX_LINE, Step, said};

/// The questions whose answers are due, the next first.
pub(super) struct Machine(std::vec::IntoIter<Question>, Option<Question>, bool);

#[derive(Clone, Copy)]
enum Question {
    Auth,
    Ping,
    Role,
}

const FOREIGN: Fault = Fault::Foreign("Redis");

impl Machine {
    pub(super) fn new(login: Login<'_>, out: &mut Vec<u8>) -> Self {
        let mut questions = Vec::new();
        if let Some(password) = login.password {
            let words: Vec<&str> = ["AUTH"]
                .into_iter()
                .chain(login.user)
                .chain([password])
                .collect();
            command(&words, out);
            questions.push(Question::Auth);
        }
        command(&["PING"], out);
        command(&["ROLE"], out);
        questions.extend([Question::Ping, Question::Role]);
        let mut questions = questions.into_iter();
        let next = questions.next();
        Self(questions, next, login.password.is_some())
    }

    pub(super) fn step(&mut self, unread: &[u8]) -> Result<Step, Fault> {
        let Some(question) = self.1 else {
            return Ok(Step::Done(None));
        };
        if unread.first().is_some_and(|b| !b"+-*$:".contains(b)) {
            return Err(FOREIGN);
        }
        let Some(end) = unread.windows(2).position(|two| two == b"\r\n") else {
            return match unread.len() > MAX_LINE {
                true => Err(FOREIGN),
                false => Ok(Step::More),
            };
        };
        let (line, rest) = (&unread[..end], &unread[end + 2..]);
        match question {
            Question::Auth if line == b"+OK" => {}
            Question::Ping if line == b"+PONG" => {}
            // Nobody told us the password, and that there is one is an answer.
            Question::Ping if line.starts_with(b"-NOAUTH") && !self.2 => {
                return Ok(Step::Done(None));
            }
            // Not every user may ask, and not everything that speaks the protocol knows the question.
            Question::Role if line.starts_with(b"-") => return Ok(Step::Done(None)),
            Question::Role => return role(line, rest),
            _ if line.starts_with(b"-") => return Err(Fault::Refused(said(&line[1..]))),
            _ => return Err(FOREIGN),
        }
        self.1 = self.0.next();
        Ok(Step::Used(end + 2))
    }
}

/// An array whose first item says it. What follows in it is not waited for.
fn role(line: &[u8], rest: &[u8]) -> Result<Step, Fault> {
    if !line.starts_with(b"*") {
        return Err(FOREIGN);
    }
    for (item, role) in [
        (&b"$6\r\nmaster\r\n"[..], Some(Role::Primary)),
        (b"$5\r\nslave\r\n", Some(Role::Replica)),
        (b"$8\r\nsentinel\r\n", None),
    ] {
        if rest.starts_with(item) {
            return Ok(Step::Done(role));
        }
        if item.starts_with(rest) {
            return Ok(Step::More);
        }
    }
    Err(FOREIGN)
}

/// Appends a command as an array of bulk strings, so that no byte of a password is special.
fn command(words: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}
