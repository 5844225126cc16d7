//! The network, and who asks.

use ephemwork::aws::{ec2, sts};
use serde_json::json;

use super::{tags, tell};

#[test]
fn the_network_and_who_asks() {
    tell(async |at| {
        let identity = at.call(sts::GetCallerIdentity).await;
        assert_eq!(identity.account, at.id("account"));
        assert!(identity.arn.starts_with("arn:aws:"), "{identity:?}");

        let vpcs = at.aws.all(&ec2::DescribeVpcs::default()).await.unwrap();
        let vpc = vpcs.iter().find(|vpc| vpc.id == at.id("vpc")).unwrap();
        assert_eq!((vpc.cidr.as_deref(), vpc.default), (Some("10.20.0.0/16"), false));
        assert_eq!(vpc.cidrs, ["10.20.0.0/16"]);
        assert_eq!(vpc.tags["Name"], "shop-staging");

        let in_vpc = vec![ec2::Filter::of("vpc-id", at.id("vpc"))];
        at.world.habits(json!({"page": 1}));
        let subnets = at
            .aws
            .all(&ec2::DescribeSubnets {
                filters: in_vpc.clone(),
                ..Default::default()
            })
            .await
            .unwrap();
        let zones: Vec<&str> = subnets.iter().map(|subnet| subnet.availability_zone.as_str()).collect();
        assert_eq!(zones, ["eu-west-1a", "eu-west-1b"]);
        assert!(subnets[0].free_addresses > Some(200), "{subnets:?}");
        at.world.habits(json!({"page": 5}));

        let interfaces = at
            .aws
            .all(&ec2::DescribeNetworkInterfaces {
                filters: in_vpc,
                ..Default::default()
            })
            .await
            .unwrap();
        for interface in &interfaces {
            assert!(interface.id.starts_with("eni-"), "{interface:?}");
        }
        let missing = at
            .refused(ec2::DescribeSubnets {
                ids: vec!["subnet-0123456789abcdef0".to_owned()],
                ..Default::default()
            })
            .await;
        assert_eq!(missing.code(), Some("InvalidSubnetID.NotFound"));
        assert!(missing.is_missing() && missing.request_id.is_some(), "{missing:?}");
    });
}

#[test]
fn security_groups() {
    tell(async |at| {
        let make = ec2::CreateSecurityGroup {
            name: "ephemwork-shop-bastion".to_owned(),
            description: "The bastion of shop".to_owned(),
            vpc_id: at.id("vpc"),
            tags: tags(),
        };
        let id = at.call(make.clone()).await;
        assert_eq!(at.refused(make).await.code(), Some("InvalidGroup.Duplicate"));
        let by_tag = ec2::DescribeSecurityGroups {
            filters: vec![ec2::Filter::tag("ephemwork:project", "shop")],
            ..Default::default()
        };
        let found = at.aws.all(&by_tag).await.unwrap();
        assert_eq!((found.len(), &found[0].id, &found[0].tags), (1, &id, &tags()));
        assert_eq!(found[0].description, "The bastion of shop");

        let permission = |peer: Option<String>, range: Option<&str>| ec2::Permission {
            port: 80,
            peer_group: peer,
            cidr_v4: range.map(str::to_owned),
            description: "From the load balancer".to_owned(),
        };
        let ingress = ec2::AuthorizeSecurityGroupIngress {
            group_id: id.clone(),
            permission: permission(Some(at.id("alb_group")), None),
            tags: tags(),
        };
        let rules = at.call(ingress.clone()).await;
        assert_eq!(rules.len(), 1);
        assert_eq!(at.refused(ingress).await.code(), Some("InvalidPermission.Duplicate"));
        let egress = at
            .call(ec2::AuthorizeSecurityGroupEgress {
                group_id: at.id("alb_group"),
                permission: permission(Some(id.clone()), None),
                tags: tags(),
            })
            .await;
        at.call(ec2::AuthorizeSecurityGroupIngress {
            group_id: id.clone(),
            permission: permission(None, Some("10.20.0.0/16")),
            tags: tags(),
        })
        .await;

        let of_group = |id: String| ec2::DescribeSecurityGroupRules {
            filters: vec![ec2::Filter::of("group-id", id)],
            ..Default::default()
        };
        let found = at.aws.all(&of_group(id.clone())).await.unwrap();
        let first = found.iter().find(|rule| rule.id == rules[0]).unwrap();
        assert_eq!(first.direction, ec2::Direction::Ingress);
        assert_eq!(first.protocol, "tcp");
        assert_eq!((first.from_port, first.to_port), (Some(80), Some(80)));
        assert_eq!(first.peer_group.as_ref(), Some(&at.id("alb_group")));
        assert_eq!(first.tags, tags());
        assert_eq!(first.description.as_deref(), Some("From the load balancer"));
        let range = found
            .iter()
            .find(|rule| rule.cidr_v4.as_deref() == Some("10.20.0.0/16"))
            .unwrap();
        let all = found.iter().find(|rule| rule.direction == ec2::Direction::Egress).unwrap();
        assert_eq!((all.protocol.as_str(), all.cidr_v4.as_deref()), ("-1", Some("0.0.0.0/0")));

        at.call(ec2::RevokeSecurityGroupIngress {
            group_id: id.clone(),
            rule_ids: vec![first.id.clone(), range.id.clone()],
        })
        .await;
        assert_eq!(
            at.refused(ec2::DeleteSecurityGroup { id: id.clone() }).await.code(),
            Some("DependencyViolation")
        );
        at.call(ec2::RevokeSecurityGroupEgress {
            group_id: at.id("alb_group"),
            rule_ids: egress,
        })
        .await;
        assert_eq!(at.aws.all(&of_group(id.clone())).await.unwrap().len(), 1);
        at.call(ec2::DeleteSecurityGroup { id: id.clone() }).await;
        assert!(at.aws.all(&by_tag).await.unwrap().is_empty());
        assert!(at.refused(ec2::DeleteSecurityGroup { id }).await.is_missing());
    });
}

#[test]
fn endpoints() {
    tell(async |at| {
        let before = at.world.inventory();
        let made = at
            .call(ec2::CreateInstanceConnectEndpoint {
                client_token: "ephemwork-shop-1".to_owned(),
                subnet_id: at.staging["subnets"][0].as_str().unwrap().to_owned(),
                groups: vec![at.id("app_group")],
                tags: tags(),
            })
            .await;
        let list = ec2::DescribeInstanceConnectEndpoints {
            filters: vec![ec2::Filter::of("vpc-id", at.id("vpc"))],
            ..Default::default()
        };
        let look = async || at.aws.all(&list).await.unwrap();
        while look().await[0].state != "create-complete" {}
        let endpoint = look().await.remove(0);
        assert_eq!((&endpoint.id, &endpoint.tags), (&made.id, &tags()));
        assert_eq!(
            (endpoint.groups, endpoint.preserves_client_address),
            (vec![at.id("app_group")], false)
        );
        at.call(ec2::DeleteInstanceConnectEndpoint { id: made.id }).await;
        while look().await.iter().any(|endpoint| endpoint.state != "delete-complete") {}
        assert_eq!(at.world.inventory(), before);
    });
}
