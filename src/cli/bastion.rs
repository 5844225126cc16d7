//! `ephemwork bastion`: what belongs to the bastion on AWS. Arguments become what is wanted; `provision` decides and does.

mod apply;
mod audit;
mod print;
mod sessions;
mod show;
mod users;

use argh::FromArgs;

use super::say::Form;
use crate::config::{self, BadAws, Config, Kind, ListenerArn, S3Uri};
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::provision::plan::{Aim, Patience};
use crate::provision::wanted::Wanted;

/// Make, look at, upgrade and remove the bastion on AWS.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "bastion",
    example = "{command_name} init",
    example = "{command_name} init --live",
    note = "Nothing is changed without --live."
)]
pub(super) struct Arguments {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Init(Init),
    Status(Status),
    Upgrade(Upgrade),
    Destroy(Destroy),
    Policy(Policy),
    Snippet(Snippet),
    Users(users::Arguments),
    Audit(audit::Arguments),
}

/// Show what makes or repairs the bastion; with --live do it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "init",
    example = "{command_name} --verbose",
    example = "{command_name} --bastion-binary-s3-uri s3://acme-tools/ephemwork/0.1.0/ephemwork-aarch64-unknown-linux-musl --live",
    note = "Each option but the last seven is also a key of [bastion] in ephemwork.toml, with _ for -."
)]
pub(super) struct Init {
    /// the image (default: AWS's newest Amazon Linux 2023)
    #[argh(option, arg_name = "id")]
    ami_id: Option<String>,
    /// where the instance stands
    #[argh(option, arg_name = "id")]
    subnet_id: Option<String>,
    /// the load balancer's security group
    #[argh(option, arg_name = "id")]
    alb_security_group_id: Option<String>,
    /// what the instance runs: s3://BUCKET/KEY
    #[argh(option, arg_name = "uri")]
    bastion_binary_s3_uri: Option<String>,
    /// the listener that gets the rules (default: none, see `bastion snippet`)
    #[argh(option, arg_name = "arn")]
    listener_arn: Option<String>,
    /// let an EC2 Instance Connect Endpoint reach the bastion's SSH
    #[argh(switch)]
    eice: bool,
    /// change the account; a terminal is asked first
    #[argh(switch)]
    live: bool,
    /// do not ask
    #[argh(switch)]
    yes: bool,
    /// return once everything is created, before it is healthy
    #[argh(switch)]
    no_wait: bool,
    /// print policy documents and user data too
    #[argh(switch)]
    verbose: bool,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// Show how the bastion is: instance, agent, target, rules, drift, rights, cost.
#[derive(FromArgs)]
#[argh(subcommand, name = "status", example = "{command_name}", example = "{command_name} --json")]
pub(super) struct Status {
    /// print one JSON object
    #[argh(switch)]
    json: bool,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// Show what brings a new binary or image to the bastion without cutting anybody off; with --live do it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "upgrade",
    example = "{command_name}",
    example = "{command_name} --live --yes",
    note = "A new instance becomes healthy before the old one is drained and removed. If it does not, the old one serves on."
)]
pub(super) struct Upgrade {
    /// the image (default: AWS's newest Amazon Linux 2023)
    #[argh(option, arg_name = "id")]
    ami_id: Option<String>,
    /// what the instance runs: s3://BUCKET/KEY
    #[argh(option, arg_name = "uri")]
    bastion_binary_s3_uri: Option<String>,
    /// change the account; a terminal is asked first
    #[argh(switch)]
    live: bool,
    /// do not ask
    #[argh(switch)]
    yes: bool,
    /// print policy documents and user data too
    #[argh(switch)]
    verbose: bool,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// Show what removes the bastion and all that belongs to it; with --live do it.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "destroy",
    example = "{command_name}",
    example = "{command_name} --live",
    note = "Listener, subnet and the load balancer's group end as they were before."
)]
pub(super) struct Destroy {
    /// change the account; a terminal is asked first
    #[argh(switch)]
    live: bool,
    /// do not ask
    #[argh(switch)]
    yes: bool,
    /// print one JSON object
    #[argh(switch)]
    json: bool,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// Print the smallest IAM policy: for who makes the bastion, who uses it, or the instance itself.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "policy",
    example = "{command_name} developer",
    example = "{command_name} admin > admin.json"
)]
pub(super) struct Policy {
    /// admin, developer or instance
    #[argh(positional, arg_name = "whose")]
    whose: String,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// Print target group, listener rules and egress for your own stack, with this account's ids.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "snippet",
    example = "{command_name} terraform",
    example = "{command_name} cdk-python > ephemwork_bastion.py"
)]
pub(super) struct Snippet {
    /// cdk-python, cdk-typescript, terraform or cloudformation
    #[argh(positional, arg_name = "language")]
    language: String,
    /// the AWS profile (default: AWS_PROFILE)
    #[argh(option, arg_name = "name")]
    profile: Option<String>,
    /// the AWS region (default: tunnel.region, AWS_REGION, the profile's)
    #[argh(option, arg_name = "name")]
    region: Option<String>,
}

