//! Rules and target groups.

use ephemwork::aws::{Tags, elbv2};
use serde_json::json;

use super::{tags, tell};

#[test]
fn load_balancing() {
    tell(async |at| {
        let before = at.world.inventory();
        let balancers = elbv2::DescribeLoadBalancers {
            which: elbv2::LoadBalancers::Arns(vec![at.id("alb")]),
            next: None,
        };
        let balancer = at.aws.all(&balancers).await.unwrap().remove(0);
        assert_eq!(balancer.groups, [at.id("alb_group")]);
        assert_eq!(
            (balancer.kind.as_str(), balancer.scheme.as_deref()),
            ("application", Some("internal"))
        );
        assert_eq!((balancer.vpc_id, balancer.subnets.len()), (Some(at.id("vpc")), 2));
        let all = at.aws.all(&elbv2::DescribeLoadBalancers::default()).await.unwrap();
        assert_eq!(all.len(), 1);
        let listeners = elbv2::DescribeListeners {
            arns: vec![at.id("listener")],
            ..Default::default()
        };
        let listener = at.aws.all(&listeners).await.unwrap().remove(0);
        assert_eq!((listener.port, listener.load_balancer_arn), (Some(80), at.id("alb")));

        let health = elbv2::HealthCheck {
            path: "/ephemwork-health".to_owned(),
            interval: 10,
            timeout: 5,
            healthy: 2,
            unhealthy: 2,
            codes: "200".to_owned(),
        };
        let make = elbv2::CreateTargetGroup {
            name: "ephemwork-shop-bastion".to_owned(),
            port: 80,
            vpc_id: at.id("vpc"),
            health: health.clone(),
            tags: tags(),
        };
        let group = at.call(make).await;
        assert_eq!(
            (group.port, group.target_type.as_deref(), &group.health),
            (Some(80), Some("ip"), &health)
        );
        let health = elbv2::HealthCheck { interval: 15, ..health };
        at.call(elbv2::ModifyTargetGroup {
            arn: group.arn.clone(),
            health: health.clone(),
        })
        .await;
        let named = elbv2::DescribeTargetGroups {
            names: vec![group.name.clone()],
            ..Default::default()
        };
        assert_eq!(at.aws.all(&named).await.unwrap()[0].health, health);
        let delay = Tags::from([("deregistration_delay.timeout_seconds".to_owned(), "30".to_owned())]);
        at.call(elbv2::ModifyTargetGroupAttributes {
            arn: group.arn.clone(),
            attributes: delay,
        })
        .await;
        let attributes = at.call(elbv2::DescribeTargetGroupAttributes { arn: group.arn.clone() }).await;
        assert_eq!(attributes["deregistration_delay.timeout_seconds"], "30");

        let conditions = vec![
            elbv2::Condition::method(&["OPTIONS"]),
            elbv2::Condition::header("Access-Control-Request-Headers", &["*x-ephemwork*", "*X-Ephemwork*"]),
        ];
        let rule = at
            .call(elbv2::CreateRule {
                listener_arn: at.id("listener"),
                priority: 3,
                conditions: vec![elbv2::Condition::header("X-Ephemwork", &["*"])],
                target_group_arn: group.arn.clone(),
                tags: tags(),
            })
            .await;
        assert_eq!(rule.priority, Some(3));
        at.call(elbv2::AddTags {
            arns: vec![rule.arn.clone()],
            tags: Tags::from([("ephemwork:component".to_owned(), "preflight".to_owned())]),
        })
        .await;
        at.call(elbv2::ModifyRule {
            arn: rule.arn.clone(),
            conditions: conditions.clone(),
            target_group_arn: group.arn.clone(),
        })
        .await;
        at.call(elbv2::SetRulePriorities {
            priorities: vec![(rule.arn.clone(), 2)],
        })
        .await;
        let of_listener = elbv2::DescribeRules {
            listener_arn: Some(at.id("listener")),
            ..Default::default()
        };
        at.world.habits(json!({"page": 1}));
        let mut rules = at.aws.all(&of_listener).await.unwrap();
        rules.sort_by_key(|rule| rule.priority.unwrap_or(u32::MAX));
        let priorities: Vec<Option<u32>> = rules.iter().map(|rule| rule.priority).collect();
        assert_eq!(priorities, [Some(1), Some(2), Some(10), None]);
        assert_eq!(rules[0].conditions[0].values, ["/api/*"]);
        assert_eq!(rules[1].conditions, conditions);
        assert_eq!(rules[1].actions[0].target_groups, std::slice::from_ref(&group.arn));
        let described = at
            .call(elbv2::DescribeTags {
                arns: vec![rule.arn.clone(), group.arn.clone()],
            })
            .await;
        let of_rule = described.iter().find(|tagged| tagged.arn == rule.arn).unwrap();
        assert_eq!(
            (of_rule.tags.len(), of_rule.tags["ephemwork:component"].as_str()),
            (3, "preflight")
        );

        let target = elbv2::Target {
            address: "10.20.0.17".to_owned(),
            port: 80,
        };
        at.call(elbv2::RegisterTargets {
            arn: group.arn.clone(),
            targets: vec![target.clone()],
        })
        .await;
        let health = at.call(elbv2::DescribeTargetHealth { arn: group.arn.clone() }).await;
        assert_eq!((health.len(), &health[0].target), (1, &target));
        at.call(elbv2::DeregisterTargets {
            arn: group.arn.clone(),
            targets: vec![target],
        })
        .await;
        let used = at.refused(elbv2::DeleteTargetGroup { arn: group.arn.clone() }).await;
        assert_eq!(used.code(), Some("ResourceInUse"));
        at.call(elbv2::DeleteRule { arn: rule.arn }).await;
        at.call(elbv2::DeleteTargetGroup { arn: group.arn }).await;
        assert!(at.aws.call(&named).await.unwrap_err().is_missing());
        assert_eq!(at.world.inventory(), before);
    });
}
