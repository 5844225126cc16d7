//! The user data of a bastion's instance, run for real in a throw-away root: once, twice, with a wrong binary, with an S3 that
//! answers late, with a daemon that does not come up. What is not on any machine but EC2's is played: the metadata service and
//! the daemon's health (`curl`), S3 and Systems Manager (`aws`), systemd (`systemctl`, `journalctl`), and time (`sleep`).

use std::{path::Path, process::Command};

use ephemwork::provision::documents::{UNIT, Values, user_data};
use serde_json::json;

use crate::support::{Process, aws::AwsWorld, need, process::Finished, root::Root};

const SCRIPT: &str = "/var/lib/user-data";
const INSTANCE: &str = "i-0123456789abcdef0";

/// Copies from /srv unless told to fail so many times more; knows parameters; says what it was asked in /log/aws.
const AWS: &str = r#"#!/bin/bash
echo "$*" >>/log/aws
case "$1 $2" in
's3 cp')
  left=$(cat /srv/fail-fetch 2>/dev/null || echo 0)
  if [ "$left" -gt 0 ]; then
    echo $((left - 1)) >/srv/fail-fetch
    echo 'fatal error: An error occurred (403) when calling the HeadObject operation: "Forbidden"' >&2
    exit 1
  fi
  cp "/srv/${3#s3://}" "$4"
  ;;
'ssm put-parameter')
  shift 2
  overwrite=no
  while [ $# -gt 0 ]; do
    case "$1" in
    --overwrite) overwrite=yes ;;
    --name) name=$2; shift ;;
    --value) value=$2; shift ;;
    --type) shift ;;
    *) echo "Unknown options: $1" >&2; exit 252 ;;
    esac
    shift
  done
  file="/srv/parameters${name//\//_}"
  if [ -e "$file" ] && [ "$overwrite" = no ]; then
    echo 'An error occurred (ParameterAlreadyExists) when calling the PutParameter operation: it exists' >&2
    exit 254
  fi
  printf '%s' "$value" >"$file"
  echo '{"Version": 1}'
  ;;
'ssm get-parameter')
  [ "$3 $5 $6 $7 $8" = '--name --query Parameter.Value --output text' ] || { echo "Unknown options: $*" >&2; exit 252; }
  file="/srv/parameters${4//\//_}"
  if [ ! -e "$file" ]; then
    echo 'An error occurred (ParameterNotFound) when calling the GetParameter operation: ' >&2
    exit 254
  fi
  cat "$file"
  ;;
*) echo "aws: Invalid choice: $*" >&2; exit 252 ;;
esac
"#;

/// Knows the metadata service with its token, and the daemon once it was started.
const CURL: &str = r#"#!/bin/bash
echo "$*" >>/log/curl
case "$*" in
*'-X PUT'*/latest/api/token*) [[ "$*" == *X-aws-ec2-metadata-token-ttl-seconds* ]] && printf TOKEN ;;
*/latest/meta-data/instance-id*) [[ "$*" == *'X-aws-ec2-metadata-token: TOKEN'* ]] && printf i-0123456789abcdef0 ;;
*127.0.0.1*/ephemwork-health*)
  looks=$(cat /srv/looks-until-healthy 2>/dev/null || echo 0)
  echo $((looks - 1)) >/srv/looks-until-healthy
  if [ ! -e /srv/started ] || [ "$looks" -gt 0 ]; then
    echo 'curl: (7) Failed to connect to 127.0.0.1 port 80' >&2
    exit 7
  fi
  echo ok
  ;;
*) echo "curl: no such place: $*" >&2; exit 6 ;;
esac
"#;

/// Starts nothing, but leaves what the started daemon leaves.
const SYSTEMCTL: &str = r#"#!/bin/bash
echo "$*" >>/log/systemctl
case "$*" in
'restart ephemwork-bastiond.service')
  [ -s /etc/systemd/system/ephemwork-bastiond.service ] || { echo 'Unit ephemwork-bastiond.service not found.' >&2; exit 5; }
  mkdir -p /var/lib/ephemwork
  [ -e /var/lib/ephemwork/host_key.pub ] || echo 'ssh-ed25519 AAAAC3Nza ephemwork' >/var/lib/ephemwork/host_key.pub
  touch /srv/started
  ;;
