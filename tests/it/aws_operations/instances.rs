//! An instance's life, its agent and its sessions.

use ephemwork::aws::{Tags, ec2, iam, ssm};
use serde_json::json;

use super::{Story, tags, tell};

/// The newest image for arm64 by AWS's public parameter, and an instance profile that an instance can have.
async fn ingredients(at: &Story<'_>) -> (String, String) {
    let image = at
        .call(ssm::GetParameter {
            name: "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64".to_owned(),
        })
        .await;
    let name = "ephemwork-shop-bastion".to_owned();
    let profile = iam::CreateInstanceProfile {
        name: name.clone(),
        tags: tags(),
    };
    at.call(profile).await;
    let role = iam::CreateRole {
        name: name.clone(),
        description: "The bastion of shop".to_owned(),
        trust: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#.to_owned(),
        tags: tags(),
    };
    at.call(role).await;
    at.call(iam::AttachRolePolicy {
        role: name.clone(),
        policy_arn: format!("arn:aws:iam::aws:policy/{}", iam::SSM_CORE),
    })
    .await;
    at.call(iam::AddRoleToInstanceProfile {
        profile: name.clone(),
        role: name.clone(),
    })
    .await;
    (image.value, name)
}

#[test]
fn instances() {
    tell(async |at| {
        let (image_id, profile_name) = ingredients(&at).await;
        let image = at
            .call(ec2::DescribeImages {
                ids: vec![image_id.clone()],
                ..Default::default()
            })
            .await
            .items
            .remove(0);
        assert_eq!((image.architecture.as_str(), image.state.as_str()), ("arm64", "available"));
        assert!(image.root_device.is_some(), "{image:?}");
        let kind = at
            .call(ec2::DescribeInstanceTypes {
                types: vec!["t4g.nano".to_owned()],
                next: None,
            })
            .await
            .items
            .remove(0);
        assert_eq!(
            (kind.architectures.as_slice(), kind.memory),
            (["arm64".to_owned()].as_slice(), Some(512))
        );

        let run = ec2::RunInstances {
            client_token: "ephemwork-shop-1".to_owned(),
            image_id: image_id.clone(),
            instance_type: "t4g.nano".to_owned(),
            subnet_id: at.staging["subnets"][0].as_str().unwrap().to_owned(),
            groups: vec![at.id("app_group")],
            public_address: false,
            profile_name,
            metadata: ec2::MetadataOptions {
                tokens: "required".to_owned(),
                hop_limit: 1,
                endpoint: "enabled".to_owned(),
            },
            devices: vec![ec2::BlockDevice {
                name: image.root_device.unwrap(),
                volume_type: "gp3".to_owned(),
                size: Some(8),
                encrypted: true,
            }],
            user_data: "IyEvYmluL3NoCg==".to_owned(),
            tags: tags(),
            part_tags: tags(),
        };
        let made = at.call(run.clone()).await;
        assert_eq!(at.call(run).await.id, made.id);
        let by_id = ec2::DescribeInstances {
            ids: vec![made.id.clone()],
            ..Default::default()
        };
        let look = async || at.call(by_id.clone()).await.items.remove(0);
        let mut instance = look().await;
        while instance.state == ec2::InstanceState::Pending {
            instance = look().await;
        }
        assert_eq!(instance.state, ec2::InstanceState::Running);
        assert_eq!(
            (instance.image_id.as_str(), instance.architecture.as_deref()),
            (image_id.as_str(), Some("arm64"))
        );
        assert_eq!((&instance.vpc_id, &instance.tags), (&Some(at.id("vpc")), &tags()));
        assert_eq!(
            (instance.groups.clone(), instance.public_address.clone()),
            (vec![at.id("app_group")], None)
        );
        assert!(
            instance.private_address.is_some() && instance.launched.is_some(),
            "{instance:?}"
        );
        let metadata = instance.metadata.clone().unwrap();
        assert_eq!((metadata.tokens.as_str(), metadata.hop_limit), ("required", 1));
        let volume = at
            .call(ec2::DescribeVolumes {
                ids: instance.volumes.clone(),
                ..Default::default()
            })
            .await
            .items
            .remove(0);
        assert_eq!(volume.instances, std::slice::from_ref(&made.id));

        let data = at.call(ec2::DescribeInstanceAttribute { id: made.id.clone() }).await;
        assert_eq!(data.as_deref(), Some("IyEvYmluL3NoCg=="));
        at.world.console(&made.id, "line one\nline two\n");
        let console = at
            .call(ec2::GetConsoleOutput {
                id: made.id.clone(),
                latest: true,
            })
            .await;
        assert_eq!(console.base64.as_deref(), Some("bGluZSBvbmUKbGluZSB0d28K"));
        at.call(ec2::ModifyInstanceMetadataOptions {
            id: made.id.clone(),
            options: ec2::MetadataOptions {
                hop_limit: 2,
                ..metadata
            },
        })
        .await;
        assert_eq!(look().await.metadata.unwrap().hop_limit, 2);
        at.call(ec2::CreateTags {
            ids: vec![made.id.clone()],
            tags: Tags::from([("ephemwork:component".to_owned(), "bastion".to_owned())]),
        })
        .await;
        assert_eq!(look().await.tags.len(), 3);
        let associations = at
            .call(ec2::DescribeIamInstanceProfileAssociations {
                filters: vec![ec2::Filter::of("instance-id", &made.id)],
                next: None,
            })
            .await;
        assert_eq!(associations.items[0].instance_id, made.id);

        agents_and_sessions(&at, &made.id).await;

        at.call(ec2::StopInstances {
            ids: vec![made.id.clone()],
        })
        .await;
        while look().await.state != ec2::InstanceState::Stopped {}
        at.call(ec2::StartInstances {
            ids: vec![made.id.clone()],
        })
        .await;
        while look().await.state != ec2::InstanceState::Running {}
        let ending = at
            .call(ec2::TerminateInstances {
                ids: vec![made.id.clone()],
            })
            .await;
        assert_eq!(ending, [(made.id.clone(), ec2::InstanceState::ShuttingDown)]);
        while look().await.state != ec2::InstanceState::Terminated {}
    });
}

