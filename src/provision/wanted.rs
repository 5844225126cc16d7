//! What the settings ask for, and what is chosen where they are silent. Pure.

use super::desired::INSTANCE_TYPE;
use super::names::Names;
use crate::config::{Config, ListenerArn, S3Uri};
use crate::error::{Error, Exit, Result};

/// ephemwork.toml with the flags over it. What is absent is discovered, or not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub project: String,
    pub region: Option<String>,
    pub instance_type: String,
    pub ami_id: Option<String>,
    pub subnet_id: Option<String>,
    pub alb_group: Option<String>,
    pub binary: Option<S3Uri>,
    pub listener: Option<ListenerArn>,
    /// `None` keeps an endpoint that is there.
    pub eice: Option<bool>,
    pub expected_vpc: Option<String>,
    pub expected_account: Option<String>,
    /// The document of Session Manager that developers run: a name or an ARN.
    pub document: String,
}

impl Wanted {
    /// What the file says.
    pub fn of(config: &Config) -> Wanted {
        let (aws, bastion) = (&config.tunnel.aws, &config.bastion);
        Wanted {
            project: config.tunnel.project_name.clone(),
            region: aws.region.clone(),
            instance_type: aws.instance_type.clone().unwrap_or_else(|| INSTANCE_TYPE.to_owned()),
            ami_id: bastion.ami_id.clone(),
            subnet_id: bastion.subnet_id.clone(),
            alb_group: bastion.alb_security_group_id.clone(),
            binary: bastion.binary.clone(),
            listener: bastion.listener_arn.clone(),
            eice: bastion.eice,
            expected_vpc: aws.expected_vpc_id.clone(),
            expected_account: bastion.expected_account_id.clone(),
            document: config.tunnel.way.document.clone(),
        }
    }

    /// The names in a region.
    pub fn names(&self, region: &str) -> Names {
        Names::of(&self.project, region)
    }

    /// Whether this is the account and region that are meant. Before any write, and before reading more.
    ///
    /// # Errors
    /// It is another; nothing was done.
    pub fn guard_account(&self, account: &str, arn: &str, region: &str) -> Result<()> {
        let other = |what: String, hint: &str| {
            Err(Error::new(Exit::Conflict, what)
                .because(format!("the caller is {arn}"))
                .hint(hint))
        };
        if let Some(expected) = self.expected_account.as_ref().filter(|expected| *expected != account) {
            return other(
                format!("this is account {account}, and bastion.expected_account_id is {expected}; nothing was changed"),
                "sign in to the other account (AWS_PROFILE), or correct the key in ephemwork.toml",
            );
        }
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        if listener.account != account {
            return other(
                format!(
                    "the listener is of account {}, and this is account {account}; nothing was changed",
                    listener.account
                ),
                "sign in to the listener's account (AWS_PROFILE), or correct bastion.listener_arn",
            );
        }
        if listener.region != region {
            return other(
                format!(
                    "the listener is in {}, and this is {region}; nothing was changed",
                    listener.region
                ),
                "set tunnel.region in ephemwork.toml, or AWS_REGION, to the listener's",
            );
        }
        Ok(())
    }

    /// Whether this is the VPC that is meant.
    ///
    /// # Errors
    /// It is another; nothing was done.
    pub fn guard_vpc(&self, vpc: &str, subnet: &str) -> Result<()> {
        match &self.expected_vpc {
            Some(expected) if expected != vpc => Err(Error::new(
                Exit::Conflict,
                format!("the subnet {subnet} is in {vpc}, and tunnel.expected_vpc_id is {expected}; nothing was changed"),
            )
            .hint("choose a subnet of that VPC (bastion.subnet_id), or correct the key in ephemwork.toml")),
            _ => Ok(()),
        }
    }
}

/// What might be meant, with what a person knows it by.
pub type Candidate = (String, String);

/// The only candidate.
///
/// # Errors
/// There is none, or more than one: lists them, with the flag and the key that choose.
pub fn only(what: &str, flag: &str, key: &str, candidates: &[Candidate]) -> Result<String> {
    match candidates {
        [(id, _)] => Ok(id.clone()),
        [] => Err(Error::new(Exit::Config, format!("no {what} is found"))
            .hint(format!("name it: {flag} ID, or bastion.{key} in ephemwork.toml"))),
        several => {
            let lines = several.iter().map(|(id, about)| format!("\n    {id}  {about}"));
            Err(Error::new(Exit::Config, format!("which {what}? There are {}", several.len()))
                .because(lines.collect::<String>())
                .hint(format!("choose one: {flag} ID, or bastion.{key} in ephemwork.toml")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_a_list() {
        let candidate = |id: &str| (id.to_owned(), "about".to_owned());
        let none = only("subnet", "--subnet-id", "subnet_id", &[]).unwrap_err();
        assert_eq!(none.what, "no subnet is found");
        let two = only("subnet", "--subnet-id", "subnet_id", &[candidate("a"), candidate("b")]).unwrap_err();
        assert!(two.to_string().contains("a  about\n    b  about"), "{two}");
        assert_eq!(
            only("subnet", "--subnet-id", "subnet_id", &[candidate("a")]),
            Ok("a".to_owned())
        );
    }

    #[test]
    fn guards() {
        let config = |text: &str| Wanted::of(&crate::config::parse(text, std::path::Path::new("/shop/ephemwork.toml")).unwrap());
        let check = |text: &str, account: &str, vpc: &str, expected: Option<&str>| {
            let wanted = config(text);
            let found = wanted
                .guard_account(account, "arn:aws:iam::1:user/a", "eu-west-1")
                .and_then(|()| wanted.guard_vpc(vpc, "subnet-1"));
            let told = found.err().map(|error| error.what);
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()));
        };
        let account = "[bastion]\nexpected_account_id = '123456789012'";
        let vpc = "[tunnel]\ntype = 'ec2'\nexpected_vpc_id = 'vpc-01234567'";
        let listener = "[bastion]\nlistener_arn = 'arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/app/a/b/c'";
        check(account, "210987654321", "vpc-1", Some("this is account 210987654321"));
        check(
            vpc,
            "123456789012",
            "vpc-1",
            Some("is in vpc-1, and tunnel.expected_vpc_id is vpc-01234567"),
        );
        check(
            listener,
            "210987654321",
            "vpc-1",
            Some("the listener is of account 123456789012"),
        );
        check(listener, "123456789012", "vpc-1", Some("the listener is in us-east-1"));
        check(account, "123456789012", "vpc-1", None);
        check(vpc, "123456789012", "vpc-01234567", None);
    }
}
