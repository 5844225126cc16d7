//! EC2 as it is heard and spoken. The answers have the shape of those in the EC2 API Reference.

use std::time::{Duration, SystemTime};

use super::super::call::Call as _;
use super::super::damage::{form, read, refuse};
use super::*;

fn tags_of(pairs: &[(&str, &str)]) -> Tags {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

const INSTANCES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
    <reservationSet>
        <item>
            <reservationId>r-1234567890abcdef0</reservationId><ownerId>123456789012</ownerId><groupSet/>
            <instancesSet>
                <item>
                    <instanceId>i-1234567890abcdef0</instanceId><imageId>ami-bff32ccc</imageId>
                    <instanceState><code>16</code><name>running</name></instanceState>
                    <privateDnsName>ip-192-168-1-88.eu-west-1.compute.internal</privateDnsName><dnsName/><reason/>
                    <amiLaunchIndex>0</amiLaunchIndex><productCodes/><instanceType>t4g.nano</instanceType>
                    <launchTime>2026-05-08T16:46:19.000Z</launchTime>
                    <placement><availabilityZone>eu-west-1c</availabilityZone><groupName/><tenancy>default</tenancy></placement>
                    <monitoring><state>disabled</state></monitoring>
                    <subnetId>subnet-56f5f633</subnetId><vpcId>vpc-11112222</vpcId><privateIpAddress>192.168.1.88</privateIpAddress>
                    <sourceDestCheck>true</sourceDestCheck>
                    <groupSet><item><groupId>sg-e4076980</groupId><groupName>bastion</groupName></item></groupSet>
                    <architecture>arm64</architecture><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName>
                    <blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-1234567890abcdef0</volumeId>
                        <status>attached</status><attachTime>2026-05-08T16:46:20.000Z</attachTime></ebs></item></blockDeviceMapping>
                    <clientToken>ephemwork-shop-1</clientToken>
                    <tagSet><item><key>Name</key><value>a &lt;b&gt; &amp; c</value></item><item><key>empty</key><value/></item></tagSet>
                    <networkInterfaceSet><item><networkInterfaceId>eni-551ba033</networkInterfaceId><status>in-use</status></item></networkInterfaceSet>
                    <iamInstanceProfile><arn>arn:aws:iam::123456789012:instance-profile/bastion</arn><id>ABCAJEDNCAA64SSD123AB</id></iamInstanceProfile>
                    <metadataOptions><state>applied</state><httpTokens>required</httpTokens>
                        <httpPutResponseHopLimit>1</httpPutResponseHopLimit><httpEndpoint>enabled</httpEndpoint></metadataOptions>
                </item>
                <item>
                    <instanceId>i-0aaaaaaaaaaaaaaaa</instanceId>
                    <instanceState><code>48</code><name>terminated</name></instanceState>
                    <reason>User initiated (2026-05-08 16:55:00 GMT)</reason>
                    <stateReason><code>Client.UserInitiatedShutdown</code><message>Client.UserInitiatedShutdown: User initiated shutdown</message></stateReason>
                </item>
            </instancesSet>
        </item>
    </reservationSet>
    <nextToken>abc==</nextToken>
</DescribeInstancesResponse>"#;

#[test]
fn instances() {
    let page = read::<DescribeInstances>(INSTANCES);
    assert_eq!(page.next.as_deref(), Some("abc=="));
    let [running, ended] = page.items.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!(
        (running.id.as_str(), running.state),
        ("i-1234567890abcdef0", InstanceState::Running)
    );
    assert_eq!(running.state_reason, None);
    assert_eq!(
        running.launched,
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_778_258_779))
    );
    assert_eq!((running.public_address.as_deref(), running.key_name.as_deref()), (None, None));
    assert_eq!(running.groups, ["sg-e4076980"]);
    assert_eq!(
        (running.interfaces.as_slice(), running.volumes.as_slice()),
        (
            ["eni-551ba033".to_owned()].as_slice(),
            ["vol-1234567890abcdef0".to_owned()].as_slice()
        )
    );
    assert_eq!(
        running.profile_arn.as_deref(),
        Some("arn:aws:iam::123456789012:instance-profile/bastion")
    );
    assert_eq!(running.tags, tags_of(&[("Name", "a <b> & c"), ("empty", "")]));
    assert_eq!(running.metadata.as_ref().map(|options| options.hop_limit), Some(1));
    assert_eq!((ended.state, ended.subnet_id.as_deref()), (InstanceState::Terminated, None));
    let reason = "Client.UserInitiatedShutdown: User initiated shutdown";
    assert_eq!(ended.state_reason.as_deref(), Some(reason));
    refuse::<DescribeInstances>(&[
        "",
        "nonsense",
        "{}",
        "<a",
        "<!DOCTYPE a [<!ENTITY lol 'lol'>]><a>&lol;</a>",
        "<R><reservationSet><item><instancesSet><item><instanceId/></item></instancesSet></item></reservationSet></R>",
        "<R><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></item></reservationSet></R>",
    ]);
    let odd = "<R><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><instanceState><name>odd</name></instanceState></item></instancesSet></item></reservationSet></R>";
    assert_eq!(read::<DescribeInstances>(odd).items[0].state, InstanceState::Unknown);
}