esac
"#;

/// A machine at its first boot.
struct Machine {
    root: Root,
}

impl Machine {
    /// With the real program in the bucket; the script expects this digest of it, or the right one.
    #[track_caller]
    fn make(digest: Option<&str>) -> Option<Machine> {
        let machine = Machine::bare()?;
        let root = &machine.root;
        std::fs::create_dir_all(root.path("srv/releases/0.1.0")).unwrap();
        root.copy(Path::new(env!("CARGO_BIN_EXE_ephemwork")), "srv/releases/0.1.0/ephemwork");
        let actual = root.run_digest("/srv/releases/0.1.0/ephemwork");
        root.script(SCRIPT, &script(digest.unwrap_or(&actual)));
        Some(machine)
    }

    /// With nothing in the bucket, and no script yet.
    #[track_caller]
    fn bare() -> Option<Machine> {
        let root = Root::make()?;
        // Without a mounted /proc the program asks this link where it lies itself.
        std::fs::create_dir(root.path("proc/self")).unwrap();
        std::os::unix::fs::symlink("/usr/local/bin/ephemwork", root.path("proc/self/exe")).unwrap();
        root.script("usr/bin/aws", AWS);
        root.script("usr/bin/curl", CURL);
        root.script("usr/bin/systemctl", SYSTEMCTL);
        root.script("usr/bin/journalctl", "#!/bin/bash\necho 'the port \"80\" is taken'\n");
        root.script("usr/bin/sleep", "#!/bin/bash\necho \"$*\" >>/log/sleep\n");
        Some(Machine { root })
    }

    #[track_caller]
    fn boot(&self) -> Finished {
        self.root.run(SCRIPT)
    }

    /// What was written to the parameter of this boot.
    fn report(&self) -> serde_json::Value {
        let text = self.parameter(&format!("boot/{INSTANCE}"));
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text:?}"))
    }

    fn parameter(&self, name: &str) -> String {
        self.root
            .read(&format!("srv/parameters_ephemwork_shop_{}", name.replace('/', "_")))
    }

    /// Lines that a played program noted.
    fn noted(&self, program: &str) -> Vec<String> {
        self.root.read(&format!("log/{program}")).lines().map(str::to_owned).collect()
    }

    /// Paths, contents, modes and links of what a boot leaves on the machine.
    fn left(&self) -> Vec<String> {
        let places = ["usr/local/bin", "etc/systemd/system", "var/lib/ephemwork"];
        let mut left = Vec::new();
        for place in places {
            for entry in std::fs::read_dir(self.root.path(place)).into_iter().flatten() {
                let path = entry.unwrap().path();
                let link = std::fs::read_link(&path).ok();
                let size = std::fs::metadata(self.root.path(place))
                    .and(std::fs::symlink_metadata(&path))
                    .unwrap()
                    .len();
                left.push(format!(
                    "{} {link:?} {size}",
                    path.strip_prefix(self.root.path("")).unwrap().display()
                ));
            }
        }
        left.sort();
        left
    }
}

impl Root {
    #[track_caller]
    fn run_digest(&self, file: &str) -> String {
        self.script("digest", &format!("#!/bin/bash\nsha256sum {file}\n"));
        self.run("/digest").out.split(' ').next().unwrap().to_owned()
    }
}

fn script(digest: &str) -> String {
    user_data(&Values::from([
        ("PROJECT", "shop".to_owned()),
        ("REGION", "eu-west-1".to_owned()),
        ("BINARY", "s3://releases/0.1.0/ephemwork".to_owned()),
        ("SHA256", digest.to_owned()),
        ("PARAMETERS", "/ephemwork/shop".to_owned()),
    ]))
}

