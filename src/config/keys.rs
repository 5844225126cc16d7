//! The keys that ephemwork.toml knows, and the known one that was probably meant.

/// The tables of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The top of the file.
    Root,
    /// `[tunnel]`.
    Tunnel,
    /// `[bastion]`.
    Bastion,
    /// Every `[service.NAME]`.
    Service,
}

/// The keys of a table, in the order in which people write them.
pub fn known(table: Table) -> &'static [&'static str] {
    match table {
        Table::Root => &["tunnel", "bastion", "service"],
        Table::Tunnel => &[
            "type",
            "region",
            "instance_type",
            "expected_vpc_id",
            "transport",
            "host",
            "port",
            "document",
            "payload_bytes",
            "lanes",
            "host_key",
            "project_name",
            "listen",
            "staging_url",
        ],
        Table::Bastion => &[
            "ami_id",
            "subnet_id",
            "alb_security_group_id",
            "bastion_binary_s3_uri",
            "listener_arn",
            "eice",
            "expected_account_id",
        ],
        Table::Service => &[
            "port",
            "bootstrap_command",
            "build_command",
            "run_command",
            "health_check_path",
            "protocol",
            "host_header",
            "env",
            "env_file",
            "working_directory",
            "health_timeout_seconds",
            "stop_timeout_seconds",
        ],
    }
}

/// The table in which `key` would be right.
pub(super) fn home(key: &str) -> Option<&'static str> {
    // Both have a port; a service's is meant by most.
    if known(Table::Tunnel).contains(&key) && key != "port" {
        Some("[tunnel]")
    } else if known(Table::Bastion).contains(&key) {
        Some("[bastion]")
    } else if known(Table::Service).contains(&key) {
        Some("[service.NAME]")
    } else {
        None
    }
}

/// What was probably meant by `text`: the nearest of `candidates` within a third of its length (at least one edit), or
/// the one that `text` begins (`run` for `run_command`), or the one that begins `text` (`env` for `environment`).
pub(crate) fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let plain: String = text.to_lowercase().replace('-', "_");
    let close = candidates
        .iter()
        .map(|&candidate| (distance(&plain, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 3).max(1) && distance < candidate.len())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate);
    let begun = || {
        let begins = |candidate: &&&str| {
            candidate
                .strip_prefix(plain.as_str())
                .is_some_and(|rest| rest.starts_with('_'))
        };
        candidates.iter().find(begins).copied()
    };
    let longer = || {
        candidates
            .iter()
            .find(|candidate| candidate.len() >= 3 && plain.starts_with(**candidate))
            .copied()
    };
    close.or_else(begun).or_else(longer)
}

/// The longest text that [`distance`] compares, in characters: no known key is half as long, and the cost is the product.
const MAX_COMPARED: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment) from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(MAX_COMPARED).collect();
    let b: Vec<char> = b.chars().take(MAX_COMPARED).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replaced = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let check = |text: &str, table: Table, expected: Option<&str>| {
            assert_eq!(nearest(text, known(table)), expected, "{text:?}");
        };
        check("prot", Table::Service, Some("port"));
        check("ports", Table::Service, Some("port"));
        check("Port", Table::Service, Some("port"));
        check("health-check-path", Table::Service, Some("health_check_path"));
        check("healthcheck_path", Table::Service, Some("health_check_path"));
        check("run", Table::Service, Some("run_command"));
        check("health", Table::Service, Some("health_check_path"));
        check("environment", Table::Service, Some("env"));
        check("command", Table::Service, None);
        check("x", Table::Service, None);
        check("", Table::Service, None);
        check("services", Table::Root, Some("service"));
        check("tunel", Table::Root, Some("tunnel"));
        check("staging-url", Table::Tunnel, Some("staging_url"));
        check("vpc_id", Table::Tunnel, None);
        check("subnet", Table::Bastion, Some("subnet_id"));
        check("bastion_binary", Table::Bastion, Some("bastion_binary_s3_uri"));
        check("listener-arn", Table::Bastion, Some("listener_arn"));
        check(&"abcd".repeat(1000), Table::Service, None);
    }
}
