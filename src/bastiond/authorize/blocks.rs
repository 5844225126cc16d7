//! Reads the blocks of keys that EC2 Instance Connect shows an instance. Pure.
//!
//! A block is `#Name=value` lines (Timestamp, Instance, Caller, Request; more may come), one line with a key, base64 of a
//! signature over these lines, and an empty line. Source: eic_parse_authorized_keys in aws/aws-ec2-instance-connect-config.

use crate::aws::base64;
use crate::bastiond::keys::Blob;

/// The most blocks that are read: keys sent for one user within a minute. A laptop sends one for each connection.
const MAX_BLOCKS: usize = 256;

/// The most lines of one block; AWS's have eleven.
const MAX_LINES: usize = 64;

/// The longest line, in bytes: a key has at most 4096 characters (SendSSHPublicKey).
const MAX_LINE: usize = 8 * 1024;

/// One key as AWS says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub key: Blob,
    /// What the signature is of: the `#` lines and the key's, each with its newline.
    pub signed: String,
    pub signature: Vec<u8>,
    /// Seconds since the epoch from which on the key is worth nothing.
    pub until: u64,
    /// The instance that it is for.
    pub instance: String,
    /// Who sent it, an ARN.
    pub caller: Option<String>,
    /// AWS's id of the call.
    pub request: Option<String>,
}

/// Reads all blocks; the second part has a sentence for each that is left out, with its number from 1.
pub(crate) fn parse(text: &str) -> (Vec<Block>, Vec<String>) {
    let (mut blocks, mut warnings) = (Vec::new(), Vec::new());
    let mut number = 0;
    let mut lines = text.split('\n').peekable();
    while lines.peek().is_some() {
        let of_one: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        if of_one.is_empty() {
            continue;
        }
        number += 1;
        if number > MAX_BLOCKS {
            warnings.push(format!("there are more than {MAX_BLOCKS} blocks; the rest is not read"));
            break;
        }
        match block(&of_one) {
            Ok(block) => blocks.push(block),
            Err(why) => warnings.push(format!("block {number}: {why}")),
        }
    }
    (blocks, warnings)
}

fn block(lines: &[&str]) -> Result<Block, String> {
    if lines.len() > MAX_LINES || lines.iter().any(|line| line.len() > MAX_LINE) {
        return Err(format!(
            "it has more than {MAX_LINES} lines, or one of more than {MAX_LINE} bytes"
        ));
    }
    let heads = lines.iter().take_while(|line| line.starts_with('#')).count();
    let (head, rest) = lines.split_at(heads);
    let (key, signature) = rest.split_first().ok_or("there is no key in it")?;
    let key_blob = Blob::parse(key)?;
    let until = value(head, "Timestamp")?.ok_or("it does not say until when it is valid")?;
    let until = until.parse().map_err(|_| "its time is not a number of seconds".to_owned())?;
    let instance = value(head, "Instance")?.ok_or("it does not say for which instance it is")?;
    let signature: String = signature.concat();
    let signature = base64::decode(&signature).filter(|bytes| !bytes.is_empty());
    Ok(Block {
        key: key_blob,
        signed: head.iter().chain([key]).map(|line| format!("{line}\n")).collect(),
        signature: signature.ok_or("its signature is missing or damaged")?,
        until,
        instance: instance.to_owned(),
        caller: value(head, "Caller")?.map(str::to_owned),
        request: value(head, "Request")?.map(str::to_owned),
    })
}

/// The value of a line. One that stands twice could be read in two ways, so it is no value.
fn value<'a>(head: &[&'a str], name: &str) -> Result<Option<&'a str>, String> {
    let mut found = head
        .iter()
        .filter_map(|line| line.strip_prefix('#')?.strip_prefix(name)?.strip_prefix('='));
    match (found.next(), found.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(format!("its {name} stands there twice")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn whole() -> String {
        format!(
            "#Timestamp=1700000060\n#Instance=i-1\n#Caller=arn:aws:iam::123456789012:user/alice\n#Request=r-1\n{KEY} alice\nAAEC\nAwQF\n\n"
        )
    }

    #[test]
    fn a_block_as_aws_writes_it() {
        let (blocks, warnings) = parse(&whole());
        assert_eq!(warnings, Vec::<String>::new());
        let expected = Block {
            key: Blob::parse(KEY).unwrap(),
            signed: whole().replace("AAEC\nAwQF\n\n", ""),
            signature: vec![0, 1, 2, 3, 4, 5],
            until: 1_700_000_060,
            instance: "i-1".to_owned(),
            caller: Some("arn:aws:iam::123456789012:user/alice".to_owned()),
            request: Some("r-1".to_owned()),
        };
        assert_eq!(blocks, [expected]);
    }

    #[test]
    fn blocks() {
        let check = |text: &str, count: usize, expected: &[&str]| {
            let (blocks, warnings) = parse(text);
            assert_eq!(
                (blocks.len(), warnings.len()),
                (count, expected.len()),
                "{text:?}: {warnings:?}"
            );
            for (warning, part) in warnings.iter().zip(expected) {
                assert!(warning.contains(part), "{text:?}: {warning}");
            }
        };
        let without = |line: &str| whole().replace(line, "");
        check("#Timestamp=1\n", 0, &["no key"]);
        check("hello\n", 0, &["block 1"]);
        check(&without(&format!("{KEY} alice\n")), 0, &["no key"]);
        check(&without("#Timestamp=1700000060\n"), 0, &["until when"]);
        check(&whole().replace("1700000060", "soon"), 0, &["number of seconds"]);
        check(&whole().replace("1700000060", "-1"), 0, &["number of seconds"]);
        check(&without("#Instance=i-1\n"), 0, &["which instance"]);
        check(&without("AAEC\nAwQF\n"), 0, &["signature is missing"]);
        check(&whole().replace("AAEC", "A?EC"), 0, &["signature is missing"]);
        check(
            &whole().replace("#Request", "#Caller=arn:aws:iam::1:user/eve\n#Request"),
            0,
            &["Caller stands there twice"],
        );
        check(
            &whole().replace("#Request", "#Instance=i-2\n#Request"),
            0,
            &["Instance stands there twice"],
        );
        check(&whole().replace(KEY, "ssh-rsa AAAA"), 0, &["ssh-rsa"]);
        check(&whole().replace("AwQF", &"A".repeat(MAX_LINE + 4)), 0, &["more than"]);
        check(&format!("garbage\n\n\n{}", whole()), 1, &["block 1"]);
        check("", 0, &[]);
        check("\n\n\n", 0, &[]);
        check(&without("#Caller=arn:aws:iam::123456789012:user/alice\n"), 1, &[]);
        check(&whole().replace("#Request", "#Later=more\n#Request"), 1, &[]);
        check(&whole().repeat(3), 3, &[]);
        check(whole().trim_end(), 1, &[]);
        check(&whole().repeat(MAX_BLOCKS + 9), MAX_BLOCKS, &["not read"]);
    }

    proptest! {
        #[test]
        fn any_text(text in "[#A-Za-z0-9=\\n /+:-]{0,400}") {
            crate::fuzzing::imds_block(text.as_bytes());
        }

        #[test]
        fn any_damage(at in 0..240_usize, byte in any::<u8>()) {
            let mut bytes = whole().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            crate::fuzzing::imds_block(&bytes);
        }
    }
}