#[test]
fn first_boot() {
    let Some(machine) = Machine::make(None) else { return };
    let boot = machine.boot();
    assert_eq!(boot.code(), 0, "{boot:?}");
    assert!(boot.out.contains(&format!("ephemwork: instance {INSTANCE}")), "{boot:?}");
    assert!(boot.out.contains("ephemwork: ready: ephemwork-bastiond"), "{boot:?}");

    let installed = std::fs::metadata(machine.root.path("usr/local/bin/ephemwork")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&installed.permissions()) & 0o7777,
        0o755
    );
    let link = std::fs::read_link(machine.root.path("usr/local/bin/ephemwork-bastiond")).unwrap();
    assert_eq!(link, Path::new("ephemwork"));
    assert_eq!(machine.root.read("etc/systemd/system/ephemwork-bastiond.service"), UNIT);

    let systemctl = machine.noted("systemctl");
    for expected in [
        "disable --now sshd.service sshd.socket",
        "mask sshd.service sshd.socket",
        "daemon-reload",
        "enable ephemwork-bastiond.service",
        "restart ephemwork-bastiond.service",
    ] {
        assert!(systemctl.iter().any(|line| line == expected), "{expected} in {systemctl:?}");
    }
    // Port 22 must be free before the daemon wants it.
    let place = |text: &str| systemctl.iter().position(|line| line.starts_with(text)).unwrap();
    assert!(
        place("mask") < place("restart") && place("daemon-reload") < place("restart"),
        "{systemctl:?}"
    );
    assert!(
        !systemctl.iter().any(|line| line.contains("amazon-ssm-agent")),
        "{systemctl:?}"
    );

    assert_eq!(machine.parameter("host-key"), "ssh-ed25519 AAAAC3Nza");
    let report = machine.report();
    assert_eq!(report["state"], "ready");
    let version = report["version"].as_str().unwrap();
    assert!(version.starts_with("ephemwork-bastiond "), "{report}");
    assert_eq!(report["host_key"], "ssh-ed25519 AAAAC3Nza");
    assert_eq!(
        std::fs::read_dir(machine.root.path("tmp")).unwrap().count(),
        0,
        "temporary files"
    );
}

#[test]
fn second_boot_changes_nothing() {
    let Some(machine) = Machine::make(None) else { return };
    assert_eq!(machine.boot().code(), 0);
    let first = (machine.left(), machine.parameter("host-key"), machine.report());
    let again = machine.boot();
    assert_eq!(again.code(), 0, "{again:?}");
    assert_eq!((machine.left(), machine.parameter("host-key"), machine.report()), first);
}

#[test]
fn another_bastions_host_key_stays() {
    let Some(machine) = Machine::make(None) else { return };
    machine
        .root
        .write("srv/parameters_ephemwork_shop_host-key", "ssh-ed25519 older");
    let boot = machine.boot();
    assert_eq!(boot.code(), 0, "{boot:?}");
    assert_eq!(machine.parameter("host-key"), "ssh-ed25519 older");
    assert_eq!(machine.report()["host_key"], "ssh-ed25519 AAAAC3Nza");
}

/// What the unit runs after each start of the daemon.
const PUBLISH: &str = "/usr/local/bin/ephemwork-publish-host-key";

#[test]
fn a_key_that_is_new_after_a_restart_is_published_again() {
    let Some(machine) = Machine::make(None) else { return };
    assert_eq!(machine.boot().code(), 0);
    let publish = || {
        let published = machine.root.run(PUBLISH);
        assert_eq!(published.code(), 0, "{published:?}");
    };
    let new_key = |key: &str| {
        machine
            .root
            .write("var/lib/ephemwork/host_key.pub", &format!("{key} ephemwork\n"))
    };
    let asked = machine.noted("aws").len();
    publish();
    assert_eq!(machine.noted("aws").len(), asked, "nothing is new, and AWS is asked");

    new_key("ssh-ed25519 AAAANew1");
    publish();
    assert_eq!(machine.parameter("host-key"), "ssh-ed25519 AAAANew1");
    assert_eq!(machine.report()["host_key"], "ssh-ed25519 AAAANew1");
    assert_eq!(machine.report()["state"], "ready");

    // A bastion that took over meanwhile keeps its own; `bastion upgrade` finds this one's in its report.
    machine
        .root
        .write("srv/parameters_ephemwork_shop_host-key", "ssh-ed25519 AAAAOther");
    new_key("ssh-ed25519 AAAANew2");
    publish();
    assert_eq!(machine.parameter("host-key"), "ssh-ed25519 AAAAOther");
    assert_eq!(machine.report()["host_key"], "ssh-ed25519 AAAANew2");

    // What is no key is not published, whatever the daemon's directory says.
    new_key("ssh-ed25519 $(reboot)");
    assert_ne!(machine.root.run(PUBLISH).code(), 0);
    assert_eq!(machine.report()["host_key"], "ssh-ed25519 AAAANew2");
}