#[test]
fn an_answer_without_end_in_depth() {
    let deep = "<a>".repeat(100_000);
    let closed = format!("{deep}{}", "</a>".repeat(100_000));
    for body in [deep, closed] {
        drop(DescribeInstances::answer(&super::super::damage::reply(body)));
    }
}

#[test]
fn changes_of_state() {
    let body = r"<TerminateInstancesResponse><instancesSet><item><instanceId>i-1</instanceId>
        <currentState><code>32</code><name>shutting-down</name></currentState>
        <previousState><code>16</code><name>running</name></previousState></item></instancesSet></TerminateInstancesResponse>";
    assert_eq!(
        read::<TerminateInstances>(body),
        [("i-1".to_owned(), InstanceState::ShuttingDown)]
    );
    let call = StopInstances {
        ids: vec!["i-1".to_owned(), "i-2".to_owned()],
    };
    let fields = form(&call);
    let expected = [
        ("Action", "StopInstances"),
        ("Version", "2016-11-15"),
        ("InstanceId.1", "i-1"),
        ("InstanceId.2", "i-2"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn what_a_launch_says() {
    let call = RunInstances {
        client_token: "t-1".to_owned(),
        image_id: "ami-1".to_owned(),
        instance_type: "t4g.nano".to_owned(),
        subnet_id: "subnet-1".to_owned(),
        groups: vec!["sg-1".to_owned()],
        public_address: false,
        profile_name: "bastion".to_owned(),
        metadata: MetadataOptions {
            tokens: "required".to_owned(),
            hop_limit: 1,
            endpoint: "enabled".to_owned(),
        },
        devices: vec![BlockDevice {
            name: "/dev/xvda".to_owned(),
            volume_type: "gp3".to_owned(),
            size: Some(8),
            encrypted: true,
        }],
        user_data: "IyEvYmluL3NoCg==".to_owned(),
        tags: tags_of(&[("ephemwork:project", "shop")]),
        part_tags: Tags::new(),
    };
    let lines: Vec<String> = form(&call)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let expected = "Action=RunInstances
Version=2016-11-15
ClientToken=t-1
ImageId=ami-1
InstanceType=t4g.nano
MinCount=1
MaxCount=1
NetworkInterface.1.DeviceIndex=0
NetworkInterface.1.SubnetId=subnet-1
NetworkInterface.1.AssociatePublicIpAddress=false
NetworkInterface.1.DeleteOnTermination=true
NetworkInterface.1.SecurityGroupId.1=sg-1
IamInstanceProfile.Name=bastion
MetadataOptions.HttpTokens=required
MetadataOptions.HttpPutResponseHopLimit=1
MetadataOptions.HttpEndpoint=enabled
BlockDeviceMapping.1.DeviceName=/dev/xvda
BlockDeviceMapping.1.Ebs.VolumeType=gp3
BlockDeviceMapping.1.Ebs.Encrypted=true
BlockDeviceMapping.1.Ebs.DeleteOnTermination=true
BlockDeviceMapping.1.Ebs.VolumeSize=8
UserData=IyEvYmluL3NoCg==
TagSpecification.1.ResourceType=instance
TagSpecification.1.Tag.1.Key=ephemwork:project
TagSpecification.1.Tag.1.Value=shop";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn rules() {
    let body = r#"<DescribeSecurityGroupRulesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><securityGroupRuleSet>
        <item><groupId>sg-1</groupId><groupOwnerId>123456789012</groupOwnerId><isEgress>false</isEgress><ipProtocol>tcp</ipProtocol>
            <fromPort>80</fromPort><toPort>80</toPort><securityGroupRuleId>sgr-1</securityGroupRuleId>
            <referencedGroupInfo><groupId>sg-2</groupId><userId>123456789012</userId></referencedGroupInfo><tagSet/></item>
        <item><groupId>sg-1</groupId><isEgress>true</isEgress><ipProtocol>-1</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort>
            <cidrIpv4>0.0.0.0/0</cidrIpv4><securityGroupRuleId>sgr-2</securityGroupRuleId></item>
        </securityGroupRuleSet></DescribeSecurityGroupRulesResponse>"#;
    let page = read::<DescribeSecurityGroupRules>(body);
    let [from_group, everything] = page.items.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!(
        (from_group.direction, from_group.peer_group.as_deref()),
        (Direction::Ingress, Some("sg-2"))
    );
    assert_eq!((everything.direction, everything.from_port), (Direction::Egress, Some(-1)));
    assert_eq!(everything.cidr_v4.as_deref(), Some("0.0.0.0/0"));
    refuse::<DescribeSecurityGroupRules>(&[&body.replace(">80<", ">eighty<"), &body.replace("false", "perhaps")]);
    let made = r"<AuthorizeSecurityGroupIngressResponse><return>true</return><securityGroupRuleSet><item>
        <securityGroupRuleId>sgr-1</securityGroupRuleId></item></securityGroupRuleSet></AuthorizeSecurityGroupIngressResponse>";
    assert_eq!(read::<AuthorizeSecurityGroupIngress>(made), ["sgr-1"]);
    read::<RevokeSecurityGroupIngress>(
        "<RevokeSecurityGroupIngressResponse><return>true</return></RevokeSecurityGroupIngressResponse>",
    );
    refuse::<RevokeSecurityGroupIngress>(&["<R><return>false</return></R>", "<R><return>true</return>"]);
}

#[test]
fn groups_and_networks() {
    let body = r"<R><securityGroupInfo><item><ownerId>1</ownerId><groupId>sg-1</groupId><groupName>n</groupName>
        <groupDescription>d</groupDescription><vpcId>vpc-1</vpcId><ipPermissions/><ipPermissionsEgress/></item></securityGroupInfo></R>";
    let page = read::<DescribeSecurityGroups>(body);
    assert_eq!(
        (page.items[0].id.as_str(), page.items[0].vpc_id.as_deref(), page.next),
        ("sg-1", Some("vpc-1"), None)
    );
    assert_eq!(
        read::<CreateSecurityGroup>("<R><return>true</return><groupId>sg-1</groupId></R>"),
        "sg-1"
    );
    let body = r"<R><subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><cidrBlock>10.0.1.0/24</cidrBlock>
        <availableIpAddressCount>251</availableIpAddressCount><availabilityZone>eu-west-1a</availabilityZone>
        <mapPublicIpOnLaunch>true</mapPublicIpOnLaunch></item></subnetSet></R>";
    let subnet = read::<DescribeSubnets>(body).items.remove(0);
    assert_eq!((subnet.public_by_default, subnet.free_addresses), (true, Some(251)));
    refuse::<DescribeSubnets>(&[&body.replace("251", "-1"), &body.replace("251", "99999999999")]);
    let body = r"<R><vpcSet><item><vpcId>vpc-1</vpcId><cidrBlock>10.0.0.0/16</cidrBlock><cidrBlockAssociationSet>
        <item><cidrBlock>10.0.0.0/16</cidrBlock></item><item><cidrBlock>10.1.0.0/16</cidrBlock></item></cidrBlockAssociationSet>
        <isDefault>true</isDefault></item></vpcSet></R>";
    let vpc = read::<DescribeVpcs>(body).items.remove(0);
    assert_eq!((vpc.default, vpc.cidrs.len()), (true, 2));
    let body = r"<R><networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId><subnetId>subnet-1</subnetId>
        <description>ELB app/a/1</description><status>in-use</status><privateIpAddress>10.0.0.1</privateIpAddress>
        <groupSet><item><groupId>sg-1</groupId></item></groupSet><attachment><instanceId>i-1</instanceId></attachment>
        <association><publicIp>203.0.113.1</publicIp></association></item></networkInterfaceSet></R>";
    let interface = read::<DescribeNetworkInterfaces>(body).items.remove(0);
    assert_eq!(
        (interface.public_address.as_deref(), interface.instance_id.as_deref()),
        (Some("203.0.113.1"), Some("i-1"))
    );
}

#[test]
fn what_instances_are_made_of() {
    let body = r"<R><imagesSet><item><imageId>ami-1</imageId><imageState>available</imageState><architecture>arm64</architecture>
        <creationDate>2026-01-01T00:00:00.000Z</creationDate><name>al2023</name><rootDeviceName>/dev/xvda</rootDeviceName>
        <blockDeviceMapping><item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>
        <item><deviceName>/dev/xvda</deviceName><ebs><volumeSize>8</volumeSize></ebs></item></blockDeviceMapping></item></imagesSet></R>";
    let image = read::<DescribeImages>(body).items.remove(0);
    assert_eq!((image.root_size, image.architecture.as_str()), (Some(8), "arm64"));
    let body = r"<R><instanceTypeSet><item><instanceType>t4g.nano</instanceType><hypervisor>nitro</hypervisor><processorInfo>
        <supportedArchitectures><item>arm64</item></supportedArchitectures></processorInfo><vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo>
        <memoryInfo><sizeInMiB>512</sizeInMiB></memoryInfo></item></instanceTypeSet></R>";
    let kind = read::<DescribeInstanceTypes>(body).items.remove(0);
    assert_eq!(
        (kind.architectures, kind.memory, kind.processors),
        (vec!["arm64".to_owned()], Some(512), Some(2))
    );
    let body = r"<R><volumeSet><item><volumeId>vol-1</volumeId><size>8</size><status>in-use</status><volumeType>gp3</volumeType>
        <encrypted>true</encrypted><attachmentSet><item><instanceId>i-1</instanceId></item></attachmentSet></item></volumeSet></R>";
    let volume = read::<DescribeVolumes>(body).items.remove(0);
    assert_eq!(
        (volume.encrypted, volume.size, volume.instances),
        (true, Some(8), vec!["i-1".to_owned()])
    );
}

#[test]
fn consoles_and_user_data() {
    let body =
        "<R><instanceId>i-1</instanceId><timestamp>2026-01-01T00:00:01.000Z</timestamp><output>bGluZQps\naW5lCg==\n</output></R>";
    let console = read::<GetConsoleOutput>(body);
    assert_eq!(console.base64.as_deref(), Some("bGluZQpsaW5lCg=="));
    assert_eq!(read::<GetConsoleOutput>("<R><instanceId>i-1</instanceId></R>").base64, None);
    let body = "<R><instanceId>i-1</instanceId><userData><value>IyE=</value></userData></R>";
    assert_eq!(read::<DescribeInstanceAttribute>(body).as_deref(), Some("IyE="));
    assert_eq!(read::<DescribeInstanceAttribute>("<R><userData/></R>"), None);
}

#[test]
fn endpoints_and_profiles() {
    let item = r"<instanceConnectEndpointId>eice-1</instanceConnectEndpointId><state>create-in-progress</state><stateMessage/>
        <dnsName>eice-1.ec2-instance-connect-endpoint.eu-west-1.amazonaws.com</dnsName><vpcId>vpc-1</vpcId><subnetId>subnet-1</subnetId>
        <preserveClientIp>false</preserveClientIp><securityGroupIdSet><item>sg-1</item></securityGroupIdSet>";
    let made = format!("<R><instanceConnectEndpoint>{item}</instanceConnectEndpoint></R>");
    let endpoint = read::<CreateInstanceConnectEndpoint>(&made);
    assert_eq!(
        (endpoint.groups.as_slice(), endpoint.state.as_str()),
        (["sg-1".to_owned()].as_slice(), "create-in-progress")
    );
    assert_eq!(read::<DeleteInstanceConnectEndpoint>(&made).as_ref(), Some(&endpoint));
    assert_eq!(read::<DeleteInstanceConnectEndpoint>("<R/>"), None);
    let listed = format!("<R><instanceConnectEndpointSet><item>{item}</item></instanceConnectEndpointSet></R>");
    assert_eq!(read::<DescribeInstanceConnectEndpoints>(&listed).items, [endpoint]);
    let item = r"<associationId>iip-assoc-1</associationId><instanceId>i-1</instanceId><state>associated</state>
        <iamInstanceProfile><arn>arn:p</arn><id>A</id></iamInstanceProfile>";
    let made = format!("<R><iamInstanceProfileAssociation>{item}</iamInstanceProfileAssociation></R>");
    let association = read::<AssociateIamInstanceProfile>(&made);
    assert_eq!(association.profile_arn.as_deref(), Some("arn:p"));
    let listed = format!("<R><iamInstanceProfileAssociationSet><item>{item}</item></iamInstanceProfileAssociationSet></R>");
    assert_eq!(read::<DescribeIamInstanceProfileAssociations>(&listed).items, [association]);
}
