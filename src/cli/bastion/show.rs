//! `bastion status`, `policy` and `snippet`: what only looks.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::super::say::{self, Form};
use super::apply::ANY_REGION;
use super::sessions;
use crate::aws::{Aws, NO_CREDENTIALS, NO_REGION};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::provision::desired::{Facts, values};
use crate::provision::documents::{self, Policy};
use crate::provision::observed::Observed;
use crate::provision::plan::Aim;
use crate::provision::snippet::{self, Bastion, Language};
use crate::provision::wanted::Wanted;
use crate::provision::{command, settle, status};

pub(super) async fn status(host: &Host, config: Config, wanted: Wanted, profile: Option<String>, form: Form) -> Result<Exit> {
    if form == Form::Human {
        say::warn("looking ...\n");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let status = status::of(host, &wanted, profile.as_deref(), now).await?;
    let there = status.there();
    if form == Form::Human {
        say::out(&status.text());
    }
    let seen = match there {
        true => sessions::seen(host, config, &wanted, profile.as_deref(), form).await,
        false => Err("there is no bastion".to_owned()),
    };
    match form {
        Form::Json => {
            let mut object = status.object();
            object["sessions"] = json!(seen.as_ref().ok());
            object["sessions_unknown"] = json!(seen.as_ref().err());
            say::object(&object);
        }
        Form::Human if there => say::out(&sessions::text(&seen, now)),
        Form::Human => {}
    }
    Ok(Exit::Fine)
}

pub(super) async fn policy(host: &Host, wanted: Wanted, profile: Option<String>, whose: &str) -> Result<Exit> {
    let policy = match whose {
        "admin" => Policy::Admin,
        "developer" => Policy::Developer,
        "instance" => Policy::Instance,
        other => {
            return Err(Error::new(Exit::Usage, format!("there is no policy for {other:?}"))
                .hint("admin, developer and instance have one: ephemwork bastion policy developer"));
        }
    };
    let (facts, why) = facts(host, &wanted, profile.as_deref()).await?;
    if let Some(why) = why {
        say::warn(&format!("note: {why}; what stands in <> is for you to fill in\n"));
    }
    let mut values = values(&facts);
    values.insert("DOCUMENT", document(&wanted.document, &facts));
    let text = documents::policy_text(policy, &values);
    let size = text.chars().filter(|c| !c.is_whitespace()).count();
    if size > documents::MAX_MANAGED_POLICY {
        say::warn(&format!(
            "note: without white space this has {size} characters, and a managed policy has at most {}: give it to a role as an \
             inline policy\n",
            documents::MAX_MANAGED_POLICY
        ));
    }
    say::out(&text);
    Ok(Exit::Fine)
}

/// The ARN of the document that developers run. AWS's own are nobody's.
fn document(name: &str, facts: &Facts) -> String {
    if name.starts_with("arn:") {
        return name.to_owned();
    }
    let account = if name.starts_with("AWS-") { "" } else { &facts.account };
    let (partition, region) = (&facts.partition, &facts.names.region);
    format!("arn:{partition}:ssm:{region}:{account}:document/{name}")
}

/// The facts as far as a policy needs them: who the account is, and nothing more.
async fn facts(host: &Host, wanted: &Wanted, profile: Option<&str>) -> Result<(Facts, Option<String>)> {
    match opened(host, wanted, profile).await {
        Ok(aws) => {
            let caller = settle::caller(&aws, wanted).await?;
            let mut facts = settle::unread(wanted, aws.region());
            facts.account = caller.account;
            let why = wanted
                .binary
                .is_none()
                .then(|| "bastion.bastion_binary_s3_uri is not set".to_owned());
            Ok((facts, why))
        }
        Err(error) if error.what == NO_CREDENTIALS => Ok((settle::unread(wanted, region(host, wanted)), Some(error.what))),
        Err(error) => Err(error),
    }
}

/// The account. Whoever has no credentials is told that, and not first that there is no region.
async fn opened(host: &Host, wanted: &Wanted, profile: Option<&str>) -> Result<Aws> {
    let error = match command::open(host, wanted, profile).await {
        Err(error) if error.what == NO_REGION => error,
        answer => return answer,
    };
    let somewhere = Wanted {
        region: Some(ANY_REGION.to_owned()),
        ..wanted.clone()
    };
    match command::open(host, &somewhere, profile).await {
        Err(none) if none.what == NO_CREDENTIALS => Err(none),
        _ => Err(error),
    }
}

/// The region that is asked for, or what stands for it.
fn region<'a>(host: &'a Host, wanted: &'a Wanted) -> &'a str {
    let asked = wanted.region.as_deref().or_else(|| host.variable("AWS_REGION"));
    asked.unwrap_or("<region>")
}

pub(super) async fn snippet(host: &Host, wanted: Wanted, profile: Option<String>, language: &str) -> Result<Exit> {
    let Some((_, language)) = Language::ALL.into_iter().find(|(name, _)| *name == language) else {
        let names: Vec<&str> = Language::ALL.iter().map(|(name, _)| *name).collect();
        return Err(Error::new(Exit::Usage, format!("there is no snippet in {language:?}"))
            .hint(format!("there is one in each of {}", names.join(", "))));
    };
    let (facts, observed) = match opened(host, &wanted, profile.as_deref()).await {
        Ok(aws) => {
            let settled = settle::settle(&aws, &wanted, Aim::Bastion).await?;
            (settled.facts, settled.observed)
        }
        Err(error) if error.what == NO_CREDENTIALS => {
            say::warn("note: there are no AWS credentials; what stands in <> is for you to fill in\n");
            (settle::unread(&wanted, region(host, &wanted)), Observed::default())
        }
        Err(error) => return Err(error),
    };
    let there = observed.instances.iter().find(|instance| instance.stays());
    if there.is_none() {
        say::warn("note: there is no bastion yet, so its address stands in <>: ephemwork bastion init --live\n");
    }
    let taken: Vec<u32> = observed.rules.iter().filter_map(|rule| rule.priority).collect();
    let mut free = (1..=50_000).filter(|priority| !taken.contains(priority));
    let bastion = Bastion {
        address: there.and_then(|instance| instance.private_ip.clone()),
        group: observed.group(&facts.names.bastion, &facts.vpc).map(|group| group.id.clone()),
        priorities: (free.next().unwrap_or(1), free.next().unwrap_or(2)),
    };
    say::out(&snippet::snippet(language, &facts, &bastion));
    Ok(Exit::Fine)
}