#[test]
fn wrong_digest() {
    let expected = "0".repeat(64);
    let Some(machine) = Machine::make(Some(&expected)) else {
        return;
    };
    let found = machine.root.run_digest("/srv/releases/0.1.0/ephemwork");
    let boot = machine.boot();
    assert_ne!(boot.code(), 0, "{boot:?}");
    let why = "check the sha256 of s3://releases/0.1.0/ephemwork: ";
    let text = format!("{why}expected {expected}, found {found}");
    let failed: Vec<_> = boot.out.lines().filter(|line| line.contains("BOOT FAILED")).collect();
    assert_eq!(failed.len(), 1, "{boot:?}");
    assert!(failed[0].contains(&text), "{boot:?}");
    let report = machine.report();
    assert_eq!(report["state"], "failed");
    assert!(report["why"].as_str().unwrap().trim_end() == text, "{report}");
    // Nothing of it was installed or started.
    assert_eq!(machine.left(), Vec::<String>::new());
    assert!(!machine.noted("systemctl").iter().any(|line| line.contains("ephemwork")));
}

#[test]
fn a_fetch_that_works_at_the_fourth_time() {
    let Some(machine) = Machine::make(None) else { return };
    machine.root.write("srv/fail-fetch", "3");
    let boot = machine.boot();
    assert_eq!(boot.code(), 0, "{boot:?}");
    assert!(boot.out.contains("attempt 3 of") && boot.out.contains("(403)"), "{boot:?}");
    assert_eq!(machine.noted("sleep").len(), 3);
    assert_eq!(machine.report()["state"], "ready");
}

#[test]
fn a_fetch_that_never_works() {
    let Some(machine) = Machine::make(None) else { return };
    machine.root.write("srv/fail-fetch", "1000");
    let boot = machine.boot();
    assert_ne!(boot.code(), 0, "{boot:?}");
    let report = machine.report();
    assert_eq!(report["state"], "failed");
    let why = report["why"].as_str().unwrap();
    assert!(
        why.starts_with("fetch s3://releases/0.1.0/ephemwork: ") && why.contains("(403)"),
        "{report}"
    );
    let fetches = machine.noted("aws").iter().filter(|line| line.starts_with("s3 cp")).count();
    assert!((5..=60).contains(&fetches), "{fetches} attempts");
    assert_eq!(machine.left(), Vec::<String>::new());
    // What repairs it, repairs it: the next boot is a good one.
    machine.root.write("srv/fail-fetch", "0");
    assert_eq!(machine.boot().code(), 0);
    assert_eq!(machine.report()["state"], "ready");
}

#[test]
fn a_daemon_that_comes_up_late() {
    let Some(machine) = Machine::make(None) else { return };
    machine.root.write("srv/looks-until-healthy", "5");
    let boot = machine.boot();
    assert_eq!(boot.code(), 0, "{boot:?}");
    assert_eq!(machine.noted("sleep"), ["1"; 5]);
}

#[test]
fn a_daemon_that_never_comes_up() {
    let Some(machine) = Machine::make(None) else { return };
    machine.root.write("srv/looks-until-healthy", "1000");
    let boot = machine.boot();
    assert_ne!(boot.code(), 0, "{boot:?}");
    let report = machine.report();
    assert_eq!(report["state"], "failed");
    let why = report["why"].as_str().unwrap().trim_end();
    assert_eq!(why, "wait until the daemon answers: the port 80 is taken", "{report}");
    // The unit runs it at this start too.
    assert_eq!(machine.root.run(PUBLISH).code(), 0);
    assert_eq!(
        machine.parameter("host-key"),
        "",
        "a daemon that does not answer is no bastion"
    );
}

