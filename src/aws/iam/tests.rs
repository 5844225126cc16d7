//! IAM as it is heard and spoken. The answers have the shape of those in the IAM API Reference.

use super::super::damage::{form, read, refuse};
use super::*;

const ROLE: &str = "<Path>/</Path><RoleName>bastion</RoleName><RoleId>AROADBQP57FF2AEXAMPLE</RoleId>\
    <Arn>arn:aws:iam::123456789012:role/bastion</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
    <AssumeRolePolicyDocument>%7B%22Version%22%3A%222012-10-17%22%2C%22a%22%3A%22b%20c%2Bd%22%7D</AssumeRolePolicyDocument>\
    <Tags><member><Key>k</Key><Value>v</Value></member><member><Key>empty</Key><Value/></member></Tags>";

#[test]
fn roles() {
    let body = format!(
        r#"<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role>{ROLE}</Role></GetRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetRoleResponse>"#
    );
    let role = read::<GetRole>(&body);
    assert_eq!(role.trust, r#"{"Version":"2012-10-17","a":"b c+d"}"#);
    assert_eq!((role.tags.len(), role.tags["empty"].as_str()), (2, ""));
    refuse::<GetRole>(&[
        "",
        "<GetRoleResponse/>",
        "<GetRoleResponse><GetRoleResult/></GetRoleResponse>",
        &body.replace("%7B", "%FF"),
    ]);
    let made = format!("<R><CreateRoleResult><Role>{ROLE}</Role></CreateRoleResult></R>");
    assert_eq!(read::<CreateRole>(&made), role);
    read::<DeleteRole>("<DeleteRoleResponse><ResponseMetadata/></DeleteRoleResponse>");
    refuse::<DeleteRole>(&["", "<DeleteRoleResponse>"]);
}

#[test]
fn policies() {
    let body = "<R><GetRolePolicyResult><RoleName>r</RoleName><PolicyName>p</PolicyName>\
        <PolicyDocument>%7B%7D</PolicyDocument></GetRolePolicyResult></R>";
    assert_eq!(read::<GetRolePolicy>(body), "{}");
    let body = "<R><ListRolePoliciesResult><PolicyNames><member>a</member><member>b</member></PolicyNames>\
        <IsTruncated>true</IsTruncated><Marker>m</Marker></ListRolePoliciesResult></R>";
    let page = read::<ListRolePolicies>(body);
    assert_eq!(
        (page.items, page.next.as_deref()),
        (vec!["a".to_owned(), "b".to_owned()], Some("m"))
    );
    assert_eq!(read::<ListRolePolicies>(&body.replace("true", "false")).next, None);
    refuse::<ListRolePolicies>(&[&body.replace("<member>a</member>", "<member/>")]);
    let body = "<R><ListAttachedRolePoliciesResult><AttachedPolicies><member><PolicyName>n</PolicyName>\
        <PolicyArn>arn:aws:iam::aws:policy/n</PolicyArn></member></AttachedPolicies></ListAttachedRolePoliciesResult></R>";
    assert_eq!(
        read::<ListAttachedRolePolicies>(body).items[0].arn,
        "arn:aws:iam::aws:policy/n"
    );
    let call = PutRolePolicy {
        role: "r".to_owned(),
        policy: "p".to_owned(),
        document: r#"{"a": "b+c&d"}"#.to_owned(),
    };
    assert_eq!(
        form(&call)[2..],
        [
            ("RoleName".to_owned(), "r".to_owned()),
            ("PolicyName".to_owned(), "p".to_owned()),
            ("PolicyDocument".to_owned(), r#"{"a": "b+c&d"}"#.to_owned()),
        ]
    );
    use crate::aws::Call as _;
    assert_eq!(
        (call.resource().as_deref(), PutRolePolicy::ACTION),
        (Some("r"), "iam:PutRolePolicy")
    );
}

#[test]
fn profiles() {
    let body = format!(
        "<R><GetInstanceProfileResult><InstanceProfile><InstanceProfileName>p</InstanceProfileName><Arn>arn:p</Arn>\
         <Roles><member>{ROLE}</member></Roles><Tags/></InstanceProfile></GetInstanceProfileResult></R>"
    );
    let profile = read::<GetInstanceProfile>(&body);
    assert_eq!((profile.roles, profile.tags.len()), (vec!["bastion".to_owned()], 0));
}

#[test]
fn verdicts() {
    let one = |action: &str, decision: &str| {
        format!(
            "<member><EvalActionName>{action}</EvalActionName><EvalResourceName>*</EvalResourceName><EvalDecision>{decision}</EvalDecision></member>"
        )
    };
    let body = format!(
        "<R><SimulatePrincipalPolicyResult><EvaluationResults>{}{}{}</EvaluationResults></SimulatePrincipalPolicyResult></R>",
        one("a:A", "allowed"),
        one("a:B", "implicitDeny"),
        one("a:C", "explicitDeny"),
    );
    let found: Vec<Decision> = read::<SimulatePrincipalPolicy>(&body)
        .items
        .iter()
        .map(|verdict| verdict.decision)
        .collect();
    assert_eq!(found, [Decision::Allowed, Decision::Unsaid, Decision::Denied]);
}
