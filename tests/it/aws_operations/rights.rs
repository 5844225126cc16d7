//! Roles, profiles, policies.

use ephemwork::aws::{iam, sts};
use serde_json::Value;

use super::{tags, tell};

#[test]
fn roles_and_profiles() {
    tell(async |at| {
        let before = at.world.inventory();
        let name = "ephemwork-shop-bastion".to_owned();
        let trust = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}"#;
        let role = at
            .call(iam::CreateRole {
                name: name.clone(),
                description: "The bastion of shop".to_owned(),
                trust: trust.to_owned(),
                tags: tags(),
            })
            .await;
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!((json(&role.trust), role.name.as_str()), (json(trust), name.as_str()));
        at.call(iam::UpdateAssumeRolePolicy {
            name: name.clone(),
            trust: trust.replace(' ', ""),
        })
        .await;
        at.call(iam::TagRole {
            name: name.clone(),
            tags: tags(),
        })
        .await;
        let found = at.call(iam::GetRole { name: name.clone() }).await;
        assert_eq!((json(&found.trust), &found.tags, &found.id), (json(trust), &tags(), &role.id));

        let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/k%+*"}]}"#;
        for policy in ["binary", "host-key", "three", "four", "five", "six", "seven"] {
            at.call(iam::PutRolePolicy {
                role: name.clone(),
                policy: policy.to_owned(),
                document: document.to_owned(),
            })
            .await;
        }
        let list = iam::ListRolePolicies {
            role: name.clone(),
            next: None,
        };
        let policies = at.aws.all(&list).await.unwrap();
        assert_eq!(policies.len(), 7, "{policies:?}");
        let policy = at
            .call(iam::GetRolePolicy {
                role: name.clone(),
                policy: "binary".to_owned(),
            })
            .await;
        assert_eq!(json(&policy), json(document));
        let core = format!("arn:aws:iam::aws:policy/{}", iam::SSM_CORE);
        at.call(iam::AttachRolePolicy {
            role: name.clone(),
            policy_arn: core.clone(),
        })
        .await;
        let list = iam::ListAttachedRolePolicies {
            role: name.clone(),
            next: None,
        };
        let attached = at.aws.all(&list).await.unwrap();
        assert_eq!(
            (attached[0].arn.as_str(), attached[0].name.as_str()),
            (core.as_str(), iam::SSM_CORE)
        );

        let profile = at
            .call(iam::CreateInstanceProfile {
                name: name.clone(),
                tags: tags(),
            })
            .await;
        assert!(profile.roles.is_empty());
        let pair = (name.clone(), name.clone());
        at.call(iam::AddRoleToInstanceProfile {
            profile: pair.0,
            role: pair.1,
        })
        .await;
        at.call(iam::TagInstanceProfile {
            name: name.clone(),
            tags: tags(),
        })
        .await;
        let profile = at.call(iam::GetInstanceProfile { name: name.clone() }).await;
        assert_eq!((&profile.roles, &profile.tags), (&vec![name.clone()], &tags()));

        at.world.deny(&["ec2:RunInstances"]);
        let identity = at.call(sts::GetCallerIdentity).await;
        let asked = iam::SimulatePrincipalPolicy {
            principal_arn: identity.arn.clone(),
            actions: vec!["ec2:RunInstances".to_owned(), "ec2:DescribeVpcs".to_owned()],
            resources: Vec::new(),
            context: [("aws:username".to_owned(), vec!["alice".to_owned()])].into(),
            next: None,
        };
        let verdicts = at.aws.all(&asked).await.unwrap();
        let decisions: Vec<_> = verdicts
            .iter()
            .map(|verdict| (verdict.action.as_str(), verdict.decision))
            .collect();
        assert!(
            decisions.contains(&("ec2:DescribeVpcs", iam::Decision::Allowed)),
            "{decisions:?}"
        );
        assert!(
            !decisions.contains(&("ec2:RunInstances", iam::Decision::Allowed)),
            "{decisions:?}"
        );
        at.world.deny(&[]);

        let conflict = at.refused(iam::DeleteRole { name: name.clone() }).await;
        assert_eq!(conflict.code(), Some("DeleteConflict"));
        at.call(iam::RemoveRoleFromInstanceProfile {
            profile: name.clone(),
            role: name.clone(),
        })
        .await;
        at.call(iam::DeleteInstanceProfile { name: name.clone() }).await;
        at.call(iam::DetachRolePolicy {
            role: name.clone(),
            policy_arn: core,
        })
        .await;
        for policy in policies {
            at.call(iam::DeleteRolePolicy {
                role: name.clone(),
                policy,
            })
            .await;
        }
        at.call(iam::DeleteRole { name: name.clone() }).await;
        assert!(at.refused(iam::GetRole { name }).await.is_missing());
        assert_eq!(at.world.inventory(), before);
    });
}
