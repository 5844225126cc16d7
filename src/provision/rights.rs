//! What IAM must allow: of a plan, from its steps; of all commands together, as questions for IAM's simulator.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::{Architecture, MANAGED_POLICY};
use super::names::Names;
use super::observed::{Observed, Tags};
use super::step::Step;
use super::wanted::Wanted;
use crate::aws::Partition;

/// Reads that are about everything: AWS knows no resource of theirs.
const LOOKING: &[&str] = &[
    "ec2:DescribeImages",
    "ec2:DescribeInstanceConnectEndpoints",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVolumes",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTags",
    "elasticloadbalancing:DescribeTargetGroupAttributes",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "ssm:DescribeInstanceInformation",
];

/// The right to ask these questions; whoever gets an answer has it.
pub const ASKING: &str = "iam:SimulatePrincipalPolicy";

/// Whose role an account's first EC2 Instance Connect Endpoint makes; the same name in every partition.
const ENDPOINT_SERVICE: &str = "ec2-instance-connect.amazonaws.com";

/// A question: may these be done to each of these, in such circumstances?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `ec2:RunInstances`
    pub actions: Vec<&'static str>,
    /// ARNs, or `*`.
    pub resources: Vec<String>,
    /// Keys of conditions as the call would have them, each with its values.
    pub context: BTreeMap<String, Vec<String>>,
}

/// Where the bastion stands or would stand, as ARNs name it.
pub struct Scope<'a> {
    pub partition: Partition,
    pub account: &'a str,
    pub names: &'a Names,
    pub wanted: &'a Wanted,
    pub observed: &'a Observed,
}

impl Scope<'_> {
    fn arn(&self, service: &str, region: &str, account: &str, rest: &str) -> String {
        format!("arn:{}:{service}:{region}:{account}:{rest}", self.partition.name())
    }

    fn ec2(&self, kind: &str, id: &str) -> String {
        let account = if kind == "image" { "" } else { self.account };
        self.arn("ec2", &self.names.region, account, &format!("{kind}/{id}"))
    }

    fn iam(&self, rest: &str) -> String {
        self.arn("iam", "", self.account, rest)
    }

    fn balancing(&self, rest: &str) -> String {
        self.arn("elasticloadbalancing", &self.names.region, self.account, rest)
    }

    fn parameter(&self, name: &str) -> String {
        self.arn("ssm", &self.names.region, self.account, &format!("parameter{name}"))
    }

    /// What is asked for, else what is there, else an id that nothing has: IAM answers for what does not exist, too.
    fn id(&self, wanted: Option<&String>, found: Option<&String>, prefix: &str) -> String {
        let none = || format!("{prefix}00000000000000000");
        wanted.or(found).cloned().unwrap_or_else(none)
    }

    fn group(&self) -> Option<&super::observed::Group> {
        self.observed.groups.iter().find(|group| self.names.own(&group.tags))
    }

    fn alb_group(&self) -> Option<&String> {
        let own = |group: &super::observed::Group| group.name == self.names.bastion;
        let rules = self.group().filter(|group| own(group)).map(|group| &group.rules);
        let of_edge = rules.into_iter().flatten().find(|rule| {
            let edge = rule.traffic.ports == (super::desired::EDGE_PORT, super::desired::EDGE_PORT);
            edge && !rule.traffic.out && rule.traffic.peer.starts_with("sg-")
        });
        of_edge.map(|rule| &rule.traffic.peer)
    }

    fn listener(&self) -> String {
        let ours = self.observed.rules.iter().find(|rule| self.names.own(&rule.tags));
        match (&self.wanted.listener, ours) {
            (Some(listener), _) => listener.to_string(),
            (None, Some(rule)) => rule.listener.clone(),
            (None, None) => self.balancing("listener/app/none/0000000000000000/0000000000000000"),
        }
    }
}

/// All that `init`, `upgrade`, `destroy`, `status` and `doctor` do, on what they would do it to.
pub fn questions(scope: &Scope<'_>) -> Vec<Question> {
    let mut asked = reading(scope);
    asked.extend(identity(scope));
    asked.extend(network(scope));
    asked.extend(balancing(scope));
    asked
}

