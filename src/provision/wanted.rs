//! What the settings ask for, and what is chosen where they are silent. Pure.

use super::desired::INSTANCE_TYPE;
use super::names::Names;
use crate::aws::Partition;
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
    /// It is another; nothing was done. What is of elsewhere is said all at once.
    pub fn guard_account(&self, account: &str, arn: &str, region: &str) -> Result<()> {
        let mut elsewhere = self.regional(region);
        let mut differs = |what: String, hint: &str| elsewhere.push((what, hint.to_owned()));
        if let Some(expected) = self.expected_account.as_ref().filter(|expected| *expected != account) {
            differs(
                format!("this is account {account}, and bastion.expected_account_id is {expected}"),
                "sign in to the other account (AWS_PROFILE), or correct the key in ephemwork.toml",
            );
        }
        if let Some(listener) = self.listener.as_ref().filter(|listener| listener.account != account) {
            differs(
                format!(
                    "the listener is of account {}, and this is account {account}",
                    listener.account
                ),
                "sign in to the listener's account (AWS_PROFILE), or correct bastion.listener_arn",
            );
        }
        refuse(elsewhere, Some(arn))
    }

    /// Whether this is the region and partition that are meant, as far as that is known without an account.
    ///
    /// # Errors
    /// It is another.
    pub fn guard_region(&self, region: &str) -> Result<()> {
        refuse(self.regional(region), None)
    }

    /// What is of another region or partition, and what helps.
    fn regional(&self, region: &str) -> Vec<(String, String)> {
        let mut elsewhere = Vec::new();
        let Some(listener) = &self.listener else {
            return elsewhere;
        };
        if listener.region != region {
            let what = format!("the listener is in {}, and this is {region}", listener.region);
            let hint =
                "set tunnel.region in ephemwork.toml, --region or AWS_REGION to the listener's, or correct bastion.listener_arn";
            elsewhere.push((what, hint.to_owned()));
        }
        let partition = Partition::of(&listener.region).name();
        if listener.partition != partition {
            let what = format!(
                "the listener's ARN is of the partition {}, and {} is in {partition}",
                listener.partition, listener.region
            );
            elsewhere.push((what, format!("an ARN of {} begins with arn:{partition}:", listener.region)));
        }
        elsewhere
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

/// One refusal for all that is of another place.
fn refuse(elsewhere: Vec<(String, String)>, caller: Option<&str>) -> Result<()> {
    let error = match elsewhere.as_slice() {
        [] => return Ok(()),
        [(what, hint)] => Error::new(Exit::Conflict, format!("{what}; nothing was changed")).hint(hint),
        several => {
            let lines = several.iter().map(|(what, hint)| format!("\n    {what}\n      {hint}"));
            let what = format!("{} settings are of another place; nothing was changed", several.len());
            Error::new(Exit::Conflict, what).because(lines.collect::<String>())
        }
    };
    Err(match (caller, &error.why) {
        (Some(arn), None) => error.because(format!("the caller is {arn}")),
        (Some(arn), Some(_)) => error.hint(format!("the caller is {arn}")),
        (None, _) => error,
    })
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
            Some("2 settings are of another place; nothing was changed"),
        );
        check(listener, "123456789012", "vpc-1", Some("the listener is in us-east-1"));
        let china = "[bastion]\nlistener_arn = 'arn:aws-cn:elasticloadbalancing:eu-west-1:123456789012:listener/app/a/b/c'";
        let what = "the listener's ARN is of the partition aws-cn, and eu-west-1 is in aws; nothing was changed";
        check(china, "123456789012", "vpc-1", Some(what));
        let all = "[bastion]\nexpected_account_id = '123456789012'\n\
                   listener_arn = 'arn:aws-cn:elasticloadbalancing:us-east-1:123456789012:listener/app/a/b/c'";
        check(all, "210987654321", "vpc-1", Some("4 settings are of another place"));
        check(account, "123456789012", "vpc-1", None);
        check(vpc, "123456789012", "vpc-01234567", None);
    }
}
