//! The documents in assets/aws with their `@NAME@`s filled in: policies, user data, the systemd unit, snippets.

use std::collections::BTreeMap;

use serde_json::Value;

/// The systemd unit of the daemon on its own instance.
pub const UNIT: &str = include_str!("../../assets/aws/ephemwork-bastiond.service");
const PUBLISH: &str = include_str!("../../assets/aws/publish-host-key.sh");
const USER_DATA: &str = include_str!("../../assets/aws/user-data.sh");
const TRUST: &str = include_str!("../../assets/aws/policies/trust.json");
const INSTANCE: &str = include_str!("../../assets/aws/policies/instance.json");
const ADMIN: &str = include_str!("../../assets/aws/policies/admin.json");
const DEVELOPER: &str = include_str!("../../assets/aws/policies/developer.json");

/// The longest user data that EC2 takes, in bytes before base64 ("Instance user data" in the EC2 User Guide).
pub const MAX_USER_DATA: usize = 16 * 1024;

/// The longest managed policy, in characters without white space ("IAM and AWS STS quotas").
pub const MAX_MANAGED_POLICY: usize = 6144;

/// What stands for each `@NAME@`.
pub type Values = BTreeMap<&'static str, String>;

/// A policy document, by whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Who may assume the role.
    Trust,
    /// The instance's own rights, beside those of AmazonSSMManagedInstanceCore.
    Instance,
    /// Whoever runs `bastion init`, `upgrade` and `destroy`.
    Admin,
    /// Whoever runs `up`.
    Developer,
}

/// The policy's text.
pub fn policy_text(policy: Policy, values: &Values) -> String {
    let template = match policy {
        Policy::Trust => TRUST,
        Policy::Instance => INSTANCE,
        Policy::Admin => ADMIN,
        Policy::Developer => DEVELOPER,
    };
    fill(template, values)
}

/// The policy as JSON; null would mean that a value broke it, which their shapes exclude and the tests check.
pub fn policy(policy: Policy, values: &Values) -> Value {
    serde_json::from_str(&policy_text(policy, values)).unwrap_or_default()
}

/// What cloud-init runs at the first boot.
pub fn user_data(values: &Values) -> String {
    let mut values = values.clone();
    values.insert("UNIT", UNIT.trim_end().to_owned());
    values.insert("PUBLISH", fill(PUBLISH, &values).trim_end().to_owned());
    fill(USER_DATA, &values)
}

/// Replaces every `@NAME@` that has a value. What is put in is not looked at again.
pub fn fill(template: &str, values: &Values) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('@') {
        text.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let value = behind.find('@').and_then(|end| Some((end, values.get(&behind[..end])?)));
        match value {
            Some((end, value)) => {
                text.push_str(value);
                rest = &behind[end + 1..];
            }
            None => {
                text.push('@');
                rest = behind;
            }
        }
    }
    text + rest
}

/// Whether two policy documents mean the same: IAM keeps the text, but `"a"` and `["a"]` are equal, as is any order of a list.
pub fn same(one: &Value, other: &Value) -> bool {
    canonical(one) == canonical(other)
}

fn canonical(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(canonical).collect();
            items.sort_by_key(ToString::to_string);
            match items.len() {
                1 => items.remove(0),
                _ => Value::Array(items),
            }
        }
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), canonical(value))).collect(),
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filled() {
        let values = Values::from([("A", "1".to_owned()), ("B", "@A@".to_owned())]);
        let check = |template: &str, expected: &str| assert_eq!(fill(template, &values), expected, "{template}");
        check("", "");
        check("a@b", "a@b");
        check("@", "@");
        check("@C@ @A@", "@C@ 1");
        check("x@C@A@", "x@C1");
        check("@A@@B@", "1@A@");
        check("${!x[@]} @A", "${!x[@]} @A");
    }

    #[test]
    fn policies_that_mean_the_same() {
        let check = |one: Value, other: Value, expected: bool| assert_eq!(same(&one, &other), expected, "{one} {other}");
        check(json!({"a": ["x"]}), json!({"a": "x"}), true);
        check(json!({"a": ["x", "y"]}), json!({"a": ["y", "x"]}), true);
        check(json!({"a": ["x", "y"]}), json!({"a": "x"}), false);
        check(json!([{"b": 1, "a": 2}]), json!({"a": 2, "b": 1}), true);
    }
}