/// How a change is asked for.
struct Asked {
    live: bool,
    yes: bool,
    verbose: bool,
    form: Form,
    profile: Option<String>,
}

pub(super) fn run(host: &Host, arguments: Arguments) -> Result<Exit> {
    // On the bastion itself there is no ephemwork.toml, and `users` and `audit` need none.
    let config = || super::load(host);
    match arguments.verb {
        Verb::Users(users) => users::run(host, users),
        Verb::Audit(audit) => audit::run(host, audit),
        Verb::Init(init) => {
            let mut wanted = wanted(&config()?, init.region.as_deref())?;
            let mut mistakes = Vec::new();
            let id = |kind: Kind| move |text: &str| kind.parse(text);
            flag(&mut wanted.ami_id, "--ami-id", init.ami_id, id(Kind::Image), &mut mistakes);
            flag(
                &mut wanted.subnet_id,
                "--subnet-id",
                init.subnet_id,
                id(Kind::Subnet),
                &mut mistakes,
            );
            let group = init.alb_security_group_id;
            flag(
                &mut wanted.alb_group,
                "--alb-security-group-id",
                group,
                id(Kind::SecurityGroup),
                &mut mistakes,
            );
            let uri = init.bastion_binary_s3_uri;
            flag(
                &mut wanted.binary,
                "--bastion-binary-s3-uri",
                uri,
                S3Uri::parse,
                &mut mistakes,
            );
            flag(
                &mut wanted.listener,
                "--listener-arn",
                init.listener_arn,
                ListenerArn::parse,
                &mut mistakes,
            );
            usage(mistakes)?;
            if init.eice {
                wanted.eice = Some(true);
            }
            let patience = if init.no_wait { Patience::NoWait } else { Patience::Wait };
            let asked = Asked {
                live: init.live,
                yes: init.yes,
                verbose: init.verbose,
                form: Form::of(init.json),
                profile: init.profile,
            };
            super::block_on(apply::build(host, wanted, Aim::Bastion, patience, asked))
        }
        Verb::Upgrade(upgrade) => {
            let mut wanted = wanted(&config()?, upgrade.region.as_deref())?;
            let mut mistakes = Vec::new();
            let image = |text: &str| Kind::Image.parse(text);
            flag(&mut wanted.ami_id, "--ami-id", upgrade.ami_id, image, &mut mistakes);
            let uri = upgrade.bastion_binary_s3_uri;
            flag(
                &mut wanted.binary,
                "--bastion-binary-s3-uri",
                uri,
                S3Uri::parse,
                &mut mistakes,
            );
            usage(mistakes)?;
            let asked = Asked {
                live: upgrade.live,
                yes: upgrade.yes,
                verbose: upgrade.verbose,
                form: Form::of(upgrade.json),
                profile: upgrade.profile,
            };
            super::block_on(apply::build(host, wanted, Aim::Upgrade, Patience::Wait, asked))
        }
        Verb::Destroy(destroy) => {
            let wanted = wanted(&config()?, destroy.region.as_deref())?;
            let asked = Asked {
                live: destroy.live,
                yes: destroy.yes,
                verbose: false,
                form: Form::of(destroy.json),
                profile: destroy.profile,
            };
            super::block_on(apply::destroy(host, wanted, asked))
        }
        Verb::Status(status) => {
            let config = config()?;
            let wanted = wanted(&config, status.region.as_deref())?;
            let form = Form::of(status.json);
            super::block_on(show::status(host, config, wanted, status.profile, form))
        }
        Verb::Policy(policy) => {
            let wanted = wanted(&config()?, policy.region.as_deref())?;
            super::block_on(show::policy(host, wanted, policy.profile, &policy.whose))
        }
        Verb::Snippet(snippet) => {
            let wanted = wanted(&config()?, snippet.region.as_deref())?;
            super::block_on(show::snippet(host, wanted, snippet.profile, &snippet.language))
        }
    }
}

/// What the file says, in the region of the flag.
pub(super) fn wanted(config: &Config, region: Option<&str>) -> Result<Wanted> {
    let mut wanted = Wanted::of(config);
    if let Some(region) = region {
        if !config::is_region(region) {
            return Err(Error::new(Exit::Usage, format!("--region is {region:?}")).hint("it looks like eu-west-1"));
        }
        wanted.region = Some(region.to_owned());
    }
    Ok(wanted)
}

/// A flag over the file's key of the same name.
fn flag<T>(
    place: &mut Option<T>,
    name: &str,
    given: Option<String>,
    parse: impl Fn(&str) -> Result<T, BadAws>,
    mistakes: &mut Vec<String>,
) {
    match given.map(|text| parse(&text)) {
        Some(Ok(value)) => *place = Some(value),
        Some(Err(bad)) => mistakes.push(format!("{name} is wrong: {bad}")),
        None => {}
    }
}

fn usage(mistakes: Vec<String>) -> Result<()> {
    match mistakes.as_slice() {
        [] => Ok(()),
        [only] => Err(Error::new(Exit::Usage, only)),
        all => {
            Err(Error::new(Exit::Usage, format!("{} options are wrong", all.len()))
                .because(format_args!("\n  {}", all.join("\n  "))))
        }
    }
}
