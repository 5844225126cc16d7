//! `--authorized-keys-command`: a program that prints a user's keys, as sshd's AuthorizedKeysCommand (sshd_config(5)).
//!
//! It runs without a shell, with a clean environment, in a process group of its own that is killed at the limit. Its exit code
//! counts for nothing: AWS's eic_run_authorized_keys ends with 255 when it knows no key. Lines are for the user that was asked for.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest as _, Sha256};

use crate::aws::base64;
use crate::bastiond::keys::{self, Blob};
use crate::name::User;
use crate::rt;

/// How long it may take. AWS's own gives its worker 5 s.
const LIMIT: Duration = Duration::from_secs(6);

/// The most that it may print, in bytes: some thousand keys.
const MAX_OUTPUT: u64 = 256 * 1024;

/// Commands at once. Each is a handful of processes.
const AT_ONCE: usize = 8;

/// The only variable that it gets: where a system's own tools are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A command line with tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeysCommand {
    program: PathBuf,
    arguments: Vec<String>,
}

/// Runs it, a few at a time.
pub(crate) struct Runner {
    command: KeysCommand,
    turns: Arc<smol::lock::Semaphore>,
}

impl KeysCommand {
    /// Takes a command as sshd does: an absolute path, and arguments split at spaces, in which `%u` is the user's name, `%f` the
    /// key's fingerprint, `%k` the key in base64, `%t` its type, and `%%` a percent sign.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<KeysCommand, String> {
        let mut words = text.split_ascii_whitespace();
        let program = words.next().ok_or("there is no command")?;
        if !Path::new(program).is_absolute() || program.contains('%') {
            return Err(format!(
                "{program:?} is not the absolute path of a program; write /opt/aws/bin/eic_run_authorized_keys %u %f"
            ));
        }
        let arguments: Vec<String> = words.map(str::to_owned).collect();
        let example = ("a", "b", "c", "d");
        for argument in &arguments {
            expand(argument, example)
                .map_err(|token| format!("{argument:?} has the token {token:?}; there are %u, %f, %k, %t and %%"))?;
        }
        Ok(KeysCommand {
            program: program.into(),
            arguments,
        })
    }
}

