//! The rules of a listener: which requests go where.

use super::super::call::{Ask, Call, Page, Reply, Service, Tags, Unreadable, paged};
use super::super::query::Form;
use super::super::xml::Element;
use super::{VERSION, all, done, page, result, texts};

/// Lists rules: those of a listener, or those with these ARNs (one that is not there is an error).
#[derive(Clone, Debug, Default)]
pub struct DescribeRules {
    /// Of this listener.
    pub listener_arn: Option<String>,
    /// These.
    pub arns: Vec<String>,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `arn:aws:elasticloadbalancing:..:listener-rule/app/..`.
    pub arn: String,
    /// From 1, which is asked first, to 50,000; `None` for the listener's default.
    pub priority: Option<u32>,
    /// All of which have to hold.
    pub conditions: Vec<Condition>,
    /// What is done then, in order.
    pub actions: Vec<Action>,
}

/// One condition: any of the values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// `http-header`, `http-request-method`, `host-header`, `path-pattern`, `query-string`, `source-ip`.
    pub field: String,
    /// The header's name, for `http-header`.
    pub header: Option<String>,
    /// The values; of a query string `key=value`.
    pub values: Vec<String>,
}

impl Condition {
    /// A header that has one of the values; `*` and `?` stand for other characters.
    pub fn header(name: &str, values: &[&str]) -> Condition {
        Condition {
            field: "http-header".to_owned(),
            header: Some(name.to_owned()),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }

    /// One of the methods.
    pub fn method(values: &[&str]) -> Condition {
        Condition {
            field: "http-request-method".to_owned(),
            header: None,
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// `forward`, `redirect`, `fixed-response`, `authenticate-oidc`, ...
    pub kind: String,
    /// Where `forward` goes.
    pub target_groups: Vec<String>,
}

impl Call for DescribeRules {
    type Answer = Page<Rule>;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DescribeRules";

    fn resource(&self) -> Option<String> {
        self.arns.first().cloned().or_else(|| self.listener_arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DescribeRules", VERSION);
        form.put_some("ListenerArn", self.listener_arn.as_ref());
        form.list("RuleArns.member", &self.arns);
        form.put_some("Marker", self.next.as_ref());
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Page<Rule>, Unreadable> {
        page(reply, "DescribeRules", "Rules", rule)
    }
}

paged!(DescribeRules => Rule);

fn rule(member: Element<'_, '_>) -> Result<Rule, Unreadable> {
    let priority = match member.text("Priority").as_deref() {
        None | Some("default") => None,
        Some(_) => member.parsed("Priority")?,
    };
    Ok(Rule {
        arn: member.need_text("RuleArn")?,
        priority,
        conditions: all(member, "Conditions", condition)?,
        actions: all(member, "Actions", action)?,
    })
}

/// The values stand in the field's own configuration, and for old fields also, or only, beside it.
fn condition(member: Element<'_, '_>) -> Result<Condition, Unreadable> {
    let field = member.need_text("Field")?;
    let configuration = match field.as_str() {
        "http-header" => "HttpHeaderConfig",
        "http-request-method" => "HttpRequestMethodConfig",
        "host-header" => "HostHeaderConfig",
        "path-pattern" => "PathPatternConfig",
        "query-string" => "QueryStringConfig",
        "source-ip" => "SourceIpConfig",
        _ => "",
    };
    let configuration = member.child(configuration);
    let value = |value: Element<'_, '_>| {
        value.own_text().or_else(|| {
            let key = value.text("Key").map_or_else(String::new, |key| format!("{key}="));
            Some(format!("{key}{}", value.text("Value")?))
        })
    };
    let mut values: Vec<String> = configuration
        .into_iter()
        .flat_map(|configuration| configuration.list("Values", "member"))
        .filter_map(value)
        .collect();
    if values.is_empty() {
        values = texts(member, "Values");
    }
    Ok(Condition {
        field,
        header: configuration.and_then(|configuration| configuration.text("HttpHeaderName")),
        values,
    })
}

fn action(member: Element<'_, '_>) -> Result<Action, Unreadable> {
    let mut target_groups: Vec<String> = member
        .child("ForwardConfig")
        .into_iter()
        .flat_map(|forward| forward.list("TargetGroups", "member"))
        .filter_map(|group| group.text("TargetGroupArn"))
        .collect();
    if target_groups.is_empty() {
        target_groups.extend(member.text("TargetGroupArn"));
    }
    Ok(Action {
        kind: member.need_text("Type")?,
        target_groups,
    })
}

fn conditions(form: &mut Form, conditions: &[Condition]) {
    for (index, condition) in conditions.iter().enumerate() {
        let name = format!("Conditions.member.{}", index + 1);
        form.put(&format!("{name}.Field"), &condition.field);
        let configuration = match condition.field.as_str() {
            "http-header" => "HttpHeaderConfig",
            "http-request-method" => "HttpRequestMethodConfig",
            "host-header" => "HostHeaderConfig",
            "source-ip" => "SourceIpConfig",
            _ => "PathPatternConfig",
        };
        form.put_some(&format!("{name}.{configuration}.HttpHeaderName"), condition.header.as_ref());
        form.list(&format!("{name}.{configuration}.Values.member"), &condition.values);
    }
}

fn forward(form: &mut Form, target_group_arn: &str) {
    form.put("Actions.member.1.Type", "forward");
    form.put("Actions.member.1.TargetGroupArn", target_group_arn);
}

/// Makes a rule that forwards to a target group. A priority that is taken is refused (`PriorityInUse`).
#[derive(Clone, Debug)]
pub struct CreateRule {
    /// Whose.
    pub listener_arn: String,
    /// From 1 to 50,000.
    pub priority: u32,
    /// All of which have to hold. Fields that are written: `http-header`, `http-request-method`, `host-header`,
    /// `path-pattern`, `source-ip`.
    pub conditions: Vec<Condition>,
    /// Where it goes.
    pub target_group_arn: String,
    /// Its tags.
    pub tags: Tags,
}

impl Call for CreateRule {
    type Answer = Rule;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:CreateRule";

    fn resource(&self) -> Option<String> {
        Some(self.listener_arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("CreateRule", VERSION);
        form.put("ListenerArn", &self.listener_arn);
        form.put("Priority", self.priority.to_string());
        conditions(&mut form, &self.conditions);
        forward(&mut form, &self.target_group_arn);
        form.tags("Tags.member", &self.tags);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Rule, Unreadable> {
        result(reply, "CreateRule", |result| rule(result.need("Rules")?.need("member")?))
    }
}

/// Changes a rule's conditions and where it forwards.
#[derive(Clone, Debug)]
pub struct ModifyRule {
    /// Which.
    pub arn: String,
    /// As in [`CreateRule`].
    pub conditions: Vec<Condition>,
    /// Where it goes.
    pub target_group_arn: String,
}

impl Call for ModifyRule {
    type Answer = Rule;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:ModifyRule";

    fn resource(&self) -> Option<String> {
        Some(self.arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("ModifyRule", VERSION);
        form.put("RuleArn", &self.arn);
        conditions(&mut form, &self.conditions);
        forward(&mut form, &self.target_group_arn);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Rule, Unreadable> {
        result(reply, "ModifyRule", |result| rule(result.need("Rules")?.need("member")?))
    }
}

/// Removes a rule.
#[derive(Clone, Debug)]
pub struct DeleteRule {
    /// Which.
    pub arn: String,
}

impl Call for DeleteRule {
    type Answer = ();
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:DeleteRule";

    fn resource(&self) -> Option<String> {
        Some(self.arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("DeleteRule", VERSION);
        form.put("RuleArn", &self.arn);
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<(), Unreadable> {
        done(reply)
    }
}

/// Changes the priorities of rules of one listener, all at once or none.
#[derive(Clone, Debug)]
pub struct SetRulePriorities {
    /// A rule's ARN and its priority.
    pub priorities: Vec<(String, u32)>,
}

impl Call for SetRulePriorities {
    type Answer = Vec<Rule>;
    const SERVICE: Service = Service::Elbv2;
    const ACTION: &'static str = "elasticloadbalancing:SetRulePriorities";

    fn resource(&self) -> Option<String> {
        self.priorities.first().map(|(arn, _)| arn.clone())
    }

    fn request(&self) -> Ask {
        let mut form = Form::new("SetRulePriorities", VERSION);
        for (index, (arn, priority)) in self.priorities.iter().enumerate() {
            let name = format!("RulePriorities.member.{}", index + 1);
            form.put(&format!("{name}.RuleArn"), arn);
            form.put(&format!("{name}.Priority"), priority.to_string());
        }
        form.ask()
    }

    fn answer(reply: &Reply) -> Result<Vec<Rule>, Unreadable> {
        result(reply, "SetRulePriorities", |result| all(result, "Rules", rule))
    }
}
