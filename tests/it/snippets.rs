//! The snippets for a team's own stack, each read by its own language's tools; and all of them say the same.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Process, aws::AwsWorld, need, need_module, peer, peers::directory, process::Finished, until_within};

/// How long a tool may take: CDK starts node and loads some hundred megabytes of constructs.
const TOOL: Duration = Duration::from_secs(240);

/// A team with a bastion, and a listener that is kept in a stack of its own.
struct Team {
    world: AwsWorld,
    staging: Value,
    directory: TempDir,
}

impl Team {
    #[track_caller]
    fn start() -> Option<Team> {
        let (world, staging) = AwsWorld::with_staging()?;
        let directory = TempDir::new().unwrap();
        let team = Team {
            world,
            staging,
            directory,
        };
        team.configure("");
        let init = team.ephemwork(&["bastion", "init", "--live", "--yes", "--no-wait"]);
        assert_eq!(init.code(), 0, "{init:?}");
        let listener = format!("listener_arn = {}\n", team.staging["listener"]);
        team.configure(&listener);
        Some(team)
    }

    fn configure(&self, more: &str) {
        let staging = &self.staging;
        let text = format!(
            "[tunnel]\ntype = \"ec2\"\nproject_name = \"shop\"\n[bastion]\nsubnet_id = {}\nalb_security_group_id = {}\n\
             bastion_binary_s3_uri = {}\n{more}",
            staging["subnets"][0], staging["alb_group"], staging["uri"]
        );
        std::fs::write(self.directory.path().join("ephemwork.toml"), text).unwrap();
    }

    #[track_caller]
    fn ephemwork(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .envs(self.world.environment());
        command
            .env("HOME", self.directory.path())
            .env("EPHEMWORK_HOME", self.directory.path());
        run("ephemwork", &mut command)
    }

    /// Prints the snippet into a file.
    #[track_caller]
    fn snippet(&self, language: &str) -> PathBuf {
        let printed = self.ephemwork(&["bastion", "snippet", language]);
        assert_eq!(printed.code(), 0, "{printed:?}");
        let traps = printed.out.lines().filter(|line| line.contains(" Trap ")).count();
        assert_eq!(traps, 4, "{}", printed.out);
        assert!(!printed.out.contains('@') && !printed.out.contains('<'), "{}", printed.out);
        let file = self.directory.path().join(language);
        std::fs::write(&file, printed.out).unwrap();
        file
    }

    /// What the language's own tools read in the snippet.
    #[track_caller]
    fn resources(&self, language: &str) -> Value {
        let python = need_module("moto").unwrap();
        let mut command = Command::new(python);
        command.arg(peer("aws/snippets.py")).arg(language).arg(self.snippet(language));
        parsed(&run(
            language,
            command.env("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1"),
        ))
    }

    /// What every snippet must make, as CloudFormation has it.
    fn expected(&self) -> Value {
        let inventory = self.world.inventory();
        let first = |kind: &str| inventory[kind].as_object().unwrap().values().next().unwrap().clone();
        let instance = first("instances");
        let forward = json!([{"Type": "forward", "TargetGroupArn": {"Ref": "EphemworkTargetGroup"}}]);
        let header = |name: &str, values: Value| json!({"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "Values": values}});
        let method = json!({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["OPTIONS"]}});
        let announced = header("Access-Control-Request-Headers", json!(["*x-ephemwork*", "*X-Ephemwork*"]));
        // The team's own rules have priorities 1 and 10.
        let rule = |priority: u32, conditions: Value| {
            let properties = json!({
                "ListenerArn": self.staging["listener"], "Priority": priority, "Conditions": conditions, "Actions": forward,
            });
            json!({"Type": "AWS::ElasticLoadBalancingV2::ListenerRule", "Properties": properties})
        };
        json!({
            "EphemworkTargetGroup": {"Type": "AWS::ElasticLoadBalancingV2::TargetGroup", "Properties": {
                "VpcId": self.staging["vpc"], "TargetType": "ip", "Protocol": "HTTP", "Port": 80,
                "HealthCheckPath": "/ephemwork-health", "HealthCheckIntervalSeconds": 10, "HealthCheckTimeoutSeconds": 5,
                "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 2,
                "Targets": [{"Id": instance["PrivateIpAddress"], "Port": 80}],
                "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "30"}],
            }},
            "EphemworkHeader": rule(2, json!([header("X-Ephemwork", json!(["*"]))])),
            "EphemworkPreflight": rule(3, json!([method, announced])),
            "EphemworkEgress": {"Type": "AWS::EC2::SecurityGroupEgress", "Properties": {
                "GroupId": self.staging["alb_group"], "DestinationSecurityGroupId": instance["SecurityGroups"][0]["GroupId"],
                "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "Description": "to the ephemwork bastion",
            }},
        })
    }
}

#[track_caller]
fn run(name: &str, command: &mut Command) -> Finished {
    let mut process = Process::start(name, command);
    until_within(TOOL, &format!("{name} to end"), || process.ended());
    process.finish()
}

/// The last line of what a tool printed; the lines before are its own remarks.
#[track_caller]
fn parsed(finished: &Finished) -> Value {
    assert!(finished.status.success(), "{finished:?}");
    let last = finished.out.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|why| panic!("{why}: {finished:?}"))
}