/// The report itself can fail: the console still says why the boot did.
#[test]
fn no_right_to_report() {
    let Some(machine) = Machine::make(Some(&"0".repeat(64))) else {
        return;
    };
    let aws = AWS.replace("'ssm put-parameter')", "'ssm put-parameter') echo AccessDenied >&2; exit 254");
    machine.root.script("usr/bin/aws", &aws);
    let boot = machine.boot();
    assert_ne!(boot.code(), 0, "{boot:?}");
    assert!(boot.out.contains("BOOT FAILED: check the sha256"), "{boot:?}");
    assert!(boot.out.contains("could not be written to /ephemwork/shop/boot/"), "{boot:?}");
}

/// Before anything else is known the instance is not, either; the console must say so.
#[test]
fn no_metadata_service() {
    let Some(machine) = Machine::make(None) else { return };
    machine
        .root
        .script("usr/bin/curl", "#!/bin/bash\necho 'curl: (28) timed out' >&2\nexit 28\n");
    let boot = machine.boot();
    assert_ne!(boot.code(), 0, "{boot:?}");
    let failed: Vec<_> = boot.out.lines().filter(|line| line.contains("BOOT FAILED")).collect();
    assert_eq!(failed.len(), 1, "{boot:?}");
    assert!(
        failed[0].contains("metadata service") && failed[0].contains("timed out"),
        "{boot:?}"
    );
}

/// What `init --live` gave to the instance, byte for byte, boots with what lies in the bucket.
#[test]
fn what_init_put_into_the_account_boots() {
    let (Some(machine), Some(world)) = (Machine::bare(), AwsWorld::start()) else {
        return;
    };
    let program = "#!/bin/bash\necho ephemwork-bastiond 9.9.9\n";
    let staging = world.staging(json!({"binary": program}));
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[tunnel]\ntype = \"ec2\"\nproject_name = \"shop\"\n[bastion]\nsubnet_id = {}\nlistener_arn = {}\nbastion_binary_s3_uri = {}\n",
        staging["subnets"][0], staging["listener"], staging["uri"]
    );
    std::fs::write(directory.path().join("ephemwork.toml"), text).unwrap();
    let mut init = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
    init.args(["bastion", "init", "--live", "--yes", "--no-wait"]);
    init.current_dir(directory.path()).envs(world.environment());
    init.env("HOME", directory.path()).env("EPHEMWORK_HOME", directory.path());
    let init = Process::run("ephemwork", &mut init);
    assert_eq!(init.code(), 0, "{init:?}");

    let inventory = world.inventory();
    let instance = inventory["instances"].as_object().unwrap().values().next().unwrap();
    let encoded = instance["UserData"].as_str().unwrap();
    std::fs::write(machine.root.path("encoded"), encoded).unwrap();
    machine.root.copy(&need("base64").unwrap(), "usr/bin/base64");
    let decode = format!("#!/bin/bash\nbase64 -d /encoded >{SCRIPT}\nchmod 755 {SCRIPT}\n");
    machine.root.script("decode", &decode);
    assert_eq!(machine.root.run("/decode").code(), 0);
    let object = format!(
        "srv/{}/{}",
        staging["bucket"].as_str().unwrap(),
        staging["key"].as_str().unwrap()
    );
    std::fs::create_dir_all(machine.root.path(&object).parent().unwrap()).unwrap();
    machine.root.write(&object, program);

    let boot = machine.boot();
    assert_eq!(boot.code(), 0, "{boot:?}");
    assert!(boot.out.contains("ephemwork: ready: ephemwork-bastiond 9.9.9"), "{boot:?}");
    assert_eq!(machine.report()["state"], "ready");
    assert_eq!(machine.parameter("host-key"), "ssh-ed25519 AAAAC3Nza");
}