fn ask(actions: &[&'static str], resources: Vec<String>, context: &[&Context]) -> Question {
    Question {
        actions: actions.to_vec(),
        resources,
        context: context.iter().flat_map(|&keys| keys.clone()).collect(),
    }
}

type Context = BTreeMap<String, Vec<String>>;

fn key(name: &str, value: &str) -> Context {
    Context::from([(name.to_owned(), vec![value.to_owned()])])
}

/// The tags of a request.
fn requested(tags: &Tags) -> Context {
    let mut context: Context = prefixed("aws:RequestTag", tags);
    context.insert("aws:TagKeys".to_owned(), tags.keys().cloned().collect());
    context
}

/// The tags of what is there.
fn carried(tags: &Tags) -> Context {
    prefixed("aws:ResourceTag", tags)
}

fn prefixed(prefix: &str, tags: &Tags) -> Context {
    tags.iter()
        .map(|(key, value)| (format!("{prefix}/{key}"), vec![value.clone()]))
        .collect()
}

fn reading(scope: &Scope<'_>) -> Vec<Question> {
    let (names, none) = (scope.names, Context::new());
    let host_key = scope.parameter(&names.host_key());
    let boot = scope.parameter(&names.boot("i-00000000000000000"));
    let mut asked = vec![
        ask(LOOKING, vec!["*".to_owned()], &[&none]),
        ask(
            &["ssm:GetParametersByPath"],
            vec![scope.parameter(&names.parameters())],
            &[&none],
        ),
        ask(&["ssm:PutParameter"], vec![host_key.clone()], &[&none]),
        ask(&["ssm:DeleteParameter"], vec![host_key, boot], &[&none]),
    ];
    let kept = scope.observed.instances.iter().find(|instance| instance.stays());
    let before = || kept?.tags.get(super::names::BINARY).cloned();
    if let Some(uri) = scope.wanted.binary.as_ref().map(ToString::to_string).or_else(before) {
        let object = uri.trim_start_matches("s3://");
        asked.push(ask(&["s3:GetObject"], vec![scope.arn("s3", "", "", object)], &[&none]));
    }
    if scope.wanted.ami_id.is_none() {
        let parameter = format!("parameter{}", Architecture::Arm64.image_parameter());
        let image = scope.arn("ssm", &names.region, "", &parameter);
        asked.push(ask(&["ssm:GetParameter"], vec![image], &[&none]));
    }
    asked
}

fn identity(scope: &Scope<'_>) -> Vec<Question> {
    let (names, none) = (scope.names, Context::new());
    let role = vec![scope.iam(&format!("role/{}", names.role))];
    let profile = vec![scope.iam(&format!("instance-profile/{}", names.role))];
    let tags = requested(&names.tags());
    let managed = format!("arn:{}:iam::aws:policy/{MANAGED_POLICY}", scope.partition.name());
    let passed = format!("ec2.{}", scope.partition.dns_suffix());
    let linked = format!("role/aws-service-role/{ENDPOINT_SERVICE}/AWSServiceRoleForEC2InstanceConnect");
    vec![
        ask(&["iam:CreateRole", "iam:TagRole"], role.clone(), &[&tags]),
        ask(
            &[
                "iam:DeleteRole",
                "iam:DeleteRolePolicy",
                "iam:GetRole",
                "iam:GetRolePolicy",
                "iam:ListAttachedRolePolicies",
                "iam:ListRolePolicies",
                "iam:PutRolePolicy",
                "iam:UpdateAssumeRolePolicy",
            ],
            role.clone(),
            &[&none],
        ),
        ask(
            &["iam:AttachRolePolicy", "iam:DetachRolePolicy"],
            role.clone(),
            &[&key("iam:PolicyARN", &managed)],
        ),
        ask(&["iam:PassRole"], role, &[&key("iam:PassedToService", &passed)]),
        ask(
            &["iam:CreateInstanceProfile", "iam:TagInstanceProfile"],
            profile.clone(),
            &[&tags],
        ),
        ask(
            &[
                "iam:AddRoleToInstanceProfile",
                "iam:DeleteInstanceProfile",
                "iam:GetInstanceProfile",
                "iam:RemoveRoleFromInstanceProfile",
            ],
            profile,
            &[&none],
        ),
        ask(
            &["iam:CreateServiceLinkedRole"],
            vec![scope.iam(&linked)],
            &[&key("iam:AWSServiceName", ENDPOINT_SERVICE)],
        ),
    ]
}

fn network(scope: &Scope<'_>) -> Vec<Question> {
    let (names, wanted, none) = (scope.names, scope.wanted, Context::new());
    let kept = scope.observed.instances.iter().find(|instance| instance.stays());
    let group = scope.group();
    let (tags, ours) = (requested(&names.tags()), carried(&names.tags()));
    let new = |kind: &str| scope.ec2(kind, "*");
    let subnet = scope.id(wanted.subnet_id.as_ref(), kept.map(|kept| &kept.subnet), "subnet-");
    let subnet = scope.ec2("subnet", &subnet);
    let vpc = scope.id(wanted.expected_vpc.as_ref(), group.map(|group| &group.vpc), "vpc-");
    let image = scope.id(wanted.ami_id.as_ref(), None, "ami-");
    let alb = scope.id(wanted.alb_group.as_ref(), scope.alb_group(), "sg-");
    let instance = scope.id(None, kept.map(|kept| &kept.id), "i-");
    let instance = scope.ec2("instance", &instance);
    let group = scope.id(None, group.map(|group| &group.id), "sg-");
    let group = scope.ec2("security-group", &group);
    let own = |endpoint: &&super::observed::Endpoint| names.own(&endpoint.tags);
    let endpoint = scope.observed.endpoints.iter().find(own).map(|endpoint| &endpoint.id);
    let endpoint = scope.ec2("instance-connect-endpoint", &scope.id(None, endpoint, "eice-"));
    let mut asked = vec![
        ask(
            &["ec2:RunInstances"],
            vec![new("instance"), new("volume"), new("network-interface")],
            &[&tags],
        ),
        ask(
            &["ec2:RunInstances"],
            vec![scope.ec2("image", &image), subnet.clone()],
            &[&none],
        ),
        ask(&["ec2:CreateSecurityGroup"], vec![new("security-group")], &[&tags]),
        ask(&["ec2:CreateSecurityGroup"], vec![scope.ec2("vpc", &vpc)], &[&none]),
        ask(
            &["ec2:CreateInstanceConnectEndpoint"],
            vec![new("instance-connect-endpoint")],
            &[&tags],
        ),
        ask(
            &["ec2:CreateInstanceConnectEndpoint", "ec2:CreateNetworkInterface"],
            vec![subnet],
            &[&none],
        ),
        ask(&["ec2:CreateNetworkInterface"], vec![new("network-interface")], &[&none]),
        ask(
            &["ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress"],
            vec![new("security-group-rule")],
            &[&tags],
        ),
        ask(
            &["ec2:AuthorizeSecurityGroupEgress", "ec2:RevokeSecurityGroupEgress"],
            vec![scope.ec2("security-group", &alb)],
            &[&none],
        ),
        ask(
            &[
                "ec2:AuthorizeSecurityGroupEgress",
                "ec2:AuthorizeSecurityGroupIngress",
                "ec2:CreateInstanceConnectEndpoint",
                "ec2:CreateNetworkInterface",
                "ec2:DeleteSecurityGroup",
                "ec2:RevokeSecurityGroupEgress",
                "ec2:RevokeSecurityGroupIngress",
                "ec2:RunInstances",
            ],
            vec![group.clone()],
            &[&ours],
        ),
        ask(
            &[
                "ec2:AssociateIamInstanceProfile",
                "ec2:GetConsoleOutput",
                "ec2:ModifyInstanceMetadataOptions",
                "ec2:StartInstances",
                "ec2:TerminateInstances",
            ],
            vec![instance.clone()],
            &[&ours],
        ),
        ask(&["ec2:DeleteInstanceConnectEndpoint"], vec![endpoint.clone()], &[&ours]),
        ask(&["ec2:CreateTags"], vec![instance, group, endpoint], &[&ours, &tags]),
    ];
    for (by, kinds) in TAGGED {
        let made = kinds.iter().map(|kind| new(kind)).collect();
        asked.push(ask(&["ec2:CreateTags"], made, &[&tags, &key("ec2:CreateAction", by)]));
    }
    asked
}

/// What is tagged while it is made, and by which call.
const TAGGED: &[(&str, &[&str])] = &[
    ("RunInstances", &["instance", "volume", "network-interface"]),
    ("CreateSecurityGroup", &["security-group"]),
    ("AuthorizeSecurityGroupIngress", &["security-group-rule"]),
    ("AuthorizeSecurityGroupEgress", &["security-group-rule"]),
    ("CreateInstanceConnectEndpoint", &["instance-connect-endpoint"]),
];

fn balancing(scope: &Scope<'_>) -> Vec<Question> {
    let names = scope.names;
    let (tags, ours) = (requested(&names.tags()), carried(&names.tags()));
    let listener = scope.listener();
    let rules = listener.replacen(":listener/", ":listener-rule/", 1);
    let group = scope.observed.target_group.as_ref().map(|group| group.arn.clone());
    let named = scope.balancing(&format!("targetgroup/{}/*", names.target_group));
    let group = group.unwrap_or_else(|| named.clone());
    let rule = scope.observed.rules.iter().find(|rule| names.own(&rule.tags));
    let rule = rule.map_or_else(|| format!("{rules}/0000000000000000"), |rule| rule.arn.clone());
    let by = |action: &str| key("elasticloadbalancing:CreateAction", action);
    let add = ["elasticloadbalancing:AddTags"];
    vec![
        ask(&["elasticloadbalancing:CreateTargetGroup"], vec![named.clone()], &[&tags]),
        ask(&["elasticloadbalancing:CreateRule"], vec![listener], &[&tags]),
        ask(&add, vec![named], &[&tags, &by("CreateTargetGroup")]),
        ask(&add, vec![format!("{rules}/*")], &[&tags, &by("CreateRule")]),
        ask(&add, vec![group.clone(), rule.clone()], &[&ours, &tags]),
        ask(
            &["elasticloadbalancing:DeleteRule", "elasticloadbalancing:ModifyRule"],
            vec![rule],
            &[&ours],
        ),
        ask(
            &[
                "elasticloadbalancing:DeleteTargetGroup",
                "elasticloadbalancing:DeregisterTargets",
                "elasticloadbalancing:ModifyTargetGroup",
                "elasticloadbalancing:ModifyTargetGroupAttributes",
                "elasticloadbalancing:RegisterTargets",
            ],
            vec![group],
            &[&ours],
        ),
    ]
}

/// Each action with what it is done to.
pub fn needed(steps: &[Step]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut needed: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for (action, resource) in steps.iter().flat_map(Step::actions) {
        needed.entry(action).or_default().insert(resource);
    }
    needed
}

/// As lines: an action, and the resources behind it.
pub fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    for (action, resources) in needed(steps) {
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        text += &format!("  {action:46} {}\n", resources.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::desired::{desired, tests::facts, values};
    use super::super::documents::{MAX_MANAGED_POLICY, Policy, policy, policy_text};
    use super::super::observed::Observed;
    use super::super::plan::{Aim, Patience, removal, towards};
    use super::*;

    /// Every action that the admin's document names.
    fn granted() -> BTreeSet<String> {
        let document = policy(Policy::Admin, &values(&facts()));
        let statements = document["Statement"].as_array().unwrap();
        let actions = statements.iter().flat_map(|statement| match &statement["Action"] {
            serde_json::Value::Array(actions) => actions.clone(),
            one => vec![one.clone()],
        });
        actions.map(|action| action.as_str().unwrap().to_owned()).collect()
    }

    fn asked() -> BTreeSet<String> {
        let file = "[tunnel]\ntype = 'ec2'\n[bastion]\nbastion_binary_s3_uri = 's3://tools/x'";
        let config = crate::config::parse(file, std::path::Path::new("/shop/ephemwork.toml")).unwrap();
        let scope = Scope {
            partition: Partition::Aws,
            account: "123456789012",
            names: &facts().names,
            wanted: &Wanted::of(&config),
            observed: &Observed::default(),
        };
        let asked = questions(&scope);
        asked
            .iter()
            .flat_map(|question| &question.actions)
            .map(|&action| action.to_owned())
            .collect()
    }

    #[test]
    fn what_is_granted_is_what_is_asked_for() {
        let mut asked = asked();
        asked.insert(ASKING.to_owned());
        assert_eq!(granted(), asked);
        let steps = super::super::plan::every_step();
        let needed: BTreeSet<String> = needed(&steps).into_keys().map(str::to_owned).collect();
        let missing: Vec<_> = needed.difference(&asked).collect();
        assert!(
            missing.is_empty(),
            "needed by a step, and neither granted nor asked for: {missing:?}"
        );
    }

    #[test]
    fn the_admin_policy_fits_into_a_managed_one() {
        let text = policy_text(Policy::Admin, &values(&facts()));
        let size = text.chars().filter(|c| !c.is_whitespace()).count();
        assert!(size <= MAX_MANAGED_POLICY, "{size}");
    }

    #[test]
    fn a_plan_names_what_it_needs() {
        let desired = desired(facts());
        let plan = towards(&desired, &Observed::default(), Aim::Bastion, Patience::Wait).unwrap();
        let told = text(&plan.steps);
        for action in ["ec2:RunInstances", "iam:PassRole", "elasticloadbalancing:CreateRule"] {
            assert!(told.contains(action), "{told}");
        }
        assert!(!told.contains("Delete"), "{told}");
        assert_eq!(text(&removal(&desired.facts.names, &Observed::default()).steps), "");
    }
}