async fn agents_and_sessions(at: &Story<'_>, id: &str) {
    at.world.agent_online(id);
    let agents = at
        .aws
        .all(&ssm::DescribeInstanceInformation {
            ids: vec![id.to_owned()],
            next: None,
        })
        .await
        .unwrap();
    assert_eq!((agents[0].instance_id.as_str(), agents[0].ping.as_str()), (id, "Online"));
    assert!(agents[0].last_ping.is_some(), "{agents:?}");
    let started = at
        .call(ssm::StartSession {
            target: id.to_owned(),
            document: "AWS-StartSSHSession".to_owned(),
            parameters: [("portNumber".to_owned(), vec!["22".to_owned()])].into(),
            reason: Some("ephemwork".to_owned()),
        })
        .await;
    assert!(started.stream_url.starts_with("ws"), "{}", started.stream_url);
    assert!(!format!("{started:?}").contains(&started.token), "a token in a log");
    let list = ssm::DescribeSessions {
        filters: vec![ssm::SessionFilter::Target(id.to_owned())],
        next: None,
    };
    let sessions = at.aws.all(&list).await.unwrap();
    assert_eq!((sessions.len(), &sessions[0].id), (1, &started.session_id));
    let session_id = started.session_id.clone();
    let again = at.call(ssm::ResumeSession { session_id }).await.unwrap();
    assert_eq!(again.session_id, started.session_id);
    let session_id = started.session_id;
    at.call(ssm::TerminateSession { session_id }).await;
    assert!(at.aws.all(&list).await.unwrap().is_empty());
    at.call(ssm::SendSSHPublicKey {
        instance_id: id.to_owned(),
        user: "alice".to_owned(),
        public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wnYcAmzUcRT9dVd7BLhW/0NmeFKfMPoBuAi3B6M0t alice".to_owned(),
    })
    .await;
}

#[test]
fn an_instance_without_a_profile_gets_one() {
    tell(async |at| {
        let (image_id, profile_name) = ingredients(&at).await;
        let made = at.world.aws(
            "ec2",
            "RunInstances",
            json!({"ImageId": image_id, "InstanceType": "t4g.nano", "MinCount": 1, "MaxCount": 1, "SubnetId": at.staging["subnets"][0]}),
        );
        let id = made["Instances"][0]["InstanceId"].as_str().unwrap().to_owned();
        let association = at
            .call(ec2::AssociateIamInstanceProfile {
                instance_id: id.clone(),
                profile_name,
            })
            .await;
        assert_eq!(association.instance_id, id);
        assert!(association.profile_arn.unwrap().ends_with("ephemwork-shop-bastion"));
    });
}
