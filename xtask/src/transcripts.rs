//! `cargo xtask transcripts DIRECTORY`: the last step of `make test`. Every test leaves there what the product's programs printed
//! (tests/it/support/process.rs); none of it may be a secret of the tests.

use std::fs;
use std::path::{Path, PathBuf};

use argh::FromArgs;

/// search what the tests' programs printed for secrets.
#[derive(FromArgs)]
#[argh(subcommand, name = "transcripts")]
pub(crate) struct Arguments {
    /// there may be none: not all tests were run
    #[argh(switch)]
    few: bool,
    /// where the tests left them
    #[argh(positional)]
    directory: PathBuf,
}

/// What a log, an error or a page never has in it, whatever comes before and behind. Case does not matter.
///
/// The first is what the tests send as credentials (`CANARY` in tests/it/support.rs), the second the tests' secret access key.
const SECRETS: [&str; 9] = [
    "ephemwork-canary-",
    "test-secret/with+signs",
    "private key-----",
    "x-amz-signature=",
    "x-amz-security-token",
    "x-amz-credential=",
    "aws4-hmac-sha256 credential",
    "tokenvalue\":",
    "\"token\":\"",
];

pub(crate) fn main(arguments: &Arguments) -> Result<(), String> {
    let (files, found) = search(&arguments.directory).map_err(|why| format!("{}: {why}", arguments.directory.display()))?;
    if files == 0 && !arguments.few {
        return Err(format!(
            "{} has no transcripts; run the tests with EPHEMWORK_TEST_TRANSCRIPTS, as make test does",
            arguments.directory.display()
        ));
    }
    if found.is_empty() {
        println!("transcripts: {files} programs printed no secret");
        return Ok(());
    }
    Err(format!("{} secrets were printed:\n{}", found.len(), found.join("\n")))
}

/// How many transcripts there are, and `FILE:LINE: what of a secret stands there`; never the secret itself.
fn search(directory: &Path) -> std::io::Result<(usize, Vec<String>)> {
    let (mut files, mut found) = (0, Vec::new());
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        files += 1;
        let text = String::from_utf8_lossy(&fs::read(&path)?).to_ascii_lowercase();
        for (number, line) in text.lines().enumerate() {
            let of_line = SECRETS.iter().filter(|secret| line.contains(**secret));
            found.extend(of_line.map(|secret| format!("  {}:{}: {secret}", path.display(), number + 1)));
        }
    }
    Ok((files, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planted_is_found_and_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let run = |few: bool| {
            main(&Arguments {
                few,
                directory: directory.path().to_owned(),
            })
        };
        assert!(run(false).is_err(), "nothing at all proves nothing");
        assert_eq!(run(true), Ok(()));
        fs::write(directory.path().join("1-bastiond.txt"), "ready\nconnected user=alice\n").unwrap();
        assert_eq!(run(false), Ok(()));
        for secret in [
            "authorization: Bearer ephemwork-canary-5d1f-x",
            "AWS_SECRET_ACCESS_KEY=test-secret/with+signs",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "GET /a?X-Amz-Signature=0123456789abcdef",
            "X-Amz-Security-Token: IQoJb3JpZ2lu",
            "?x-amz-credential=AKIA",
            "AWS4-HMAC-SHA256 Credential=AKIA",
            "{\"TokenValue\": \"AAEAA\"}",
            "{\"token\":\"4f7a1c2b3d\"}",
        ] {
            fs::write(directory.path().join("2-up.txt"), format!("one\ntwo {secret} and more\n")).unwrap();
            let why = run(false).unwrap_err();
            assert!(why.contains("2-up.txt:2: "), "{secret}: {why}");
            assert!(!why.contains("0123456789abcdef") && !why.contains("4f7a1c2b3d"), "{why}");
        }
    }
}