/// The argument with its tokens' values: user, fingerprint, key, type. `Err` is a token that there is not.
fn expand(argument: &str, (user, fingerprint, key, kind): (&str, &str, &str, &str)) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = argument;
    while let Some((before, behind)) = rest.split_once('%') {
        expanded.push_str(before);
        let token = behind.chars().next();
        expanded.push_str(match token {
            Some('u') => user,
            Some('f') => fingerprint,
            Some('k') => key,
            Some('t') => kind,
            Some('%') => "%",
            _ => return Err(format!("%{}", token.map(String::from).unwrap_or_default())),
        });
        rest = &behind[1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

impl Runner {
    pub(crate) fn new(command: KeysCommand) -> Runner {
        Runner {
            command,
            turns: Arc::new(smol::lock::Semaphore::new(AT_ONCE)),
        }
    }

    /// Whether the command prints this key for this user, or a sentence about why not.
    pub(crate) async fn allows(&self, user: &User, key: &Blob) -> Result<(), String> {
        let program = self.command.program.display();
        // Whoever may knock chooses the name, and the program would take this one for an option of its own.
        if user.as_str().starts_with('-') {
            return Err(format!("{program} is not asked about a name that begins with '-'"));
        }
        let look = async {
            let turn = self.turns.acquire_arc().await;
            self.run(user, key, turn).await
        };
        let text = match rt::timeout(LIMIT, look).await {
            Some(result) => result.map_err(|why| format!("{program} could not be asked: {why}"))?,
            None => return Err(format!("{program} did not end within {} s and was killed", LIMIT.as_secs())),
        };
        let (found, warnings) = keys::printed(&text);
        for warning in warnings {
            tracing::warn!(%user, "{program}: {warning}");
        }
        let fits = |(blob, named): &(Blob, Option<User>)| blob == key && named.as_ref().is_none_or(|named| named == user);
        if found.iter().any(fits) {
            return Ok(());
        }
        Err(format!(
            "{program} did not print the key for {user}, it printed {}",
            found.len()
        ))
    }

    async fn run(&self, user: &User, key: &Blob, turn: smol::lock::SemaphoreGuardArc) -> Result<String, String> {
        let (kind, encoded) = (key.kind(), base64::encode(key.bytes()));
        let digest = base64::encode(&Sha256::digest(key.bytes()));
        let fingerprint = format!("SHA256:{}", digest.trim_end_matches('='));
        let values = (user.as_str(), fingerprint.as_str(), encoded.as_str(), kind);
        let arguments: Result<Vec<String>, String> = self
            .command
            .arguments
            .iter()
            .map(|argument| expand(argument, values))
            .collect();
        let mut command = Command::new(&self.command.program);
        command
            .args(arguments?)
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let started = rt::unblock(move || Group::start(command)).await;
        let (group, child) = started.map_err(|why| why.to_string())?;
        let ended = Arc::clone(&group.ended);
        // The turn ends with the thread, which may outlive this future by what the killed group takes to let go.
        let read = rt::unblock(move || {
            let _turn = turn;
            let read = read(child);
            ended.store(true, Ordering::Relaxed);
            read
        });
        let output = read.await.map_err(|why| why.to_string())?;
        if output.len() as u64 > MAX_OUTPUT {
            return Err(format!("it prints more than {MAX_OUTPUT} bytes"));
        }
        Ok(String::from_utf8_lossy(&output).into_owned())
    }
}

/// What it prints, up to a byte more than it may, and its end.
fn read(mut child: Child) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output)?;
    }
    child.wait()?;
    Ok(output)
}

/// The processes of one run. They end with this value, also when nobody waits any more.
struct Group {
    leader: Option<Pid>,
    /// The leader was waited for, so its number may be somebody else's.
    ended: Arc<AtomicBool>,
}

impl Group {
    fn start(mut command: Command) -> io::Result<(Group, Child)> {
        let child = command.spawn()?;
        let group = Group {
            leader: i32::try_from(child.id()).ok().and_then(Pid::from_raw),
            ended: Arc::default(),
        };
        Ok((group, child))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader
            && !self.ended.load(Ordering::Relaxed)
        {
            // One that has ended meanwhile is what is wanted.
            kill_process_group(leader, Signal::KILL).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let check = |text: &str, expected: Result<&[&str], &str>| match (KeysCommand::parse(text), expected) {
            (Ok(found), Ok(expected)) => {
                let values = ("alice", "SHA256:x", "AAAA", "ssh-ed25519");
                let found: Vec<String> = found.arguments.iter().map(|one| expand(one, values).unwrap()).collect();
                assert_eq!(found, expected, "{text}");
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("", Err("no command"));
        check("eic_run_authorized_keys %u", Err("absolute"));
        check("/bin/%u", Err("absolute"));
        check("/bin/x %h", Err("%h"));
        check("/bin/x a%", Err("\"%\""));
        check("/bin/x %ü", Err("%ü"));
        check("/bin/x", Ok(&[]));
        check("/bin/x  %u %f", Ok(&["alice", "SHA256:x"]));
        check("/bin/x --%t=%k%%u", Ok(&["--ssh-ed25519=AAAA%u"]));
    }

    /// A program that prints whatever it is given would let in whoever calls themselves `-e`.
    #[test]
    fn a_name_is_no_option() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let runner = Runner::new(KeysCommand::parse("/bin/echo %u %t %k").unwrap());
        let user = User::parse("-e").unwrap();
        let refused = rt::block_on(runner.allows(&user, &Blob::parse(key).unwrap()));
        assert!(refused.unwrap().unwrap_err().contains("begins with '-'"));
    }
}
