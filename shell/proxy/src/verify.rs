//! Passwords that take long to verify, as they should: on a thread of their own, and once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use argon2::PasswordVerifier as _;
use http::filter::{Credentials, is_md5, is_sha};
use model::Hashed;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Passwords that may wait to be verified. At 60 ms each (bcrypt of cost 10) the last one waits for two seconds; whoever comes
/// beyond is better told to come again.
const WAITING: usize = 32;

/// Credentials known to be good that a worker remembers.
const KNOWN: usize = 10_000;

/// The threads that verify, shared by all workers. One for each four of those: guessing passwords must not take the cores
/// from everybody else.
pub(crate) struct Verifier {
    threads: usize,
    queue: OnceLock<SyncSender<Job>>,
}

struct Job {
    hashed: Hashed,
    password: Box<[u8]>,
    /// Whether it can be right at all.
    may: bool,
    verdict: Arc<Verdict>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict(AtomicU8);

const GOOD: u8 = 1;
const BAD: u8 = 2;

impl Verdict {
    /// Whether the password is the right one; `None` as long as nobody knows.
    pub(crate) fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Acquire) {
            GOOD => Some(true),
            BAD => Some(false),
            _ => None,
        }
    }
}

impl Verifier {
    pub(crate) const fn new(workers: usize) -> Self {
        Self {
            threads: workers.div_ceil(4),
            queue: OnceLock::new(),
        }
    }

    /// Verifies a password some time; `None` if too many wait for that already.
    pub(crate) fn verify(&self, hashed: &Hashed, password: &[u8]) -> Option<Arc<Verdict>> {
        self.queue(hashed, password, true)
    }

    /// Takes the same time for a user who is none, and finds against them whatever the password.
    pub(crate) fn refuse(&self, somebody: &Hashed, password: &[u8]) -> Option<Arc<Verdict>> {
        self.queue(somebody, password, false)
    }

    fn queue(&self, hashed: &Hashed, password: &[u8], may: bool) -> Option<Arc<Verdict>> {
        let verdict = Arc::new(Verdict::default());
        let job = Job {
            hashed: hashed.clone(),
            password: password.into(),
            may,
            verdict: verdict.clone(),
        };
        // Most nodes never need them.
        let queue = self.queue.get_or_init(|| start(self.threads));
        queue.try_send(job).ok().map(|()| verdict)
    }
}

fn start(threads: usize) -> SyncSender<Job> {
    let (queue, jobs) = sync_channel::<Job>(WAITING);
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..threads {
        let jobs = jobs.clone();
        let run = move || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                let right = is_right(&job.hashed, &job.password) && job.may;
                let verdict = if right { GOOD } else { BAD };
                job.verdict.0.store(verdict, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("verify".into()).spawn(run);
        // Without a thread nobody takes what is queued, and requests are told to come again.
        if let Err(fault) = thread {
            eprintln!("pointsman: no thread to verify passwords: {fault}");
        }
    }
    queue
}

fn is_right(hashed: &Hashed, password: &[u8]) -> bool {
    match hashed {
        Hashed::Sha(kept) => is_sha(kept, password),
        Hashed::Md5(kept) => is_md5(kept, password),
        // bcrypt knows no more than 72 bytes, and `htpasswd` cuts off what is beyond, as this does.
        Hashed::Bcrypt(kept) => bcrypt::verify(password, kept).unwrap_or(false),
        Hashed::Argon2(kept) => argon2::PasswordHash::new(kept).is_ok_and(|kept| {
            argon2::Argon2::default()
                .verify_password(password, &kept)
                .is_ok()
        }),
    }
}

/// Credentials that were good a while ago, by a keyed hash: what is remembered of a password opens nothing elsewhere.
pub(crate) struct Known {
    secret: [u64; 2],
    good: RefCell<BTreeSet<u128>>,
}

impl Known {
    /// With a secret that nobody knows.
    pub(crate) fn drawn() -> Self {
        let mut bytes = [[0; 8]; 2];
        rustls::crypto::aws_lc_rs::default_provider()
            .secure_random
            .fill(bytes.as_flattened_mut())
            .expect("the system has random numbers");
        Self::new(bytes.map(u64::from_ne_bytes))
    }

    fn new(secret: [u64; 2]) -> Self {
        Self {
            secret,
            good: RefCell::default(),
        }
    }

    /// What credentials are remembered by: the hash that they were compared with is a part of it, so that a changed password
    /// holds at once.
    pub(crate) fn print(&self, hashed: &Hashed, credentials: &Credentials) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        for part in [
            hashed.as_str().as_bytes(),
            credentials.user.as_bytes(),
            &credentials.password,
        ] {
            std::hash::Hasher::write_usize(&mut hasher, part.len());
            std::hash::Hasher::write(&mut hasher, part);
        }
        hasher.finish128().as_u128()
    }

    pub(crate) fn has(&self, print: u128) -> bool {
        self.good.borrow().contains(&print)
    }

    pub(crate) fn add(&self, print: u128) {
        let mut good = self.good.borrow_mut();
        if good.len() >= KNOWN {
            // Those who are still there are verified again.
            good.clear();
        }
        good.insert(print);
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher as _;

    use super::*;

    #[test]
    fn passwords_of_every_kind_are_verified() {
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        let cheap = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon2 = argon2::Argon2::from(cheap);
        let argon2 = argon2
            .hash_password_with_salt(b"secret", b"saltsaltsalt")
            .unwrap()
            .to_string();
        for kept in [&*bcrypt, &*argon2, ARGON2] {
            let hashed: Hashed = kept.parse().unwrap();
            let verifier = Verifier::new(1);
            let wait = |password: &str| {
                let verdict = verifier.verify(&hashed, password.as_bytes()).unwrap();
                loop {
                    match verdict.get() {
                        Some(good) => return good,
                        None => std::thread::yield_now(),
                    }
                }
            };
            assert!(wait("secret"), "{kept}");
            assert!(!wait("Secret"), "{kept}");
            let refused = verifier.refuse(&hashed, b"secret").unwrap();
            while refused.get().is_none() {
                std::thread::yield_now();
            }
            assert_eq!(refused.get(), Some(false));
        }
    }

    #[test]
    fn what_is_known_is_forgotten_with_the_password() {
        let known = Known::new([1, 2]);
        let hash = |text: &str| Hashed::Sha(text.into());
        let credentials = |user: &str, password: &str| Credentials {
            user: user.into(),
            password: password.as_bytes().into(),
        };
        let print = known.print(&hash("old"), &credentials("ann", "secret"));
        known.add(print);
        assert!(known.has(print));
        for other in [
            known.print(&hash("new"), &credentials("ann", "secret")),
            known.print(&hash("old"), &credentials("ann", "Secret")),
            known.print(&hash("old"), &credentials("anns", "ecret")),
        ] {
            assert!(!known.has(other));
        }
        (0..2 * KNOWN as u128).for_each(|n| known.add(n));
        assert!(known.good.borrow().len() <= KNOWN);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let hashed: Hashed = bcrypt::hash("secret", 8).unwrap().parse().unwrap();
        let verifier = Verifier::new(1);
        let taken = (0..10 * WAITING).filter(|_| verifier.verify(&hashed, b"x").is_some());
        assert!(taken.count() < 5 * WAITING);
    }

    /// Of the reference implementation: `echo -n secret | argon2 somesalt -id -t 2 -m 6 -p 1`.
    const ARGON2: &str =
        "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$NwLSKyqrGIiZOR0o1xAodvQbqYvoClGXx5cYXiW9kDY";
}
