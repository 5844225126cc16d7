//! Elastic Load Balancing as it is heard and spoken. The answers have the shape of those in its API Reference.

use super::super::damage::{form, read, refuse};
use super::*;

#[test]
fn balancers_and_listeners() {
    let body = r#"<DescribeLoadBalancersResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><DescribeLoadBalancersResult>
      <LoadBalancers><member><LoadBalancerArn>arn:lb</LoadBalancerArn><Scheme>internal</Scheme><LoadBalancerName>staging</LoadBalancerName>
      <VpcId>vpc-1</VpcId><DNSName>internal-staging-1.eu-west-1.elb.amazonaws.com</DNSName>
      <AvailabilityZones><member><SubnetId>subnet-1</SubnetId><ZoneName>eu-west-1a</ZoneName></member></AvailabilityZones>
      <SecurityGroups><member>sg-1</member></SecurityGroups><State><Code>active</Code></State><Type>application</Type></member></LoadBalancers>
      <NextMarker>m</NextMarker></DescribeLoadBalancersResult></DescribeLoadBalancersResponse>"#;
    let page = read::<DescribeLoadBalancers>(body);
    assert_eq!(
        (
            page.items[0].groups.len(),
            page.items[0].state.as_deref(),
            page.next.as_deref()
        ),
        (1, Some("active"), Some("m"))
    );
    refuse::<DescribeLoadBalancers>(&["", "<R/>", &body.replace("LoadBalancerArn", "Arn")]);
    let body = "<R><DescribeListenersResult><Listeners><member><LoadBalancerArn>arn:lb</LoadBalancerArn><Protocol>HTTPS</Protocol>\
        <Port>443</Port><ListenerArn>arn:l</ListenerArn></member></Listeners></DescribeListenersResult></R>";
    let listener = read::<DescribeListeners>(body).items.remove(0);
    assert_eq!((listener.port, listener.protocol.as_deref()), (Some(443), Some("HTTPS")));
    refuse::<DescribeListeners>(&[&body.replace("443", "65536")]);
    let body = "<R><DescribeTagsResult><TagDescriptions><member><ResourceArn>arn:r</ResourceArn><Tags><member><Key>k</Key>\
        <Value>v</Value></member></Tags></member></TagDescriptions></DescribeTagsResult></R>";
    assert_eq!(read::<DescribeTags>(body)[0].tags["k"], "v");
}