#[test]
fn cloudformation_by_cfn_lint() {
    let Some(_) = need_module("cfnlint") else { return };
    let Some(team) = Team::start() else { return };
    assert_eq!(team.resources("cloudformation"), team.expected());
}

#[test]
fn cdk_in_python_by_aws_cdk() {
    let Some(_) = need_module("aws_cdk") else { return };
    let Some(team) = Team::start() else { return };
    assert_eq!(team.resources("cdk-python"), team.expected());
}

#[test]
fn cdk_in_typescript_by_its_compiler() {
    let (Some(compiler), Some(node)) = (need("tsc"), need("node")) else {
        return;
    };
    let Some(team) = Team::start() else { return };
    let place = team.directory.path();
    std::fs::rename(team.snippet("cdk-typescript"), place.join("snippet.ts")).unwrap();
    std::fs::copy(peer("aws/stack.ts"), place.join("stack.ts")).unwrap();
    std::fs::write(place.join("package.json"), "{\"type\": \"commonjs\"}").unwrap();
    std::os::unix::fs::symlink(directory().join("node/node_modules"), place.join("node_modules")).unwrap();
    let mut compile = Command::new(compiler);
    compile.args([
        "--strict",
        "--module",
        "nodenext",
        "--target",
        "es2022",
        "--skipLibCheck",
        "--types",
        "node",
        "stack.ts",
    ]);
    let compiled = run("tsc", compile.current_dir(place));
    assert!(compiled.status.success(), "{compiled:?}");
    let mut synth = Command::new(node);
    synth.arg("stack.js").arg(place.join("out")).current_dir(place);
    assert_eq!(parsed(&run("node", &mut synth)), team.expected());
}

#[test]
fn terraform_by_hcl2() {
    let Some(_) = need_module("hcl2") else { return };
    let Some(team) = Team::start() else { return };
    let found = team.resources("terraform");
    let expected = team.expected();
    let of = |name: &str| expected[name]["Properties"].clone();
    let group = of("EphemworkTargetGroup");
    let resource = |kind: &str, name: &str| {
        let all = found.as_array().unwrap();
        let one = all.iter().find_map(|each| each.get(kind)?.get(name));
        one.unwrap_or_else(|| panic!("{kind} {name} in {found}")).clone()
    };
    assert_eq!(found.as_array().unwrap().len(), 5, "{found}");
    let arn = "${aws_lb_target_group.ephemwork.arn}";
    let action = json!([{"type": "forward", "target_group_arn": arn}]);
    let header = |name: &str, values: Value| json!({"http_header": [{"http_header_name": name, "values": values}]});
    assert_eq!(
        resource("aws_lb_target_group", "ephemwork"),
        json!({
            "vpc_id": group["VpcId"], "target_type": "ip", "protocol": "HTTP", "port": 80, "deregistration_delay": 30,
            "health_check": [{
                "path": group["HealthCheckPath"], "interval": 10, "timeout": 5, "healthy_threshold": 2, "unhealthy_threshold": 2,
                "matcher": "200",
            }],
        })
    );
    assert_eq!(
        resource("aws_lb_target_group_attachment", "ephemwork"),
        json!({"target_group_arn": arn, "target_id": group["Targets"][0]["Id"], "port": 80})
    );
    assert_eq!(
        resource("aws_lb_listener_rule", "ephemwork_header"),
        json!({
            "listener_arn": of("EphemworkHeader")["ListenerArn"], "priority": 2, "action": action,
            "condition": [header("X-Ephemwork", json!(["*"]))],
        })
    );
    assert_eq!(
        resource("aws_lb_listener_rule", "ephemwork_preflight"),
        json!({
            "listener_arn": of("EphemworkPreflight")["ListenerArn"], "priority": 3, "action": action,
            "condition": [
                {"http_request_method": [{"values": ["OPTIONS"]}]},
                header("Access-Control-Request-Headers", json!(["*x-ephemwork*", "*X-Ephemwork*"])),
            ],
        })
    );
    let egress = of("EphemworkEgress");
    assert_eq!(
        resource("aws_vpc_security_group_egress_rule", "ephemwork"),
        json!({
            "security_group_id": egress["GroupId"], "referenced_security_group_id": egress["DestinationSecurityGroupId"],
            "ip_protocol": "tcp", "from_port": 80, "to_port": 80, "description": egress["Description"],
        })
    );
}
