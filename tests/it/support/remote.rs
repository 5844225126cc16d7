//! A bastion in AWS as an `up` with `type = "ec2"` meets it: the account's gateway, the double of Session Manager and endpoint, and a
//! real bastiond on the instance that asks the instance's metadata who may log in.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::aws::{AwsWorld, REGION};
use super::{Bastion, Process, Ssm, Workshop};
use crate::aws_gateway::ask;

/// What the project is called.
pub(crate) const PROJECT: &str = "shop";

pub(crate) struct Remote {
    pub(crate) world: AwsWorld,
    pub(crate) ssm: Ssm,
    pub(crate) bastion: Bastion,
    /// The bastion's instance.
    pub(crate) id: String,
    /// Its VPC, subnets and so on, see [`AwsWorld::staging`].
    pub(crate) staging: Value,
    /// More variables of the laptop's.
    pub(crate) environment: Vec<(&'static str, String)>,
    #[allow(dead_code, reason = "kept for its end")]
    roots: TempDir,
}

impl Remote {
    /// With the double's settings as on its command line. None without the peers.
    #[track_caller]
    pub(crate) fn start(settings: &[&str]) -> Option<Remote> {
        Remote::with(settings, &[])
    }

    /// With more arguments of the daemon's.
    #[track_caller]
    pub(crate) fn with(settings: &[&str], more: &[&str]) -> Option<Remote> {
        let (world, staging) = AwsWorld::with_staging()?;
        let ssm = Ssm::start(&world, settings);
        let (id, address) = launch(&world, &staging);
        let roots = TempDir::new().unwrap();
        let file = roots.path().join("roots.pem");
        let trusted = world.metadata(json!({"instance": id}))["roots"].clone();
        std::fs::write(&file, trusted.as_str().unwrap()).unwrap();
        let (imds, file) = (world.url(), file.to_str().unwrap().to_owned());
        let arguments = ["--authorize", "eic", "--imds", &imds, "--roots", &file];
        let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
        let bastion = Bastion::lasting(&arguments);
        let remote = Remote {
            world,
            ssm,
            bastion,
            id,
            staging,
            environment: Vec::new(),
            roots,
        };
        remote
            .ssm
            .instance(&remote.id, remote.bastion.ssh, Some(address.parse().unwrap()));
        remote.world.agent_online(&remote.id);
        remote.publish(&remote.host_key());
        Some(remote)
    }

    /// The bastion's host key, without a comment.
    pub(crate) fn host_key(&self) -> String {
        let known = std::fs::read_to_string(self.bastion.path("known_hosts")).unwrap();
        known.split_once(' ').unwrap().1.trim().to_owned()
    }

    /// Writes the parameter that laptops read.
    #[track_caller]
    pub(crate) fn publish(&self, key: &str) {
        let parameter =
            json!({"Name": format!("/ephemwork/{PROJECT}/host-key"), "Value": key, "Type": "String", "Overwrite": true});
        self.world.aws("ssm", "PutParameter", parameter);
    }

    /// A developer's directory; `tunnel` are more lines of its `[tunnel]`.
    pub(crate) fn workshop(&self, user: &str, tunnel: &str, services: &[(&str, u16)]) -> Workshop {
        let table = |(service, port): &(&str, u16)| format!("[service.\"{service}\"]\nport = {port}\n");
        let services: String = services.iter().map(table).collect();
        let workshop = Workshop::new(user, "");
        let text = format!("[tunnel]\ntype = \"ec2\"\nproject_name = \"{PROJECT}\"\n{tunnel}\n{services}");
        std::fs::write(workshop.project().join("ephemwork.toml"), text).unwrap();
        workshop
    }

    /// The real executable in it, with what AWS needs.
    pub(crate) fn command(&self, workshop: &Workshop, arguments: &[&str]) -> Command {
        let mut command = workshop.command(arguments);
        for name in [
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "NO_PROXY",
            "no_proxy",
            "AWS_PROFILE",
        ] {
            command.env_remove(name);
        }
        command
            .envs(self.world.environment())
            .envs(self.ssm.environment())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and leaves it running.
    pub(crate) fn begin(&self, workshop: &Workshop, arguments: &[&str]) -> Process {
        Process::start(
            &format!("ephemwork {}", arguments.join(" ")),
            &mut self.command(workshop, arguments),
        )
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self, workshop: &Workshop, arguments: &[&str]) -> super::process::Finished {
        self.begin(workshop, arguments).finish()
    }

    /// `up --no-run` once it is ready.
    #[track_caller]
    pub(crate) fn up(&self, workshop: &Workshop, services: &[&str]) -> Process {
        let arguments: Vec<&str> = ["up", "--no-run"].iter().chain(services).copied().collect();
        let mut up = self.begin(workshop, &arguments);
        up.wait_for("X-Ephemwork: ");
        up
    }

    /// The edge, as the load balancer reaches it.
    pub(crate) fn edge(&self) -> SocketAddr {
        self.bastion.http
    }

    /// How often an operation was called.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> usize {
        self.world.calls().iter().filter(|call| call.name == name).count()
    }
}

/// The bastion's instance: its id and its private address.
#[track_caller]
fn launch(world: &AwsWorld, staging: &Value) -> (String, String) {
    let parameter = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64";
    let image = world.aws("ssm", "GetParameter", json!({"Name": parameter}));
    let tags = json!([
        {"Key": "ephemwork:project", "Value": PROJECT},
        {"Key": "ephemwork:component", "Value": "bastion"},
    ]);
    let launch = json!({
        "ImageId": image["Parameter"]["Value"], "InstanceType": "t4g.nano", "MinCount": 1, "MaxCount": 1,
        "SubnetId": staging["subnets"][0],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
    });
    let made = world.aws("ec2", "RunInstances", launch);
    let text = |name: &str| made["Instances"][0][name].as_str().unwrap().to_owned();
    assert_eq!(staging["region"], REGION);
    (text("InstanceId"), text("PrivateIpAddress"))
}

impl Remote {
    /// An EC2 Instance Connect Endpoint in the bastion's subnet, ready for use. None without boto3.
    #[track_caller]
    pub(crate) fn endpoint(&self) -> Option<()> {
        super::need_module("boto3")?;
        let make = json!({"SubnetId": self.staging["subnets"][0]});
        ask(&self.world, "ec2", "CreateInstanceConnectEndpoint", &make).unwrap();
        super::until("the endpoint to be ready", || {
            let all = ask(&self.world, "ec2", "DescribeInstanceConnectEndpoints", &json!({})).unwrap();
            (all["InstanceConnectEndpoints"][0]["State"] == "create-complete").then_some(())
        });
        Some(())
    }
}