#[test]
fn rules() {
    let body = "<R><DescribeRulesResult><Rules>\
        <member><RuleArn>arn:1</RuleArn><Priority>10</Priority><IsDefault>false</IsDefault><Conditions>\
          <member><Field>http-header</Field><HttpHeaderConfig><HttpHeaderName>X-Ephemwork</HttpHeaderName><Values><member>*</member></Values></HttpHeaderConfig></member>\
          <member><Field>path-pattern</Field><Values><member>/a/*</member></Values></member>\
          <member><Field>query-string</Field><QueryStringConfig><Values><member><Key>k</Key><Value>v</Value></member><member><Value>w</Value></member></Values></QueryStringConfig></member>\
        </Conditions><Actions><member><Type>forward</Type><TargetGroupArn>arn:t1</TargetGroupArn><ForwardConfig><TargetGroups>\
          <member><TargetGroupArn>arn:t1</TargetGroupArn><Weight>1</Weight></member><member><TargetGroupArn>arn:t2</TargetGroupArn></member>\
        </TargetGroups></ForwardConfig></member></Actions></member>\
        <member><RuleArn>arn:2</RuleArn><Priority>default</Priority><Conditions/><Actions><member><Type>fixed-response</Type></member></Actions></member>\
        </Rules></DescribeRulesResult></R>";
    let page = read::<DescribeRules>(body);
    let [first, default] = page.items.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!((first.priority, default.priority), (Some(10), None));
    assert_eq!(first.conditions[0], Condition::header("X-Ephemwork", &["*"]));
    assert_eq!(first.conditions[1].values, ["/a/*"]);
    assert_eq!(first.conditions[2].values, ["k=v", "w"]);
    assert_eq!(first.actions[0].target_groups, ["arn:t1", "arn:t2"]);
    assert_eq!(default.actions[0].kind, "fixed-response");
    refuse::<DescribeRules>(&[
        &body.replace(">10<", ">first<"),
        &body.replace("<Field>http-header</Field>", ""),
    ]);
    let made = body.replace("DescribeRulesResult", "CreateRuleResult");
    assert_eq!(read::<CreateRule>(&made), *first);
    refuse::<CreateRule>(&["<R><CreateRuleResult><Rules/></CreateRuleResult></R>"]);

    let call = CreateRule {
        listener_arn: "arn:l".to_owned(),
        priority: 7,
        conditions: vec![Condition::method(&["OPTIONS"]), Condition::header("A", &["x", "y"])],
        target_group_arn: "arn:t".to_owned(),
        tags: Tags::new(),
    };
    let lines: Vec<String> = form(&call)
        .into_iter()
        .skip(2)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let expected = "ListenerArn=arn:l
Priority=7
Conditions.member.1.Field=http-request-method
Conditions.member.1.HttpRequestMethodConfig.Values.member.1=OPTIONS
Conditions.member.2.Field=http-header
Conditions.member.2.HttpHeaderConfig.HttpHeaderName=A
Conditions.member.2.HttpHeaderConfig.Values.member.1=x
Conditions.member.2.HttpHeaderConfig.Values.member.2=y
Actions.member.1.Type=forward
Actions.member.1.TargetGroupArn=arn:t";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn target_groups() {
    let group = "<member><TargetGroupArn>arn:t</TargetGroupArn><TargetGroupName>n</TargetGroupName><Protocol>HTTP</Protocol><Port>80</Port>\
        <VpcId>vpc-1</VpcId><HealthCheckPath>/h</HealthCheckPath><HealthCheckIntervalSeconds>10</HealthCheckIntervalSeconds>\
        <HealthCheckTimeoutSeconds>5</HealthCheckTimeoutSeconds><HealthyThresholdCount>2</HealthyThresholdCount>\
        <UnhealthyThresholdCount>3</UnhealthyThresholdCount><Matcher><HttpCode>200</HttpCode></Matcher><TargetType>ip</TargetType>\
        <LoadBalancerArns><member>arn:lb</member></LoadBalancerArns></member>";
    let listed = format!("<R><DescribeTargetGroupsResult><TargetGroups>{group}</TargetGroups></DescribeTargetGroupsResult></R>");
    let found = read::<DescribeTargetGroups>(&listed).items.remove(0);
    assert_eq!(
        (found.health.unhealthy, found.health.codes.as_str(), found.port),
        (3, "200", Some(80))
    );
    let made = listed.replace("DescribeTargetGroupsResult", "CreateTargetGroupResult");
    assert_eq!(read::<CreateTargetGroup>(&made), found);
    let body = "<R><DescribeTargetHealthResult><TargetHealthDescriptions><member><HealthCheckPort>80</HealthCheckPort><TargetHealth>\
        <State>unhealthy</State><Reason>Target.Timeout</Reason><Description>Request timed out</Description></TargetHealth>\
        <Target><Port>80</Port><Id>10.0.0.1</Id></Target></member></TargetHealthDescriptions></DescribeTargetHealthResult></R>";
    let health = read::<DescribeTargetHealth>(body).remove(0);
    assert_eq!(
        (health.state.as_str(), health.reason.as_deref(), health.target.port),
        ("unhealthy", Some("Target.Timeout"), 80)
    );
    let body = "<R><DescribeTargetGroupAttributesResult><Attributes><member><Key>a.b</Key><Value>300</Value></member></Attributes></DescribeTargetGroupAttributesResult></R>";
    assert_eq!(read::<DescribeTargetGroupAttributes>(body)["a.b"], "300");
}
