//! What a user or role may do, without doing it.

use std::collections::BTreeMap;

use super::super::call::{Ask, Call, Page, Reply, Service, Unreadable, paged};
use super::super::query::Form;
use super::{VERSION, page};

/// Asks whether a user or role may do things. It knows the policies of the identity and the account's boundaries, not those of
/// the resources.
#[derive(Clone, Debug)]
pub struct SimulatePrincipalPolicy {
    /// Whose rights: the ARN of a user or role, not of a session.
    pub principal_arn: String,
    /// `ec2:RunInstances`.
    pub actions: Vec<String>,
    /// On these; none is everything.
    pub resources: Vec<String>,
    /// Keys of conditions with their values; several make a list.
    pub context: BTreeMap<String, Vec<String>>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// Whether one action on one resource is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `ec2:RunInstances`.
    pub action: String,
    /// The resource's ARN, or `*`.
    pub resource: String,
    /// What comes of it.
    pub decision: Decision,
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    /// No policy allows it.
    Unsaid,
    /// A policy denies it, whatever others allow.
    Denied,
}

impl Call for SimulatePrincipalPolicy {
    type Answer = Page<Verdict>;
    const SERVICE: Service = Service::Iam;
    const ACTION: &'static str = "iam:SimulatePrincipalPolicy";

    fn resource(&self) -> Option<String> {
        Some(self.principal_arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("SimulatePrincipalPolicy", VERSION);
        form.put("PolicySourceArn", &self.principal_arn);
        form.list("ActionNames.member", &self.actions);
        form.list("ResourceArns.member", &self.resources);
        for (index, (key, values)) in self.context.iter().enumerate() {
            let entry = format!("ContextEntries.member.{}", index + 1);
            form.put(&format!("{entry}.ContextKeyName"), key);
            form.list(&format!("{entry}.ContextKeyValues.member"), values);
            let kind = if values.len() == 1 { "string" } else { "stringList" };
            form.put(&format!("{entry}.ContextKeyType"), kind);
        }
        form.put_some("Marker", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Verdict>, Unreadable> {
        page(reply, "SimulatePrincipalPolicy", "EvaluationResults", |member| {
            Ok(Verdict {
                action: member.need_text("EvalActionName")?,
                resource: member.text("EvalResourceName").unwrap_or_else(|| "*".to_owned()),
                decision: match member.need_text("EvalDecision")?.as_str() {
                    "allowed" => Decision::Allowed,
                    "explicitDeny" => Decision::Denied,
                    _ => Decision::Unsaid,
                },
            })
        })
    }
}

paged!(SimulatePrincipalPolicy => Verdict);
